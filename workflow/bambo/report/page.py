"""The interactive page of a run, front.html: one file that needs no network, and the answers that it loads if asked.

Vega-Lite draws; all that is its own is in templates/front.{html,css,js}.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd

from .. import __version__
from ..candidate.folder import SAMPLES, read_samples
from ..files import atomic, read_json, write_text
from ..objectives import METRICS
from . import confirmed, style, tables
from .figures import axis_title

TEMPLATES = Path(__file__).parent / "templates"
ANSWERS = "answers"  # the folder beside the page
END_POINTS = "end points"
STAR = "M0,-1L.225,-.309L.951,-.309L.363,.118L.588,.809L0,.382L-.588,.809L-.363,.118L-.951,-.309L-.225,-.309Z"
# matplotlib's markers as Vega's shapes, and as letters of the legend.
SHAPES = {
    **{"o": ("circle", "●"), "^": ("triangle-up", "▲"), "D": ("diamond", "◆"), "v": ("triangle-down", "▼")},
    **{"P": ("cross", "✚"), "X": ("wedge", "▾"), "s": ("square", "■"), "d": ("diamond", "◆")},
    **{"<": ("triangle-left", "◀"), ">": ("triangle-right", "▶")},
}


def write_page(
    run_dir: Path, name: str, front: str, nearest: int, needs: Mapping[str, str] | None = None
) -> None:
    """Write front.html and answers/<candidate>.js into the run's folder.

    front: "posterior" or "observed", from which is chosen at first; nearest: as `selection.select` has it; needs:
    need -> candidate. Answers are those of the end points, of the posterior front of all searches, and of the chosen
    models. Fresh scores are shown where `snakemake confirm` found some.
    """
    observations = pd.read_parquet(run_dir / "tables" / "observations.parquet")
    pareto, selection = tables.read(run_dir, "pareto"), tables.read(run_dir, "selection")
    every = pareto[pareto["search"] == tables.ALL]
    wanted = {*every.loc[every["front"] == "posterior", "candidate"], *selection["candidate"]}
    wanted |= set(tables.end_points(observations)["candidate"])
    answered = {id for id in wanted if (run_dir / "candidates" / id / SAMPLES).exists()}
    with atomic(run_dir / ANSWERS) as folder:
        folder.mkdir()
        for id in sorted(answered):
            (folder / f"{id}.js").write_text(answers(run_dir / "candidates" / id), encoding="utf-8")
    recipes = {
        id: read_json(run_dir / "candidates" / id / "recipe.json")
        for id in sorted({*every["candidate"], *wanted})
    }
    data = page_data(observations, pareto, selection, recipes, answered, front, nearest)
    data |= {"needs": dict(needs or {}), "fresh": _fresh(run_dir)}
    write_text(run_dir / "front.html", page(name, data, tables.is_simulated(observations)))


def answers(folder: Path) -> str:
    """A candidate's answers as a script: a page on a disk may load no other kind of file."""
    columns = ["benchmark", "question", "repeat", "correct", "output_tokens", "finish_reason", "text"]
    rows = read_samples(folder)[columns].to_dict("records")
    return f"bamboAnswers({json.dumps(folder.name)}, {_script(rows)});\n"


def page(name: str, data: Mapping[str, Any], simulated: bool) -> str:
    """The page as one text."""
    import vl_convert

    names = " and ".join(data["objectives"])
    return rendered(
        "front",
        title=f"BAMBO: models of {name}",
        lead=f"Merged models between {' and '.join(data['sources'])}, by {names}. Say what you need, and the page "
        "picks a model; every number is as scored in the search, on its questions, with its standard error.",
        simulated=simulated,
        footer=f"BAMBO {__version__}. {FOOTER}",
        js=(TEMPLATES / "front.js").read_text(encoding="utf-8"),
        library=vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"),
        data=_script(data),
    )


