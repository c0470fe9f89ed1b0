"""What a smoke run found: texts as the models wrote them, what was read from them, and what looks wrong."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import indent, wrap
from typing import TYPE_CHECKING, Any

from ..candidate.folder import read_samples, read_scores
from ..candidate.work import SIMULATED
from ..config import Config
from ..evaluation.extraction import answer_text, last_boxed
from ..files import read_json
from ..smoke import CANDIDATES
from ..templates import THOUGHT, check_templates, frame, opens_thinking
from .cost import cost_text

if TYPE_CHECKING:
    import pandas as pd

HEAD, TAIL = 220, 330  # characters of a text that are shown
_WIDTH = 110  # columns of the terminal


def smoke_text(config: Config) -> str:
    """The report on the finished smoke run of a config; BadInput where a file of it is missing or damaged."""
    run_dir = config.folder
    names: dict[str, str] = read_json(run_dir / CANDIDATES)
    folders = {name: run_dir / "candidates" / id for name, id in names.items()}
    scores = {name: read_scores(folder) for name, folder in folders.items()}
    samples = {name: read_samples(folders[name]) for name, own in scores.items() if own["status"] == "ok"}
    records = {name: read_json(run_dir / "sources" / f"{name}.json") for name in config.sources}
    sources = {name: Path(record["path"]) for name, record in records.items()}
    simulated = config.evaluation.engine == SIMULATED
    prompt = "" if simulated else frame(sources[config.files_from])

    parts = [[f"Smoke run of {config.run}: {', '.join(names)}; one answer to each of a few questions"]]
    if simulated:
        parts[0].append("SIMULATED: no model was asked, and all that is shown is made up")
    else:
        parts[0] += ["", f"A question, framed by the chat template of {config.files_from}:"]
        parts[0].append(indent(prompt or "(the template could not be rendered here)", "  | "))
    for name, own in scores.items():
        parts.append([*_candidate(name, own, samples.get(name), config, prompt)])
    notes = [] if simulated else check_templates(sources, config.files_from)
    found = [*notes, *_warnings(config, scores, samples, prompt)]
    parts.append(["What to look at", *(_wrapped(f"- {text}", "  ") for text in found or ["nothing"])])
    parts.append([cost_text(config)])
    return "\n\n".join("\n".join(lines) for lines in parts)


def _candidate(
    name: str, scores: Mapping[str, Any], samples: "pd.DataFrame | None", config: Config, prompt: str
) -> Iterator[str]:
    if samples is None:
        yield _wrapped(f"{name}: failed, {scores['failure']} ({scores['reason']})", "")
        return
    seconds, tokens = scores["generation_seconds"], samples["output_tokens"].sum()
    speed = f"{tokens / seconds:,.0f} tokens a second" if seconds else "nothing generated"
    yield (
        f"{name}: {scores['seconds']:.0f} s, {seconds:.0f} s of them generating; {speed}; "
        f"peak memory {scores['peak_memory_gb']:.1f} GB"
    )
    for benchmark, rows in samples.groupby("benchmark", sort=False):
        cut = (rows["finish_reason"] == "length").mean()
        yield (
            f"  {benchmark}: {rows['correct'].sum():g} of {len(rows)} right, {cut:.0%} truncated, "
            f"{rows['output_tokens'].mean():,.0f} tokens an answer"
        )
        for row in _answers(rows):
            verdict = "right" if row["correct"] == 1 else "wrong" if row["correct"] == 0 else row["correct"]
            of = f" ({row['record']})" if row["record"] else ""
            yield (
                f"    question {row['question']}{of}: {verdict}; {_found(row, prompt)}, target {row['target']}; "
                f"{row['output_tokens']:,} tokens, {'cut' if row['finish_reason'] == 'length' else 'ended'}"
            )
            yield indent("\n".join(_shortened(row["text"])), "      | ")


def _answers(samples: "pd.DataFrame") -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in samples.to_dict("records")]


def _found(row: Mapping[str, Any], prompt: str) -> str:
    box = _box(row, prompt)
    return "no box" if box is None else f"box {' '.join(box.split())}"


def _box(row: Mapping[str, Any], prompt: str) -> str | None:
    return last_boxed(answer_text(row["text"], prompt, truncated=row["finish_reason"] == "length"))


def _shortened(text: str) -> list[str]:
    """Head and tail of a text, in lines that fit."""
    if len(text) > HEAD + TAIL:
        left_out = f"[... {len(text) - HEAD - TAIL:,} characters ...]"
        return [*_lines(text[:HEAD]), left_out, *_lines(text[-TAIL:])]
    return _lines(text) or ["(no text)"]


def _lines(text: str) -> list[str]:
    return wrap(" ".join(text.split()), _WIDTH - 8)


def _warnings(
    config: Config, scores: Mapping[str, Any], samples: Mapping[str, "pd.DataFrame"], prompt: str
) -> Iterator[str]:
    for name in scores.keys() - samples.keys():
        yield f"{name}: its evaluation failed: {scores[name]['failure']} ({scores[name]['reason']})"
    for benchmark, task in config.evaluation.tasks.items():
        texts, right = set(), 0.0
        for name, rows in samples.items():
            own = rows[rows["benchmark"] == benchmark]
            right += own["correct"].sum()
            texts.add(tuple(own["text"]))
            if config.evaluation.engine != SIMULATED:
                for text in _doubts(_answers(own), prompt, boxed=task.scoring == "boxed"):
                    yield f"{name}, {benchmark}: {text}"
        if not samples or config.evaluation.engine == SIMULATED:
            continue
        if right == 0:
            yield (
                f"{benchmark}: no model has an answer right; see above whether the texts hold answers that are not "
                "found: prompt, chat template or scoring may be wrong"
            )
        if len(samples) > 1 and len(texts) == 1:
            yield f"{benchmark}: all models wrote the same; are the sources the ones that you mean?"


def _doubts(rows: list[dict[str, Any]], prompt: str, boxed: bool) -> Iterator[str]:
    """What is wrong with all answers of a candidate to a benchmark."""
    ended = [row for row in rows if row["finish_reason"] != "length"]
    if not any(row["text"].strip() for row in rows):
        yield "all answers are empty; prompt or chat template may be wrong"
        return
    if not ended:
        yield "all answers were cut; raise evaluation.max_tokens, unless this model never comes to an end"
    elif opens_thinking(prompt) and not any(THOUGHT in row["text"] for row in ended):
        yield (
            f"the chat template opens a thought and no answer closes it ({THOUGHT}); what a text that ended says is "
            "taken as the answer"
        )
    if boxed and not any(row["correct"] for row in rows) and not any(_box(row, prompt) for row in rows):
        yield "no answer has a box, and none is right; see the texts above"


def _wrapped(text: str, margin: str) -> str:
    return "\n".join(wrap(text, _WIDTH, initial_indent=margin, subsequent_indent=f"{margin}  "))
