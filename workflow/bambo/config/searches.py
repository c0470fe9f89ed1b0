"""The table of a search: a preset with the given keys on top."""

from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field, model_validator

from ..methods import METHODS, PARAMETERS
from ..search.presets import PRESETS
from .table import Count, CountOrZero, Name, Seed, Share, Strategy, Table

DEFAULT_PRESET: Final = "bambo-robust"


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
