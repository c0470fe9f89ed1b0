"""The bookkeeping of the search benchmark: its clock, what goes on where it was stopped, and its statistics."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import search_page
import search_problems
import search_quality
import search_report
from bambo.pareto import hypervolume
from landscape import REFERENCE, Landscape, blockwise
from search_problems import FUNCTIONS, Merges, problem
from search_quality import cell_of, current, is_done, plan, read_runs
from search_report import difference, reached
from search_runs import Cell, Clock, grid, run

CELL = Cell("sobol", 8, 100, budget=20)
ASYNC = replace(CELL, changes=(("schedule", "async"),))


@pytest.mark.parametrize("count", [2, 9, 48, 88])
def test_grid_has_as_many_equidistant_weights_with_both_ends_first(count: int) -> None:
    weights = grid(count)
    assert weights[:2] == [1, 0]
    np.testing.assert_allclose(sorted(weights), np.linspace(0, 1, count), atol=1e-6)


def test_a_run_is_decided_by_its_cell_and_keeps_to_its_budget() -> None:
    first, again = run(CELL), run(CELL)
    free = {"cpu_per_proposal"}
    assert {key: first[key] for key in first if key not in free} == {
        key: again[key] for key in again if key not in free
    }
    assert [look["n"] for look in first["looks"]] == [16, 20]
    assert all(0 < look["posterior"] < 1.3 for look in first["looks"])
    assert first != run(replace(CELL, seed=101))


def test_a_grid_evaluates_every_weight_once() -> None:
    clock = Clock(problem("landscape", 8, 0), Cell("model-grid", 8, 0, budget=9))
    found = np.array([finished.x for finished in clock.evaluations()])
    assert (found == found[:, :1]).all()
    np.testing.assert_allclose(np.sort(found[:, 0]), np.linspace(0, 1, 9), atol=1e-6)


def told(clock: Clock) -> list[float]:
    """When each evaluation finished, as the search was told."""
    times = []
    for finished in clock.evaluations():
        clock.search.tell(finished.x[None], finished.y[None], finished.told[None])
        times.append(finished.clock)
    return times


def test_a_batch_waits_for_all_of_the_last_one_and_a_free_worker_for_nobody() -> None:
    task = problem("landscape", 8, 100)
    batches, flow = Clock(task, CELL), Clock(task, ASYNC)
    in_batches, flowing = told(batches), told(flow)
    assert len(in_batches) == len(flowing) == CELL.budget
    assert flowing == sorted(flowing)
    ends = [max(in_batches[:8]), *(max(in_batches[:n]) for n in range(12, CELL.budget, 4))]
    for end, start in zip(ends, range(8, CELL.budget, 4), strict=True):
        assert min(in_batches[start : start + 4]) > end
    assert flow.busy / (4 * flowing[-1]) > batches.busy / (4 * max(in_batches))


def test_more_workers_take_less_time() -> None:
    assert run(replace(ASYNC, workers=16))["looks"][-1]["clock"] < run(ASYNC)["looks"][-1]["clock"] / 2


def test_the_landscape_that_is_evaluated_has_the_cells_noise() -> None:
    exact = run(replace(CELL, noise=0.0))["looks"][-1]
    noisy = run(replace(CELL, noise=1.0))["looks"][-1]
    assert exact["claimed"] == pytest.approx(exact["observed"])
    assert noisy["claimed"] > noisy["observed"] + 0.02


def test_what_is_left_saves_tokens_and_what_is_promoted_ends_as_if_asked_at_once() -> None:
    staged = replace(CELL, first_share=0.25, changes=(("leave", 0.9),))
    for cell in (staged, replace(staged, changes=(("leave", 0.9), ("schedule", "async")))):
        task = problem("landscape", 8, 100)
        clock = Clock(task, cell)
        ended = list(clock.evaluations())
        times = [each.clock for each in ended]
        assert len(ended) == cell.budget
        assert cell.changes != staged.changes or max(times[:8]) < min(times[8:])
        whole = [each for each in ended if each.whole]
        assert 5 < len(whole) < len(ended) - 3
        for each in whole:
            np.testing.assert_allclose(each.y, task.observe(each.x[None]).Y[0])
        # The same points: Sobol's do not depend on what was observed.
        full = Clock(task, replace(cell, first_share=None, changes=cell.changes[1:]))
        asked = np.array([each.x for each in full.evaluations()])
        assert {tuple(each.x) for each in ended} == set(map(tuple, asked))
        everything = task.observe(asked).tokens.sum()
        first = sum(task.observe(each.x[None], 0.25).tokens[0] for each in ended if not each.whole)
        assert clock.tokens == pytest.approx(
            first + sum(task.observe(each.x[None]).tokens[0] for each in whole)
        )
        assert clock.tokens < 0.9 * everything


def test_what_is_left_is_dominated_in_truth_more_often_than_not() -> None:
    task = problem("landscape", 8, 100)
    cell = replace(CELL, first_share=0.25, changes=(("leave", 0.9),), budget=40)
    ended = list(Clock(task, cell).evaluations())
    whole = task.true(np.array([each.x for each in ended if each.whole]))
    left = task.true(np.array([each.x for each in ended if not each.whole]))
    dominated = [(whole >= y).all(axis=1).any() for y in left]
    assert np.mean(dominated) > 0.8


def test_end_points_are_asked_all_questions_at_once() -> None:
    task = problem("landscape", 8, 100)
    clock = Clock(task, replace(CELL, first_share=0.25, changes=(("leave", 0.51),), budget=10))
    ended = list(clock.evaluations())
    ends = [each for each in ended if each.x.tolist() in ([0.0] * 8, [1.0] * 8)]
    assert [each.whole for each in ends] == [True, True]
    assert not all(each.whole for each in ended)


# ------------------------------------------------------------------------------------------------- going on


def record(cell: Cell, **others: object) -> dict[str, object]:
    look = {"n": cell.budget, "observed": 0.5, "posterior": 0.6, "claimed": 0.9, "clock": 3600.0}
    costs = {"cpu_per_proposal": 1.0, "utilisation": 0.9}
    fields = json.loads(json.dumps({**vars(cell), "version": cell.version(), "looks": [look], **costs}))
    return {**fields, **others}


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(search_quality, "RUNS", tmp_path / "runs.jsonl")
    monkeypatch.setattr(search_quality, "PUBLISHED", tmp_path / "published.jsonl")
    return tmp_path / "runs.jsonl"


def test_records_come_back_as_their_cells(runs: Path) -> None:
    assert read_runs() == []
    runs.write_text(json.dumps(record(ASYNC)) + "\n" + json.dumps(record(CELL))[:40])
    assert [cell_of(each) for each in read_runs()] == [ASYNC]
    (runs.parent / "published.jsonl").write_text(json.dumps(record(CELL)) + "\n")
    assert [cell_of(each) for each in read_runs()] == [CELL, ASYNC]


def test_rows_of_other_settings_are_stale() -> None:
    other = replace(CELL, changes=(("n_initial", 4),)).version()
    assert other != CELL.version()
    found = current([record(CELL, version=other), record(ASYNC), record(CELL, preset="no-such")])
    assert list(found) == [ASYNC]


def test_what_decides_no_proposal_makes_no_row_stale() -> None:
    same = [replace(CELL, budget=88), replace(CELL, changes=(("evaluations", 9), ("gap_reward", 0.0)))]
    assert {cell.version() for cell in same} == {CELL.version()}


def test_a_longer_run_tells_of_a_shorter_one_but_for_the_grid() -> None:
    short, long = replace(CELL, budget=48), replace(CELL, budget=88)
    assert is_done(short, [long])
    assert not is_done(long, [short])
    assert not is_done(replace(short, seed=1), [long])
    assert not is_done(replace(short, preset="model-grid"), [replace(long, preset="model-grid")])


def test_what_stages_are_compared_with_is_run_to_the_same_budget() -> None:
    staged = search_quality.groups(False)["staged"]
    bases = [cell for cell in staged if cell.first_share is None]
    assert {replace(cell, first_share=None, changes=()) for cell in staged} == {*bases}
    for cell in bases:
        assert not is_done(replace(cell, seed=107), [replace(cell, seed=107, budget=88)])
        assert is_done(cell, [cell])


def test_tuning_and_reporting_have_seeds_of_their_own() -> None:
    tuned = {cell.seed for cell in plan(16, [], [], tune=True)}
    reported = {cell.seed for cell in plan(16, [], [], tune=False)}
    assert tuned == set(range(16))
    assert reported == set(range(100, 116))
    few = list(plan(2, ["sobol"], ["main"], tune=False))
    assert {(cell.preset, cell.seed, cell.dimension) for cell in few} == {
        ("sobol", seed, dimension) for seed in (100, 101) for dimension in (8, 38)
    }


def test_the_first_seed_of_every_search_comes_before_the_second_of_any() -> None:
    cells = list(plan(3, [], ["main"], tune=False))
    assert [cell.seed for cell in cells] == sorted(cell.seed for cell in cells)


def test_work_goes_on_where_it_stopped(runs: Path) -> None:
    cells = [replace(CELL, seed=seed) for seed in (101, 100, 101)]
    runs.write_text(json.dumps(record(CELL)) + "\n" + json.dumps(record(cells[0]))[:40])
    assert search_quality.missing(cells) == cells[:1]
    search_quality.work(cells, 1, until=0.0)
    with open(runs, "a") as file:
        file.write(json.dumps(record(cells[0])) + "\n")
    assert search_quality.missing(cells) == []


# ----------------------------------------------------------------------------------------------- statistics


@pytest.fixture
def unscaled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shares are the hypervolumes themselves: no best one is searched for."""
    monkeypatch.setattr(
        search_report, "best_known", lambda records: dict.fromkeys(map(search_report.scale, records), 1.0)
    )


