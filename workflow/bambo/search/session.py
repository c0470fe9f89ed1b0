"""Any preset on a problem of one's own: `ask` for points, `tell` what came of them, without a workflow or files."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import ValidationError

from ..config.errors import bad_input, schema_problems
from ..config.methods import grid_weights
from ..config.searches import Search as Settings
from ..errors import BadInput
from ..pareto import non_dominated
from ..space import rounded
from . import sobol
from .ask import ask
from .design import initial
from .study import Points, Study

# What stands for sources of which the variables are weights.
SOURCES = ("a", "b")

log = logging.getLogger(__name__)


class Fronts(NamedTuple):
    """Rows of what was told: the non-dominated ones as observed, and by the surrogate's mean (at most `members`)."""

    observed: NDArray[np.int64]
    posterior: NDArray[np.int64]


class Search:
    """A search over [0, 1]^D by a preset, to be asked for points and told what came of them.

    >>> import numpy as np
    >>> from bambo.search import Search
    >>> search = Search("nsga2", dimension=2, seed=1)
    >>> for _ in range(6):
    ...     X = search.ask(4)
    ...     search.tell(X, np.column_stack([X[:, 0], (1 - X[:, 0]) * X[:, 1]]))
    >>> search.X.shape
    (24, 2)
    >>> front = search.Y[search.best().observed]

    It begins with the preset's initial design, point by point, and goes on with the preset's optimiser as soon as
    two points were told (and before that with Sobol points). Objectives are maximised. No point is asked for twice.
    Equal arguments and equal calls of `ask` and `tell` give equal points, on one machine and one thread.
    A budget is the caller's: `iterations`, `batch_size`, `evaluations`, `schedule`, `slots` and `stop` are of no use.

    preset: a name of `presets.PRESETS`; dimension: D; seed: of all random choices; reference: the reference point
    [m], -0.1 in each objective unless given; importance: of each variable, in (0, 1] [D], for presets with such a
    prior (all alike unless given); settings: those of config/README.md that differ from the preset's. Granularity
    `model` has one variable, which is the value of all columns.
    BadInput: unknown preset or setting, a value out of its bounds, a shape that does not fit.
    """

    def __init__(
        self,
        preset: str,
        dimension: int,
        seed: int = 0,
        *,
        reference: ArrayLike | None = None,
        importance: ArrayLike | None = None,
        **settings: Any,
    ) -> None:
        self.dimension = _at_least_1("dimension", dimension)
        self.settings = _settings({"preset": preset, "seed": seed, **settings}, importance is not None)
        self._single = self.settings["granularity"] == "model"
        known = None if importance is None else _importance(importance, dimension)
        self._prior = None if self._single else known
        self._reference = None if reference is None else _numbers("reference", reference, (None,), "[m]")
        inner = 1 if self._single else dimension
        self._variables = [{"name": f"x{i}", "groups": [f"x{i}"]} for i in range(1, inner + 1)]
        self._asked: dict[tuple[float, ...], int] = {}  # point -> place in the order of asking
        self._under_way: set[int] = set()
        self._designed = 0  # points of the initial design that were handed out
        self._X, self._rows = np.empty((0, inner)), np.empty(0, dtype=np.int64)
        self._Y = self._variance = np.empty((0, 0))

    @property
    def X(self) -> Points:
        """The points that were told [n x D], in the order of telling."""
        return self._outer(self._X)

    @property
    def Y(self) -> Points:
        """Their objectives [n x m]."""
        return self._Y.copy()

    def ask(self, q: int = 1, pending: ArrayLike | None = None) -> Points:
        """The next q points [q x D].

        pending: points under way [p x D], whose results are still to come; unless given, those that were asked for
        and not told.
        """
        q = _at_least_1("q", q)
        if pending is not None:
            under_way = self._inner("pending", pending)
            self._under_way = {self._place(point) for point in under_way}
        found = self._design(q)
        if len(found) < q:
            found = np.concatenate([found, self._chosen(q - len(found))])
        return self._outer(found)

    def tell(self, X: ArrayLike, Y: ArrayLike, variance: ArrayLike | None = None) -> None:
        """Add observations: points X [n x D], objectives Y [n x m], variances of their noise [n x m] (0 unless given).

        Points need not have been asked for. An evaluation that failed is not told: give `ask` what is under way.
        """
        points = self._inner("X", X)
        objectives = None if self._reference is None else len(self._reference)
        values = _numbers("Y", Y, (len(points), objectives), f"[{len(points)} x {objectives or 'm'}]")
        if values.shape[1] < 2:
            raise BadInput(
                f"Y: found {values.shape[1]} objective(s), expected 2 or more; add a column for each"
            )
        shape = f"[{len(points)} x {values.shape[1]}], as Y has"
        noise = (
            np.zeros_like(values) if variance is None else _numbers("variance", variance, values.shape, shape)
        )
        if (noise < 0).any():
            raise BadInput(f"variance: found {noise.min():g}, expected numbers of 0 or more; correct it")
        if self._reference is None:
            self._reference = np.full(values.shape[1], -0.1)
        rows = [self._place(point) for point in points]
        self._under_way.difference_update(rows)
        self._rows = np.concatenate([self._rows, np.array(rows, dtype=np.int64)])
        self._X = np.concatenate([self._X, points])
        self._Y = np.concatenate([self._Y.reshape(-1, values.shape[1]), values])
        self._variance = np.concatenate([self._variance.reshape(-1, values.shape[1]), noise])

    def best(self, members: int = 8) -> Fronts:
        """Rows of `X` and `Y` that make the observed front, and the front of the surrogate's means."""
        from .surrogate import posterior_front

        if self._reference is None or len(self._X) == 0:
            return Fronts(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))
        stderr, corner = np.sqrt(self._variance), self._reference.tolist()
        *_, chosen = posterior_front(
            self._X,
            self._Y,
            self._variance,
            stderr,
            self.settings,
            corner,
            members,
            importance=self._prior,
        )
        return Fronts(np.flatnonzero(non_dominated(self._Y)), np.flatnonzero(chosen))

    def _design(self, q: int) -> Points:
        """What is left of the initial design, up to q points, now under way."""
        size = self.settings["n_initial"]
        found: list[Points] = []
        design, _ = initial(self.settings, self._variables, SOURCES, size)
        while len(found) < q and self._designed < len(design):
            point = design[self._designed]
            self._designed += 1
            if tuple(point) not in self._asked:  # told before it was asked for
                self._under_way.add(self._place(point))
                found.append(point)
        return np.array(found).reshape(-1, design.shape[1])

    def _chosen(self, q: int) -> Points:
        """The optimiser's next q points, now under way."""
        order = np.argsort(self._rows, kind="stable")
        asked = np.array(list(self._asked)).reshape(-1, self._X.shape[1])
        corner = np.full(2, -0.1) if self._reference is None else self._reference
        study = Study(
            X=self._X[order],
            Y=self._Y[order],
            variance=self._variance[order],
            asked=asked,
            pending=asked[sorted(self._under_way)],
            reference=corner,
            names=[f"f{k}" for k in range(1, len(corner) + 1)],
            importance=self._prior,
        )
        state = np.random.SeedSequence([self.settings["seed"], len(asked)]).generate_state(1)
        optimiser = ask if len(study.X) > 1 else sobol.ask  # of a single point nothing is learnt
        found, _ = optimiser(study, q, self.settings, int(state[0]))
        self._under_way.update(self._place(point) for point in found)
        return found

    def _place(self, point: Points) -> int:
        return self._asked.setdefault(tuple(point.tolist()), len(self._asked))

    def _inner(self, name: str, X: ArrayLike) -> Points:
        """Checked points, as the optimiser sees them."""
        shape = f"[n x {self.dimension}], a row a point"
        points = _numbers(name, X, (None, self.dimension), shape)
        if points.size and (points.min() < 0 or points.max() > 1):
            value = points.min() if points.min() < 0 else points.max()
            raise BadInput(f"{name}: found {value:g}, expected weights within 0 and 1; scale the variables")
        if not self._single:
            return rounded(points)
        if (points != points[:, :1]).any():
            text = "found a row of different weights, expected equal ones with granularity: model"
            raise BadInput(f"{name}: {text}; tell such points to a search of another granularity")
        return rounded(points[:, :1])

    def _outer(self, points: Points) -> Points:
        return np.repeat(points, self.dimension, axis=1) if self._single else points.copy()


