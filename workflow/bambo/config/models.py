"""The config as typed tables.

What is to say about a key (type, bounds, default, meaning, whether it belongs to a candidate's identity)
is said here once: messages, key reference and JSON schema are made from it.
"""

from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

from ..methods import METHODS, PARAMETERS
from ..search.presets import PRESETS

DEFAULT_PRESET: Final = "bambo-robust"

Text = Annotated[str, Field(min_length=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
RunName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$")]
Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Strategy = Literal["hybrid", "variance", "balance", "uniform", "layer", "model"]

# Marks a setting that determines a candidate's scores; the others say how or where they are computed.
IDENTITY: dict[str, Any] = {"identity": True}


class Table(BaseModel):
    # Strict, since YAML has types of its own: the text "10" where a number belongs is a mistake.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


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


class Stop(Table):
    growth: float = Field(ge=0, description="Stop when hypervolume grew by no more than this share ...")
    iterations: Count = Field(
        description="... over this many iterations; an asynchronous search has one an evaluation."
    )


class Span(Table):
    """A range to search."""

    min: float = Field(description="Smallest value.")
    max: float = Field(description="Largest value.")


Parameter = float | Span | None


class Search(Table):
    """A preset with the given keys on top: every key is filled."""

    # Not required of the user: the preset has them.
    model_config = ConfigDict(json_schema_extra=lambda schema: schema.update(required=[]))

    preset: Literal[
        "bambo-robust",
        "bambo",
        "layer-wise",
        "ap-bmm",
        "ap-bmm-published",
        "model-grid",
        "baseline",
        "sobol",
        "nsga2",
        "moead",
        "cma-es",
        "motpe",
        "mm-mo",
        "momm",
        "map",
        "qnehvi",
    ] = Field(
        default=DEFAULT_PRESET, description="Where the settings that are not given come from, see below."
    )
    # For `load`, which puts a search of each seed in the place of this one.
    seeds: Annotated[list[Seed], Field(min_length=1)] | None = Field(
        default=None,
        exclude=True,
        description="Several searches that differ in the seed alone: `<name>-0` for seed 0, and so on. If what they "
        "start from has seeds, too, each starts from the one of its own.",
    )
    granularity: Literal["module", "layer", "block", "model"] = Field(
        description="What has weights of its own: attention and MLP of each layer (`module`), each layer, or each "
        "block (with embeddings and head beside them), or the model as a whole."
    )
    method: Literal[
        "linear",
        "slerp",
        "task_arithmetic",
        "ties",
        "dare_linear",
        "dare_ties",
        "breadcrumbs",
        "breadcrumbs_ties",
        "della",
        "della_linear",
    ] = Field(description="How the sources are merged, see docs/methods.md; `linear` interpolates.")
    density: Parameter = Field(
        description="Share of a task vector's elements that is kept. A number; `{min: ..., max: ...}` to search it "
        "beside the weights; or null for the method's default."
    )
    gamma: Parameter = Field(
        description="Share of a task vector's elements, the largest, that breadcrumbs drop as outliers; like `density`."
    )
    epsilon: Parameter = Field(
        description="How far della's probability to keep an element rises and falls about the density; like `density`."
    )
    lambda_: Parameter = Field(
        alias="lambda", description="Factor of the merged task vector; like `density`."
    )
    rescale: Literal["papers", "l1"] = Field(
        description="What makes up for elements that dare and della drop: division by the probability to be kept "
        "(`papers`), or the L1 norm of before (`l1`, mergekit's)."
    )
    without_base: Literal["refuse", "leave-out"] = Field(
        description="What becomes of a search whose weights decide nothing for want of a base: the run stops, or goes "
        "on without the search."
    )
    n_blocks: Count | None = Field(description="Takes the place of `blocks.n_blocks`; null keeps that.")
    strategy: Strategy | None = Field(description="Takes the place of `blocks.strategy`; null keeps that.")
    fold: bool = Field(
        description="Join a variable that moves less than 0.1 % of the sources' difference to its neighbour, "
        "rather than warn."
    )
    initial: Literal["warm-start", "grid"] = Field(
        description="What is evaluated first: `warm-start` takes each source, their balance, then scrambled "
        "Sobol points; `grid` takes `weights`."
    )
    n_initial: Count = Field(
        description="Evaluations of a warm start, at least one more than there are sources; of no use with a grid."
    )
    weights: Count | Annotated[list[Share | list[Share]], Field(min_length=1)] | None = Field(
        description="What a grid evaluates: weights of the first source; how many of them, evenly between 0 and 1; or, "
        "of more than two sources, lists of all their weights."
    )
    start_from: Name | None = Field(
        description="A coarser search of this config, of the same method, to start from when it is done: its "
        "candidates are observations of this one, too, and the best take the place of half of the random points."
    )
    box: Share | None = Field(
        description="With `start_from`: random points and proposals keep within the range of the coarser search's "
        "front (without the sources alone) in each variable, widened by this on both sides; null is the whole space."
    )
    schedule: Literal["sync", "async"] = Field(
        description="`sync` proposes a batch when all of the batch before is evaluated; `async` the next candidate as "
        "soon as one is."
    )
    slots: Count | None = Field(
        description="Candidates under way together in an asynchronous search; null is `batch_size`. May change during "
        "a search."
    )
    iterations: CountOrZero = Field(
        description="Iterations after the initial evaluations; an asynchronous search makes as many evaluations as a "
        "synchronous one."
    )
    batch_size: Count = Field(
        description="Candidates proposed in an iteration; of an asynchronous search, see `iterations`."
    )
    evaluations: Count | None = Field(
        description="Most evaluations in all; the last batch is cut to fit. Null sets no limit."
    )
    optimiser: Literal["bayesian", "sobol", "nsga2", "moead", "cma-es", "motpe", "mm-mo", "momm", "map"] = (
        Field(description="What proposes candidates, see docs/searches.md.")
    )
    kernel: Literal["rbf", "matern52"] = Field(
        description="Kernel of the Gaussian process of each objective; one lengthscale a variable."
    )
    lengthscale_prior: Literal["dimension-scaled", "none", "importance", "importance-start"] = Field(
        description="Prior of the lengthscales; `dimension-scaled` expects longer ones of more variables, `importance` "
        "in addition shorter ones of variables that matter (see the table `importance`); `importance-start` has no "
        "prior, but starts the fit from such lengthscales, as AP-BMM was published."
    )
    mean_input: bool = Field(description="Whether the surrogate also sees the mean of a candidate's weights.")
    noise: Literal["known", "inferred"] = Field(
        description="`known` is what would change if an evaluation was repeated; `inferred` fits a variance."
    )
    noise_share: Share = Field(
        description="Share of the binomial variance that is taken as known noise where nothing was repeated."
    )
    acquisition: Literal["qlognehvi", "qlogehvi", "qehvi", "thompson"] = Field(
        description="What proposals maximise: expected hypervolume improvement, given the noise, given the posterior "
        "means, or as in the paper; or draws from the posterior, for batches of more than ten or so."
    )
    reference: Literal["fixed", "worst"] = Field(
        description="Reference point of the acquisition: `reference_point`, or the worst values observed. "
        "Tables always take `reference_point`."
    )
    sparsity: bool = Field(
        description="Whether the optimiser `mm-mo` has an objective more: minus the L1 norm of the difference from the "
        "base. The search's front stays that of the config's objectives."
    )
    mc_samples: Count = Field(description="Base samples of the acquisition (Sobol).")
    restarts: Count = Field(description="Starting points of the acquisition's optimiser.")
    raw_samples: Count = Field(description="Points to choose the starting points from; at least `restarts`.")
    gap_reward: Share = Field(
        description="How much a proposal gains by filling a gap of the front; with this or a `proximity_penalty` the "
        "best of a pool of candidates is proposed. 0 is off."
    )
    proximity_penalty: Share = Field(
        description="How much a proposal loses by being near to one that is under way; 0 is off."
    )
    leave: Annotated[float, Field(gt=0.5, lt=1)] | None = Field(
        description="Probability to be dominated from which a candidate is left after the first questions "
        "(`evaluation.first_share`), see docs/staged.md; null asks every candidate all questions."
    )
    seed: Seed = Field(description="Seed of all random choices of the search.")
    stop: Stop | None = Field(description="When to stop before the budget is used; null is never.")

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        # An unknown preset is reported as such; the default's settings keep all else from being missing, too.
        name = given.get("preset")
        preset = PRESETS[name if name in list(PRESETS) else DEFAULT_PRESET]
        if given.get("method", preset["method"]) != preset["method"]:
            preset = preset | dict.fromkeys(PARAMETERS)  # they are those of the preset's method
        return {**preset, **given}

    @property
    def given_parameters(self) -> dict[str, float | Span]:
        """The parameters that are not left to the method."""
        own = {"density": self.density, "gamma": self.gamma, "epsilon": self.epsilon, "lambda": self.lambda_}
        return {name: value for name, value in own.items() if value is not None}

    @property
    def parameters(self) -> dict[str, float | Span]:
        """All parameters of the method; searched ones have a span."""
        return {**METHODS[self.method].parameters, **self.given_parameters}

    @property
    def depends_on_base(self) -> bool:
        """Whether the base makes a difference; from task arithmetic with lambda 1 it cancels out."""
        cancels = self.method == "task_arithmetic" and self.parameters == {"lambda": 1}
        return METHODS[self.method].task_vectors and not cancels


class Sampling(Table):
    do_sample: bool = Field(default=False, description="Draw tokens; false takes the likeliest one (greedy).")
    temperature: Annotated[float, Field(gt=0)] | None = Field(default=None, description="Needed to draw.")
    top_p: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None, description="Needed to draw; 1 is off."
    )
    top_k: CountOrZero | None = Field(default=None, description="Needed to draw; 0 is off.")
    min_p: Share | None = Field(default=None, description="Needed to draw; 0 is off.")


class Task(Table):
    task: Text = Field(
        description="Name of a task of lm-evaluation-harness, or path to a task file of your own (.yaml). "
        "`gpqa_diamond` is ours, for its `gpqa_diamond_cot_zeroshot`."
    )
    data: Text | None = Field(
        default=None,
        description="Local file of questions (csv, json, jsonl, parquet), or a folder of such files; null takes the "
        "task's own data, which the first job downloads.",
        json_schema_extra={"identity": False},  # where it lies; its contents are
    )
    prompt: Text | None = Field(
        default=None, description="Prompt, a template over the data's columns; null takes the task's own."
    )
    scoring: Literal["boxed", "stock"] = Field(
        default="boxed",
        description="How answers are read: from the last `\\boxed{}`, for which the prompt asks, or where there is "
        "none from what is said to be the answer (`boxed`); or as the task itself does (`stock`). See docs/tasks.md.",
    )
    max_tokens: Count | None = Field(default=None, description="Takes the place of `evaluation.max_tokens`.")
    repeats: Count | None = Field(default=None, description="Takes the place of `evaluation.repeats`.")
    limit: Count | None = Field(default=None, description="Takes the place of `evaluation.limit`.")
    stratify: Text | None = Field(
        default=None,
        description="Column by whose values a limit takes its share of questions, drawn evenly; null takes the first "
        "ones.",
    )
    unsafe_code: Literal[True] | None = Field(
        default=None,
        description="`true` lets the task run code that models wrote, as `humaneval` does, with the rights of the "
        "evaluation's job.",
    )


class Server(Table):
    """A server with the completions of the OpenAI API."""

    command: Text | None = Field(
        default=None,
        description="Starts a server for one model. `{model}` (its folder), `{port}` (a free one), `{gpus}` and "
        "`{model_length}` are filled in. Null where a server that loads models by their folder's path is up.",
    )
    url: Text = Field(
        default="http://127.0.0.1:{port}/v1", description="Where it answers; `{port}` is the command's."
    )
    model: Text = Field(default="{model}", description="What the server calls the model.")
    key: Text | None = Field(
        default=None,
        description="Environment variable that holds the server's API key, where it asks for one.",
    )
    start: Count = Field(default=1800, description="Longest time (s) until a started server answers.")
    answer: Count = Field(default=7200, description="Longest time (s) of one answer.")


class Simulated(Table):
    """How long simulated evaluations take: log-normal, drawn from the candidate's id alone."""

    seconds: Annotated[float, Field(ge=0)] = Field(default=0, description="Median duration (s).")
    sigma: Annotated[float, Field(ge=0)] = Field(
        default=0,
        description="Standard deviation of the duration's natural logarithm; 0 makes all equally long.",
    )


class Prices(Table):
    """Prices, in one currency of your choice."""

    gpu_hour: float = Field(default=0, ge=0, description="An hour of one GPU.")
    input_tokens: float = Field(default=0, ge=0, description="A million tokens of prompts.")
    output_tokens: float = Field(default=0, ge=0, description="A million output tokens.")


class Evaluation(Table):
    engine: Literal["hf", "continuous", "vllm", "server", "simulated"] = Field(
        default="hf",
        description="What generates: transformers in batches (`hf`) or with continuous batching, vLLM in the job, or "
        "a server with the OpenAI API. `simulated` makes up scores from the weights, to try out settings and "
        "clusters: no model is merged or asked.",
        json_schema_extra=IDENTITY,
    )
    server: Server | None = Field(
        default=None, description="The server of `engine: server`.", json_schema_extra=IDENTITY
    )
    simulated: Simulated | None = Field(
        default=None,
        description="Lets evaluations of `engine: simulated` take time, to try out schedules; null takes none.",
    )
    python: Text | None = Field(
        default=None, description="Another interpreter for evaluation jobs; null takes the workflow's."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto",
        description="Where models run: `cuda` on the GPUs that `resources.evaluate.gpu` counts, `auto` there if the "
        "machine has any.",
    )
    batch_size: Count = Field(default=32, description="Questions at work together.")
    candidates_per_job: Count = Field(
        default=1,
        description="Candidates that one job scores, one after the other, with its engine kept loaded.",
    )
    memory_share: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.9, description="Share of the GPU's memory that `continuous` and `vllm` take."
    )
    model_length: Count | None = Field(
        default=None,
        description="Tokens of prompt and answer together that the engine makes room for; null is the model's own "
        "length.",
    )
    threads: Count = Field(default=1, description="CPU threads of an evaluation.")
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        default="float32", description="Number format in which the model runs.", json_schema_extra=IDENTITY
    )
    seed: Seed = Field(
        default=0,
        description="Seed of the answers, the same for every candidate.",
        json_schema_extra=IDENTITY,
    )
    repeats: Count = Field(
        default=1, description="Answers to a question; more than 1 only if drawn.", json_schema_extra=IDENTITY
    )
    end_point_repeats: Count = Field(
        default=4,
        description="Multiplies `repeats` for the sources alone, which set the scale of the objectives; only "
        "if answers are drawn.",
        json_schema_extra=IDENTITY,
    )
    limit: Count | None = Field(
        default=None,
        description="Questions of each task, the first ones; null is all.",
        json_schema_extra=IDENTITY,
    )
    first_share: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None,
        description="Share of the questions that candidates of a search with `leave` are asked first, an even draw; "
        "null for no stages.",
        json_schema_extra=IDENTITY,
    )
    max_tokens: Count = Field(
        default=32768,
        description="Longest answer (tokens); what is longer is cut.",
        json_schema_extra=IDENTITY,
    )
    sampling: Sampling = Field(
        default=Sampling(), description="How tokens are chosen.", json_schema_extra=IDENTITY
    )
    tasks: dict[Name, Task] = Field(min_length=1, description="The benchmarks.", json_schema_extra=IDENTITY)
    prices: Prices = Field(default=Prices(), description="What the metric `cost` is reckoned with.")


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
