"""Checks of a search's table, and of what it says of other tables."""

from collections.abc import Iterator
from typing import Any

from ..methods import PARAMETERS
from ..search.stopping import planned_evaluations
from .errors import Problem, found, nearest
from .identity import search_settings
from .importance import coverage_problems
from .methods import check_method, grid_weights
from .models import Config
from .searches import Search

# Rows of the tables beside those of searches.
ROWS = {"reference", "all"}
# The optimisers that maximise an acquisition function.
ACQUIRING = {"bayesian", "mm-mo", "momm"}


def search_problems(name: str, search: Search, given: set[str], config: Config) -> Iterator[Problem]:
    """Problems of one search; `given` are the keys that its preset does not give."""
    place, sources = ("searches", name), len(config.sources)
    if name in ROWS:
        yield place, "the tables have rows of this name; give the search another"
    for key, text in [
        *check_method(search, sources),
        *_initial(search, given, sources),
        *_schedule(search, given),
        *_optimiser(search, given),
        *_sparsity(search),
        *_budget(search),
        *coverage_problems(search, len(config.objectives)),
    ]:
        yield (*place, key), text
    for i, text in _weights(search, sources):
        yield (*place, "weights", i), text
    if search.seeds is not None:
        text = f"found {search.seeds}, expected none twice, no seed beside them and no other search called as they are"
        yield (*place, "seeds"), f"{text} ({name}-{search.seeds[0]}); correct them"
    for key in {"n_blocks", "strategy"} & given:
        if search.granularity != "block" and getattr(search, key) is not None:
            text = f"of no use with granularity: {search.granularity}, which has no blocks; remove it"
            yield (*place, key), text
    if search.raw_samples < search.restarts:
        text = f"found {search.raw_samples}, expected at least the {search.restarts} of restarts; raise it"
        yield (*place, "raw_samples"), text


def _optimiser(search: Search, given: set[str]) -> Iterator[tuple[str, str]]:
    """Settings that the optimiser has no use for; those of the surrogate serve the posterior front in any case."""
    unused = {"gap_reward", "proximity_penalty"} if search.optimiser != "bayesian" else set()
    if search.optimiser not in ACQUIRING:
        unused |= {"acquisition", "reference", "mc_samples", "restarts", "raw_samples"}
    for key in unused & given:
        yield key, f"of no use with optimiser: {search.optimiser}; remove it"


def _sparsity(search: Search) -> Iterator[tuple[str, str]]:
    if not search.sparsity:
        return
    if search.optimiser != "mm-mo":
        yield "sparsity", f"found true, of no use with optimiser: {search.optimiser}; set it to false"
    if not search.depends_on_base:
        text = f"found true with method: {search.method}, whose merges do not depend on a base"
        yield "sparsity", f"{text}; set it to false, or take a method of task vectors"
    if search.start_from is not None:
        text = "found true with start_from, whose candidates the search did not measure; set it to false"
        yield "sparsity", text


def _initial(search: Search, given: set[str], sources: int) -> Iterator[tuple[str, str]]:
    if search.initial == "grid":
        if search.weights is None:
            yield "weights", "missing, expected a list of weights for initial: grid; add it"
        elif isinstance(search.weights, int) and sources > 2:
            text = f"found {search.weights}, expected a list of lists, each of {sources} weights with sum 1"
            yield "weights", f"{text}; write them out"
        if search.granularity != "model":
            text = f"found grid with granularity: {search.granularity}, expected granularity: model"
            yield "initial", f"{text}, since a grid has the same weights for the whole model"
        if "n_initial" in given:
            yield "n_initial", "of no use with initial: grid, which evaluates its weights; remove it"
        return
    if search.n_initial < sources + 1:
        text = f"found {search.n_initial}, expected at least {sources + 1} for the {sources} sources and their balance"
        yield "n_initial", f"{text}; raise it"
    if "weights" in given and search.weights is not None:
        yield "weights", "of no use with initial: warm-start; remove it or set initial: grid"


