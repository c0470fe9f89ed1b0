"""What the terminal shows: numbers of the tables, at most 110 columns, and only the warnings that are due."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from bambo.errors import BadInput
from bambo.pareto import hypervolume
from bambo.records import read_record
from bambo.report import summary, tables
from bambo.search.presets import PRESETS
from bambo.search.stopping import planned_evaluations
from fake_run import REFERENCE_POINT, SETTINGS, VARIABLES, Frames, fake_run, frames


def text_of(tables_of_run: Frames, gaps: tuple[str, ...] = (), front: str = "posterior") -> str:
    return summary.front_text(*tables_of_run, gaps, Path("results/fake"), front)


def test_every_model_of_the_front_with_its_weights():
    lines = text_of(frames()).splitlines()
    pareto = frames().pareto.query("search == 'blocks'")
    observed = set(pareto.loc[pareto["front"] == "observed", "candidate"])
    front = pareto[pareto["front"] == "posterior"]
    head = next(line for line in lines if line.split()[:1] == ["candidate"])
    assert head.split()[-8:] == ["embeddings", "0-1", "2-3", "4-5", "6-7", "8-9", "10-11", "head"]
    start = lines.index(head) + 1
    for line, row in zip(lines[start : start + len(front)], front.to_dict("records"), strict=True):
        cells = line.replace("*", " ").split()
        assert cells[0] == row["candidate"]
        assert line.startswith("*") == (row["candidate"] in observed)
        assert f"{row['accuracy']:.3f} ± " in line
        assert cells[-8:] == [f"{w:.2f}" for w in json.loads(row["variables"]).values()]
        assert cells[-9] == f"{row['tokens']:.1f}"
    assert lines[start + len(front)] == ""


def test_hypervolume_beside_what_it_is_compared_with():
    course = frames().hypervolume.set_index("search")["hypervolume"]
    text = text_of(frames())
    assert "reference point (-0.1, -0.1)" in text
    cells = {line.strip().split("  ")[0]: line.split() for line in text.splitlines() if line.startswith("  ")}
    front = frames().pareto.query("search == 'blocks' and front == 'posterior'")
    means = front[["reasoning_posterior_mean", "efficiency_posterior_mean"]]
    believed = hypervolume(means, REFERENCE_POINT)
    assert cells["blocks"][1:] == ["16", f"{course['blocks'].iloc[-1]:.4f}", f"{believed:.4f}"]
    assert cells["best single-weight grid"][3:5] == ["9", f"{course['best single-weight grid']:.4f}"]
    assert cells["end points only"][-1] == "0.2100"


def test_lines_fit_a_terminal_also_with_a_weight_a_layer():
    table = frames()
    names = [f"layers {layer}" for layer in range(38)]
    wide = [
        frame.assign(
            variables=[
                json.dumps(dict.fromkeys(names, 0.25)) if search == "blocks" else text
                for search, text in zip(frame["search"], frame["variables"], strict=True)
            ]
        )
        for frame in (table.observations, table.pareto)
    ]
    text = text_of(Frames(*wide, *table[2:]))
    assert "lowest  mean  highest" in text
    assert "0.25  0.25     0.25" in text
    assert max(map(len, text.splitlines())) <= 110
    assert max(map(len, text_of(table, ("a long warning " * 20,)).splitlines())) <= 110


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (3, ["accuracy", "tokens", "science", "mathematics", "efficiency"]),
        (4, ["accuracy", "tokens", "latency", "throughput"]),
    ],
)
def test_more_objectives_are_told_by_what_they_are_made_of(count, shown):
    table = frames(count)
    lines = text_of(table).splitlines()
    assert max(map(len, lines)) <= 110
    head = next(line for line in lines if line.split()[:1] == ["candidate"])
    assert head.split()[1 : 1 + len(shown)] == shown
    chosen = next(line for line in lines if line.startswith("Chosen models"))
    assert chosen.split()[3:] == shown
    row = table.selection.iloc[0]
    cells = next(line for line in lines if line.startswith(f"  {row['name']} ")).split()
    for name, cell in zip(shown, cells[2:], strict=True):
        assert float(cell.replace(",", "")) == pytest.approx(row[name], abs=0.0501)
    volume = table.hypervolume.query("search == 'blocks'")["hypervolume"].iloc[-1]
    assert f"{volume:.4f}" in "\n".join(lines)
    line = summary.progress_line(table.observations, "blocks", 48, (-0.1,) * count)
    assert f"hypervolume {volume:.4f} " in line


def test_many_long_columns_leave_the_weights_to_the_tables():
    table = frames(3)
    long = {name: f"{name}_of_the_models_that_are_merged" for name in tables.objective_names(table[0])}
    renamed = [
        frame.rename(
            columns=lambda column: next(
                (column.replace(a, b) for a, b in long.items() if a in column), column
            )
        )
        for frame in table
    ]
    head = next(line for line in text_of(Frames(*renamed)).splitlines() if line.split()[:1] == ["candidate"])
    assert head.split()[-1] == long["efficiency"]


def test_a_search_without_any_evaluation_has_a_line():
    table = frames().observations.query("search != 'blocks'")
    assert summary.progress_line(table, "blocks", 48, REFERENCE_POINT) == "blocks: 0 of 48 evaluations"


def test_progress_names_what_is_not_scored(tmp_path):
    run_dir = fake_run(tmp_path)
    lost = read_record(run_dir / "search/blocks/proposals/t001.json", "proposal")["candidates"][2]
    (run_dir / "candidates" / lost / "scores.json").unlink()
    summary.print_progress(run_dir, "blocks", SETTINGS["blocks"], REFERENCE_POINT, before=1)
    for before in (2, None):
        with pytest.raises(BadInput, match=rf"candidates {lost}: no scores\.json"):
            summary.print_progress(run_dir, "blocks", SETTINGS["blocks"], REFERENCE_POINT, before=before)


def test_warnings_only_where_they_are_due():
    table = frames()
    failed = table.observations.query("status == 'failed'")["candidate"].item()
    cut = table.observations.query("warning != ''")["candidate"].nunique()
    models = table.observations["candidate"].nunique()
    text = text_of(table, ("the gap of x is small",))
    assert "  the gap of x is small\n" in text
    assert f"{cut} of {models} models: over 5% of answers truncated" in text
    assert f"candidate {failed} failed: out of memory" in text
    clean = table.observations[table.observations["status"] == "ok"].assign(warning="")
    assert "Warnings" not in text_of(table._replace(observations=clean))


def test_chosen_models():
    text = text_of(frames())
    for row in frames().selection.to_dict("records"):
        line = next(line for line in text.splitlines() if line.startswith(f"  {row['name']} "))
        cells = [row["name"], row["candidate"], f"{row['accuracy']:.3f}", f"{row['tokens']:.1f}"]
        assert line.split() == cells
    assert "Chosen models" not in text_of(frames()._replace(selection=frames().selection.iloc[:0]))


def test_single_weights_are_listed_only_without_other_searches():
    table = frames()
    assert "Pareto front of search single" not in text_of(table)
    alone = [frame.query("search != 'blocks'") for frame in table[:4]]
    assert "Pareto front of search single" in text_of(Frames(*alone, table.selection))


def test_print_run_reads_what_was_written(tmp_path, capsys):
    run_dir = fake_run(tmp_path / "run", iterations=0)
    with pytest.raises(BadInput, match="run snakemake first"):
        summary.print_run(run_dir)
    for name, frame in frames()._asdict().items():
        tables.write(run_dir / "tables" / name, frame)
    summary.print_run(run_dir)
    printed = capsys.readouterr().out
    assert printed == summary.front_text(*frames(), [], run_dir) + "\n"


def test_print_run_tells_what_was_measured_again(tmp_path, capsys):
    run_dir = fake_run(tmp_path / "run", iterations=0)
    for name, frame in frames()._asdict().items():
        tables.write(run_dir / "tables" / name, frame)
    row = {"questions": "held-out", "measure": "hypervolume", "judged_by": "observed", "members": 8}
    found = {"promised": 0.83, "found": 0.785, "optimism": 0.045, "optimism_low": 0.01, "optimism_high": 0.08}
    tables.write(run_dir / "tables" / "optimism", pd.DataFrame([row | found]))
    summary.print_run(run_dir)
    printed = capsys.readouterr().out.splitlines()
    assert printed[-2].split() == (
        ["hypervolume,", "held-out", "observed", "0.830", "0.785", "+0.045", "(+0.010", "to", "+0.080)"]
    )
    assert printed[-1] == "  (8 models, one by one: tables/confirmed.csv)"


def test_progress_line():
    table = frames().observations
    first = table[table["iteration"].fillna(0) < 1]
    course = frames().hypervolume.query("search == 'blocks'")
    own = first[first["search"] == "blocks"]
    value = course["hypervolume"].iloc[7]
    cut = (own["warning"] != "").sum()
    assert summary.progress_line(first, "blocks", 48, REFERENCE_POINT, pace=1.5) == (
        f"blocks, iteration 0: 8 of 48 evaluations, hypervolume {value:.4f} ({value - 0.21:+.4f}), "
        f"front of {course['front_size'].iloc[7]}, about 60 s left, "
        f"{cut} with over 5% of answers truncated"
    )
    gain = course["hypervolume"].iloc[15] - course["hypervolume"].iloc[11]
    last = summary.progress_line(table, "blocks", 16, REFERENCE_POINT)
    assert last.startswith("blocks, iteration 2: 16 of 16 evaluations, ")
    assert f"({gain:+.4f})" in last
    assert " left" not in last
    assert last.endswith("1 failed")


@pytest.mark.parametrize(("pace", "left"), [(1.0, "32 s"), (90.0, "48 min"), (3600.0, "32.0 h")])
def test_time_left_in_the_fitting_unit(pace, left):
    line = summary.progress_line(frames().observations, "blocks", 48, REFERENCE_POINT, pace)
    assert f"about {left} left" in line


def test_progress_where_all_failed():
    table = frames().observations.copy()
    own = table["search"] == "blocks"
    table.loc[own, "status"] = "failed"
    table.loc[own, table.select_dtypes("float").columns] = np.nan
    line = summary.progress_line(table, "blocks", 48, REFERENCE_POINT)
    assert "hypervolume 0.2100 (+0.0000), front of 2" in line
    assert " left" not in line


def test_print_progress_as_it_stood_before_an_iteration(tmp_path, capsys):
    run_dir = fake_run(tmp_path)
    # Medians need more than two iterations to ignore a pause; here both count.
    for path, time in zip(
        sorted((run_dir / "search/blocks/proposals").iterdir()), [0, 3600, 3640], strict=True
    ):
        os.utime(path, (time, time))
    pace = (3600 / 8 + 40 / 4) / 2
    table = tables.observations(tables.read_run(run_dir, VARIABLES))
    summary.print_progress(run_dir, "blocks", SETTINGS["blocks"], REFERENCE_POINT, before=2)
    summary.print_progress(run_dir, "blocks", SETTINGS["blocks"], REFERENCE_POINT)
    earlier = table[table["iteration"].fillna(0) < 2]
    expected = [summary.progress_line(rows, "blocks", 48, REFERENCE_POINT, pace) for rows in (earlier, table)]
    assert capsys.readouterr().out.splitlines() == expected


def test_the_pace_passes_over_a_stop_that_asked_for_nothing(tmp_path):
    for place, (size, time) in enumerate([(4, 0), (0, 40), (2, 50), (2, 60)]):
        path = tmp_path / f"t{place:03d}.json"
        path.write_text(json.dumps({"candidates": ["id"] * size}))
        os.utime(path, (time, time))
    assert summary._pace(tmp_path) == pytest.approx((40 / 4 + 10 / 2) / 2)


@pytest.mark.parametrize(
    ("settings", "planned"),
    [
        (PRESETS["bambo-robust"], 48),
        (PRESETS["bambo"], 88),
        (PRESETS["model-grid"], 9),
        ({**PRESETS["model-grid"], "weights": [0.5], "n_initial": None}, 1),
        ({**PRESETS["bambo-robust"], "evaluations": 18}, 18),
        ({**PRESETS["bambo-robust"], "evaluations": 100}, 48),
    ],
)
def test_planned_evaluations(settings, planned):
    assert planned_evaluations(settings) == planned


def test_frames_of_the_fake_run_have_what_these_tests_look_for():
    table = frames().observations
    assert (table["status"] == "failed").sum() == 1
    assert (table["warning"] != "").any()
    assert pd.api.types.is_integer_dtype(table["iteration"])


def test_two_searches_are_not_put_side_by_side():
    assert "Searches side by side" not in text_of(frames())


def test_several_searches_side_by_side():
    table = frames()
    facts = {
        "method": "ties",
        "granularity": "model",
        "hypervolume": 0.21,
        "evaluations": 9,
        "union_front": False,
    }
    none = {"search": "ties", **facts, "candidate": "", "variables": "", "reason": "no merge on its front"}
    left_out = {
        "search": "della",
        "method": "",
        "variables": "",
        "union_front": False,
        "reason": "left out: no " * 20,
    }
    more = pd.DataFrame([none, left_out])
    comparison = pd.concat([table.comparison, more], ignore_index=True).astype({"evaluations": "Int64"})
    lines = text_of(table._replace(comparison=comparison)).splitlines()
    start = next(place for place, line in enumerate(lines) if "side by side" in line)
    rows = {line.split()[0]: line.split() for line in lines[start:] if line.startswith("  ")}
    own = comparison[comparison["search"] == "blocks"]
    front, union = f"{len(own)}", f"{own['union_front'].sum()}"
    assert rows["blocks"] == [
        "blocks",
        "linear",
        "block",
        "16",
        f"{own['hypervolume'].iloc[0]:.4f}",
        front,
        union,
    ]
    assert rows["ties"] == ["ties", "ties", "model", "9", "0.2100", "0", "0"]
    assert rows["della:"][:3] == ["della:", "left", "out:"]
    assert max(map(len, lines)) <= 110


def test_variables_of_several_kinds_are_summed_up():
    def named(text: str) -> str:
        own = json.loads(text)
        kinds = {"a": 0.25, "density": 0.5}
        return json.dumps({f"{name}: {kind}": value for name in own for kind, value in kinds.items()})

    table = frames()
    rest = [
        frame.assign(variables=frame["variables"].map(named)) for frame in (table.observations, table.pareto)
    ]
    first = rest[1].query("search == 'blocks' and front == 'posterior'").index[0]
    rest[1].loc[first, "variables"] = "{}"  # outside of the space
    text = text_of(Frames(*rest, *table[2:]))
    head = next(line for line in text.splitlines() if line.split()[:1] == ["candidate"])
    assert head.split()[-2:] == ["a", "density"]
    lines = text.splitlines()[text.splitlines().index(head) + 1 :]
    assert lines[0].split()[-1] == f"{rest[1].loc[first, 'tokens']:.1f}"
    assert lines[1].split()[-2:] == ["0.25", "0.50"]
    assert "(means over the parts of the model; all of them: tables/pareto.csv)" in text
