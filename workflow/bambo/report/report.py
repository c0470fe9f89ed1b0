"""What a run found, in one file: report.html, which opens offline, and the run's README.md, which says what to take."""

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape as html_escape
from pathlib import Path
from typing import Any

import pandas as pd

from .. import __version__
from ..config import Config
from ..files import read_json, write_text
from ..selection import needs
from ..start import RECORD
from . import confirmed, tables
from .fronts import judged
from .page import rendered
from .summary import duration

# What each figure shows: the captions of `snakemake --report`, too.
CAPTIONS = {
    path.stem: " ".join(path.read_text().split())
    for path in (Path(__file__).parents[2] / "report").glob("*.rst")
}
FRONTS = {"posterior": "the front by the surrogate's mean", "observed": "the front as measured"}
CAUTION = (
    "Numbers are those of the search, on its own questions, ± one standard error over questions. Models were chosen by "
    "these very numbers out of many, so that they promise somewhat too much; `snakemake confirm` measures the best "
    "ones again."
)


@dataclass(frozen=True)
class Section:
    title: str
    texts: Sequence[str] = ()
    table: str = ""
    figures: Sequence[Mapping[str, str]] = ()


def write_report(config: Config) -> dict[str, str]:
    """Write README.md and report.html into the run's folder, from its tables and figures; returns need -> candidate."""
    run_dir = config.folder
    observations = pd.read_parquet(run_dir / "tables" / "observations.parquet")
    pareto = tables.read(run_dir, "pareto")
    choice = needs_table(config, observations, pareto)
    write_text(run_dir / "README.md", readme(config, observations, choice))
    write_text(
        run_dir / "report.html", html(config, observations, sections(config, observations, pareto, choice))
    )
    return dict(zip(choice["need"], choice["candidate"], strict=True))


def needs_table(config: Config, observations: pd.DataFrame, pareto: pd.DataFrame) -> pd.DataFrame:
    """Which model for which need: `need`, `candidate`, `accuracy`, `tokens` and their errors, of the chosen front.

    `source`: which source it is alone, or nothing.
    """
    selection, names = config.selection, tables.objective_names(observations)
    rows = tables.front_of(pareto, tables.ALL, selection.front)
    rows = tables.with_raw_errors(rows)
    found = needs(
        judged(rows, names, selection.front),
        names,
        tables.benchmark_names(rows),
        selection.nearest,
        selection.bounds,
        selection.preferences,
        tokens=tables.end_points(observations)["tokens"].max() / 2,
    )
    shown = ["candidate", "accuracy", "accuracy_stderr", "tokens", "tokens_stderr"]
    return found.merge(rows[shown], on="candidate", how="left").assign(
        source=_sources(observations, found["candidate"])
    )


def _sources(observations: pd.DataFrame, candidates: pd.Series) -> list[str]:
    """Which source each candidate is alone, in brackets after a space; or nothing."""
    names = {id: f" ({name})" for name, id in tables.end_points(observations)["candidate"].items()}
    return [names.get(id, "") for id in candidates]


def readme(config: Config, observations: pd.DataFrame, choice: pd.DataFrame) -> str:
    """README.md of the run: which model for which need, and where everything is."""
    parts = [f"# {config.run}"]
    if tables.is_simulated(observations):
        parts.append("**SIMULATED: all scores are made up; no model was merged or asked.**")
    lines = ["| need | candidate | accuracy | tokens an answer |", "|---|---|---|---|"]
    lines += [
        f"| {row.need} | `{row.candidate}`{row.source} | {_accuracy(row)} | {_tokens(row)} |"
        for row in choice.itertuples()
    ]
    if choice.empty:
        lines = ["No model of the front is within `selection.limits`; relax them."]
    ids = ", ".join(dict.fromkeys(choice["candidate"]))
    return (
        "\n\n".join(
            [
                *parts,
                f"Merged models of {' and '.join(config.sources)}. From {FRONTS[config.selection.front]}, by need:",
                "\n".join(lines),
                CAUTION,
                f"To take them home: `selection: {{export: [{ids}]}}` in the config, then `snakemake export`.",
                "`front.html` shows all models and picks one by what you need; `report.html` says what was searched "
                "and how; `tables/` has every number.",
            ]
        )
        + "\n"
    )


