"""The searches of config/compare.yaml on the embedded pair, their fronts scored again on fresh questions.

    python benchmarks/demo_compare.py [--jobs 2]

Beside them, in a run of its own since what another search asked everything has no first stage, one that leaves
candidates after their first questions: `staged`, which is `bambo-robust` with `leave`. Slots of asynchronous searches
end in the order of made-up durations, lognormal with sd .8, from each candidate's id. Takes an hour or so on two quiet
cores; started again it goes on where it was. Writes
results/benchmarks/demo_compare.{csv,md,svg}.
"""

import argparse
import copy
import os
from pathlib import Path
from typing import Any

os.environ.update(OMP_WAIT_POLICY="passive", GOMP_SPINCOUNT="0", TQDM_DISABLE="1")

import pandas as pd
import yaml
from bambo.files import atomic, write_text
from bambo.report import style
from demo_runs import FOLDER, fresh_fronts
from matplotlib.figure import Figure

CONFIG = Path("config/compare.yaml")
FIRST_SHARE, LEAVE = 0.25, 0.9


def configurations() -> tuple[dict[str, Any], dict[str, Any]]:
    """That of the searches, and that of the staged one."""
    given: dict[str, Any] = yaml.safe_load(CONFIG.read_text())
    staged = copy.deepcopy(given) | {"run": f"{given['run']}-staged"}
    staged["evaluation"]["first_share"] = FIRST_SHARE
    staged["searches"] = {"staged": {**given["searches"]["bambo-robust"], "leave": LEAVE}}
    del staged["importance"]
    return given, staged


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2)
    jobs = parser.parse_args().jobs
    report(pd.concat([fresh_fronts(given, jobs) for given in configurations()], ignore_index=True))


def report(table: pd.DataFrame) -> None:
    """Print and write the table, means over the seeds with their spread; and draw it."""
    with atomic(FOLDER / "demo_compare.csv") as temporary:
        table.to_csv(temporary, index=False, float_format="%.4f")
    lines = [
        "| search | variables | evaluations | output tokens, thousands | seeds | hypervolume, fresh questions "
        "| sd over seeds | standard error (questions) | what the chosen front claims | what the observed one does |",
        "|---" * 10 + "|",
    ]
    for name, rows in table.groupby("group", sort=False):
        means = rows.mean(numeric_only=True)
        spread = f"{rows['fresh'].std(ddof=1):.4f}" if len(rows) > 1 else "-"
        lines.append(
            f"| {name} | {rows['variables'].iloc[0]} | {means['evaluations']:.0f} "
            f"| {means['output_tokens'] / 1000:.0f} | {len(rows)} | {means['fresh']:.4f} | {spread} "
            f"| {means['fresh_stderr']:.4f} | {means['posterior']:.4f} | {means['observed']:.4f} |"
        )
    text = "\n".join(lines) + "\n"
    write_text(FOLDER / "demo_compare.md", text)
    print(text)
    style.save(figure(table), FOLDER / "demo_compare.svg")


@style.styled
def figure(table: pd.DataFrame) -> Figure:
    """Hypervolume of each search's front: on fresh questions, and as it was observed in the search."""
    drawn = style.new_figure(3.6)
    axes = drawn.subplots()
    names = list(dict.fromkeys(table["group"]))
    for place, name in enumerate(reversed(names)):
        rows = table[table["group"] == name]
        axes.plot(
            rows["observed"], [place + 0.15] * len(rows), "o", mfc="none", color=style.GREY, label="observed"
        )
        axes.errorbar(
            rows["fresh"],
            [place - 0.15] * len(rows),
            xerr=rows["fresh_stderr"],
            fmt="s",
            color=style.BLUE,
            label="fresh questions, with standard error",
        )
    axes.set_yticks(range(len(names)), list(reversed(names)))
    axes.set_xlabel("hypervolume of the front by posterior mean, one mark a seed")
    handles, labels = axes.get_legend_handles_labels()
    marks = dict(zip(labels, handles, strict=True))
    axes.legend(marks.values(), marks, loc="upper center", bbox_to_anchor=(0.5, 1.16), ncols=2)
    return drawn


if __name__ == "__main__":
    main()
