"""The searches side by side: what they cost alone, over seeds, and the figure of it."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pytest
from bambo.pareto import hypervolume
from bambo.records import read_record
from bambo.report import fronts, searches, style, tables
from fake_run import REFERENCE_POINT, SETTINGS, VARIABLES, fail, fake_run
from hypothesis import given
from hypothesis import strategies as st

PRESETS = {"blocks": "bambo-robust", "single": "model-grid"}


@cache
def small():
    """The fake run, with a failed candidate: run and observations."""
    with TemporaryDirectory() as folder:
        run_dir = fake_run(Path(folder))
        second = read_record(run_dir / "search/blocks/proposals/t001.json", "proposal")
        fail(run_dir, second["candidates"][1])
        run = tables.read_run(run_dir, VARIABLES)
    return run, tables.observations(run)


@cache
def results():
    """searches.csv and curves.csv of it."""
    run, observations = small()
    pareto = fronts.pareto(run, observations, SETTINGS, REFERENCE_POINT)
    table = searches.table(run, observations, pareto, SETTINGS, PRESETS, REFERENCE_POINT)
    return table, searches.curves(run, observations, SETTINGS, REFERENCE_POINT)


# The reckoned clock


@given(st.lists(st.floats(0, 9), max_size=12), st.integers(1, 4), st.floats(0, 3))
def test_list_schedule_is_that_of_a_step_by_step_clock(durations, slots, start):
    busy, expected = [start] * slots, []
    for duration in durations:
        slot = busy.index(min(busy))
        busy[slot] += duration
        expected.append(busy[slot])
    assert searches.list_schedule(durations, slots, start) == expected


def test_one_slot_takes_the_sum_and_enough_slots_the_longest():
    assert searches.list_schedule([3, 1, 2], 1) == [3, 4, 6]
    assert max(searches.list_schedule([3, 1, 2], 3)) == 3
    assert searches.list_schedule([3, 1, 2], 2) == [3, 1, 3]


def seconds(run, proposal):
    return [run.scores[id].get("seconds", 0) / 3600 for id in proposal["candidates"]]


def test_a_synchronous_search_waits_for_each_iteration():
    run, _ = small()
    found = searches.reckon(run, SETTINGS, "blocks")
    first, *others = run.proposals["blocks"]
    expected = max(searches.list_schedule(seconds(run, first), 4))
    for proposal in others:
        expected += max(seconds(run, proposal))  # as many slots as candidates
    assert max(found.finish) == found.hours == pytest.approx(expected)
    busy = sum(sum(seconds(run, proposal)) for proposal in run.proposals["blocks"])
    assert found.utilisation == pytest.approx(busy / (4 * expected))


def test_an_asynchronous_one_waits_for_nothing():
    run, _ = small()
    settings = {**SETTINGS, "blocks": SETTINGS["blocks"] | {"schedule": "async", "slots": 3}}
    found = searches.reckon(run, settings, "blocks")
    durations = [each for proposal in run.proposals["blocks"] for each in seconds(run, proposal)]
    assert found.finish == searches.list_schedule(durations, 3)
    assert found.slots == 3
    assert found.utilisation > searches.reckon(run, SETTINGS, "blocks").utilisation


def test_what_it_starts_from_comes_before_it_and_costs_nothing_again():
    run, observations = small()
    shared = run.proposals["single"][0]["candidates"][:2]
    later = dict(
        run.proposals["blocks"][0], candidates=[*shared, run.proposals["blocks"][0]["candidates"][3]]
    )
    fine = tables.Run(
        **{
            **run.__dict__,
            "proposals": {"single": run.proposals["single"], "fine": [later]},
            "variables": {"single": VARIABLES["single"], "fine": VARIABLES["blocks"]},
        }
    )
    settings = {"single": SETTINGS["single"], "fine": SETTINGS["blocks"] | {"start_from": "single"}}
    found = searches.reckon(fine, settings, "fine")
    before = searches.reckon(fine, settings, "single")
    assert found.new == [False, False, True]
    assert (found.known, found.begun) == (9, max(before.finish))
    assert found.finish[:2] == [max(before.finish)] * 2
    assert found.hours == pytest.approx(fine.scores[later["candidates"][2]]["seconds"] / 3600)
    rows = observations[observations["candidate"].isin(later["candidates"])].drop_duplicates("candidate")
    placed = pd.concat([rows.assign(search="fine"), observations[observations["search"] != "blocks"]])
    curve = searches.curves(fine, placed, settings, REFERENCE_POINT).query("search == 'fine'")
    assert curve["evaluations_total"].tolist() == [9, 9, 9, 10]
    assert curve["hours_reckoned"].iloc[0] == found.begun


# The table


def test_a_row_a_search():
    table, _ = results()
    run, observations = small()
    assert table["search"].tolist() == ["blocks", "single"]
    assert (table["statistic"] == "").all()
    blocks = table.iloc[0]
    assert (blocks["evaluations"], blocks["failed"], blocks["evaluations_total"]) == (16, 1, 16)
    answers = sum(
        row["tokens"] * row["questions"]
        for proposal in run.proposals["blocks"]
        for id in proposal["candidates"]
        for row in run.scores[id].get("benchmarks", {}).values()
    )
    assert blocks["output_tokens"] == round(answers)
    last = fronts.hypervolume(observations, REFERENCE_POINT).groupby("search").last()
    for name, row in table.set_index("search").iterrows():
        assert row["hypervolume"] == pytest.approx(last.loc[name, "hypervolume"])
        assert row["front_size"] == last.loc[name, "front_size"]
        assert 0 < row["coverage"] <= 1
    assert table["coverage"].max() < 1  # each has members that the other lacks
    assert table["warning"].tolist() == ["", ""]


def test_coverage_is_a_share_of_all_searches_front():
    table, _ = results()
    _, observations = small()
    scored = pd.concat(tables.members(observations, search) for search in VARIABLES)
    union = hypervolume(scored[["reasoning", "efficiency"]].to_numpy(float), REFERENCE_POINT)
    np.testing.assert_allclose(table["coverage"] * union, table["hypervolume"])


def test_largest_gap_of_two_objectives_is_that_of_neighbours():
    front = np.array([[0.0, 1.0], [0.6, 0.2], [0.5, 0.6], [1.0, 0.0], [0.5, 0.6]])
    steps = np.linalg.norm(np.diff(front[[0, 2, 1, 3]], axis=0), axis=1)
    assert searches.largest_gap(front) == pytest.approx(steps.max())
    assert np.isnan(searches.largest_gap(front[:1]))
    assert searches.largest_gap(np.eye(3)) == pytest.approx(2**0.5)


# Seeds


def seeds(*names, **changes):
    return {name: SETTINGS["blocks"] | {"seed": seed} | changes for seed, name in enumerate(names)}


def test_groups_are_searches_that_differ_in_their_seed():
    settings = seeds("a-0", "a-1") | {"b": SETTINGS["blocks"] | {"kernel": "matern52"}}
    assert searches.group_names(settings) == {"a-0": "a", "a-1": "a", "b": "b"}
    assert searches.group_names(seeds("one", "two")) == {"one": "one", "two": "one"}
    assert searches.group_names(seeds("a-0") | {"a": SETTINGS["single"]}) == {"a-0": "a-0", "a": "a"}


def test_a_group_may_start_from_a_group():
    fine = {f"f-{seed}": SETTINGS["blocks"] | {"seed": seed, "start_from": f"a-{seed}"} for seed in (0, 1)}
    assert searches.group_names(seeds("a-0", "a-1") | fine)["f-1"] == "f"
    fine["f-1"]["start_from"] = "other"
    settings = seeds("a-0", "a-1") | fine | {"other": SETTINGS["single"]}
    assert searches.group_names(settings)["f-1"] == "f-1"


@cache
def two_seeds():
    """Tables of the fake run, whose first search is there twice, the second time without its last iteration."""
    run, _ = small()
    proposals = run.proposals["blocks"]
    twins = tables.Run(
        **{
            **run.__dict__,
            "proposals": {"b-0": proposals, "b-1": proposals[:2], "single": run.proposals["single"]},
            "variables": {
                "b-0": VARIABLES["blocks"],
                "b-1": VARIABLES["blocks"],
                "single": VARIABLES["single"],
            },
        }
    )
    observations = tables.observations(twins)
    settings = seeds("b-0", "b-1") | {"single": SETTINGS["single"]}
    presets = dict.fromkeys(["b-0", "b-1"], "bambo-robust") | {"single": "model-grid"}
    pareto = fronts.pareto(twins, observations, settings, REFERENCE_POINT)
    table = searches.table(twins, observations, pareto, settings, presets, REFERENCE_POINT)
    return table, searches.curves(twins, observations, settings, REFERENCE_POINT)


def test_means_and_deviations_over_seeds():
    table, _ = two_seeds()
    assert table["group"].tolist() == ["b", "b", "single", "b", "b"]
    assert table["statistic"].tolist() == ["", "", "", "mean", "sd"]
    own, mean, sd = table.iloc[:2], table.iloc[3], table.iloc[4]
    for column in ("hypervolume", "evaluations", "output_tokens", "hours_reckoned"):
        assert mean[column] == pytest.approx(own[column].mean())
        assert sd[column] == pytest.approx(abs(own[column].diff().iloc[1]) / 2**0.5)
    assert (mean["preset"], mean["search"]) == ("bambo-robust", "b")
    assert pd.isna(mean["seed"])


def test_a_table_is_read_as_it_was_written(tmp_path):
    table, _ = two_seeds()
    (tmp_path / "tables").mkdir()
    tables.write(tmp_path / "tables" / "searches", table)
    found = tables.read(tmp_path, "searches")
    assert found["statistic"].tolist() == table["statistic"].tolist()
    np.testing.assert_allclose(
        found["evaluations"].astype(float), table["evaluations"].astype(float), rtol=1e-5
    )


# Curves and figure


def test_a_curve_ends_where_the_search_does():
    table, curves = results()
    for name, rows in curves.groupby("search"):
        assert rows["hypervolume"].is_monotonic_increasing
        assert rows["hours_reckoned"].is_monotonic_increasing
        row = table.set_index("search").loc[name]
        assert rows["hypervolume"].iloc[-1] == pytest.approx(row["hypervolume"])
        assert rows["evaluations_total"].iloc[-1] == row["evaluations_total"]
        assert rows["hours_reckoned"].iloc[-1] == pytest.approx(row["hours_reckoned"])
        assert (rows["evaluations_total"].iloc[0], rows["hours_reckoned"].iloc[0]) == (0, 0)


def test_the_figure_has_a_line_a_group_and_a_band_over_seeds():
    drawn = searches.figure(*two_seeds())
    _, curves = two_seeds()
    for axes, column in zip(drawn.axes, searches.PANELS, strict=True):
        lines = {line.get_label(): line for line in axes.lines}
        assert list(lines) == ["b (2 seeds)", "single"]
        assert len({(line.get_color(), line.get_marker()) for line in lines.values()}) == 2
        assert len(axes.collections) == 1
        last = curves.query("group == 'b'")[column].max() * (3600 if column == "hours_reckoned" else 1)
        assert lines["b (2 seeds)"].get_xdata()[-1] == pytest.approx(last)
        ends = curves[curves["group"] == "b"].groupby("search")["hypervolume"].last()
        assert lines["b (2 seeds)"].get_ydata()[-1] == pytest.approx(ends.mean())
    assert drawn.axes[1].get_xlabel().startswith("seconds, reckoned")


def test_the_clock_has_a_unit_that_fits():
    table, curves = two_seeds()
    for hours, unit in ((0.2, "minutes"), (40, "hours")):
        scaled = curves.assign(
            hours_reckoned=curves["hours_reckoned"] / curves["hours_reckoned"].max() * hours
        )
        assert searches.figure(table, scaled).axes[1].get_xlabel().startswith(f"{unit}, ")


def test_other_figures_show_the_first_seed():
    table, curves = two_seeds()
    rows = pd.concat([curves, curves.tail(1).assign(search="all")])
    assert list(searches.first_seeds(rows, table)["search"].unique()) == ["b-0", "single", "all"]


def test_equal_tables_give_equal_svg(tmp_path):
    paths = [tmp_path / "a.svg", tmp_path / "b.svg"]
    for path in paths:
        style.save(searches.figure(*two_seeds()), path)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_simulated_searches_say_so():
    table, curves = two_seeds()
    assert searches.figure(table, curves)._suptitle is None
    assert "SIMULATED" in searches.figure(table.assign(warning="simulated"), curves)._suptitle.get_text()