def test_differences_are_paired_by_seed() -> None:
    gap = difference(pd.Series({1: 0.5, 2: 0.9, 3: 0.1}), pd.Series({1: 0.4, 2: 0.6, 4: 0.0}))
    assert gap.pairs == 2
    assert gap.mean == pytest.approx(0.2)
    # Student's t of one degree of freedom at 97.5 %: tan(.475 pi); sd of (.1, .3) over root 2 is .1.
    assert gap.half == pytest.approx(np.tan(0.475 * np.pi) * 0.1)
    assert str(difference(pd.Series({1: 0.5}), pd.Series({2: 0.5}))) == "-"


def test_evaluations_to_reach_the_papers_value_are_interpolated() -> None:
    rows = [
        {"preset": preset, "seed": 1, "n": n, "posterior": value}
        for preset, values in {
            "bambo": [0.1, 0.2, 0.5],
            "ap-bmm": [0.3, 0.7, 0.8],
            "sobol": [0, 0, 0.1],
        }.items()
        for n, value in zip([8, 16, 24], values, strict=True)
    ]
    space = pd.DataFrame(rows)
    assert reached(space, "ap-bmm", 24) == "12"
    assert reached(space, "sobol", 24) == "> 24"
    assert reached(space, "bambo", 24) == "24"
    assert reached(space, "moead", 24) == "-"


