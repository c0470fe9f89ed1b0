"""What all candidates of one run share, and how weights become a candidate's recipe."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .candidate.folder import read_scores
from .config import Config, evaluation_identity, hub_data
from .files import content_hash, read_json, write_json
from .recipe import make_recipe, write_recipe


@dataclass(frozen=True)
class Run:
    """The sources, files and evaluation that every recipe of a run names.

    sources: name -> {path, fingerprint, sample}, in the config's order; the first one's weight is what is searched.
    """

    folder: Path
    sources: dict[str, dict[str, str]]
    groups: list[str]
    files_from: str
    evaluation: dict[str, Any]
    end_point_evaluation: dict[str, Any]

    @classmethod
    def open(cls, config: Config) -> "Run":
        """Read sources/*.json and benchmarks/*.json of the config's run; hashes the user's benchmark files."""
        folder = config.folder
        records = {name: read_json(folder / "sources" / f"{name}.json") for name in config.sources}
        return cls(
            folder=folder,
            sources={
                name: {key: record[key] for key in ("path", "fingerprint", "sample")}
                for name, record in records.items()
            },
            groups=next(iter(records.values()))["groups"],
            files_from=config.files_from,
            evaluation=_with_data(evaluation_identity(config, end_point=False), hub_data(config)),
            end_point_evaluation=_with_data(evaluation_identity(config, end_point=True), hub_data(config)),
        )

    def recipe(self, weights: Mapping[str, float], files_from: str | None = None) -> dict[str, Any]:
        """Recipe of the merge with these weights of the first source, one a tensor group.

        Where all weights are 0 or all are 1 the candidate is an end point, which is evaluated with more repeats:
        every objective is normalised by it.
        """
        is_end_point = len(set(weights.values())) == 1 and set(weights.values()) <= {0.0, 1.0}
        return make_recipe(
            weights={group: [weights[group], 1 - weights[group]] for group in self.groups},
            sources=self.sources,
            files_from=files_from or self.files_from,
            evaluation=self.end_point_evaluation if is_end_point else self.evaluation,
        )

    def source_recipe(self, name: str, files_from: str | None = None) -> dict[str, Any]:
        """Recipe of one source alone."""
        weight = float(name == next(iter(self.sources)))
        return self.recipe(dict.fromkeys(self.groups, weight), files_from)

    def add(self, recipe: dict[str, Any]) -> str:
        """Write candidates/<id>/recipe.json unless it is there; returns the id."""
        write_recipe(self.folder, recipe)
        return recipe["id"]

    def add_job(self, ids: Sequence[str]) -> str:
        """Write jobs/<name>.json, the candidates that one job is to score; returns the name."""
        name = content_hash(list(ids))[:12]
        path = self.folder / "jobs" / f"{name}.json"
        if not path.exists():
            write_json(path, list(ids))
        return name

    def scores(self, id: str) -> dict[str, Any]:
        """scores.json of a candidate; BadInput where it is missing or damaged."""
        return read_scores(self.folder / "candidates" / id)


def _with_data(evaluation: dict[str, Any], data: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """An evaluation whose tasks name the data that were downloaded for them."""
    tasks = {name: task | data.get(name, {}) for name, task in evaluation["tasks"].items()}
    return evaluation | {"tasks": tasks}
