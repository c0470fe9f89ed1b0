"""docs/search-benchmark.md: its words, with the tables and figures of the runs that have finished."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from bambo.files import write_text
from bambo.report import style
from search_figures import figure_curves, figure_differences
from search_problems import LAYERWISE
from search_report import (
    BUDGETS,
    NOISE,
    OURS,
    SEARCHES,
    Difference,
    ablation_table,
    by_seed,
    chosen,
    cross_tables,
    difference,
    frame,
    full_table,
    function_tables,
    main_table,
    pair_table,
    staged_table,
    trial_table,
    workers_table,
)
from search_runs import CHEAP, Cell

DOCS = Path("docs")
ENOUGH = 3  # seeds, from which searches are ranked in words
RIVALS = (
    "model-grid",
    "nsga2",
    "cma-es",
    "motpe",
    "moead",
    "momm",
    "map",
    "mm-mo",
    "qnehvi",
    "sobol",
    "bambo",
    "ap-bmm-published",
)
PAIRS = [
    ("ap-bmm", LAYERWISE, "layer-wise", LAYERWISE),
    ("ap-bmm", LAYERWISE, "ap-bmm-published", LAYERWISE),
    ("ap-bmm", LAYERWISE, "bambo-robust", 8),
    ("layer-wise", LAYERWISE, "bambo-robust", 8),
    ("bambo-robust", 8, "bambo", 8),
    ("bambo-robust", 8, "model-grid", 8),
    ("ap-bmm", LAYERWISE, "model-grid", LAYERWISE),
]

HEAD = f"""# Searches compared on simulated landscapes

**Everything on this page is simulated**: no model was merged or asked, and nothing here says how any search does on
real language models. The landscapes are made up, with the scales of the paper's Table 2; formulas and reasons are in
the docstring of `benchmarks/landscape.py`. Every seed is another landscape, other questions and another search.

`make bench-search` runs what is still missing, the most telling runs first, and writes this page anew; it goes on
where it was stopped (`--hours`, `--seeds`, `--presets`, `--groups` of `benchmarks/search_quality.py` limit it). All
of it takes days of CPU time: **the seeds of each row are those that have run so far**; 16 are meant. Seeds 0-15 serve
to choose defaults, 100-115 to report.

How to read the tables:

- *Observed set*: the non-dominated points as observed; *chosen set*: at most 8 points, by the mean of the search's
  own surrogate. Both as the noise-free hypervolume above (-.1, -.1), a share of the best known front's of all 38
  variables, on every landscape; ± is the standard error over seeds. The end points, which set the scale, belong to
  every set. What the observed set *claims* is the hypervolume of its observed values.
- *Less that of ...*: mean difference of chosen sets, paired by seed, ± half the width of its 95 % interval (Student's
  t; too narrow to trust below about 6 seeds). Where the interval holds 0 the two cannot be told apart.
- Equal budgets: end points and initial design count as evaluations. The grid has as many weights as there are
  evaluations, end points among them.
- Hours are simulated: durations follow the tokens that are generated, proposals take no time. An asynchronous search
  gives every worker its next point at once; the others wait for all of a batch, which has as many points as there are
  workers.
- *CPU s a proposal*: on shared cores, after the initial design, with {CHEAP["mc_samples"]} Monte Carlo samples,
  {CHEAP["restarts"]} restarts and {CHEAP["raw_samples"]} raw points where the presets have 128, 10 and 512; what that
  costs in hypervolume is under *Cheaper acquisition*.
- *Evaluations until `bambo`*: until the mean of chosen sets is that of the paper's settings at the end, on the seeds
  that both have.
- Landscapes are of weights alone: `cma-es` and `mm-mo`, which search densities, too, search weights here, `mm-mo` one
  for the whole model.
