"""Scores made up from a candidate's weights: no model, no benchmark; to try out settings, clusters and scale.

The landscape. For a metric, every tensor group g has an importance i_g = -log(u_g), with u_g in (0, 1) from the hash
of the metric's and the group's name: unequal (as if drawn from an exponential distribution), fixed for every model and
run, and other for accuracy than for tokens; a layer's attention and MLP share the layer's. The first source is taken to
be accurate and long-winded, the last one the contrary, others to lie between them in even steps: of w_g, a candidate's
weights times places from 1 down to 0, a metric sees x = sum_g i_g w_g / sum_g i_g. The merging method makes no
difference but to what is drawn.

- Accuracy saturates: an answer is right with probability 1 / (1 + exp(d_q - 8 (x - .45))), where the question's
  difficulty d_q is standard normal (the Rasch model); over questions about .04 at x = 0 and .98 at x = 1.
- Tokens grow: m (.025 + .225 x^1.5) with the task's limit m, ten times as many at x = 1 as at x = 0, times a
  log-normal factor of the question (.5 is the sd of its logarithm) and one of the answer (.2). An answer that reaches
  m is cut and wrong: one in 200 at x = 1. Every model makes 50 tokens a second.
- Of generation as a whole, on the x of tokens: 2 joules a token, and 50 x 32 / (1 + x) tokens a second together, as if
  longer contexts slowed a batch of 32. FLOPs are reckoned from the sources' shapes as always.

Difficulty and factor of a question depend on benchmark and question alone, so that candidates are compared on the
same questions; what is drawn for an answer depends on candidate and seed, so that equal recipes have equal scores. A
benchmark has as many questions as its limit says, or 100: its file is not read.

An evaluation takes no time unless `evaluation.simulated` says how long, to try out schedules.
"""

import hashlib
import io
import json
import math
import os
import random
import resource
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import __version__
from ..checkpoint import ATTENTION, without_module
from ..files import atomic, file_hash
from ..recipe import whole
from ..records import write_record
from .flops import read_architecture
from .scores import benchmark_scores

QUESTIONS = 100  # of a benchmark without a limit
SPEED = 50  # tokens a second
BATCH = 32
JOULES = 2.0  # a token


def duration(id: str, seconds: float, sigma: float) -> float:
    """How long the evaluation of a candidate is to take (s): log-normal with this median, the same for equal ids."""
    return seconds * random.Random(f"duration {id}").lognormvariate(0, sigma)


def simulate(
    recipe: Mapping[str, Any], folder: Path, seconds: float = 0.0, sigma: float = 0.0
) -> dict[str, Any]:
    """Write samples.parquet and, last, scores.json as a real evaluation does; returns what scores.json holds.

    seconds, sigma: of `duration`, which is waited for.

    "engine": "simulated" marks them. Seconds and memory are those of this job, of which none was spent on
    generating. There is no lm_eval/results.json: the harness took no part.
    """
    start = time.perf_counter()
    os.environ.setdefault(
        "OPENBLAS_NUM_THREADS", "1"
    )  # numpy, below pyarrow, starts threads: .05 CPU seconds
    settings = recipe["evaluation"]
    rows = {name: list(_answers(recipe, name)) for name in settings["tasks"]}
    answers = [row for own in rows.values() for row in own]
    time.sleep(max(0.0, duration(recipe["id"], seconds, sigma) - (time.perf_counter() - start)))
    architecture = read_architecture(Path(recipe["sources"][recipe["files_from"]]["path"]))
    samples = folder / "samples.parquet"
    _write(samples, answers)
    scores = {
        "id": recipe["id"],
        "status": "ok",
        "engine": settings["engine"],
        "device": "simulated",
        "sampling": settings["sampling"],
        "benchmarks": {name: benchmark_scores(own, architecture) for name, own in rows.items()},
        "seconds": time.perf_counter() - start,
        "ended": time.time(),
        "host": socket.gethostname(),
        "generation_seconds": 0.0,
        "cpu_seconds": time.process_time(),
        "generation_cpu_seconds": 0.0,
        "throughput": SPEED * BATCH / (1 + _share(recipe["weights"], "tokens")),
        "energy": JOULES * sum(row["output_tokens"] for row in answers) / len(answers),
        "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        "gpus": 0,
        "samples": file_hash(samples),
        "versions": {"bambo": __version__},
    }
    write_record(folder / "scores.json", "scores", scores)
    return scores


