"""What all candidates of one run share, and how a merge becomes a candidate's recipe."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .candidate.folder import read_scores
from .checkpoint import MODULES
from .config import Config, evaluation_identity, hub_data, needs_base
from .errors import BadInput
from .files import content_hash, read_json, write_json
from .methods import METHODS
from .recipe import make_recipe, rounded_number, rounded_weights, write_recipe


@dataclass(frozen=True)
class Merge:
    """One way to merge a run's sources.

    weights: tensor group -> one weight a source, of a layer as a whole or of each of its modules; parameters: the
    method's, name -> group -> value; rescale: as in recipes.
    """

    weights: Mapping[str, Sequence[float]]
    method: str = "linear"
    parameters: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    rescale: str = "papers"

    @property
    def only_source(self) -> int | None:
        """Place of the source that has all weight in every group; None where there is none."""
        rows = {tuple(own) for own in self.weights.values()}
        first = next(iter(rows))
        alone = len(rows) == 1 and sorted(first) == [0] * (len(first) - 1) + [1]
        return first.index(1) if alone else None


def simplest(merge: Merge, base_source: int | None) -> Merge:
    """A merge that gives the same model by the plainest method, so that one model is one candidate.

    base_source: place of the source that is the base. With weights that add up to 1:
    - Task arithmetic with lambda 1 is linear: the base cancels out.
    - All weight on one source gives that source, under linear, slerp, and task arithmetic with lambda 1.
    - All weight on the base gives the base under every method: no task vector is added to it.
    """
    plain = not METHODS[merge.method].task_vectors or (
        merge.method == "task_arithmetic" and set(merge.parameters["lambda"].values()) == {1}
    )
    only = merge.only_source
    alone = only is not None and (plain or only == base_source)
    return Merge(merge.weights) if alone or (plain and merge.method != "slerp") else merge


def joined(merge: Merge, groups: Sequence[str]) -> Merge:
    """The merge with layers whole whose modules are merged alike, so that one model is one candidate.

    groups: of the sources, layers as a whole; their order is the result's. Alike is what recipes write alike.
    """
    weights: dict[str, Sequence[float]] = {}
    parameters: dict[str, dict[str, float]] = {name: {} for name in merge.parameters}
    for group in groups:
        names = [group] if group in merge.weights else [f"{group}.{module}" for module in MODULES]
        settings = [
            [
                *rounded_weights(merge.weights[name]),
                *(rounded_number(own[name]) for own in merge.parameters.values()),
            ]
            for name in names
        ]
        alike = all(own == settings[0] for own in settings)
        for name in names[:1] if alike else names:
            target = group if alike else name
            weights[target] = merge.weights[name]
            for parameter, own in merge.parameters.items():
                parameters[parameter][target] = own[name]
    return Merge(weights, merge.method, parameters, merge.rescale)


@dataclass(frozen=True)
class Run:
    """The sources, files and evaluation that every recipe of a run names.

    sources: name -> {path, fingerprint, sample} and, of an adapter, its folder, in the config's order. base: a record
    like a source's; None where no method needs one, or the last source serves as one. seed: of random masks.
    """

    folder: Path
    sources: dict[str, dict[str, str]]
    groups: list[str]
    files_from: str
    evaluation: dict[str, Any]
    end_point_evaluation: dict[str, Any]
    base: dict[str, str] | None = None
    seed: int = 0
    vocabulary: str = "exact"

    @classmethod
    def open(cls, config: Config) -> "Run":
        """Read sources/*.json, base.json and benchmarks/*.json of the config's run; hashes the user's benchmark files.

        BadInput where the base is a source, and the config does not say so.
        """
        folder = config.folder
        records = {name: read_json(folder / "sources" / f"{name}.json") for name in config.sources}
        sources = {name: _source(record) for name, record in records.items()}
        return cls(
            folder=folder,
            sources=sources,
            groups=records[config.files_from]["groups"],
            files_from=config.files_from,
            evaluation=_with_data(evaluation_identity(config, end_point=False), hub_data(config)),
            end_point_evaluation=_with_data(evaluation_identity(config, end_point=True), hub_data(config)),
            base=_base(config, sources) if needs_base(config) else None,
            seed=config.merge.seed,
            vocabulary=config.merge.vocabulary,
        )

    @property
    def base_source(self) -> int | None:
        """Place of the source that is the base, the last one where there is no base; None where it is another model."""
        if self.base is None:
            return len(self.sources) - 1
        fingerprints = [source["fingerprint"] for source in self.sources.values()]
        base = self.base["fingerprint"]
        return fingerprints.index(base) if base in fingerprints else None

    def recipe(self, merge: Merge, files_from: str | None = None) -> dict[str, Any]:
        """Recipe of a merge, by the simplest method that gives the same model.

        One source alone is an end point, which is evaluated with more repeats: every objective is normalised by it.
        """
        merge = joined(simplest(merge, self.base_source), self.groups)
        method, options = METHODS[merge.method], dict[str, Any]()
        if method.random:
            options["seed"] = self.seed
            if merge.rescale != "papers":
                options["rescale"] = merge.rescale
        if self.vocabulary != "exact":
            options["vocabulary"] = self.vocabulary
        is_end_point = merge.method == "linear" and merge.only_source is not None
        return make_recipe(
            weights=merge.weights,
            sources=self.sources,
            files_from=files_from or self.files_from,
            evaluation=self.end_point_evaluation if is_end_point else self.evaluation,
            method=merge.method,
            base=self.base if method.task_vectors else None,
            parameters=merge.parameters,
            options=options,
        )

    def source_recipe(self, name: str, files_from: str | None = None) -> dict[str, Any]:
        """Recipe of one source alone."""
        return self.recipe(self.everywhere([float(name == other) for other in self.sources]), files_from)

    def everywhere(self, weights: Sequence[float]) -> Merge:
        """The linear merge with the same weights, one a source, in every group."""
        return Merge(dict.fromkeys(self.groups, weights))

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


def _source(record: Mapping[str, Any]) -> dict[str, str]:
    keys = ("path", "fingerprint", "sample", "adapter")
    return {key: record[key] for key in keys if record.get(key) is not None}


def _base(config: Config, sources: Mapping[str, Mapping[str, str]]) -> dict[str, str] | None:
    record = _source(read_json(config.folder / "base.json"))
    for name, source in sources.items():
        if source["fingerprint"] == record["fingerprint"] and name != config.serves_as_base:
            raise BadInput(f"base.model: its files are those of sources.{name}; name the same place in both")
    return None if config.base_source == len(sources) - 1 else record


def _with_data(evaluation: dict[str, Any], data: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """An evaluation whose tasks name the data that were downloaded for them."""
    tasks = {name: task | data.get(name, {}) for name, task in evaluation["tasks"].items()}
    return evaluation | {"tasks": tasks}
