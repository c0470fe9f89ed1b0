"""What a whole run takes, reckoned before it is spent: evaluations, tokens, hours, disk, money.

Each figure comes from the first of these that has it: what the user gives, finished evaluations of the run, its smoke
run, an assumption. docs/qwen3-4b.md goes through the arithmetic.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from statistics import fmean, median
from typing import Any, NamedTuple

from .candidate.folder import SAMPLES, all_folders, read_scores
from .candidate.work import SIMULATED
from .checkpoint import open_checkpoint
from .config import Config, is_hub_id, iterations, search_settings
from .confirm import confirm_ids
from .disk import size
from .errors import BadInput
from .evaluation.data import read_data
from .files import read_json
from .run import simplest
from .search.stopping import slots
from .smoke import smoke_ids
from .space import alone, everywhere, expand, variables
from .start import RECORD


class Range(NamedTuple):
    """From the shortest answers to the longest."""

    low: float
    high: float

    def __mul__(self, factor: Any) -> "Range":
        return Range(self.low * factor, self.high * factor)

    def __add__(self, other: Any) -> "Range":
        return Range(self.low + other.low, self.high + other.high)

    def under(self, most: float) -> "Range":
        return Range(min(self.low, most), min(self.high, most))


class Known(NamedTuple):
    """A benchmark's questions, and mean tokens of its prompts and of merged Qwen3-4B models' answers."""

    questions: int
    prompt_tokens: float
    output_tokens: Range


# Sizes of the data sets. Output tokens: Table 2 of the BAMBO paper, least and most of its merged models, DELLA's aside.
# Prompt tokens: a guess from the length of the questions.
GPQA = Known(198, 300, Range(7_706, 10_423))
KNOWN = {
    "gpqa_diamond": GPQA,
    "gpqa_diamond_cot_zeroshot": GPQA,
    "aime25": Known(30, 200, Range(15_469, 21_845)),
}
# None of these was measured; docs/qwen3-4b.md says where the first comes from.
TOKENS_PER_SECOND = 1_500  # vLLM, 4 billion parameters in bfloat16, an H100
START_SECONDS = 180  # of an evaluation's job, until it generates
MERGE_SECONDS = 60  # two sources of 8 GB read, one written


@dataclass(frozen=True)
class Given:
    """What the user says of the run; None and missing names are found otherwise."""

    questions: Mapping[str, float] = field(default_factory=dict)  # by benchmark
    prompt_tokens: Mapping[str, float] = field(default_factory=dict)  # by benchmark, mean
    output_tokens: Mapping[str, Range] = field(default_factory=dict)  # by benchmark, mean of a candidate
    tokens_per_second: float | None = None  # of one GPU
    start_seconds: float | None = None
    merge_seconds: float | None = None
    model_gb: float | None = None
    parallel: int | None = None


class Measured(NamedTuple):
    """Means of evaluations that are done; None where they do not tell."""

    source: str  # in words
    whole: bool  # of all questions, not of a smoke run's few
    questions: dict[str, int]
    prompt_tokens: dict[str, float]
    output_tokens: dict[str, Range]  # least and most of the candidates
    tokens_per_second: float | None  # of one GPU
    start_seconds: float | None
    on_gpu: bool


class Stage(NamedTuple):
    """Evaluations that can run side by side, and in how many jobs they do."""

    evaluations: int
    jobs: int


class Line(NamedTuple):
    """An assumption: what, its value, where that comes from, the option that changes it."""

    name: str
    value: str
    source: str
    option: str


# ------------------------------------------------------------------------------------------------- evaluations


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


# ------------------------------------------------------------------------------------------------- measured


def measured(config: Config) -> Iterator[Measured]:
    """What is known from the run itself: all its evaluations, then its smoke run."""
    if config.evaluation.engine == SIMULATED or not config.folder.is_dir():
        return
    smoke, confirming = smoke_ids(config.folder), confirm_ids(config.folder)
    done: dict[bool, list[Path]] = {True: [], False: []}
    for folder in all_folders(config.folder):
        if folder.name in confirming:
            continue
        try:
            scored = read_scores(folder)["status"] == "ok"
        except BadInput:
            scored = False
        if scored:
            done[folder.name not in smoke].append(folder)
    for whole, folders in done.items():
        if folders:
            yield _means(folders, whole)


def _means(folders: Sequence[Path], whole: bool) -> Measured:
    all_scores = [read_scores(folder) for folder in folders]
    names = list(all_scores[0]["benchmarks"])
    tokens = {name: [scores["benchmarks"][name]["tokens"] for scores in all_scores] for name in names}
    generated = sum(
        part["tokens"] * part["questions"] * part["repeats"]
        for scores in all_scores
        for part in scores["benchmarks"].values()
    )
    seconds = sum(scores["generation_seconds"] * max(scores["gpus"], 1) for scores in all_scores)
    return Measured(
        f"measured over {len(folders)} evaluations of this run" if whole else "measured by the smoke run",
        whole,
        {name: all_scores[0]["benchmarks"][name]["questions"] for name in names} if whole else {},
        _prompt_tokens(folders[0]),
        {name: Range(min(values), max(values)) for name, values in tokens.items()},
        generated / seconds if seconds else None,
        median(scores["seconds"] - scores["generation_seconds"] for scores in all_scores),
        any(scores["gpus"] for scores in all_scores),
    )


def _prompt_tokens(folder: Path) -> dict[str, float]:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(folder / SAMPLES, columns=["benchmark", "prompt_tokens"])
    counts: dict[str, list[int]] = {}
    for row in table.to_pylist():
        counts.setdefault(row["benchmark"], []).append(row["prompt_tokens"])
    return {name: fmean(values) for name, values in counts.items()}


# ------------------------------------------------------------------------------------------------- the estimate


class Estimate:
    """All figures of a run, and what they stand on."""

    def __init__(self, config: Config, given: Given | None = None) -> None:
        """BadInput: what is given names no benchmark, or the questions of a benchmark cannot be known here."""
        self.config, self.given = config, given or Given()
        self.lines: list[Line] = []
        self._sources: dict[tuple[str, str], dict[str, Any]] = {}  # kind and source -> benchmark -> figure
        self.seen = list(measured(config))
        evaluation = config.evaluation
        self._check_names()

        self.questions = {name: self._questions(name) for name in evaluation.tasks}
        own = {name: task.repeats or evaluation.repeats for name, task in evaluation.tasks.items()}
        self.answers = {name: count * own[name] for name, count in self.questions.items()}  # of a candidate
        self.repeats = own
        self.factor = evaluation.end_point_repeats if evaluation.sampling.do_sample else 1
        self.output_tokens = {name: self._output_tokens(name) for name in evaluation.tasks}
        self.prompt_tokens = {name: self._prompt_tokens(name) for name in evaluation.tasks}
        self._note_benchmarks()

        self.on_gpu = evaluation.device != "cpu" and config.resources.evaluate.gpu > 0
        if self.seen and evaluation.device == "auto":
            self.on_gpu = self.seen[0].on_gpu
        self.gpus = config.resources.evaluate.gpu if self.on_gpu else 1
        self.at_full_speed = True  # false where the speed is that of a few answers at a time
        self.speed = self._rate("tokens_per_second", TOKENS_PER_SECOND)
        self.start = self._rate("start_seconds", START_SECONDS)
        self.merge = self._rate("merge_seconds", MERGE_SECONDS)
        self.stages = stages(config)
        self.parallel = self._parallel()
        self.model_bytes = self._model_bytes()

    # What follows from the figures above.

    @property
    def ends(self) -> Stage:
        return Stage(end_points(self.config), end_points(self.config))

    @property
    def others(self) -> Stage:
        """All evaluations but the end points."""
        found = [stage for own in self.stages.values() for stage in own]
        return Stage(sum(stage.evaluations for stage in found), sum(stage.jobs for stage in found))

    @property
    def evaluations(self) -> int:
        return self.ends.evaluations + self.others.evaluations

    @property
    def units(self) -> int:
        """Evaluations, an end point counted as often as it is repeated."""
        return self.others.evaluations + self.factor * self.ends.evaluations

    @property
    def all_answers(self) -> int:
        return round(self.units * sum(self.answers.values()))

    @property
    def tokens(self) -> Range:
        """Output tokens of one candidate."""
        parts = [self.output_tokens[name] * count for name, count in self.answers.items()]
        return Range(sum(part.low for part in parts), sum(part.high for part in parts))

    @property
    def all_output(self) -> Range:
        return self.tokens * self.units

    @property
    def all_prompts(self) -> float:
        return self.units * sum(self.prompt_tokens[name] * count for name, count in self.answers.items())

    def seconds(self, stage: Stage, repeats: int = 1) -> Range:
        """Of all jobs of a stage, one after the other."""
        fixed = stage.jobs * self.start + stage.evaluations * self.merge
        return self.tokens * (stage.evaluations * repeats / (self.speed * self.gpus)) + Range(fixed, fixed)

    def wall(self, stage: Stage, repeats: int = 1) -> Range:
        """Of a stage whose jobs run `parallel` at a time."""
        if not stage.jobs:
            return Range(0, 0)
        rounds = ceil(stage.jobs / self.parallel)
        return self.seconds(Stage(rounds * ceil(stage.evaluations / stage.jobs), rounds), repeats)

    @property
    def hours(self) -> Range:
        """GPU hours, or hours of evaluations on the CPU."""
        return (self.seconds(self.ends, self.factor) + self.seconds(self.others)) * (self.gpus / 3600)

    @property
    def wall_hours(self) -> Range:
        """The end points, then the searches side by side, each waiting for the slowest of its batch."""
        first = self.wall(self.ends, self.factor)
        chains = [_sum(self.wall(stage) for stage in own) for own in self.stages.values()]
        work = self.seconds(self.others) * (1 / self.parallel)
        least = [max(each.low for each in [*chains, work]), max(each.high for each in [*chains, work])]
        return (first + Range(*least)) * (1 / 3600)

    @property
    def money(self) -> Range | None:
        """In the currency of the config's prices; None where there are none."""
        prices = self.config.evaluation.prices
        if not (prices.gpu_hour or prices.input_tokens or prices.output_tokens):
            return None
        hours = self.hours * prices.gpu_hour if self.on_gpu else Range(0, 0)
        prompts = self.all_prompts / 1e6 * prices.input_tokens
        return hours + self.all_output * (prices.output_tokens / 1e6) + Range(prompts, prompts)

    @property
    def models_at_a_time(self) -> int:
        written = self.config.merge.materialize and self.config.evaluation.engine != SIMULATED
        return self.parallel + 1 if written else 0

    # Where the figures come from.

    def _check_names(self) -> None:
        tasks = list(self.config.evaluation.tasks)
        for option in ("questions", "prompt_tokens", "output_tokens"):
            for name in getattr(self.given, option):
                if name not in tasks:
                    raise BadInput(
                        f"{_option(option)}: found {name}, expected one of {', '.join(tasks)}; correct the name"
                    )

    def _questions(self, name: str) -> int:
        task, evaluation = self.config.evaluation.tasks[name], self.config.evaluation
        limit = task.limit or evaluation.limit
        known, downloaded = KNOWN.get(task.task), self.config.folder / "benchmarks" / f"{name}.json"
        if name in self.given.questions:
            count, source = int(self.given.questions[name]), "given"
        elif counted := [each.questions[name] for each in self.seen if name in each.questions]:
            return self._noted("questions", name, counted[0], self.seen[0].source)
        elif task.data is not None:
            rows = read_data(Path(task.data), f"evaluation.tasks.{name}.data").questions
            count, source = len(rows), f"counted in {task.data}"
        elif downloaded.exists():
            count, source = read_json(downloaded)["questions"], "counted in the data set"
        elif known is not None:
            count, source = known.questions, "size of the data set"
        elif limit is not None:
            count, source = limit, "the limit"
        else:
            raise BadInput(
                f"evaluation.tasks.{name}: how many questions {task.task} has is not known before it is loaded, "
                f"expected a number; give --questions {name}=N"
            )
        if limit is not None and limit < count:
            count, source = limit, "the limit"
        return self._noted("questions", name, count, source)

    def _output_tokens(self, name: str) -> Range:
        task = self.config.evaluation.tasks[name]
        most = task.max_tokens or self.config.evaluation.max_tokens
        if name in self.given.output_tokens:
            return self._noted("output_tokens", name, self.given.output_tokens[name].under(most), "given")
        for seen in self.seen:
            if name in seen.output_tokens:
                return self._noted("output_tokens", name, seen.output_tokens[name], seen.source)
        if task.task in KNOWN and task.data is None:
            source = "assumed: the paper's merged Qwen3-4B models, Table 2 without DELLA"
            return self._noted("output_tokens", name, KNOWN[task.task].output_tokens.under(most), source)
        return self._noted(
            "output_tokens", name, Range(most, most), "not known: max_tokens, the most it can be"
        )

    def _prompt_tokens(self, name: str) -> float:
        task = self.config.evaluation.tasks[name]
        if name in self.given.prompt_tokens:
            return self._noted("prompt_tokens", name, self.given.prompt_tokens[name], "given")
        for seen in self.seen:
            if name in seen.prompt_tokens:
                return self._noted("prompt_tokens", name, seen.prompt_tokens[name], seen.source)
        tokens = KNOWN.get(task.task, GPQA).prompt_tokens
        return self._noted("prompt_tokens", name, tokens, "assumed")

    def _noted(self, kind: str, name: str, value: Any, source: str) -> Any:
        self._sources.setdefault((kind, source), {})[name] = value
        return value

    def _note_benchmarks(self) -> None:
        """One line a kind of figure and source."""
        for (kind, source), values in self._sources.items():
            text = ", ".join(f"{name} {number(value)}" for name, value in values.items())
            form = "NAME=LOW-HIGH" if kind == "output_tokens" else "NAME=N"
            self.lines.append(Line(kind.replace("_", " "), text, source, f"{_option(kind)} {form}"))
        self.lines.sort(key=lambda line: ["questions", "output tokens", "prompt tokens"].index(line.name))

    def _rate(self, key: str, assumed: float) -> float:
        """A figure of the machine."""
        value, source = getattr(self.given, key), "given"
        if value is None:
            value, source = assumed, "assumed, not measured"
            if key == "tokens_per_second":
                source = "assumed, not measured: vLLM, 4 billion parameters, an H100"
            for seen in self.seen:
                if (found := getattr(seen, key, None)) is not None:
                    value, source = found, seen.source
                    if key == "tokens_per_second" and not seen.whole:
                        source += ", few at a time: more are faster"
                        self.at_full_speed = False
                    break
        what = {
            "tokens_per_second": "tokens a second",
            "start_seconds": "seconds until a job generates",
            "merge_seconds": "seconds of a merge",
        }[key]
        unit = " a GPU" if key == "tokens_per_second" and self.on_gpu else ""
        self.lines.append(Line(what + unit, number(value), source, f"{_option(key)} N"))
        return value

    def _parallel(self) -> int:
        started = self.config.folder / RECORD
        if self.given.parallel is not None:
            value, source = self.given.parallel, "given"
        elif started.exists():
            value, source = read_json(started)["parallel"], "of the run's last start"
        else:
            batches = sum(max(s.evaluations for s in own[1:] or own) for own in self.stages.values())
            value, source = max(batches, 1), "a batch of every search"
        self.lines.append(Line("evaluations at a time", str(value), source, "--parallel N"))
        return value

    def _model_bytes(self) -> float | None:
        """Of one model; None where no source was seen yet."""
        if self.config.evaluation.engine == SIMULATED:
            return None
        value, source = None, "not known: no source is here yet"
        local = [each.model for each in self.config.sources.values() if not is_hub_id(each.model)]
        records = [self.config.folder / "sources" / f"{name}.json" for name in self.config.sources]
        if self.given.model_gb is not None:
            value, source = self.given.model_gb * 1e9, "given"
        elif local:
            tensors = open_checkpoint(Path(local[-1])).tensors.values()
            value, source = float(sum(tensor.bytes for tensor in tensors)), f"of {local[-1]}"
        elif records[-1].exists():
            record = read_json(records[-1])
            bytes_each = {"F32": 4, "BF16": 2, "F16": 2}.get(record["dtype"])
            if bytes_each is not None:
                value, source = float(record["parameters"] * bytes_each), f"of {record['model']}"
        said = "?" if value is None else size(int(value))
        self.lines.append(Line("size of a model", said, source, "--model-gb N"))
        return value


def _sum(parts: Iterator[Range]) -> Range:
    total = Range(0, 0)
    for part in parts:
        total += part
    return total


def _option(key: str) -> str:
    return f"--{key.replace('_', '-')}"


def number(value: float | Range, digits: int = 0) -> str:
    """1,234 or 1,234 - 5,678."""
    if isinstance(value, Range):
        low, high = number(value.low, digits), number(value.high, digits)
        return low if low == high else f"{low} - {high}"
    return f"{value:,.{digits}f}"