def sections(
    config: Config, observations: pd.DataFrame, pareto: pd.DataFrame, choice: pd.DataFrame
) -> Iterator[Section]:
    run_dir = config.folder
    searches = tables.read(run_dir, "searches")
    front = tables.with_raw_errors(tables.front_of(pareto, tables.ALL, config.selection.front))
    shown = pd.DataFrame(
        {
            "need": choice["need"],
            "candidate": choice["candidate"] + choice["source"],
            **_scores(choice),
        }
    )
    yield Section(
        "Which model for which need",
        [f"From {FRONTS[config.selection.front]}. {CAUTION}"],
        _table(shown),
        _figures(run_dir, ["preferences"]),
    )
    rows = searches[searches["statistic"] == ""]
    own = rows[["search", "preset"]].assign(
        how=rows["granularity"] + ", " + rows["method"] + ", " + rows["schedule"],
        evaluations=rows["evaluations_total"],
        failed=rows["failed"],
        tokens=rows["output_tokens"].map("{:,.0f}".format),
        took=(3600 * rows["hours_reckoned"]).map(duration),
    )
    volumes = zip(rows["hypervolume"], rows["hypervolume_posterior"], strict=True)
    own["hypervolume (by posterior mean)"] = [f"{observed:.4f} ({mean:.4f})" for observed, mean in volumes]
    again = confirmed.read(run_dir)
    if again is not None:
        counts = [confirmed.spent(again, search) for search in own["search"]]
        own["to confirm"] = [f"{evaluations}: {tokens:,} tokens" for evaluations, tokens in counts]
    models = ", ".join(f"{name} ({source.model})" for name, source in config.sources.items())
    tasks = ", ".join(config.evaluation.tasks)
    yield Section(
        "What was searched",
        [
            f"Sources: {models}; config, tokenizer and chat template of {config.files_from}. Benchmarks: {tasks}.",
            "Evaluations and tokens of a search are what it needed, as if it had run alone.",
        ],
        _table(own),
        _figures(run_dir, ["partition"]),
    )
    members = pd.DataFrame(
        {
            "candidate": front["candidate"],
            "found by": front["found_by"],
            **_scores(front),
            **{name: front[name] for name in tables.objective_names(observations)},
        }
    )
    title = f"The front: {len(front)} models, {FRONTS[config.selection.front].removeprefix('the front ')}"
    yield Section(
        title, [], _table(members), _figures(run_dir, ["objectives", "benchmarks", "granularities"])
    )
    yield from _confirmed(run_dir, observations)
    yield Section("How it got there", [], "", _figures(run_dir, ["progress", "searches"]))
    yield Section(
        "What each part of the model does",
        [],
        "",
        _figures(run_dir, ["weights", "parallel", "surrogates", "importance"]),
    )
    yield _troubles(observations)
    yield _cost(run_dir, observations)


