"""Tables of a run against naive versions, closed forms and hand-made files."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from bambo.candidate.folder import read_scores
from bambo.errors import BadInput
from bambo.files import read_json, write_json
from bambo.objectives import normalisation
from bambo.pareto import hypervolume, non_dominated
from bambo.records import read_record, write_record
from bambo.report import fronts, tables
from bambo.space import variables
from fake_run import (
    GROUPS,
    OBJECTIVES,
    REFERENCE_POINT,
    SETTINGS,
    SOURCES,
    VARIABLES,
    add_candidate,
    fail,
    fake_run,
    frames,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

NAMES = ["reasoning", "efficiency"]


def observed(run_dir: Path) -> pd.DataFrame:
    return tables.observations(tables.read_run(run_dir, VARIABLES))


def proposals(run_dir: Path, search: str) -> list[dict]:
    paths = sorted((run_dir / "search" / search / "proposals").iterdir())
    return [read_record(path, "proposal") for path in paths]


def test_one_row_a_proposed_candidate_in_order_and_reference_rows_last(tmp_path):
    table = observed(fake_run(tmp_path))
    own = table[table["search"] == "blocks"]
    made = proposals(tmp_path, "blocks")
    assert own["candidate"].tolist() == [id for proposal in made for id in proposal["candidates"]]
    assert own["iteration"].tolist() == [0] * 8 + [1] * 4 + [2] * 4
    assert own["origin"].tolist()[:4] == ["instruct", "thinking", "balanced", "sobol"]
    points = [x for proposal in made for x in proposal["variables"]]
    np.testing.assert_allclose(tables.points(own), points, atol=5e-7)
    assert tables.variable_names(table, "blocks") == [v["name"] for v in VARIABLES["blocks"]]
    reference = table.tail(4)
    assert set(reference["search"]) == {"reference"}
    assert reference["iteration"].isna().all()
    assert reference["origin"].tolist() == [
        "end point: thinking",
        "end point: instruct",
        "own files: thinking",
        "own files: instruct",
    ]
    # instruct gives its files to all, so its own files are no other candidate
    assert reference["candidate"].nunique() == 3
    assert reference["variables"].map(json.loads).tolist() == [{"model": w} for w in (1, 0, 1, 0)]


def test_columns(tmp_path):
    parts = ["accuracy", "accuracy_stderr", "tokens", "tokens_stderr", "truncated"]
    assert list(observed(fake_run(tmp_path, iterations=0)).columns) == [
        *["search", "iteration", "candidate", "origin", "variables"],
        *(f"tiny_gpqa.{part}" for part in parts),
        *(f"tiny_aime.{part}" for part in parts),
        *["accuracy", "tokens"],
        *["reasoning", "reasoning_stderr", "efficiency", "efficiency_stderr"],
        *tables.MEASURED,
        *["status", "failure", "reason", "warning"],
    ]


def test_scores_and_objectives_of_a_row(tmp_path):
    table = observed(fake_run(tmp_path, iterations=0))
    ends = tables.end_points(table)
    assert list(ends.index) == ["thinking", "instruct"]
    np.testing.assert_allclose(ends[NAMES], [[1, 0], [0, 1]], atol=1e-12)
    row = table.iloc[4]
    scores = read_scores(tmp_path / "candidates" / row["candidate"])
    for name, part in scores["benchmarks"].items():
        assert row[f"{name}.tokens_stderr"] == part["tokens_stderr"]
    benchmarks = list(scores["benchmarks"])
    assert row["accuracy"] == pytest.approx(sum(row[f"{name}.accuracy"] for name in benchmarks) / 2)
    expert, base = ends.loc["instruct"], ends.loc["thinking"]
    gains = [
        (row[f"{b}.tokens"] - base[f"{b}.tokens"]) / (expert[f"{b}.tokens"] - base[f"{b}.tokens"])
        for b in benchmarks
    ]
    assert row["efficiency"] == pytest.approx(sum(gains) / 2)


def test_a_failed_evaluation_has_a_reason_and_no_number(tmp_path):
    fake_run(tmp_path)
    before = observed(tmp_path)
    own = before[before["search"] == "blocks"].reset_index(drop=True)
    lost = own["candidate"][own["efficiency"].where(own["reasoning"] > 0.5).idxmax()]
    place = own.index[own["candidate"] == lost][0]
    fail(tmp_path, lost, "killed:\n  out of   memory")
    run = tables.read_run(tmp_path, VARIABLES)
    table = tables.observations(run)
    assert len(table) == len(before)
    row = table.loc[(table["search"] == "blocks") & (table["candidate"] == lost)].iloc[0]
    assert (row["status"], row["failure"], row["warning"]) == ("failed", "out of memory", "")
    assert row["reason"] == "killed: out of memory"
    numbers = table.select_dtypes("float").columns
    assert len(numbers) == 18
    assert row[numbers].isna().all()
    assert table.loc[table["status"] == "ok", numbers].notna().all(axis=None)
    assert lost not in set(fronts.pareto(run, table, SETTINGS, REFERENCE_POINT)["candidate"])
    course = fronts.hypervolume(table, REFERENCE_POINT)
    course = course[course["search"] == "blocks"]
    # the evaluation is spent, and nothing is gained by it
    assert course["evaluations"].tolist() == list(range(1, 17))
    assert course["hypervolume"].iloc[place] == course["hypervolume"].iloc[place - 1]
    assert course["hypervolume"].iloc[-1] < fronts.hypervolume(before, REFERENCE_POINT)["hypervolume"].max()


def test_a_run_of_which_nothing_is_scored_has_a_course_all_the_same(tmp_path):
    run_dir = fake_run(tmp_path, iterations=0)
    ends = set(read_json(run_dir / "endpoints/candidates.json")["end_points"].values())
    for path in run_dir.glob("candidates/*/scores.json"):
        if path.parent.name not in ends:
            path.unlink()
    for search in ("blocks", "single"):
        (run_dir / f"search/{search}/proposals/t000.json").unlink()
    course = fronts.hypervolume(observed(run_dir), REFERENCE_POINT)
    assert course["search"].tolist() == ["end points only"]
    assert course["hypervolume"].tolist() == pytest.approx([0.21])
    assert list(course.columns) == list(frames().hypervolume.columns)


def test_what_a_budget_asked_for_must_be_scored(tmp_path):
    fake_run(tmp_path)
    lost = [proposals(tmp_path, "blocks")[t]["candidates"][0] for t in (1, 2)]
    for candidate in lost:
        (tmp_path / "candidates" / candidate / "scores.json").unlink()
    run = tables.read_run(tmp_path, VARIABLES)
    tables.check_scored(run, {"blocks": 0, "single": 0})
    with pytest.raises(BadInput, match=rf"^candidates {lost[0]}: no scores\.json"):
        tables.check_scored(run, {"blocks": 1})
    with pytest.raises(
        BadInput, match=rf"candidates {lost[0]}, {lost[1]}: no scores.json, .* start the run again"
    ):
        tables.check_scored(run, {"blocks": 9})


def test_metrics_of_objectives_and_limits_have_columns(tmp_path):
    run_dir = fake_run(tmp_path, iterations=0, objectives=4)
    limits = ["tiny_aime.flops", "cost", "energy", "seconds", "reasoning", "peak_memory_gb"]
    for path in run_dir.glob("candidates/*/scores.json"):
        scores = read_record(path, "scores")
        for part in scores["benchmarks"].values():
            part |= {"flops": None, "flops_stderr": None, "prompt_tokens": 10.0, "prompt_tokens_stderr": 1.0}
            part["prompt_tokens_covariance"] = 0.0
        write_record(path, "scores", scores)
    run = tables.read_run(run_dir, VARIABLES, limits, {"output_tokens": 1e6})
    table = tables.observations(run)
    raw = ["accuracy", "tokens", "latency", "throughput", "flops", "cost", "energy"]
    assert tables.raw_metrics(table) == raw
    assert tables.objective_names(table) == ["reasoning", "efficiency", "speed", "answers_a_second"]
    own = [column.removeprefix("tiny_aime.") for column in table.columns if column.startswith("tiny_aime.")]
    assert [name for name in own if not name.endswith("_stderr")] == [
        *["accuracy", "tokens", "latency", "flops", "cost", "truncated"]
    ]
    np.testing.assert_allclose(table["cost"], table["tokens"])
    assert table[["flops", "energy", "tiny_gpqa.flops"]].isna().all(axis=None)
    np.testing.assert_allclose(
        table["latency"], (table["tiny_gpqa.latency"] + table["tiny_aime.latency"]) / 2
    )
    pareto = fronts.pareto(run, table, SETTINGS, (-0.1,) * 4)
    chosen = fronts.selection(
        table,
        pareto,
        front="observed",
        divisions=4,
        nearest=3,
        limits={"throughput": {"min": 2000}, "tiny_aime.latency": {"max": 0.8}},
    )
    assert len(chosen)
    assert (chosen["throughput"] >= 2000).all()


def test_an_objective_on_memory_has_one_column_of_it(tmp_path):
    run_dir = fake_run(tmp_path, iterations=0)
    for path in run_dir.glob("candidates/*/scores.json"):
        scores = read_record(path, "scores")
        scores["peak_memory_gb"] = scores["benchmarks"]["tiny_aime"]["tokens"]
        write_record(path, "scores", scores)
    ends = read_json(run_dir / "endpoints/candidates.json")["end_points"]
    spec = {"lean": {"metric": "peak_memory_gb", "expert": "instruct", "base": "thinking"}}
    spec = {"reasoning": OBJECTIVES["reasoning"], **spec}
    scores = {source: read_scores(run_dir / "candidates" / id) for source, id in ends.items()}
    write_json(run_dir / "endpoints/normalisation.json", normalisation(spec, scores))
    run = tables.read_run(run_dir, VARIABLES)
    table = tables.observations(run)
    assert list(table.columns).count("peak_memory_gb") == 1
    assert tables.raw_metrics(table)[-1] == "peak_memory_gb"
    pareto = fronts.pareto(run, table, SETTINGS, REFERENCE_POINT)
    limits = {"peak_memory_gb": {"max": 30.0}}
    chosen = fronts.selection(table, pareto, front="observed", divisions=4, nearest=3, limits=limits)
    assert (chosen["peak_memory_gb"] <= 30).all()


def test_no_right_answer_is_told_where_tokens_are_counted_by_right_ones(tmp_path):
    scores = {"engine": "hf", "benchmarks": {"b": {"truncated": 0.1, "accuracy": 0.0}}}
    assert tables._remarks(scores, []) == ["10.0% of answers truncated in b"]
    assert tables._remarks(scores, ["tokens_per_correct"])[1].startswith("no answer right in b: ")


@pytest.mark.parametrize("count", [3, 4])
def test_tables_of_more_objectives(count):
    table = frames(count)
    names = tables.objective_names(table.observations)
    assert len(names) == count
    reference = (-0.1,) * count
    rows = tables.members(table.observations, "blocks")
    front = table.pareto[(table.pareto["search"] == "blocks") & (table.pareto["front"] == "observed")]
    assert set(front["candidate"]) == set(rows["candidate"][naive_front(rows[names].to_numpy())])
    course = table.hypervolume.query("search == 'blocks'")
    assert course["hypervolume"].iloc[-1] == pytest.approx(hypervolume(rows[names], reference))
    assert course["front_size"].iloc[-1] == len(front)
    assert all(b >= a for a, b in pairwise(course["hypervolume"]))
    assert set(table.selection["preference"].str.count("-")) <= {0, count - 1}
    assert (table.pareto["reference_point"] == str(reference)).all()


def test_what_is_not_scored_yet_is_left_out(tmp_path):
    fake_run(tmp_path)
    last = proposals(tmp_path, "blocks")[-1]["candidates"]
    (tmp_path / "candidates" / last[2] / "scores.json").unlink()
    own = observed(tmp_path).query("search == 'blocks'")
    assert own["candidate"].tolist()[-3:] == [last[0], last[1], last[3]]


def test_proposals_are_ordered_by_iteration_not_by_name(tmp_path):
    fake_run(tmp_path, iterations=0)
    folder = tmp_path / "search/blocks/proposals"
    first = read_record(folder / "t000.json", "proposal")
    later = [add_candidate(tmp_path, np.full(8, w)) for w in (0.31, 0.32)]
    for name, iteration, candidate in [("t1000", 1000, later[1]), ("t999", 999, later[0])]:
        one = {"iteration": iteration, "candidates": [candidate], "variables": [[0.3] * 8], "origin": ["x"]}
        write_record(folder / f"{name}.json", "proposal", one)
    own = observed(tmp_path).query("search == 'blocks'")
    assert own["candidate"].tolist() == [*first["candidates"], *later]


@pytest.mark.parametrize(("share", "text"), [(0.05, ""), (0.0534, "5.3% of answers truncated in tiny_aime")])
def test_truncation_warns_above_five_percent(tmp_path, share, text):
    candidate = proposals(fake_run(tmp_path, iterations=0), "blocks")[0]["candidates"][3]
    folder = tmp_path / "candidates" / candidate
    scores = read_scores(folder)
    scores["benchmarks"]["tiny_aime"]["truncated"] = share
    write_record(folder / "scores.json", "scores", scores)
    assert observed(tmp_path).set_index("candidate")["warning"][candidate] == text


def test_a_candidate_of_two_searches_has_one_set_of_numbers():
    table = frames().observations
    shared = table[table.duplicated("candidate", keep=False) & (table["search"] != "reference")]
    balanced = shared[shared["origin"].isin(["balanced", "grid"])]
    assert balanced["search"].tolist() == ["blocks", "single"]
    measured = table.columns[5:]
    assert balanced.iloc[0][measured].equals(balanced.iloc[1][measured].rename(balanced.index[0]))


def test_the_set_of_a_search_has_the_end_points_once():
    table = frames().observations
    ends = tables.end_points(table)["candidate"]
    for search, dimension in [("blocks", 8), ("single", 1)]:
        rows = tables.members(table, search)
        assert rows["candidate"].is_unique
        assert set(ends) <= set(rows["candidate"])
        X = dict(zip(rows["candidate"], tables.points(rows).tolist(), strict=True))
        assert X[ends["thinking"]] == [1] * dimension
        assert X[ends["instruct"]] == [0] * dimension


def naive_front(Y: np.ndarray) -> list[bool]:
    return [not any(all(b >= a) and any(b > a) for b in Y) for a in Y]


def test_fronts_against_the_definition():
    table, pareto = frames().observations, frames().pareto
    means = [f"{name}_posterior_mean" for name in NAMES]
    everything = pd.concat([tables.members(table, search) for search in ("blocks", "single")])
    sets = {search: tables.members(table, search) for search in ("blocks", "single")}
    sets["all"] = everything.drop_duplicates("candidate")
    for search, rows in sets.items():
        front = pareto[(pareto["search"] == search) & (pareto["front"] == "observed")]
        expected = rows[naive_front(rows[NAMES].to_numpy())]
        assert set(front["candidate"]) == set(expected["candidate"])
        for kind in ("observed", "posterior"):
            front = pareto[(pareto["search"] == search) & (pareto["front"] == kind)]
            assert front["candidate"].is_unique
            assert front["tokens"].is_monotonic_increasing
        assert all(naive_front(front[means].to_numpy()))
        assert set(front["candidate"]) <= set(rows["candidate"])
    posterior = pareto[pareto["front"] == "posterior"].set_index("search")
    assert set(posterior.loc["all", "candidate"]) <= set(posterior.loc[["blocks", "single"], "candidate"])
    assert (pareto["reference_point"] == "(-0.1, -0.1)").all()
    assert pareto.drop(columns="origin").notna().all(axis=None)


def test_found_by_names_the_search_that_proposed(tmp_path):
    fake_run(tmp_path, iterations=0)
    run = tables.read_run(tmp_path, {"single": VARIABLES["single"]})
    pareto = fronts.pareto(run, tables.observations(run), SETTINGS, REFERENCE_POINT)
    ends = pareto["candidate"].isin(run.end_points.values())
    assert ends.any()
    assert (pareto["found_by"] == np.where(ends, "end points", "single")).all()


def test_surrogates_get_their_own_search_settings_and_noise(tmp_path, monkeypatch):
    seen = []

    def posterior_front(X, Y, variance, stderr, settings, reference, **_):
        seen.append((X, variance))
        return Y, np.sqrt(variance), non_dominated(Y)

    monkeypatch.setattr("bambo.search.surrogate.posterior_front", posterior_front)
    run = tables.read_run(fake_run(tmp_path, iterations=0), VARIABLES)
    table = tables.observations(run)
    fronts.pareto(run, table, SETTINGS, REFERENCE_POINT)
    half = {"blocks": SETTINGS["blocks"], "single": {**SETTINGS["single"], "noise_share": 0.125}}
    fronts.pareto(run, table, half, REFERENCE_POINT)
    assert [X.shape for X, _ in seen] == [(8, 8), (11, 1)] * 2
    np.testing.assert_array_equal(seen[0][1], seen[2][1])
    np.testing.assert_allclose(seen[1][1], 2 * seen[3][1])


def choose(front: str = "posterior", **limits: dict) -> pd.DataFrame:
    table = frames()
    return fronts.selection(
        table.observations, table.pareto, front=front, divisions=10, nearest=3, limits=limits
    )


@pytest.mark.parametrize("front", ["posterior", "observed"])
def test_selection_is_from_the_front_of_all_searches(front):
    chosen = choose(front)
    rows = frames().pareto.query("search == 'all' and front == @front").set_index("candidate")
    assert chosen["candidate"].is_unique
    assert set(chosen["candidate"]) <= set(rows.index)
    shown = ["accuracy", "tokens", *NAMES, "reasoning_posterior_mean", "efficiency_posterior_sd", "variables"]
    assert chosen[shown].to_numpy().tolist() == rows.loc[chosen["candidate"], shown].to_numpy().tolist()
    assert chosen["search"].tolist() == rows.loc[chosen["candidate"], "found_by"].tolist()
    assert sorted(chosen["export"]) == list(range(1, len(chosen) + 1))
    # what one cares for alone is the best of the front in it, by what the front is made of
    column = "efficiency_posterior_mean" if front == "posterior" else "efficiency"
    frugal = chosen[chosen["reason"].str.contains(r"\b0-1\b")]
    assert rows.loc[frugal["candidate"].item(), column] >= rows[column].nlargest(3).min()


def test_selection_keeps_to_limits_on_any_metric():
    table = frames().observations
    free = choose()
    middle = free["tokens"].median()
    kept = choose(tokens={"max": middle})
    assert len(kept)
    assert (kept["tokens"] <= middle).all()
    seconds = table.set_index("candidate")["seconds"]
    slowest = seconds[free["candidate"]].median()
    kept = choose(seconds={"min": slowest})
    assert (seconds[kept["candidate"]] >= slowest).all()
    with pytest.warns(UserWarning, match="no candidate"):
        empty = choose(accuracy={"min": 1.5})
    assert list(empty.columns) == list(free.columns)
    assert empty.empty
    with pytest.raises(BadInput, match="'token' was not recorded; is it 'tokens'"):
        choose(token={"max": 1.0})


def test_hypervolume_rows_to_compare_with():
    table = frames().hypervolume.set_index("search")
    # (1, 0) and (0, 1) above (-0.1, -0.1): 1.1 x 0.1 twice, less the corner of 0.1 x 0.1 that both cover
    end_points = table.loc["end points only"]
    assert end_points["hypervolume"] == pytest.approx(0.21)
    assert (end_points["evaluations"], end_points["front_size"]) == (0, 2)
    grid = table.loc["best single-weight grid"]
    numbers = ["evaluations", "hypervolume", "front_size", "best_reasoning", "best_efficiency"]
    assert grid[numbers].tolist() == table.loc["single"].iloc[-1][numbers].tolist()
    assert grid["evaluations"] == 9
    assert (table["reference_point"] == "(-0.1, -0.1)").all()


def test_the_best_of_two_grids_is_compared_with():
    table = frames().observations
    few = table[table["search"] == "single"].iloc[:2].assign(search="few")
    course = fronts.hypervolume(pd.concat([few, table], ignore_index=True), REFERENCE_POINT).set_index(
        "search"
    )
    assert course.loc["few", "hypervolume"].iloc[-1] < course.loc["single", "hypervolume"].iloc[-1]
    assert course.loc["best single-weight grid", "evaluations"] == 9


def test_without_a_grid_there_is_no_row_of_it():
    table = frames().observations.query("search != 'single'")
    assert set(fronts.hypervolume(table, REFERENCE_POINT)["search"]) == {"blocks", "end points only"}


@settings(max_examples=20, deadline=None)
@given(
    arrays(
        float, st.tuples(st.integers(1, 12), st.just(2)), elements=st.integers(-3, 15).map(lambda n: n / 10)
    ),
    st.data(),
)
def test_hypervolume_of_each_prefix_against_the_whole_set(Y, data):
    failed = data.draw(arrays(bool, len(Y)))
    ends = np.array([[1.0, 0.0], [0.0, 1.0]])
    rows = pd.DataFrame(np.vstack([Y, ends]), columns=NAMES)
    rows["reasoning_stderr"] = rows["efficiency_stderr"] = 0.0
    rows["search"] = ["s"] * len(Y) + ["reference"] * 2
    rows["origin"] = ["sobol"] * len(Y) + ["end point: a", "end point: b"]
    rows["candidate"] = [f"c{n}" for n in range(len(rows))]
    rows["iteration"] = pd.array([0] * len(Y) + [None, None], dtype="Int64")
    rows["variables"] = json.dumps({"a": 0.5, "b": 0.5})
    rows["seconds"] = 1800.0
    rows["status"] = np.where(np.append(failed, [False, False]), "failed", "ok")
    rows.loc[rows["status"] == "failed", NAMES] = np.nan
    course = fronts.hypervolume(rows, REFERENCE_POINT).query("search == 's'")
    for count in range(1, len(Y) + 1):
        seen = np.vstack([ends, Y[:count][~failed[:count]]])
        row = course.iloc[count - 1]
        assert row["hypervolume"] == pytest.approx(hypervolume(seen, REFERENCE_POINT))
        assert row["front_size"] == sum(naive_front(seen))
        merged = seen[len(ends) :].max(axis=0, initial=-np.inf)
        best = row[["best_reasoning", "best_efficiency"]].astype(float).fillna(-np.inf)
        assert best.tolist() == merged.tolist()
    assert all(b >= a for a, b in pairwise(course["hypervolume"]))
    assert course["hours"].tolist() == [0.5 * count for count in course["evaluations"]]


def test_equal_runs_give_equal_bytes_but_for_what_is_measured(tmp_path):
    written = []
    for name in ("a", "b"):
        run_dir = fake_run(tmp_path / name, iterations=1)
        if name == "b":
            for path in run_dir.glob("candidates/*/scores.json"):
                scores = read_record(path, "scores") | {"seconds": 99.0, "peak_memory_gb": 2.5}
                write_record(path, "scores", scores)
        run = tables.read_run(run_dir, VARIABLES)
        table = tables.observations(run)
        tables.write(run_dir / "tables/observations", table, parquet=True)
        course = fronts.hypervolume(table, REFERENCE_POINT).drop(columns="hours")
        tables.write(run_dir / "tables/hypervolume", course)
        same = table.drop(columns=tables.MEASURED)
        tables.write(run_dir / "tables/same", same)
        written.append(run_dir / "tables")
    a, b = written
    for name in ("hypervolume.csv", "same.csv"):
        assert (a / name).read_bytes() == (b / name).read_bytes()
    assert (a / "observations.csv").read_bytes() != (b / "observations.csv").read_bytes()
    assert b"\r" not in (a / "observations.csv").read_bytes()
    assert {path.name for path in a.iterdir()} == {
        *["observations.csv", "observations.parquet", "hypervolume.csv", "same.csv"]
    }


def test_csv_and_parquet_come_back(tmp_path):
    table = frames().observations.iloc[[0, 1, -1]].reset_index(drop=True)
    table["candidate"] = ["001234567890", "123456789012", "12345678e300"]  # they look like numbers
    tables.write(tmp_path / "tables/observations", table, parquet=True)
    again = tables.read(tmp_path, "observations")
    assert again["candidate"].tolist() == table["candidate"].tolist()
    assert again["iteration"].dtype == "Int64"
    text = ["failure", "reason", "warning", "variables"]
    assert again[text].equals(table[text].astype("str"))
    numbers = table.select_dtypes("float").columns
    np.testing.assert_allclose(again[numbers], table[numbers], rtol=5e-6)
    assert "0.333333," in pd.DataFrame({"x": [1 / 3], "y": [0]}).pipe(csv_text, tmp_path)
    tables.write(tmp_path / "tables/selection", choose())
    chosen = tables.read(tmp_path, "selection")
    text = ["name", "candidate", "search", "preference", "reason"]
    assert chosen[text].to_numpy().tolist() == choose()[text].to_numpy().tolist()
    whole = pd.read_parquet(tmp_path / "tables/observations.parquet")
    assert whole[numbers].equals(table[numbers])


def csv_text(frame: pd.DataFrame, folder: Path) -> str:
    tables.write(folder / "small", frame)
    return (folder / "small.csv").read_text()


def test_reading_a_table_that_is_not_there(tmp_path):
    with pytest.raises(BadInput, match=r"tables/pareto.csv: no such table.*run snakemake first"):
        tables.read(tmp_path, "pareto")


@pytest.mark.parametrize("name", ["observations", "pareto", "hypervolume", "comparison", "selection"])
def test_every_column_is_explained(name):
    text = (Path(__file__).parents[2] / "results/README.md").read_text()
    section = text.split(f"### {name}.csv")[1].split("\n## ")[0].split("\n### ")[0]
    explained = "".join(line.split("|")[1] for line in section.splitlines() if line.startswith("|"))
    columns = getattr(frames(), name).columns
    general = {"tiny_gpqa.": "`<b>`.", "tiny_aime.": "`<b>`.", "reasoning": "`<o>`", "efficiency": "`<o>`"}
    for column in columns:
        for special, written in general.items():
            column = column.replace(special, written)
        shared = "`<b>`.*" if column.startswith("`<b>`") else "`<o>`*"
        assert column in explained or shared in explained, column


# Methods under which a source is not in the space, and the searches side by side

TIES = {**SETTINGS["single"], "method": "ties", "density": {"min": 0.2, "max": 0.6}, "lambda": 1.0}
POINTS = [[0.1, 0.0], [0.5, 0.5], [0.9, 1.0], [0.7, 0.25]]


@pytest.fixture(scope="module")
def with_ties(tmp_path_factory):
    """The fake run with a search "ties", of a weight for the whole model and a density beside it."""
    run_dir = fake_run(tmp_path_factory.mktemp("ties"), iterations=0)
    found = variables([{"name": "model", "groups": GROUPS}], SOURCES, TIES)
    write_json(run_dir / "search/ties/variables.json", {"variables": found})
    proposal = {
        "search": "ties",
        "iteration": 0,
        "stop": None,
        "candidates": [add_candidate(run_dir, np.full(8, x + 0.01)) for x, _ in POINTS],
        "variables": POINTS,
        "origin": ["sobol"] * 4,
    }
    write_record(run_dir / "search/ties/proposals/t000.json", "proposal", proposal)
    run = tables.read_run(run_dir, {**VARIABLES, "ties": found})
    observations = tables.observations(run)
    return run, observations, {**SETTINGS, "ties": TIES}


def test_searched_parameters_are_shown_as_they_are(with_ties):
    _, observations, _ = with_ties
    own = observations[observations["search"] == "ties"]
    assert json.loads(own["variables"].iloc[1]) == {"model": 0.5, "model: density": 0.4}
    assert tables.single_weight_searches(observations) == ["single", "ties"]
    assert tables.shown_searches(observations) == ["blocks"]


def test_a_source_outside_of_the_space_counts_as_measured(with_ties):
    run, observations, of_searches = with_ties
    ends = tables.end_points(observations)["candidate"]
    means = ["reasoning_posterior_mean", "efficiency_posterior_mean"]

    def members(base: int | None) -> pd.DataFrame:
        pareto = fronts.pareto(run, observations, of_searches, REFERENCE_POINT, base_source=base)
        rows = pareto[(pareto["search"] == "ties") & (pareto["front"] == "posterior")]
        return rows.set_index("candidate")

    outside = members(None)
    assert set(ends) <= set(outside.index)
    for name in ends:
        row = outside.loc[name]
        assert row["variables"] == "{}"
        assert row[means].tolist() == row[NAMES].tolist()
        assert row["reasoning_posterior_sd"] == row["reasoning_stderr"]
    # A base that is the last source: all weight on it is that source.
    last = members(1)
    assert last.loc[ends["thinking"], "variables"] == "{}"
    assert json.loads(last.loc[ends["instruct"], "variables"]) == {"model": 0.0, "model: density": 0.4}


def test_what_the_surrogate_sees(with_ties, monkeypatch):
    run, observations, of_searches = with_ties
    seen = []

    def posterior_front(X, Y, variance, stderr, settings, reference, **_):
        seen.append(X)
        return Y, stderr, non_dominated(Y)

    monkeypatch.setattr("bambo.search.surrogate.posterior_front", posterior_front)
    fronts.pareto(run, observations, of_searches, REFERENCE_POINT)
    np.testing.assert_allclose(seen[-1][:4], POINTS, atol=1e-6)
    assert np.isnan(seen[-1][4:]).all()
    assert len(seen[-1]) == 6


def test_comparison_has_the_merges_of_every_observed_front(with_ties):
    run, observations, of_searches = with_ties
    pareto = fronts.pareto(run, observations, of_searches, REFERENCE_POINT)
    course = fronts.hypervolume(observations, REFERENCE_POINT)
    table = fronts.comparison(observations, pareto, course, of_searches, {"della": "no base is set"})
    assert table["search"].unique().tolist() == ["blocks", "single", "ties", "della"]
    ends = tables.end_points(observations)["candidate"]
    merges = pareto[(pareto["front"] == "observed") & ~pareto["candidate"].isin(ends)]
    for search, own in table.groupby("search"):
        if search == "della":
            assert own[["method", "candidate", "variables"]].to_numpy().tolist() == [["", "", ""]]
            assert own["reason"].tolist() == ["left out: no base is set"]
            assert not own["union_front"].any()
            continue
        front = merges[merges["search"] == search]
        assert own["candidate"].tolist() == front["candidate"].tolist()
        union = merges.loc[merges["search"] == "all", "candidate"]
        assert own["union_front"].tolist() == front["candidate"].isin(union).tolist()
        assert set(own["method"]) == {of_searches[search]["method"]}
        last = course[course["search"] == search].iloc[-1]
        assert set(own["hypervolume"]) == {last["hypervolume"]}
        assert set(own["evaluations"]) == {last["evaluations"]}
        values = observations.drop_duplicates("candidate").set_index("candidate").loc[own["candidate"]]
        assert own["tiny_aime.tokens"].tolist() == values["tiny_aime.tokens"].tolist()


def test_a_search_without_a_merge_on_its_front_has_a_row(with_ties):
    run, observations, of_searches = with_ties
    worse = observations.copy()
    worse.loc[worse["search"] == "single", NAMES] = -0.5
    pareto = fronts.pareto(run, observations, of_searches, REFERENCE_POINT)
    pareto = pareto[pareto["search"] != "single"]
    course = fronts.hypervolume(worse, REFERENCE_POINT)
    [row] = (
        fronts.comparison(worse, pareto, course, of_searches, {})
        .query("search == 'single'")
        .to_dict("records")
    )
    assert (row["method"], row["candidate"], row["evaluations"]) == ("linear", "", 9)
    assert row["reason"] == "no merge on its observed front: the end points are better"
    assert row["hypervolume"] == pytest.approx(0.21)


def test_reference_rows_of_three_sources(with_ties):
    run, _, _ = with_ties
    three = replace(run, end_points={**run.end_points, "third": run.own_files["thinking"]})
    rows = tables.observations(three).query("search == 'reference'")
    shown = [json.loads(text) for text in rows["variables"]][:3]
    names = ["model: thinking", "model: instruct (of the rest)"]
    assert [[own[name] for name in names] for own in shown] == [[1, 0], [0, 1], [0, 0]]