- Observations have noise of {NOISE} of the binomial variance unless said otherwise, half of it shared by all
  candidates since they answer the same questions; searches are told what a workflow would know."""

SPACES = {
    8: "Six blocks, embeddings and head (D = 8)",
    LAYERWISE: "Each layer alone (D = 38)",
}


def write(records: Mapping[Cell, Mapping[str, Any]]) -> str:
    """Write the page, and its figures; returns the page."""
    reported = {cell: record for cell, record in records.items() if cell.seed >= 100}
    rows = frame(reported)
    trials = frame({cell: record for cell, record in records.items() if cell.seed < 100})
    if rows.empty:
        return "No run has finished.\n"
    text = HEAD.rstrip() + "\n\n" + "\n".join(sections(rows, trials))
    write_text(DOCS / "search-benchmark.md", text)
    style.save(figure_curves(rows), DOCS / "figures" / "search-evaluations.svg")
    style.save(figure_differences(rows), DOCS / "figures" / "search-differences.svg")
    return text


def sections(rows: pd.DataFrame, trials: pd.DataFrame) -> list[str]:
    parts: list[str] = []
    for dimension, title in SPACES.items():
        parts += [f"## {title}, simulated", ""]
        for n in BUDGETS:
            if (chosen(rows, dimension=dimension, n=n)["preset"] == OURS[dimension]).any():
                parts += [f"After {n} evaluations:", "", *main_table(rows, dimension, n), ""]
                parts += [*leads(rows, dimension, n), *missing(rows, dimension, n), ""]
    parts += [
        "![Simulated hypervolume against evaluations](figures/search-evaluations.svg)",
        "",
        "Simulated; on the seeds that all searches share which ran on half of them or more. The others are left out.",
        "",
        "![Simulated paired differences](figures/search-differences.svg)",
        "",
        "Simulated. 95 % intervals, seeds in brackets; blue: more than ours, orange: less, grey: not to be told apart.",
        "",
    ]
    for n in BUDGETS:
        if (rows["n"] == n).any():
            parts += [f"## Pairs, {n} evaluations, simulated", "", *pair_table(rows, PAIRS, n), ""]
    levels = [
        (f"D = {dimension}, noise {noise}", {"dimension": dimension, "noise": noise})
        for dimension in SPACES
        for noise in (0.0, NOISE, 1.0)
    ]
    optional = [
        (
            "Other levels of noise, 48 evaluations, simulated",
            cross_tables(rows, levels) if (rows["noise"] != NOISE).any() else [],
            "Chosen sets; seeds in brackets. `layer-wise` and `bambo-robust` have the same settings.",
        ),
        *((f"Partitions, {n} evaluations, simulated", ablation_table(rows, n), "") for n in BUDGETS),
        (
            "Wall-clock at 4 and 16 workers, 88 evaluations, simulated",
            workers_table(rows),
            "Where a batch has 16 points at 16 workers; on the seeds that ran at both.",
        ),
        ("Staged evaluation, 48 evaluations, simulated", staged_table(rows), STAGED_WORDS),
        *(
            (
                f"Test functions, simulated searches, D = {dimension}, 48 evaluations",
                function_tables(rows, dimension),
                FUNCTION_WORDS,
            )
            for dimension in SPACES
        ),
        ("Cheaper acquisition, simulated", full_table(rows), ""),
    ]
    for title, table, words in optional:
        if table:
            parts += [f"## {title}", "", *([words, ""] if words else []), *table, ""]
    parts += ["## Defaults that the simulator chose", "", *defaults(trials)]
    return parts


STAGED_WORDS = (
    "Each point is asked the first share of the questions, and left where it is dominated with the probability "
    "`leave`; what is left counts as an evaluation. Promoted points are merged and loaded twice."
)
FUNCTION_WORDS = (
    "Noise-free, optima moved by each seed, without importance; simulated durations. Chosen sets, as shares of the "
    "true front's hypervolume; seeds in brackets. The reference point is the usual one, 1.1 times as far as the front "
    "reaches, or where random points are worse than that, their median."
)


DEFAULT_WORDS = (
    "None: the presets stay as they were set, for reasons ([searches.md](searches.md), "
    "[how-it-works.md](how-it-works.md)). What was tried on seeds 0-15 (noise 0.25, 48 evaluations; simulated) is "
    "below. Of 26 intervals two do not hold 0, as many as chance may give: a mean weight as input of "
    "`bambo-robust` is ahead in the chosen set, but no longer with the other kernel; strength 2 of the importance "
    "prior is behind 1 in the observed set. What looked better after seven seeds, matern52, is within its error "
    "after 16, and so is the importance prior against none."
)


def defaults(trials: pd.DataFrame) -> list[str]:
    table = trial_table(trials)
    return [DEFAULT_WORDS, "", *table, ""] if table else []


def leads(rows: pd.DataFrame, dimension: int, n: int) -> list[str]:
    """Which rivals are ahead of our best search of the space, and which cannot be told apart from it."""
    last = chosen(rows, dimension=dimension, n=n)
    means = last.groupby("preset")["posterior"].mean()
    own = [name for name in (OURS[dimension], "ap-bmm") if (last["preset"] == name).sum() >= ENOUGH]
    if not own:
        return [f"With fewer than {ENOUGH} seeds nothing is ranked here."]
    best = max(own, key=lambda name: means[name])
    gaps = {name: difference(by_seed(last, name), by_seed(last, best)) for name in RIVALS}
    early = {name: gap for name, gap in gaps.items() if 0 < gap.pairs < ENOUGH and gap.mean > 0}
    gaps = {name: gap for name, gap in gaps.items() if gap.pairs >= ENOUGH}
    ahead = {name: gap for name, gap in gaps.items() if gap.mean > 0}
    level = {name: gap for name, gap in gaps.items() if gap.mean <= 0 and -gap.mean <= gap.half}
    lines = [f"The best of ours is `{best}`."]
    if ahead:
        lines.append(f"**It does not lead**: ahead of it in the mean are {listed(ahead)}.")
    elif gaps:
        lines.append(f"None of {len(gaps)} rivals with {ENOUGH} seeds or more is ahead of it in the mean.")
    if early:
        lines.append(f"Ahead of it on fewer than {ENOUGH} seeds, so not ranked yet: {listed(early)}.")
    if level:
        lines.append(f"Behind, but not to be told apart from it at these seeds: {listed(level)}.")
    return lines


def missing(rows: pd.DataFrame, dimension: int, n: int) -> list[str]:
    have = set(chosen(rows, dimension=dimension, n=n)["preset"])
    names = [f"`{name}`" for name in SEARCHES[dimension] if name not in have]
    return [f"Not run so far: {', '.join(names)}."] if names else []


def listed(gaps: Mapping[str, Difference]) -> str:
    return ", ".join(f"`{name}` ({gap}; seeds: {gap.pairs})" for name, gap in gaps.items())