def _confirmed(run_dir: Path, observations: pd.DataFrame) -> Iterator[Section]:
    """What `snakemake confirm` found, if it was asked for."""
    models = confirmed.read(run_dir)
    if models is None:
        return
    promises = tables.read(run_dir, "optimism")
    kinds = ", and ".join(confirmed.TITLES[kind] for kind in models["questions"].unique())
    texts = [
        f"The models that make up the front, measured again on {kinds}: means with 95 % intervals over questions. "
        "P(dominated) is how often another of these models or an end point is at least as good in every objective and "
        "better in one, when questions are drawn anew.",
        "Below: the mean of each objective over the members, and the hypervolume of members and end points, as the "
        "search had promised them, and as they were found.",
        "This took {} evaluations and {:,} output tokens, which the table of the searches counts, too.".format(
            *confirmed.spent(models)
        ),
    ]
    shown = pd.DataFrame({"candidate": models["candidate"] + _sources(observations, models["candidate"])})
    for metric, form in (("accuracy", ".3f"), ("tokens", ",.1f")):
        shown[f"{metric}, search"] = models[f"{metric}_searched"].map(f"{{:{form}}}".format)
        shown[f"{metric}, fresh"] = models.apply(_with_interval, axis=1, args=(metric, form))
    shown["P(dominated)"] = models["dominated"].map("{:.0%}".format)
    kept = pd.DataFrame(
        {
            "measure": promises["measure"],
            "promised": promises["judged_by"].map(
                {"observed": "as observed", "posterior": "by posterior mean"}
            ),
            "value": promises["promised"].map("{:.3f}".format),
            "found": promises["found"].map("{:.3f}".format),
            "optimism": promises.apply(_with_interval, axis=1, args=("optimism", "+.3f")),
        }
    )
    if len(set(models["questions"])) > 1:
        shown.insert(0, "questions", models["questions"])
        kept.insert(0, "questions", promises["questions"])
    title = "The same models on fresh answers"
    yield Section(title, texts, _table(shown) + _table(kept), _figures(run_dir, ["confirmed"]))


def _with_interval(row: pd.Series, column: str, form: str) -> str:
    return f"{row[column]:{form}} ({row[f'{column}_low']:{form}} to {row[f'{column}_high']:{form}})"


def _troubles(observations: pd.DataFrame) -> Section:
    models = observations.drop_duplicates("candidate")
    failed = models[models["status"] == "failed"]
    warned = models[(models["status"] != "failed") & models["warning"].ne("")]
    texts = [] if len(failed) else ["No evaluation failed."]
    if len(warned):
        kinds = dict.fromkeys(kind for text in warned["warning"] for kind in text.split("; "))
        texts.append(f"{len(warned)} models have warnings: {'; '.join(kinds)}.")
    return Section(
        "What failed", texts, _table(failed[["candidate", "failure", "reason"]]) if len(failed) else ""
    )


def _cost(run_dir: Path, observations: pd.DataFrame) -> Section:
    models = observations.drop_duplicates("candidate")
    text = (
        f"{len(models)} models were scored, end points too, which took {duration(models['seconds'].sum())} one after "
        "the other, all searches together; what two searches asked for was scored once."
    )
    return Section("What it cost", [text], "", _figures(run_dir, ["timeline"]))


def html(config: Config, observations: pd.DataFrame, parts: Iterator[Section]) -> str:
    started = read_json(config.folder / RECORD)
    return rendered(
        "report",
        title=f"BAMBO: {config.run}",
        simulated=tables.is_simulated(observations),
        lead=f"Merged models between {' and '.join(config.sources)}.",
        sections=[replace(part, texts=[_as_html(text) for text in part.texts]) for part in parts],
        footer=f"BAMBO {__version__}, run last started {started['started']}. The README of results/ explains every "
        "number.",
    )


def _as_html(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html_escape(text, quote=False))


def _figures(run_dir: Path, names: Sequence[str]) -> list[dict[str, str]]:
    """Those of the figures that the run has; as data, so that the report is one file."""
    paths = {name: run_dir / "figures" / f"{name}.svg" for name in names}
    return [
        {"data": base64.b64encode(path.read_bytes()).decode(), "caption": CAPTIONS[name]}
        for name, path in paths.items()
        if path.exists()
    ]


def _table(frame: pd.DataFrame) -> str:
    return frame.to_html(index=False, border=0, float_format="{:,.4g}".format, na_rep="")


def _scores(rows: pd.DataFrame) -> dict[str, list[str]]:
    """Columns of accuracy and tokens with their errors."""
    shown = {"accuracy": _accuracy, "tokens": _tokens}
    return {name: [text(row) for row in rows.itertuples()] for name, text in shown.items()}


def _accuracy(row: Any) -> str:
    return f"{row.accuracy:.3f} ± {row.accuracy_stderr:.3f}"


def _tokens(row: Any) -> str:
    form = ",.0f" if row.tokens >= 1000 else ".1f"
    return f"{row.tokens:{form}} ± {row.tokens_stderr:{form}}"
