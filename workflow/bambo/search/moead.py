"""MOEA/D [Zhang2007] with pymoo's operators: one subproblem a direction, mating among directions that are near.

Of each direction the best observation so far is kept (Tchebycheff for two objectives, PBI for more, from the ideal
point of all observations), which is what replacement within an unlimited neighbourhood comes to. Directions take turns,
each once before any comes again, in a random order that the search's seed and the number of points asked for decide; so
nothing but the observations is needed to go on. Objectives count as measured: the algorithm knows nothing of noise.

References:
    [Zhang2007] Q. Zhang, H. Li. MOEA/D: A Multiobjective Evolutionary Algorithm Based on Decomposition. IEEE
        Transactions on Evolutionary Computation 11(6), 2007.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.moo.moead import MOEAD
from pymoo.core.population import Population
from pymoo.util.ref_dirs import get_reference_directions

from .nsga2 import ROUNDS, observed, started
from .sobol import filled
from .study import Points, Study, fresh

# Divisions of the Das-Dennis directions, by the number of objectives: 11, 15 and 10 directions.
DIVISIONS = {2: 10, 3: 4, 4: 2}
NEIGHBOURS = 4


def ask(study: Study, q: int, settings: Mapping[str, Any], seed: int) -> tuple[Points, dict[str, Any]]:
    """The next q offspring, one for each of the directions whose turn it is; see `ask.ask`."""
    directions = get_reference_directions(
        "das-dennis", study.Y.shape[1], n_partitions=DIVISIONS[study.Y.shape[1]]
    )
    algorithm = started(MOEAD(directions, n_neighbors=NEIGHBOURS, seed=seed), study)
    parents = best(algorithm, study)
    found = np.empty((0, study.dimension))
    for turn in turns(len(study.asked), q, len(directions), settings["seed"]):
        asked = np.concatenate([study.asked, found])
        for _ in range(ROUNDS):
            child = study.tidy(_child(algorithm, parents, turn))
            if fresh(child, asked):
                found = np.concatenate([found, child])
                break
    points, replaced = filled(found, q, study, seed)
    return points, {"surrogate": None, "acquisition_value": None, "replaced": replaced}


def best(algorithm: Any, study: Study) -> Population:
    """Of each direction the best observation."""
    population = observed(study, algorithm.problem)
    values = algorithm.decomposition.do(
        -study.Y, algorithm.ref_dirs, _type="many_to_many", ideal_point=-study.Y.max(axis=0)
    )
    return population[values.argmin(axis=0)]


def turns(asked: int, q: int, directions: int, seed: int) -> list[int]:
    """The directions of the next q points after `asked` ones."""

    def turn(place: int) -> int:
        cycle, within = divmod(place, directions)
        order: NDArray[np.int64] = np.random.default_rng([seed, cycle]).permutation(directions)
        return int(order[within])

    return [turn(place) for place in range(asked, asked + q)]


def _child(algorithm: Any, parents: Population, turn: int) -> Points:
    """An offspring [1 x D] of two neighbours of a direction."""
    random = algorithm.random_state
    pair = algorithm.selection.do(
        algorithm.problem,
        parents,
        1,
        algorithm.mating.crossover.n_parents,
        neighbors=[algorithm.neighbors[turn]],
        random_state=random,
    )
    children = algorithm.mating.do(
        algorithm.problem, parents, 1, parents=pair, n_max_iterations=1, random_state=random
    )
    return children.get("X")[:1]
