"""A small `results/<run>` folder: a search over 8 blocks and a grid of single weights, both made up."""

from collections.abc import Mapping
from functools import cache
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from bambo.candidate.folder import SAMPLES, SCORES, read_scores, write_failure
from bambo.files import content_hash, file_hash, write_json
from bambo.objectives import normalisation
from bambo.records import read_record, write_record
from bambo.report import fronts, tables
from bambo.search.presets import PRESETS

SOURCES = ["thinking", "instruct"]
OBJECTIVES = {
    "reasoning": {"metric": "accuracy", "expert": "thinking", "base": "instruct"},
    "efficiency": {"metric": "tokens", "expert": "instruct", "base": "thinking"},
}
FRUGAL = {"expert": "instruct", "base": "thinking"}
# By how many there are; the third one of four is measured on the device.
SETS = {
    2: OBJECTIVES,
    3: {
        "science": {**OBJECTIVES["reasoning"], "benchmarks": ["tiny_gpqa"]},
        "mathematics": {**OBJECTIVES["reasoning"], "benchmarks": ["tiny_aime"]},
        "efficiency": OBJECTIVES["efficiency"],
    },
    4: {
        **OBJECTIVES,
        "speed": {"metric": "latency", **FRUGAL},
        "answers_a_second": {"metric": "throughput", **FRUGAL},
    },
}
GROUPS = ["embeddings", *(f"layers.{layer}" for layer in range(12)), "head"]
BLOCKS = [["embeddings"], *([f"layers.{a}", f"layers.{a + 1}"] for a in range(0, 12, 2)), ["head"]]
NAMES = ["embeddings", *(f"layers {a}-{a + 1}" for a in range(0, 12, 2)), "head"]
VARIABLES = {
    "blocks": [{"name": name, "groups": groups} for name, groups in zip(NAMES, BLOCKS, strict=True)],
    "single": [{"name": "model", "groups": GROUPS}],
}


def plain(dimension: int) -> list[dict[str, Any]]:
    """So many variables, each a weight of the first of two sources."""
    return [{"name": f"layer {layer}", "groups": [f"layers.{layer}"]} for layer in range(dimension)]


LEFT_OUT: dict[str, str] = {}  # no search of this run
SETTINGS = {"blocks": PRESETS["bambo-robust"], "single": PRESETS["model-grid"]}
# How much each variable moves accuracy and tokens: unequal, so that block weights beat single ones.
FOR_ACCURACY = np.array([0.02, 0.02, 0.05, 0.10, 0.30, 0.30, 0.15, 0.06])
FOR_TOKENS = np.array([0.02, 0.02, 0.25, 0.30, 0.06, 0.10, 0.15, 0.10])
# accuracy and tokens of instruct and thinking, questions
BENCHMARKS = {"tiny_gpqa": ((0.42, 0.86), (4.0, 36.0), 150), "tiny_aime": ((0.25, 0.80), (4.2, 46.0), 150)}


def toy(X: np.ndarray) -> np.ndarray:
    """Two objectives in [0, 1]: later variables matter more for one, earlier ones for the other."""
    weights = np.linspace(1, 3, X.shape[1]) / np.linspace(1, 3, X.shape[1]).sum()
    return np.stack([1 / (1 + np.exp(-8 * (X @ weights - 0.5))), 1 - (X @ weights[::-1]) ** 2], axis=1)


def true_scores(x: np.ndarray, benchmark: str) -> tuple[float, float]:
    """Accuracy and tokens without noise at the eight weights x of thinking."""
    (low, high), (short, long), _ = BENCHMARKS[benchmark]
    step = 1 / (1 + np.exp(-10 * (FOR_ACCURACY @ x - 0.45)))
    return low + (high - low) * float(step), short + (long - short) * float(FOR_TOKENS @ x) ** 1.3


