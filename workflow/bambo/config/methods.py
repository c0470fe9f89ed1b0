"""What a merging method asks of a config, and what a missing base makes of it."""

from collections.abc import Iterator
from itertools import product
from typing import Any

from ..errors import BadInput
from ..methods import METHODS, check_parameters
from .models import Config
from .searches import Search, Span


def check_method(search: Search, sources: int) -> Iterator[tuple[str, str]]:
    """Keys of a search, and what is wrong with them: parameters at every end of what is searched."""
    if search.method == "slerp" and sources != 2:
        yield "method", f"found slerp with {sources} sources, expected two of them; choose another method"
    if search.rescale != "papers" and not METHODS[search.method].random:
        yield "rescale", f"of no use with method: {search.method}, which drops nothing at random; remove it"
    for name, value in search.given_parameters.items():
        if isinstance(value, Span) and value.min >= value.max:
            yield name, f"found min {value.min:g} and max {value.max:g}, expected a smaller min; correct them"
            return
    ends = [(own.min, own.max) if isinstance(own, Span) else (own,) for own in search.parameters.values()]
    for corner in product(*ends):
        try:
            check_parameters("", search.method, dict(zip(search.parameters, corner, strict=True)))
        except BadInput as error:
            key, _, text = str(error).removeprefix(".").partition(": ")
            yield key, text
            return
    if search.initial == "grid":
        for name, value in search.parameters.items():
            if isinstance(value, Span):
                text = "found a range, expected a number with initial: grid, which varies the weights alone"
                yield name, f"{text}; set initial: warm-start"


def grid_weights(search: Search) -> list[Any]:
    """The weights of a grid: of the first source, or of all where there are more than two."""
    if isinstance(search.weights, int):
        return [place / (search.weights + 1) for place in range(1, search.weights + 1)]
    return search.weights or []


def weightless(config: Config, search: Search) -> str | None:
    """Why all candidates of a search would be one model, whatever the weights; None where they are not."""
    moved = [name for name in config.sources if name != config.serves_as_base]
    if not METHODS[search.method].weightless or len(moved) > 1:
        return None
    return (
        f"{_serving(config)}, so that {search.method} has one task vector, that of {moved[0]}, whose weight cancels "
        "out: every candidate would be the same model"
    )


def base_notes(config: Config) -> dict[str, str]:
    """What it makes of each search on task vectors that a source serves as the base: search -> one line."""
    serving = config.serves_as_base
    if serving is None:
        return {}
    moved = [name for name in config.sources if name != serving]
    found = {}
    for name, search in config.searches.items():
        method = METHODS[search.method]
        if not method.task_vectors:
            continue
        effects = ["its task vector is zero"]
        if method.sparsifier != "none":
            effects.append(f"only {' and '.join(moved)} {'is' if len(moved) == 1 else 'are'} sparsified")
        elif search.parameters == {"lambda": 1}:
            effects.append(f"{search.method} is the same as linear")
        if method.consensus and len(moved) == 1:
            effects.append("with one task vector the consensus changes nothing")
        found[name] = f"searches.{name}: {_serving(config)} of {search.method}: {', '.join(effects)}"
    return found


def _serving(config: Config) -> str:
    if config.base is None:
        return f"no base is set, and {config.serves_as_base}, the last source, serves as the base"
    return f"base is the model of sources.{config.serves_as_base}"
