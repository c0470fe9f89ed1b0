"""What searches that ask for the importance of the layers need, and reranking, which goes with it in AP-BMM."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import BadInput
from ..evaluation.prompts import KEY, check_overlap, local_questions, read_prompts
from ..files import file_hash
from .errors import Problem
from .models import Config
from .searches import Search

PRIORS = ("importance", "importance-start")


def asking(config: Config) -> list[str]:
    """The searches whose surrogate is told the importance of each variable."""
    return [name for name, search in config.searches.items() if search.lengthscale_prior in PRIORS]


def granularities(config: Config) -> list[str]:
    """Of the groups whose importance is asked for: layers, and their modules where a search tells these apart."""
    apart = any(config.searches[name].granularity == "module" for name in asking(config))
    return ["layer", "module"] if apart else ["layer"]


def compares_activations(config: Config) -> bool:
    """Whether the sources' hidden states are part of what is asked for."""
    return bool(asking(config)) and config.importance.activations > 0


def importance_problems(config: Config) -> Iterator[Problem]:
    searches, table = asking(config), config.importance
    if not searches:
        return
    asked = f"for lengthscale_prior of searches.{searches[0]}"
    if table.parameters == 0 and table.activations == 0:
        yield (
            ("importance", "parameters"),
            f"found 0, as activations, expected more than 0 in one {asked}; raise it",
        )
    elif table.activations > 0 and config.evaluation.engine == "simulated":
        text = f"found {table.activations:g} with engine: simulated, which runs no model; set it to 0"
        yield ("importance", "activations"), text
    elif table.activations > 0 and table.prompts is None:
        text = f"missing, expected a file of prompts {asked}; add one, or set importance.activations: 0"
        yield ("importance", "prompts"), text


def coverage_problems(search: Search, objectives: int) -> Iterator[tuple[str, str]]:
    """Key and text of what is wrong with the reranking of one search."""
    if search.gap_reward > 0 and objectives > 2:
        text = f"found {search.gap_reward:g}, of no use with {objectives} objectives, whose front has no gaps"
        yield "gap_reward", f"{text}; set it to 0"
    for key in ("gap_reward", "proximity_penalty"):
        if getattr(search, key) > 0 and search.acquisition == "thompson":
            text = (
                f"found {getattr(search, key):g}, of no use with acquisition: thompson, whose points are each"
            )
            yield key, f"{text} best in a draw of their own; set it to 0"


def check_prompts(config: Config) -> None:
    """BadInput where the prompts are not there, are none, or one is a question of local benchmark data.

    Those of downloaded data, and all as the models are asked them, are compared by the job that runs the models.
    """
    if compares_activations(config) and config.importance.prompts is not None:
        path = Path(config.importance.prompts)
        tasks = {name: task.model_dump() for name, task in config.evaluation.tasks.items()}
        check_overlap(read_prompts(path), local_questions(tasks), path)


def importance_notes(config: Config) -> list[str]:
    """What a user should know of the table `importance`."""
    if "importance" in config.model_fields_set and not asking(config):
        return ["importance: no search asks for it (lengthscale_prior: importance)"]
    return []


def importance_identity(config: Config) -> dict[str, Any]:
    """What decides the importance, JSON-able: weights, and the prompts' contents, wherever they lie."""
    table = config.importance
    found: dict[str, Any] = {"parameters": table.parameters, "activations": table.activations}
    if compares_activations(config) and table.prompts is not None:
        try:
            found["prompts_hash"] = file_hash(Path(table.prompts))
        except OSError as error:
            raise BadInput(
                f"{KEY}: cannot read {table.prompts} ({error.strerror}); correct the path"
            ) from None
    return found
