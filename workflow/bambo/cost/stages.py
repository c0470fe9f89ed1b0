"""How many evaluations a run makes at most, and which of them can run side by side."""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any, NamedTuple

from ..config import Config, iterations, search_settings
from ..run import simplest
from ..search.stopping import slots
from ..space import alone, everywhere, expand, variables


class Stage(NamedTuple):
    """Evaluations that can run side by side, and in how many jobs they do."""

    evaluations: int
    jobs: int


def end_points(config: Config) -> int:
    """Each source under the files of all, and all but one under their own."""
    return 2 * len(config.sources) - 1


def stages(config: Config) -> dict[str, list[Stage]]:
    """New evaluations of every search, initial ones first; end points are none, nor is what another search begins with.

    At most: random points of two searches may agree, and a search may stop early.
    """
    count = len(config.sources)
    ends = [alone(place, count) for place in range(count)]
    asked = {_model(config, own, {"method": "linear"}) for own in ends}
    found = {}
    for name in config.searches:
        settings = search_settings(config, name)
        limit = settings["evaluations"] or float("inf")
        if settings["initial"] == "grid":
            own = [each if isinstance(each, list) else [each, 1 - each] for each in settings["weights"]]
        else:
            own = [*ends, [1 / count] * count]
        whole = {_model(config, weights, settings) for weights in own}  # the same in the whole model
        initial = len(whole - asked) + settings["n_initial"] - len(own)
        asked |= whole
        counts, total = [initial], settings["n_initial"]
        if settings["schedule"] == "async":  # waves of its slots, as if all took equally long
            left, size = iterations(config, name) - total, slots(settings)
            counts += [min(size, left - begun) for begun in range(0, left, size)]
            found[name] = [Stage(count, count) for count in counts]
            continue
        for _ in range(iterations(config, name)):
            counts.append(int(min(settings["batch_size"], limit - total)))
            total += counts[-1]
        each = config.evaluation.candidates_per_job
        found[name] = [Stage(count, ceil(count / each)) for count in counts]
    return found


def _model(config: Config, weights: Sequence[float], settings: Mapping[str, Any]) -> str:
    """A name of the model with the same weights in every part, and what is searched beside them in its middle."""
    found = variables([{"name": "model", "groups": ["model"]}], list(config.sources), settings)
    return str(simplest(expand(everywhere(weights, found), found, settings), config.base_source))