def rendered(name: str, **values: Any) -> str:
    """templates/<name>.html with its own style sheet and the values."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=False, undefined=jinja2.StrictUndefined
    )
    css = (TEMPLATES / f"{name}.css").read_text(encoding="utf-8")
    return environment.get_template(f"{name}.html").render(css=css, **values)


FOOTER = (
    "The front as measured holds those that were lucky, too, the more so the more models were scored; the one by the "
    "surrogate's mean is steadier. Of the models most like a preference the one with the largest mean objective is "
    "taken. On either front, choose first, then measure the chosen model again on other questions."
)


def page_data(
    observations: pd.DataFrame,
    pareto: pd.DataFrame,
    selection: pd.DataFrame,
    recipes: Mapping[str, Mapping[str, Any]],
    answered: set[str],
    front: str,
    nearest: int,
) -> dict[str, Any]:
    """What the page knows; JSON-able."""
    objectives, raw = tables.objective_names(observations), tables.raw_metrics(observations)
    benchmarks = tables.benchmark_names(observations)
    parts = [f"{name}.{metric}" for name in benchmarks for metric in raw]
    ends = tables.end_points(observations)
    metrics = [*raw, *objectives, *(part for part in parts if part in observations)]
    looks = style.looks(tables.search_names(observations), tables.single_weight_searches(observations))
    return {
        "objectives": objectives,
        "sources": list(map(str, ends.index)),
        "benchmarks": benchmarks,
        "raw": raw,
        "metrics": metrics,
        "titles": {metric: axis_title(metric) if metric in METRICS else metric for metric in metrics},
        "axes": ["tokens", "accuracy"],
        "limits": [_limit(metric) for metric in raw],
        "searches": [
            *(_look(search, *look) for search, look in looks.items()),
            {"name": END_POINTS, "colour": style.BLACK, "shape": STAR, "glyph": "★"},
        ],
        "models": _models(observations, pareto, selection, recipes, answered, metrics),
        "ends": list(ends["candidate"]),
        "weightsOf": f"Weight of {ends.index[0]}, by parts of the model",
        "front": front,
        "nearest": nearest,
        "folder": ANSWERS,
        "needs": {},
        "fresh": {},
    }


def _fresh(run_dir: Path) -> dict[str, str]:
    """Candidate -> what it scored when it was measured again, on held-out questions where there are any."""
    rows = confirmed.read(run_dir)
    if rows is None:
        return {}
    return {
        row[
            "candidate"
        ]: f"Measured again on {confirmed.TITLES[row['questions']]}: accuracy {row['accuracy']:.3f} "
        f"({row['accuracy_low']:.3f} to {row['accuracy_high']:.3f}), tokens {row['tokens']:,.1f}"
        for row in rows.sort_values("questions", ascending=False).to_dict("records")
    }


def _models(
    observations: pd.DataFrame,
    pareto: pd.DataFrame,
    selection: pd.DataFrame,
    recipes: Mapping[str, Mapping[str, Any]],
    answered: set[str],
    metrics: Sequence[str],
) -> list[dict[str, Any]]:
    objectives = tables.objective_names(observations)
    means = [f"{name}_posterior_mean" for name in objectives]
    every = pareto[pareto["search"] == tables.ALL]
    believed = every[every["front"] == "posterior"].drop_duplicates("candidate").set_index("candidate")
    names = dict(zip(selection["candidate"], selection["name"], strict=True))
    sources = {
        candidate: source for source, candidate in tables.end_points(observations)["candidate"].items()
    }
    scored = observations[observations["status"] == "ok"]
    own = scored["search"].ne(tables.REFERENCE) | scored["candidate"].isin(sources)
    # What a search has proposed stands before the reference rows.
    rows = tables.with_raw_errors(scored[own].drop_duplicates("candidate"))
    found = []
    for row in rows.sort_values(["tokens", "candidate"]).to_dict("records"):
        id = row["candidate"]
        fronts = list(every.loc[every["candidate"] == id, "front"])
        model = {
            "id": id,
            "search": END_POINTS if id in sources else row["search"],
            "source": sources.get(id),
            "name": names.get(id),
            "values": {metric: _number(row[metric]) for metric in metrics},
            "errors": {metric: _number(row.get(f"{metric}_stderr")) for metric in metrics},
            "objectives": [_number(row[name]) for name in objectives],
            "posterior": [float(value) for value in believed.loc[id, means]]
            if id in believed.index
            else None,
            "weights": json.loads(row["variables"]),
            "fronts": fronts,
            "answers": id in answered,
            "note": row["warning"] or "",
        }
        found.append(model | ({"recipe": recipes[id]} if fronts and id in recipes else {}))
    return found


def _limit(metric: str) -> dict[str, Any]:
    known = METRICS.get(metric)
    end = "min" if known is not None and known.direction > 0 else "max"
    return {"metric": metric, "end": end, "step": 0.01 if metric == "accuracy" else "any"}


def _look(search: str, colour: str, marker: str) -> dict[str, str]:
    shape, glyph = SHAPES.get(marker, ("square", "■"))
    return {"name": search, "colour": colour, "shape": shape, "glyph": glyph}


def _number(value: Any) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)


def _script(value: Any) -> str:
    """JSON that may stand within a script element, which no text in it can end."""
    return json.dumps(value, allow_nan=False, ensure_ascii=False).replace("<", "\\u003c")