def measured_scores(candidate: str, x: np.ndarray) -> dict[str, Any]:
    """Scores of a candidate, with the noise of its questions; the candidate's id is the seed."""
    rng = np.random.default_rng(int(candidate, 16))
    parts = {}
    for name, (_, _, questions) in BENCHMARKS.items():
        accuracy, tokens = true_scores(x, name)
        correct = rng.random(questions) < accuracy
        lengths = tokens * rng.gamma(8, 1 / 8, questions)
        parts[name] = {
            "accuracy": correct.mean(),
            "accuracy_stderr": correct.std(ddof=1) / questions**0.5,
            "accuracy_repeat_variance": None,
            "tokens": lengths.mean(),
            "tokens_stderr": lengths.std(ddof=1) / questions**0.5,
            "tokens_repeat_variance": None,
            "latency": 0.02 * lengths.mean() + 0.1,
            "latency_stderr": 0.02 * lengths.std(ddof=1) / questions**0.5,
            "latency_repeat_variance": None,
            "truncated": (lengths > 60).mean(),
            "questions": questions,
            "repeats": 1,
        }
    seconds = round(2 + parts["tiny_aime"]["tokens"] / 10, 3)
    return {
        "id": candidate,
        "status": "ok",
        "engine": "hf",
        "device": "fake",
        "benchmarks": parts,
        "seconds": seconds,
        "generation_seconds": seconds - 1.5,
        "cpu_seconds": seconds,
        "generation_cpu_seconds": seconds - 1.5,
        "throughput": 3000 / (1 + parts["tiny_aime"]["tokens"] / 50),
        "energy": None,
        "peak_memory_gb": 0.61,
        "gpus": 0,
        "versions": {},
    }


@cache
def _samples() -> bytes:
    """A samples.parquet of one answer: the tables do not read it, but it must be the one of the scores."""
    answer = {"benchmark": "tiny_gpqa", "question": 0, "record": "rec0", "repeat": 0, "correct": 1.0}
    answer |= {
        "target": "(A)",
        "text": "\\boxed{A}",
        "output_tokens": 9,
        "prompt_tokens": 5,
        "finish_reason": "eos",
    }
    file = BytesIO()
    pd.DataFrame([answer]).to_parquet(file)
    return file.getvalue()


def write_scores(folder: Path, scores: Mapping[str, Any]) -> None:
    """Write scores.json of a candidate and the samples beside it, as an evaluation does."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SAMPLES).write_bytes(_samples())
    write_record(folder / SCORES, "scores", {**scores, "samples": file_hash(folder / SAMPLES)})


def add_candidate(run_dir: Path, x: np.ndarray, files_from: str = "instruct") -> str:
    """Write a candidate's recipe and scores; returns its id."""
    of_group = {group: round(float(w), 6) for w, groups in zip(x, BLOCKS, strict=True) for group in groups}
    weights = {group: [of_group[group], round(1 - of_group[group], 6)] for group in GROUPS}
    candidate = content_hash([weights, files_from])[:12]
    folder = run_dir / "candidates" / candidate
    write_json(
        folder / "recipe.json",
        {
            "id": candidate,
            "method": "linear",
            "sources": {source: {"path": source} for source in SOURCES},
            "weights": weights,
            "files_from": files_from,
            "evaluation": {"engine": "hf", "seed": 0, "repeats": 1},
        },
    )
    write_scores(folder, measured_scores(candidate, x))
    return candidate


def fail(run_dir: Path, candidate: str, reason: str = "out of\nmemory") -> None:
    """Make a candidate's evaluation a failed one."""
    write_failure(run_dir / "candidates" / candidate, "out of memory", reason, 3)


def _propose(run_dir: Path, search: str, iteration: int, X: np.ndarray, origin: list[str]) -> list[str]:
    full = np.repeat(X, 8, axis=1) if X.shape[1] == 1 else X
    candidates = [add_candidate(run_dir, x) for x in full]
    proposal = {
        "search": search,
        "key": f"t{iteration:03d}",
        "iteration": iteration,
        "stop": None,
        "candidates": candidates,
        "variables": X.tolist(),
        "origin": origin,
    }
    write_record(run_dir / "search" / search / "proposals" / f"t{iteration:03d}.json", "proposal", proposal)
    return candidates


