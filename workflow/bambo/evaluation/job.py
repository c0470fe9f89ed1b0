"""One evaluation from recipe and model to scores.json."""

import importlib.metadata
import json
import math
import random
import socket
import sys
import time
from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..candidate.devices import gpus as visible_gpus
from ..errors import BadInput
from ..files import atomic, file_hash, write_text
from ..recipe import first_stage
from ..records import write_record
from .data import record_name
from .energy import open_meter
from .engine import Engine, EvaluationFailed, Machine
from .flops import read_architecture
from .loading import ENGINES
from .scores import benchmark_scores, generation_scores, harness_scores
from .subset import keep
from .tasks import lm_eval_tasks

if TYPE_CHECKING:
    from .lm import CountingLM

PACKAGES = ("lm_eval", "torch", "transformers")
ANY_MACHINE = Machine()
ANSWERS = "answers.jsonl"
OURS = "boxed_match,boxed"  # of boxed.py, which needs the harness


def evaluate(
    recipe: Mapping[str, Any],
    engine: Engine,
    output_dir: Path,
    *,
    machine: Machine = ANY_MACHINE,
    started: tuple[float, float] | None = None,
) -> dict[str, Any]:
    """Score the model that `engine` holds as `recipe["evaluation"]` says; returns what scores.json holds.

    Writes into `output_dir` lm_eval/results.json, samples.parquet (one row an answer) and, last, scores.json.
    Finished answers are kept in answers.jsonl until then, so that a killed evaluation goes on with what is left; those
    of a first stage are kept for the second one, which generates what is missing.

    machine: what the engine was given of it. started: time.perf_counter() and time.process_time() from which seconds
    are counted (default: now).

    Raises BadInput for what the user gave, EvaluationFailed where the model cannot be scored.
    """
    from .lm import CountingLM

    start, start_cpu = started or (time.perf_counter(), time.process_time())
    settings = recipe["evaluation"]
    configs, tasks = _configs(settings)
    first = first_stage(recipe)["id"] if "first_share" in settings else recipe["id"]
    lm = CountingLM(
        engine,
        candidate=recipe["id"],
        tasks=tasks,
        seed=settings["seed"],
        answers=output_dir / ANSWERS,
        earlier=None if first == recipe["id"] else (first, output_dir.parent / first / ANSWERS),
        meter=open_meter(_own_gpus(settings, machine.gpus)),
    )
    output_dir.mkdir(parents=True, exist_ok=True)
    results = _ask(lm, configs, tasks, settings)
    rows = _rows(results.pop("samples"), lm.rows, tasks)
    architecture = read_architecture(_model_folder(recipe, output_dir))
    benchmarks = {
        name: harness_scores(
            [results["results"][task] for task, (own, _) in tasks.items() if own == name], OURS
        )
        | benchmark_scores([row for row in rows if row["benchmark"] == name], architecture)
        for name in settings["tasks"]
    }
    for name, scores in benchmarks.items():
        if not math.isfinite(scores["accuracy"]):
            raise EvaluationFailed(
                "bad scores",
                f"evaluation.tasks.{name}: its accuracy is {scores['accuracy']}, which is no score",
            )
    _write_samples(output_dir / "samples.parquet", rows)
    _write_results(output_dir / "lm_eval" / "results.json", results)
    scores = {
        "id": recipe["id"],
        "status": "ok",
        "engine": settings["engine"],
        "device": engine.device_name,
        "sampling": settings["sampling"],
        "max_tokens": {name: task["max_tokens"] for name, task in settings["tasks"].items()},
        "dtype": settings["dtype"],
        "machine": machine.record(),
        "benchmarks": benchmarks,
        # What an earlier, killed evaluation spent on answers that were kept counts as if spent now.
        "seconds": time.perf_counter() - start + lm.stored_cost["seconds"],
        "ended": time.time(),
        "host": socket.gethostname(),
        "generation_seconds": lm.cost["seconds"],
        "cpu_seconds": time.process_time() - start_cpu + lm.stored_cost["cpu_seconds"],
        "generation_cpu_seconds": lm.cost["cpu_seconds"],
        **generation_scores(lm.cost, len(lm.rows)),
        "peak_memory_gb": engine.peak_memory_gb(),
        "gpus": machine.gpus,
        "samples": file_hash(output_dir / "samples.parquet"),
        "versions": _versions(settings["engine"]),
    }
    write_record(output_dir / "scores.json", "scores", scores)
    if "stage" not in settings:
        lm.answers.unlink(missing_ok=True)
    return scores


def _versions(engine: str) -> dict[str, str]:
    """Of what decides a score: the packages that every evaluation uses, and the engine's own."""
    versions = {"bambo": __version__} | {name: importlib.metadata.version(name) for name in PACKAGES}
    package = ENGINES[engine].package
    # Not by the name of its distribution, which is another for vLLM's CPU build.
    return versions if package is None else versions | {package: sys.modules[package].__version__}


