"""The estimate of a run: each figure, and what it stands on."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

from ..candidate.work import SIMULATED
from ..checkpoint import open_checkpoint
from ..config import Config, is_hub_id
from ..disk import size
from ..errors import BadInput
from ..evaluation.data import read_data
from ..files import read_json
from ..start import RECORD
from .measured import measured
from .ranges import Range, number
from .stages import Stage, end_points, stages


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


class Line(NamedTuple):
    """An assumption: what, its value, where that comes from, the option that changes it."""

    name: str
    value: str
    source: str
    option: str


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