def _weights(search: Search, sources: int) -> Iterator[tuple[int, str]]:
    """What is wrong with which of a grid's weights."""
    if search.initial != "grid" or not isinstance(search.weights, list):
        return
    for i, own in enumerate(search.weights):
        if sources == 2:
            if isinstance(own, list):
                yield i, f"found {found(own)}, expected a number, the first source's weight; correct it"
        elif not isinstance(own, list) or len(own) != sources or abs(sum(own) - 1) > 1e-6:
            yield i, f"found {found(own)}, expected {sources} weights with sum 1; correct them"


def _schedule(search: Search, given: set[str]) -> Iterator[tuple[str, str]]:
    if search.slots is None:
        return
    if search.schedule == "sync":
        if "slots" in given:
            yield "slots", "of no use with schedule: sync; remove it, or set schedule: async"
        return
    planned = planned_evaluations({**search.model_dump(), "weights": grid_weights(search)})
    if search.slots > planned:
        yield "slots", f"found {search.slots}, expected at most the search's {planned} evaluations; lower it"


def _budget(search: Search) -> Iterator[tuple[str, str]]:
    if search.evaluations is None:
        return
    n_initial = len(grid_weights(search)) if search.initial == "grid" else search.n_initial
    left = search.evaluations - n_initial
    if left < 0:
        text = f"found {search.evaluations}, expected at least {n_initial}, the initial evaluations"
        yield "evaluations", f"{text}; raise it"
    elif search.schedule == "sync" and search.iterations > 0 and search.batch_size > left:
        text = f"found {search.batch_size}, a batch larger than the budget: after the initial evaluations"
        yield "batch_size", f"{text} {left} of {search.evaluations} are left; lower it or raise evaluations"


def start_problems(name: str, config: Config) -> Iterator[Problem]:
    """What is wrong with a search that starts from a coarser one.

    None starts from itself on a detour: each is finer than the one that it starts from.
    """
    search, place = config.searches[name], ("searches", name, "start_from")
    for text in _box(search):
        yield ("searches", name, "box"), text
    coarser = search.start_from
    if coarser is None:
        return
    others = [other for other in config.searches if other != name and other not in config.left_out]
    if coarser in config.left_out:
        yield place, f"found {coarser}, which is left out for want of a base; name another search"
    elif coarser not in others:
        what = "this search itself" if coarser == name else "no search"
        yield place, f"found {found(coarser)}, which is {what}{nearest(coarser, others)}"
    elif _fineness(config, coarser) >= _fineness(config, name):
        text = f"expected a coarser one than granularity: {search.granularity} (or one of fewer blocks)"
        theirs = config.searches[coarser].granularity
        yield place, f"found {coarser}, of granularity: {theirs}, {text}; name another search"
    else:
        own, other = _merging(config, name), _merging(config, coarser)
        for key in (key for key in {**own, **other} if own.get(key) != other.get(key)):
            text = f"found {coarser}, whose {key} is {_said(other.get(key))}, not {_said(own.get(key))}"
            yield place, f"{text}: its candidates are no points of this search; set them alike"
            return


def _box(search: Search) -> Iterator[str]:
    if search.box is None:
        return
    if search.start_from is None:
        yield "of no use without start_from; remove it, or name a coarser search"
    if search.box == 0:
        yield "found 0, expected more than 0, since where the front agrees nothing could change; raise it"
    if search.optimiser not in {"sobol", *ACQUIRING}:
        yield f"of no use with optimiser: {search.optimiser}, which proposes in the whole space; remove it"


def _fineness(config: Config, search: str) -> tuple[int, int]:
    """By which searches are ordered, from one weight to one a module."""
    settings = search_settings(config, search)
    return {"model": 0, "layer": 2, "module": 3}.get(settings["strategy"], 1), settings["n_blocks"] or 0


def _merging(config: Config, search: str) -> dict[str, Any]:
    """What of a search's settings, beside weights, decides which model a point is."""
    settings = search_settings(config, search)
    return {key: settings[key] for key in ("method", "rescale", *PARAMETERS) if key in settings}


def _said(value: Any) -> str:
    return f"{value['min']:g} to {value['max']:g}" if isinstance(value, dict) else found(value)
