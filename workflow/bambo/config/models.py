"""The config as typed tables; those of a search are in `searches`, those of how a model is scored in `evaluation`.

What is to say about a key (type, bounds, default, meaning, whether it belongs to a candidate's identity)
is said in its table once: messages, key reference and JSON schema are made from it.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, model_validator

from .evaluation import Evaluation
from .searches import Search
from .table import IDENTITY, Count, CountOrZero, Name, RunName, Seed, Share, Strategy, Table, Text


class Model(Table):
    model: Text = Field(
        description="Folder of a Hugging Face checkpoint (safetensors), or hub id `org/name`."
    )
    revision: Text | None = Field(
        default=None, description="Commit, tag or branch of a hub id; null is the newest. Not for a folder."
    )


class Source(Model):
    adapter: Text | None = Field(
        default=None,
        description="LoRA adapter that was trained on `model`: a folder, or a hub id; it is folded into the weights.",
    )


class Blocks(Table):
    n_blocks: Count = Field(default=6, description="Blocks of consecutive layers; at most one a layer.")
    strategy: Strategy = Field(
        default="hybrid",
        description="How the layers are cut. `hybrid` weighs layers that are alike within a block against "
        "blocks that differ equally much between the sources; `variance` and `balance` take one of the two; "
        "`uniform` makes blocks of equal length, `layer` one a layer, `model` one weight for everything.",
    )
    norm: int = Field(
        default=2, ge=1, le=2, description="p of the p-norm by which the sources differ in a layer."
    )


class Objective(Table):
    metric: Text = Field(
        description="What is measured: `accuracy` (share of right answers), `tokens` (of an answer), another of "
        "docs/metrics.md, or any metric of the task itself as lm-eval names it."
    )
    direction: Literal["max", "min"] | None = Field(
        default=None, description="Whether more of the metric is better; null where BAMBO knows it."
    )
    expert: Name = Field(description="The source that scores 1.")
    base: Name = Field(description="The source that scores 0.")
    benchmarks: Annotated[list[Name], Field(min_length=1)] | None = Field(
        default=None, description="Tasks over which the mean is taken; null is all."
    )


class Limit(Table):
    min: float | None = Field(default=None, description="Smallest value.")
    max: float | None = Field(default=None, description="Largest value.")


class Selection(Table):
    front: Literal["posterior", "observed"] = Field(
        default="posterior", description="Front to choose from: by the surrogate's mean, or as measured."
    )
    divisions: Count = Field(default=10, description="Divisions of the Das-Dennis preference vectors.")
    nearest: Count = Field(
        default=3, description="Models nearest to a preference, of which the best one is chosen."
    )
    limits: dict[Text, Limit] = Field(
        default={},
        description="What a chosen model must keep to: bounds on a metric (`tokens`, `latency`, ...), a benchmark's "
        "(`<b>.accuracy`, `<b>.truncated`, ...), an objective, or `seconds` of the evaluation.",
    )
    preferences: dict[Name, list[Annotated[float, Field(ge=0)]]] = Field(
        default={},
        description="Preferences of your own, by name: a weight for each objective, in the order of `objectives`. "
        "A model is chosen for each, beside the others.",
    )
    export: CountOrZero | list[Text] = Field(
        default=2,
        description="What the target `export` writes: so many of the chosen models, spread over the front, or those "
        "of a list of names (`tables/selection.csv`) and candidates' ids.",
    )

    @property
    def bounds(self) -> dict[str, dict[str, float]]:
        """The limits as `selection.select` takes them."""
        return {metric: limit.model_dump(exclude_none=True) for metric, limit in self.limits.items()}

    @property
    def rules(self) -> dict[str, Any]:
        """How a preference picks a model, as `fronts.selection` takes it."""
        return {**self.model_dump(include={"front", "divisions", "nearest"}), "limits": self.bounds}


class Confirm(Table):
    """What `snakemake confirm` measures again: chosen models by scores that did not choose them."""

    members: Count = Field(
        default=8,
        description="At most so many models of the front by posterior mean: those that make up its hypervolume.",
    )
    repeats: Annotated[int, Field(ge=2)] = Field(
        default=2,
        description="New answers, of another seed, as a multiple of `evaluation.repeats`; only if answers are drawn.",
    )
    data: dict[Name, Text] = Field(
        default={},
        description="Held-out questions, which the search has not seen: benchmark -> file or folder, as its `data`. "
        "Needed of all benchmarks where answers are not drawn, since the same questions would be answered the same.",
    )


class Tracking(Table):
    """Experiment trackers, which read what the run wrote; a failure there warns only. See docs/tracking.md."""

    mlflow: Text | None = Field(
        default=None,
        description="Folder for a local store of MLflow, or the address of a tracking server; null is off.",
    )
    tensorboard: Text | None = Field(
        default=None, description="Folder for TensorBoard's event files; null is off."
    )


class Job(Table):
    mem_mb: Count = Field(default=2000, description="Memory (MB).")
    runtime: Count = Field(default=30, description="Longest run time (minutes).")
    growth: float = Field(
        default=1.5,
        ge=1,
        description="Memory and run time of a retry, as a multiple of the attempt's before.",
    )

    def grown(self, quantity: str, attempt: int) -> int:
        """`mem_mb` or `runtime` of an attempt, counted from 1."""
        return round(getattr(self, quantity) * self.growth ** (attempt - 1))


class MergeJob(Job):
    threads: Count = Field(default=2, description="CPU threads.")


class EvaluateJob(Job):
    gpu: CountOrZero = Field(default=1, description="GPUs; 0 evaluates on the CPU.")


class Merge(Table):
    """How merged models are made, and where they go."""

    materialize: bool = Field(
        default=True,
        description="Write each merged model to disk before it is scored; false merges straight into the loaded "
        "engine.",
    )
    device: Literal["cpu", "cuda"] = Field(
        default="cpu", description="Where merges that are written to disk are computed; `cuda` takes one GPU."
    )
    seed: Seed = Field(
        default=0,
        description="Seed of the random masks of dare and della, the same for every candidate.",
        json_schema_extra=IDENTITY,
    )
    vocabulary: Literal["exact", "match"] = Field(
        default="exact",
        description="What becomes of sources whose embeddings have another number of rows than those of `files_from`: "
        "they are refused, or cut and padded to fit (`match`).",
        json_schema_extra=IDENTITY,
    )


class Importance(Table):
    """What the sources' differences say of how much each layer matters, before anything is evaluated."""

    prompts: Text | None = Field(
        default=None,
        description="Local file of prompts (jsonl, json, csv, parquet; column `prompt`, or lines of a .txt) over which "
        "the sources' hidden states are compared; none of them may be a scored question.",
    )
    parameters: Share = Field(default=0.5, description="Weight of the difference of the parameters.")
    activations: Share = Field(
        default=0.5, description="Weight of the difference of the hidden states; 0 needs no prompts."
    )