def _own_gpus(settings: Mapping[str, Any], gpus: int) -> list[str]:
    """The GPUs that generate, of this machine; none where a server that was there before does."""
    elsewhere = settings["engine"] == "server" and settings["server"]["command"] is None
    return visible_gpus()[:gpus] if gpus and not elsewhere else []


def _model_folder(recipe: Mapping[str, Any], output_dir: Path) -> Path:
    """A folder with the architecture of the candidate: its model, or where it is merged in place a source."""
    model = output_dir / "model"
    return model if model.is_dir() else Path(recipe["sources"][recipe["files_from"]]["path"])


def _configs(settings: Mapping[str, Any]) -> tuple[dict[str, dict], dict[str, tuple[str, int]]]:
    """Task configs of the harness by its names for them, and which benchmark and repeat each name stands for."""
    configs: dict[str, dict] = {}
    tasks: dict[str, tuple[str, int]] = {}
    for benchmark, task in settings["tasks"].items():
        generation = {"max_gen_toks": task["max_tokens"], **settings["sampling"]}
        own = lm_eval_tasks(benchmark, task, task.get("repeats", settings["repeats"]), generation)
        configs |= own
        tasks |= {name: (benchmark, repeat) for repeat, name in enumerate(own)}
    return configs, tasks


def _ask(
    lm: "CountingLM",
    configs: dict[str, dict],
    tasks: Mapping[str, tuple[str, int]],
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """lm-eval's own results, its samples included."""
    import lm_eval.evaluator
    from lm_eval.tasks import TaskManager

    random.seed(settings["seed"])  # a stock task may shuffle
    loaded = TaskManager(include_defaults=False).load(list(configs.values()))
    for name, task in loaded["tasks"].items():
        benchmark = tasks[name][0]
        own = settings["tasks"][benchmark]
        task.set_fewshot_seed(settings["seed"])
        lm.first[benchmark] = keep(
            task,
            own.get("limit", settings["limit"]),
            own.get("stratify"),
            f"evaluation.tasks.{benchmark}",
            settings.get("first_share"),
            first_only="stage" in settings,
        )
    # Not `simple_evaluate`, which spends over a CPU second on a description of the machine.
    return lm_eval.evaluator.evaluate(
        lm,
        loaded,
        apply_chat_template=True,
        fewshot_as_multiturn=True,
        confirm_run_unsafe_code=any(task.get("unsafe_code") for task in settings["tasks"].values()),
    )


def _rows(
    samples: Mapping[str, list[dict]], answers: Mapping, tasks: Mapping[str, tuple[str, int]]
) -> list[dict]:
    """One row an answer: what the harness scored beside what the language model counted.

    Every metric of the harness that is one number a question is a column `<metric>,<filter>`, but for ours, which is
    `correct`; None for the questions of other benchmarks.
    """
    rows = []
    columns: dict[str, None] = {}
    for name, (benchmark, repeat) in tasks.items():
        by_question: dict[int, list[dict]] = {}  # samples of all filters, ours or the task's first one first
        for sample in samples[name]:
            by_question.setdefault(sample["doc_id"], []).append(sample)
        for question, read in by_question.items():
            metrics = {
                f"{metric},{each['filter']}": each[metric] for each in read for metric in each["metrics"]
            }
            numbers = {key: float(value) for key, value in metrics.items() if isinstance(value, Real)}
            first = next(iter(metrics), None)
            if first not in numbers:
                raise BadInput(
                    f"evaluation.tasks.{benchmark}.scoring: the metric {first} is no number a question; use boxed"
                )
            correct = numbers.pop(OURS) if first == OURS else numbers[first]
            columns |= dict.fromkeys(numbers)
            doc = read[0]["doc"]
            rows.append(
                {
                    "benchmark": benchmark,
                    "question": question,
                    "record": record_name(doc),
                    "repeat": repeat,
                    "correct": correct,
                    "target": str(read[0]["target"]),
                    **{key: value for key, value in answers[name, question].items() if key != "answer"},
                    **numbers,
                }
            )
    return [row | {column: row.get(column) for column in columns} for row in rows]


def _write_samples(path: Path, rows: list[dict]) -> None:
    import pyarrow
    import pyarrow.parquet

    types = {
        **dict.fromkeys(("benchmark", "record", "target", "finish_reason", "text"), pyarrow.string()),
        **dict.fromkeys(("question", "repeat", "output_tokens", "prompt_tokens"), pyarrow.int64()),
    }
    schema = pyarrow.schema({column: types.get(column, pyarrow.float64()) for column in rows[0]})
    with atomic(path) as temporary:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema), temporary)


def _write_results(path: Path, results: dict[str, Any]) -> None:
    from lm_eval.utils import handle_non_serializable

    write_text(path, json.dumps(results, indent=1, default=handle_non_serializable) + "\n")