def test_evaluations_to_reach_a_value_are_told_from_looks_at_all_seeds() -> None:
    rows = [
        {"preset": preset, "seed": seed, "n": n, "posterior": value}
        for preset, seed, looks in [
            ("bambo", 1, {24: 0.5}),
            ("bambo", 2, {24: 0.5}),
            ("ap-bmm", 1, {8: 0.6, 16: 0.4, 24: 0.7}),
            ("ap-bmm", 2, {16: 0.4, 24: 0.7}),
            ("ap-bmm", 3, {8: 0.9}),
        ]
        for n, value in looks.items()
    ]
    assert reached(pd.DataFrame(rows), "ap-bmm", 24) == "19"


@pytest.mark.usefixtures("unscaled")
def test_workers_are_compared_on_the_seeds_that_ran_with_both() -> None:
    records = {}
    for seed, workers, value in [(100, 4, 0.6), (101, 4, 0.8), (100, 16, 0.5), (102, 16, 0.9)]:
        cell = Cell("bambo-robust", 8, seed, budget=88, workers=workers)
        look = {"n": 88, "observed": 0.4, "posterior": value, "claimed": 0.9, "clock": 36e3 / workers}
        records[cell] = record(cell, looks=[look])
    assert search_report.workers_table(search_report.frame(records))[2:] == [
        "| bambo-robust | 8 | 4 | 1 | 2.5 | 0.90 | 0.600 |  |",
        "| bambo-robust | 8 | 16 | 1 | 0.6 | 0.90 | 0.500 | -0.100 |",
    ]