class Resources(Table):
    merge: MergeJob = Field(default=MergeJob(), description="A merge, or another walk through all weights.")
    evaluate: EvaluateJob = Field(
        default=EvaluateJob(), description="An evaluation; its threads are `evaluation.threads`."
    )
    propose: Job = Field(default=Job(), description="A proposal; it has one thread.")


class Config(Table):
    """The config of a BAMBO run."""

    run: RunName = Field(description="Name of the run, whose results lie in `results/<run>/`.")
    sources: dict[Name, Source] = Field(
        min_length=2,
        description="The models to merge, two or more. Of two, the weights that are searched, 0 to 1, are the first "
        "one's.",
    )
    base: Model | None = Field(
        default=None,
        description="The model that all were trained from, for methods on task vectors; without one, the last source "
        "serves as one (docs/methods.md).",
    )
    files_from: Name = Field(
        description="The source from which all merged models get config, tokenizer, chat template and "
        "generation config."
    )
    reference_point: list[float] = Field(
        default=[],
        description="Where hypervolume is measured from, in the order and the unit of the objectives (0 is "
        "the base, 1 the expert); left out, it is -0.1 in each.",
    )
    blocks: Blocks = Field(
        default=Blocks(), description="How layers are joined to blocks that share a weight."
    )
    importance: Importance = Field(
        default=Importance(), description="Importance of the layers, the prior of searches that ask for it."
    )
    searches: dict[Name, Search] = Field(min_length=1, description="The searches; they share evaluations.")
    merge: Merge = Field(default=Merge(), description="How merged models are made.")
    evaluation: Evaluation = Field(description="How a model is scored.")
    objectives: dict[Name, Objective] = Field(
        min_length=2, max_length=4, description="Two objectives, or up to four; all are maximised."
    )
    selection: Selection = Field(
        default=Selection(), description="Which models of the Pareto set are chosen."
    )
    confirm: Confirm = Field(
        default=Confirm(), description="Which models are measured again, and how, by `snakemake confirm`."
    )
    tracking: Tracking = Field(default=Tracking(), description="Where observations are logged, too.")
    resources: Resources = Field(default=Resources(), description="What a job may take.")
    retries: CountOrZero = Field(
        default=2, description="Attempts at a merge or an evaluation after a first one that failed."
    )
    on_failure: Literal["stop", "continue"] = Field(
        default="stop",
        description="What becomes of an evaluation that failed after its retries. `stop`: the loop stops at the end of "
        "the iteration, and the next start evaluates it alone. `continue`: it is recorded as failed, is not proposed "
        "again, and the loop goes on.",
    )

    _left_out: dict[str, str] = PrivateAttr(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _fill_reference_point(cls, given: Any) -> Any:
        if isinstance(given, dict) and isinstance(given.get("objectives"), dict):
            return {"reference_point": [-0.1] * len(given["objectives"]), **given}
        return given

    @property
    def folder(self) -> Path:
        """Where the run's results lie, relative to the working directory."""
        return Path("results") / self.run

    @property
    def left_out(self) -> dict[str, str]:
        """The searches that need a base and are left out without one: name -> reason."""
        return self._left_out

    @property
    def serves_as_base(self) -> str | None:
        """The source whose task vector is zero: the base itself, or the last one where there is no base."""
        if self.base is None:
            return list(self.sources)[-1]
        same = Source(**self.base.model_dump())
        return next((name for name, source in self.sources.items() if source == same), None)

    @property
    def base_source(self) -> int | None:
        """The place of `serves_as_base`."""
        name = self.serves_as_base
        return None if name is None else list(self.sources).index(name)