def _answers(recipe: Mapping[str, Any], benchmark: str) -> Iterator[dict[str, Any]]:
    """One row an answer, as in samples.parquet."""
    settings = recipe["evaluation"]
    task = settings["tasks"][benchmark]
    longest = task["max_tokens"]
    ability = 8 * (_share(recipe["weights"], "accuracy") - 0.45)
    tokens = longest * (0.025 + 0.225 * _share(recipe["weights"], "tokens") ** 1.5)
    # A stage has the answers of the whole.
    own = random.Random(f"{settings['seed']} {whole(recipe)['id']} {benchmark}")
    questions = task.get("limit", settings["limit"]) or QUESTIONS
    if "stage" in settings:
        questions = math.ceil(settings["first_share"] * questions)
    for question in range(questions):
        shared = random.Random(f"{benchmark} {question}")
        difficulty, length = shared.gauss(0, 1), shared.lognormvariate(0, 0.5)
        for repeat in range(task.get("repeats", settings["repeats"])):
            right = own.random() < 1 / (1 + math.exp(difficulty - ability))
            count = max(1, round(tokens * length * own.lognormvariate(0, 0.2)))
            yield {
                "benchmark": benchmark,
                "question": question,
                "record": None,
                "repeat": repeat,
                "correct": float(right and count < longest),
                "target": "simulated",
                "text": "simulated",
                "output_tokens": min(count, longest),
                "prompt_tokens": 0,
                "finish_reason": "eos" if count < longest else "length",
                "seconds": min(count, longest) / SPEED,
            }


def _share(weights: Mapping[str, list[float]], metric: str) -> float:
    """The place between the sources of what a metric depends on: x of the landscape, 0 to 1."""
    importance = {group: _importance(metric, group) for group in weights}
    return sum(importance[group] * _place(own) for group, own in weights.items()) / sum(importance.values())


def _place(weights: Sequence[float]) -> float:
    """Of the last source 0, of the first one 1."""
    last = len(weights) - 1
    return sum(weight * (last - place) / last for place, weight in enumerate(weights))


def _importance(metric: str, group: str) -> float:
    """Of a group; a layer's modules share the layer's, so that one landscape is seen at any granularity."""
    layer = without_module(group)
    whole = -math.log(_uniform(f"{metric} {layer}"))
    if layer == group:
        return whole
    share = _uniform(f"{metric} {layer}.{ATTENTION}")
    return whole * (share if group.endswith(ATTENTION) else 1 - share)


def _uniform(text: str) -> float:
    digest = hashlib.sha256(text.encode()).digest()
    return (int.from_bytes(digest[:6], "big") + 0.5) / 2**48


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    """samples.parquet with the columns and types of a real one."""
    import pyarrow.json
    import pyarrow.parquet

    text, count, share = pyarrow.string(), pyarrow.int64(), pyarrow.float64()
    schema = pyarrow.schema(
        {
            "benchmark": text,
            "question": count,
            "record": text,
            "repeat": count,
            "correct": share,
            "target": text,
            "text": text,
            "output_tokens": count,
            "prompt_tokens": count,
            "finish_reason": text,
            "seconds": share,
        }
    )
    # Through JSON, since pyarrow imports pandas before it looks at Python's objects: .2 CPU seconds.
    lines = io.BytesIO("\n".join(map(json.dumps, rows)).encode())
    table = pyarrow.json.read_json(
        lines,
        pyarrow.json.ReadOptions(use_threads=False),
        pyarrow.json.ParseOptions(explicit_schema=schema),
    )
    with atomic(path) as temporary:
        pyarrow.parquet.write_table(table, temporary)