@pytest.mark.usefixtures("unscaled")
def test_searches_on_a_function_stand_with_their_differences_by_seed() -> None:
    records = {}
    for preset, seed, value in [("bambo-robust", 100, 0.6), ("sobol", 100, 0.5), ("sobol", 101, 0.9)]:
        cell = Cell(preset, 8, seed, problem="zdt2", noise=0.0)
        look = {"n": 48, "observed": 0.4, "posterior": value, "claimed": 0.9, "clock": 36e3}
        records[cell] = record(cell, looks=[look])
    rows = search_report.frame(records)
    assert search_report.function_tables(rows, 8) == [
        *("| search | zdt2 |", "|---|---|", "| bambo-robust | 0.600 (1) |", "| sobol | 0.700 (2) |"),
        *("", "Less that of `bambo-robust`, paired, 95 % intervals:", ""),
        *("| search | zdt2 |", "|---|---|", "| sobol | -0.100 |"),
    ]
    assert search_report.function_tables(rows, 38) == []


def test_shares_are_of_the_best_known_which_no_run_exceeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_report, "BEST", tmp_path / "best.json")
    cell = replace(CELL, problem="zdt1", noise=0.0)
    best = problem("zdt1", cell.dimension, 100).best()
    low = search_report.frame({cell: record(cell)})
    assert low["posterior"].iloc[0] == pytest.approx(0.6 / best)
    look = {"n": 20, "observed": 2 * best, "posterior": 0.6, "claimed": 0.9, "clock": 0.0}
    high = search_report.frame({cell: record(cell, looks=[look])})
    assert high["observed"].iloc[0] == 1
    assert high["posterior"].iloc[0] == pytest.approx(0.3 / best)


def test_a_part_of_a_finer_grid_is_no_grid_of_that_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_report, "BEST", tmp_path / "best.json")
    cell = Cell("model-grid", 8, 100, budget=88, problem="zdt1")
    looks = [{**record(cell)["looks"][0], "n": n} for n in (40, 48, 88)]  # type: ignore[index]
    assert list(search_report.frame({cell: record(cell, looks=looks)})["n"]) == [40, 88]


@pytest.mark.usefixtures("unscaled")
def test_page_ranks_by_pairs_says_who_is_ahead_and_that_all_is_simulated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_page, "DOCS", tmp_path)
    (tmp_path / "figures").mkdir()
    values = {"layer-wise": 0.6, "ap-bmm": 0.7, "nsga2": 0.8, "sobol": 0.5}
    records = {}
    for seed in range(100, 104):
        for preset, value in values.items():
            cell = Cell(preset, 38, seed)
            look = {
                "n": 48,
                "observed": 0.4,
                "posterior": value + 0.02 * (seed - 100),
                "claimed": 0.9,
                "clock": 3600.0,
            }
            records[cell] = record(cell, looks=[{**look, "n": 32}, look])
    del records[Cell("nsga2", 38, 103)]
    text = search_page.write(records)
    assert (tmp_path / "search-benchmark.md").read_text() == text
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")]
    assert rows[1:5] == ["nsga2", "ap-bmm", "layer-wise", "sobol"]
    assert "The best of ours is `ap-bmm`." in text
    assert "**It does not lead**: ahead of it in the mean are `nsga2` (+0.100 ± 0.000; seeds: 3)." in text
    assert "Not run so far: `model-grid`, `moead`" in text
    titles = [line for line in text.splitlines() if line.startswith("## ")]
    assert all("imulat" in title for title in titles)
    for figure in ("evaluations", "differences"):
        assert (tmp_path / "figures" / f"search-{figure}.svg").stat().st_size > 10_000


