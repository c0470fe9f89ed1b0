"""NSGA-II [Deb2002] with pymoo's operators: binary tournaments, simulated binary crossover, polynomial mutation.

A generational run keeps a population and forgets what it dropped. Here the population is chosen anew, by the
algorithm's own survival (rank, then crowding), from all that was observed: nothing but the observations is needed to go
on, the best of them are never lost, and offspring are asked for in batches of any size, also while others are under
way. Objectives count as measured: the algorithm knows nothing of their noise.

References:
    [Deb2002] K. Deb, A. Pratap, S. Agarwal, T. Meyarivan. A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II.
        IEEE Transactions on Evolutionary Computation 6(2), 2002.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.evaluator import Evaluator
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.problems.static import StaticProblem

from .sobol import filled
from .study import Points, Study, fresh

POPULATION = 16
ROUNDS = 20  # of mating, until there are enough offspring that are new


def ask(study: Study, q: int, settings: Mapping[str, Any], seed: int) -> tuple[Points, dict[str, Any]]:
    """The next q offspring of the best of the observations; see `ask.ask`."""
    algorithm = started(NSGA2(pop_size=POPULATION, seed=seed), study)
    parents = survivors(algorithm, study)
    found = np.empty((0, study.dimension))
    for _ in range(ROUNDS):
        random = {"algorithm": algorithm, "random_state": algorithm.random_state}
        children = algorithm.mating.do(algorithm.problem, parents, q, **random).get("X")
        found = np.concatenate([found, study.tidy(children)])
        if len(fresh(found, study.asked)) >= q:
            break
    points, replaced = filled(found, q, study, seed)
    return points, {"surrogate": None, "acquisition_value": None, "replaced": replaced}


def started(algorithm: Any, study: Study) -> Any:
    """A pymoo algorithm that knows its problem, which is never evaluated, and has drawn nothing yet."""
    problem = Problem(n_var=study.dimension, n_obj=study.Y.shape[1], xl=0.0, xu=1.0)
    return algorithm.setup(problem)


def observed(study: Study, problem: Problem) -> Population:
    """All observations as a population of pymoo, which minimises."""
    population = Population.new("X", study.X)
    return Evaluator().eval(StaticProblem(problem, F=-study.Y), population)


def survivors(algorithm: Any, study: Study) -> Population:
    """The observations that the algorithm's survival keeps."""
    population = observed(study, algorithm.problem)
    size = min(algorithm.pop_size, len(population))
    return algorithm.survival.do(
        algorithm.problem,
        population,
        n_survive=size,
        algorithm=algorithm,
        random_state=algorithm.random_state,
    )