def fake_run(run_dir: Path, iterations: int = 2, seed: int = 0, objectives: int = 2) -> Path:
    """Write the run: search "blocks" (8, then 4 an iteration near good ones) and search "single" (.1-.9).

    objectives: a key of SETS.
    """
    searches = {name: {"variables": variables} for name, variables in VARIABLES.items()}
    write_json(run_dir / "partition/blocks.json", {"searches": searches})
    for name, variables in searches.items():
        write_json(run_dir / "search" / name / "variables.json", variables)
    ends = {source: add_candidate(run_dir, np.full(8, 1.0 - place)) for place, source in enumerate(SOURCES)}
    own = {
        source: add_candidate(run_dir, np.full(8, 1.0 - place), source)
        for place, source in enumerate(SOURCES)
    }
    write_json(run_dir / "endpoints/candidates.json", {"end_points": ends, "own_files": own})
    scores = {source: read_scores(run_dir / "candidates" / id) for source, id in ends.items()}
    write_json(run_dir / "endpoints/normalisation.json", normalisation(SETS[objectives], scores))

    rng = np.random.default_rng(seed)
    X = np.concatenate([[np.zeros(8)], [np.ones(8)], [np.full(8, 0.5)], rng.random((5, 8))])
    _propose(run_dir, "blocks", 0, X, ["instruct", "thinking", "balanced", *["sobol"] * 5])
    for iteration in range(1, iterations + 1):
        preference = rng.random(4)
        gain, cost = 1 / (1 + np.exp(-10 * (X @ FOR_ACCURACY - 0.45))), (X @ FOR_TOKENS) ** 1.3
        parents = [np.argmax(w * gain - (1 - w) * cost) for w in preference]
        new = np.clip(X[parents] + rng.normal(0, 0.25, (4, 8)), 0, 1)
        _propose(run_dir, "blocks", iteration, new, ["acquisition"] * 4)
        X = np.concatenate([X, new])
    _propose(run_dir, "single", 0, np.arange(1, 10)[:, None] / 10, ["grid"] * 9)
    return run_dir


def write_tables(run_dir: Path) -> tables.Run:
    """Write the tables that readers of a finished run have: observations, pareto, selection; returns the run."""
    run = tables.read_run(run_dir, VARIABLES)
    observations = tables.observations(run)
    pareto = fronts.pareto(run, observations, SETTINGS, REFERENCE_POINT)
    chosen = fronts.selection(observations, pareto, front="posterior", divisions=4, nearest=3, limits={})
    tables.write(run_dir / "tables" / "observations", observations, parquet=True)
    tables.write(run_dir / "tables" / "pareto", pareto)
    tables.write(run_dir / "tables" / "selection", chosen)
    return run


class Frames(NamedTuple):
    """The tables of a run."""

    observations: pd.DataFrame
    pareto: pd.DataFrame
    hypervolume: pd.DataFrame
    comparison: pd.DataFrame
    selection: pd.DataFrame


REFERENCE_POINT = (-0.1, -0.1)


@cache
def frames(objectives: int = 2) -> Frames:
    """Tables of a fake run with two iterations, a failed and a truncated candidate; do not change them."""
    reference = (-0.1,) * objectives
    with TemporaryDirectory() as folder:
        run_dir = fake_run(Path(folder), objectives=objectives)
        second = read_record(run_dir / "search/blocks/proposals/t001.json", "proposal")
        fail(run_dir, second["candidates"][1])
        run = tables.read_run(run_dir, VARIABLES)
    observations = tables.observations(run)
    pareto = fronts.pareto(run, observations, SETTINGS, reference)
    selection = fronts.selection(observations, pareto, front="posterior", divisions=10, nearest=3, limits={})
    hypervolume = fronts.hypervolume(observations, reference)
    comparison = fronts.comparison(observations, pareto, hypervolume, SETTINGS, LEFT_OUT)
    return Frames(observations, pareto, hypervolume, comparison, selection)


def fake_differences() -> pd.DataFrame:
    """Layer differences that grow with depth, as those of real pairs do."""
    layers = np.arange(36)
    l2 = 1 + 0.02 * layers + 3 / (1 + np.exp(-(layers - 28) / 1.5)) + 0.2 * np.sin(layers)
    return pd.DataFrame({"layer": layers, "l1": 40 * l2 * (1 + 0.1 * np.cos(layers)), "l2": l2})