@pytest.mark.usefixtures("unscaled")
def test_staged_searches_stand_beside_those_that_ask_all_at_once() -> None:
    records = {}
    for seed in (100, 101):
        whole = Cell("bambo-robust", 8, seed)
        staged = replace(whole, first_share=0.25, changes=(("leave", 0.9),))
        look = {"n": 48, "observed": 0.4, "posterior": 0.6, "claimed": 0.9, "clock": 3600.0}
        records[whole] = record(whole, looks=[look], tokens=1000)
        records[staged] = record(
            staged, looks=[{**look, "posterior": 0.6 - (seed - 99) / 100}], tokens=400, left=20
        )
    rows = search_report.frame(records)
    table = search_report.staged_table(rows)
    assert table[2:] == [
        "| bambo-robust | 8 | 0.25 | 0.25 | 0.9 | 2 | -0.015 ± 0.064 | +0.000 ± 0.000 | 0.40 | 20 | 1.00 |"
    ]
    # The usual tables have the others alone.
    assert len(search_report.chosen(rows)) == 2
    assert search_report.staged_table(rows[rows["first_share"] == 1]) == []


# ------------------------------------------------------------------------------------------------- problems


@pytest.mark.parametrize("name", FUNCTIONS)
def test_optima_of_test_functions_lie_where_the_seed_put_them(name: str) -> None:
    task = problem(name, 5, 3)
    first = np.linspace(0, 1, 201)[:, None]
    X = np.hstack([first, np.tile(task._optimum, (201, 1))])
    best = hypervolume(task.true(X), REFERENCE)
    assert best == pytest.approx(task.best(), rel=0.02)
    assert best <= task.best() + 1e-3
    assert hypervolume(task.true(np.clip(X + np.array([0, 0.3, 0.3, 0, 0]), 0, 1)), REFERENCE) < 0.85 * best
    assert not np.allclose(task._optimum, problem(name, 5, 4)._optimum)


def test_zdt3_is_the_published_one() -> None:
    task = problem("zdt3", 3, 0)
    x = np.array([[0.3, 0.9, 0.2]])
    u = np.abs(x[0, 1:] - task._optimum) / np.maximum(task._optimum, 1 - task._optimum)
    g = 1 + 9 * u.mean()
    f = np.array([0.3, g * (1 - np.sqrt(0.3 / g) - 0.3 / g * np.sin(10 * np.pi * 0.3))])
    # Its front reaches from 0 to .8518 and from -.7734 to 1; in half of the space the second objective is above 3.94.
    expected = 1 - (f - [0, -0.7734]) / [0.8518, (3.94 + 0.7734) / 1.1]
    np.testing.assert_allclose(task.true(x)[0], expected, atol=1e-3)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dimension", [8, 38])
def test_random_points_reach_beyond_the_reference_point_of_test_functions(name: str, dimension: int) -> None:
    task = problem(name, dimension, 5)
    Y = task.true(np.random.default_rng(1).random((1_000, dimension)))
    assert 0.05 < hypervolume(Y[:48], REFERENCE) / task.best() < 0.7
    assert ((Y > -0.1).mean(axis=0) > 0.45).all()
    assert (task.true(np.ones((1, dimension))) <= 1).all()


def test_best_known_front_is_above_what_many_points_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_problems, "DIRECTIONS", 24)
    landscape = Landscape(11)
    task = Merges(landscape, blockwise(landscape, 2).parts)
    many = np.vstack([task.true(np.random.default_rng(0).random((2_000, 4))), task.ends])
    assert hypervolume(many, REFERENCE) < task.best() < 1.05 * hypervolume(many, REFERENCE)
