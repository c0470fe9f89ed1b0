"""One evaluation from recipe and model to scores.json."""

import importlib.metadata
import json
import math
import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..errors import BadInput
from ..files import atomic, file_hash, write_text
from ..records import write_record
from .engine import Engine, EvaluationFailed
from .scores import benchmark_scores
from .tasks import lm_eval_tasks

if TYPE_CHECKING:
    from .lm import CountingLM

PACKAGES = ("lm_eval", "torch", "transformers")
RECORD_COLUMNS = ("Record ID", "id")  # of GPQA and of most others


def evaluate(
    recipe: Mapping[str, Any],
    engine: Engine,
    output_dir: Path,
    *,
    gpus: int = 0,
    started: tuple[float, float] | None = None,
) -> dict[str, Any]:
    """Score the model that `engine` holds as `recipe["evaluation"]` says; returns what scores.json holds.

    Writes into `output_dir` lm_eval/results.json, samples.parquet (one row an answer) and, last, scores.json.
    Finished answers are kept in answers.jsonl until then, so that a killed evaluation goes on with what is left.

    gpus: how many the engine has. started: time.perf_counter() and time.process_time() from which seconds are
    counted (default: now).

    Raises BadInput for what the user gave, EvaluationFailed where the model cannot be scored.
    """
    from .lm import CountingLM

    start, start_cpu = started or (time.perf_counter(), time.process_time())
    settings = recipe["evaluation"]
    configs, tasks = _configs(settings)
    lm = CountingLM(
        engine,
        candidate=recipe["id"],
        tasks=tasks,
        seed=settings["seed"],
        answers=output_dir / "answers.jsonl",
    )
    output_dir.mkdir(parents=True, exist_ok=True)
    results = _ask(lm, configs, tasks, settings)
    rows = _rows(results.pop("samples"), lm.rows, tasks)
    benchmarks = {
        name: benchmark_scores([row for row in rows if row["benchmark"] == name])
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
        "benchmarks": benchmarks,
        # What an earlier, killed evaluation spent on answers that were kept counts as if spent now.
        "seconds": time.perf_counter() - start + lm.stored_cost["seconds"],
        "generation_seconds": lm.cost["seconds"],
        "cpu_seconds": time.process_time() - start_cpu + lm.stored_cost["cpu_seconds"],
        "generation_cpu_seconds": lm.cost["cpu_seconds"],
        "peak_memory_gb": engine.peak_memory_gb(),
        "gpus": gpus,
        "samples": file_hash(output_dir / "samples.parquet"),
        "versions": {"bambo": __version__} | {name: importlib.metadata.version(name) for name in PACKAGES},
    }
    write_record(output_dir / "scores.json", "scores", scores)
    lm.answers.unlink(missing_ok=True)
    return scores


def _configs(settings: Mapping[str, Any]) -> tuple[dict[str, dict], dict[str, tuple[str, int]]]:
    """Task configs of the harness by its names for them, and which benchmark and repeat each name stands for."""
    configs: dict[str, dict] = {}
    tasks: dict[str, tuple[str, int]] = {}
    for benchmark, task in settings["tasks"].items():
        generation = {"until": [], "max_gen_toks": task["max_tokens"], **settings["sampling"]}
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
    samples = {}
    for name, task in loaded["tasks"].items():
        task.set_fewshot_seed(settings["seed"])
        limit = settings["tasks"][tasks[name][0]].get("limit", settings["limit"])
        if limit is not None:
            samples[name] = list(range(min(limit, len(task.eval_docs))))
    # Not `simple_evaluate`, which spends over a CPU second on a description of the machine.
    return lm_eval.evaluator.evaluate(
        lm, loaded, samples=samples, apply_chat_template=True, fewshot_as_multiturn=True
    )


def _rows(
    samples: Mapping[str, list[dict]], answers: Mapping, tasks: Mapping[str, tuple[str, int]]
) -> list[dict]:
    """One row an answer: what the harness scored beside what the language model counted."""
    rows = []
    for name, (benchmark, repeat) in tasks.items():
        for sample in samples[name]:
            if sample["filter"] != samples[name][0]["filter"]:
                continue  # a stock task's other ways to read the same answers
            correct = sample[sample["metrics"][0]]
            if not isinstance(correct, int | float):
                metric = sample["metrics"][0]
                raise BadInput(
                    f"evaluation.tasks.{benchmark}.scoring: the metric {metric} is no number a question; use boxed"
                )
            doc, answer = sample["doc"], answers[name, sample["doc_id"]]
            rows.append(
                {
                    "benchmark": benchmark,
                    "question": sample["doc_id"],
                    "record": next((str(doc[key]) for key in RECORD_COLUMNS if key in doc), None),
                    "repeat": repeat,
                    "correct": float(correct),
                    "target": str(sample["target"]),
                    **{key: value for key, value in answer.items() if key != "answer"},
                }
            )
    return rows


def _write_samples(path: Path, rows: list[dict]) -> None:
    import pyarrow
    import pyarrow.parquet

    columns = dict.fromkeys(rows[0], pyarrow.string()) | {
        "question": pyarrow.int64(),
        "repeat": pyarrow.int64(),
        "correct": pyarrow.float64(),
        "output_tokens": pyarrow.int64(),
        "prompt_tokens": pyarrow.int64(),
        "seconds": pyarrow.float64(),
    }
    with atomic(path) as temporary:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, pyarrow.schema(columns)), temporary)


def _write_results(path: Path, results: dict[str, Any]) -> None:
    from lm_eval.utils import handle_non_serializable

    write_text(path, json.dumps(results, indent=1, default=handle_non_serializable) + "\n")