def _settings(given: Mapping[str, Any], prior: bool) -> dict[str, Any]:
    """All settings of a preset with the given ones on top; prior: whether there is an importance."""
    table = {key: value.item() if isinstance(value, np.generic) else value for key, value in given.items()}
    config = {"searches": {"search": table}}
    try:
        search = Settings.model_validate(table)
    except ValidationError as error:
        problem = bad_input(schema_problems(error, config, ("searches", "search")), config)
        raise BadInput(str(problem).removeprefix("searches.search.")) from None
    settings = search.model_dump(by_alias=True)
    for key in ("start_from", "box"):
        if settings[key] is not None:
            raise BadInput(f"{key}: of no use without a config's other searches; remove it")
    if settings["initial"] == "grid":
        settings["weights"] = grid_weights(search)
        settings["n_initial"] = len(settings["weights"])
    if not prior and settings["lengthscale_prior"].startswith("importance"):
        log.warning("importance: none is given, so that all variables are alike to the prior")
    return settings


def _importance(given: ArrayLike, dimension: int) -> Points:
    found = _numbers("importance", given, (dimension,), f"[{dimension}], one a variable")
    if found.min() <= 0 or found.max() > 1:
        raise BadInput(f"importance: found {found.min():g} to {found.max():g}, expected (0, 1]; scale it")
    return found


def _at_least_1(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise BadInput(f"{name}: found {value!r}, expected a whole number of 1 or more; correct it")
    return int(value)


def _numbers(name: str, given: ArrayLike, shape: Sequence[int | None], expected: str) -> Points:
    """A new array of this shape, where None is any length; `expected` says so in words."""
    try:
        found = np.array(given, dtype=np.float64)
    except (TypeError, ValueError):
        raise BadInput(f"{name}: found no array of numbers, expected one of shape {expected}") from None
    if found.shape == (0,) and len(shape) == 2:  # an empty list
        found = found.reshape(0, shape[1] or 0)
    fits = found.ndim == len(shape) and all(
        want in (None, have) for want, have in zip(shape, found.shape, strict=True)
    )
    if not fits:
        raise BadInput(f"{name}: found shape {list(found.shape)}, expected {expected}; correct it")
    if not np.isfinite(found).all():
        raise BadInput(f"{name}: found NaN or infinity, expected numbers; leave failed evaluations out")
    return found
