"""Models measured again: which ones, what they are asked, and what is made of it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from bambo.config import load
from bambo.confirm import CANDIDATES, HELD_OUT, REPEATED, check_confirm, confirm_ids, write_confirm
from bambo.errors import BadInput
from bambo.files import read_json, write_json
from bambo.pareto import hypervolume
from bambo.recipe import read_recipe
from bambo.report import confirmed, fronts, tables
from demo_config import DRAWN
from fake_run import REFERENCE_POINT, frames
from simulated_run import SimulatedRun, absolute

QUICK = {"n_initial": 8, "iterations": 1, "batch_size": 2, "restarts": 2, "raw_samples": 16, "mc_samples": 16}


class Confirmed:
    """A simulated search of few evaluations, whose front is measured again."""

    def __init__(self, **changes: Any) -> None:
        config = absolute(searches={"blocks": QUICK}, **changes)
        config["evaluation"]["limit"] = 60
        self.made = SimulatedRun(config)
        self.made.search("blocks")
        self.config, self.folder = self.made.config, self.made.folder
        variables = read_json(self.folder / "search/blocks/variables.json")["variables"]
        run = tables.read_run(self.folder, {"blocks": variables})
        settings = {"blocks": load(config).searches["blocks"].model_dump(by_alias=True)}
        self.pareto = fronts.pareto(run, tables.observations(run), settings, REFERENCE_POINT)
        ends = read_json(self.folder / "endpoints/candidates.json")["end_points"]
        self.members = confirmed.chosen(self.pareto, REFERENCE_POINT, list(ends.values()), 3)
        self.ids = write_confirm(self.made.run, self.config, self.members)
        write_json(self.folder / CANDIDATES, self.ids)
        for kind in self.ids.values():
            for part in kind.values():
                for id in part.values():
                    self.made.score(id)

    def evaluation(self, id: str) -> dict[str, Any]:
        return read_recipe(self.folder / "candidates" / id / "recipe.json")["evaluation"]

    def fresh(self, kind: str) -> confirmed.Fresh:
        objectives = {name: each.model_dump() for name, each in self.config.objectives.items()}
        return confirmed.read_fresh(self.folder, kind, self.ids[kind], objectives)


@pytest.fixture
def done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Confirmed:
    monkeypatch.chdir(tmp_path)
    return Confirmed()


def test_the_same_merges_are_asked_anew(done: Confirmed) -> None:
    assert set(done.ids) == {REPEATED, HELD_OUT}
    for kind, ids in done.ids.items():
        assert list(ids["members"]) == done.members
        for old, new in ids["members"].items():
            before, after = (
                read_recipe(done.folder / "candidates" / id / "recipe.json") for id in (old, new)
            )
            assert old != new
            assert after["weights"] == before["weights"]
            assert after["evaluation"]["seed"] == before["evaluation"]["seed"] + 1
            for name, task in after["evaluation"]["tasks"].items():
                assert task["repeats"] == 2
                same = task["data_hash"] == before["evaluation"]["tasks"][name]["data_hash"]
                assert same == (kind == REPEATED)
                assert task.get("limit", after["evaluation"]["limit"]) == (60 if same else None)


def test_end_points_are_asked_anew_only_where_the_questions_are_others(done: Confirmed) -> None:
    ends = read_json(done.folder / "endpoints/candidates.json")["end_points"]
    assert done.ids[REPEATED]["end_points"] == ends
    assert not {*done.ids[HELD_OUT]["end_points"].values()} & {*ends.values()}
    members = {id for kind in done.ids.values() for id in kind["members"].values()}
    assert confirm_ids(done.folder) == members | {*done.ids[HELD_OUT]["end_points"].values()}
    assert confirm_ids(Path("results/none")) == set()


def test_tables_of_what_was_found(done: Confirmed) -> None:
    names = ["reasoning", "efficiency"]
    for kind in done.ids:
        fresh = done.fresh(kind)
        table = confirmed.models(fresh, done.pareto, names)
        assert table["candidate"].tolist()[:-2] == done.members
        assert table["found_by"].tolist() == ["blocks"] * 3 + ["end points"] * 2
        own = done.made.run.scores(table["measured_as"][0])["benchmarks"]
        assert table["accuracy"][0] == pytest.approx(np.mean([part["accuracy"] for part in own.values()]))
        for name in ("accuracy", "tokens", *names):
            assert (table[f"{name}_low"] <= table[name] + 1e-9).all()
            assert (table[name] <= table[f"{name}_high"] + 1e-9).all()
        thinking = table.iloc[-2][["reasoning", "reasoning_low", "reasoning_high", "efficiency"]]
        assert thinking.tolist() == pytest.approx([1, 1, 1, 0])
        promises = confirmed.optimism(fresh, table, names, REFERENCE_POINT).set_index(
            ["measure", "judged_by"]
        )
        observed = promises.loc["reasoning", "observed"]
        assert observed["promised"] == pytest.approx(table["reasoning_observed"][:3].mean())
        assert observed["optimism"] == pytest.approx(
            (table["reasoning_observed"] - table["reasoning"])[:3].mean()
        )
        volume = promises.loc["hypervolume", "posterior"]
        assert volume["found"] == pytest.approx(hypervolume(table[names], REFERENCE_POINT))
        assert (promises["optimism_low"] < promises["optimism"]).all()


def test_what_it_took_belongs_to_the_search(done: Confirmed) -> None:
    names = ["reasoning", "efficiency"]
    models = pd.concat([confirmed.models(done.fresh(kind), done.pareto, names) for kind in done.ids])
    # 3 members twice; end points only on held-out questions, since they answered the others before.
    assert confirmed.spent(models)[0] == confirmed.spent(models, "blocks")[0] == 8
    assert confirmed.spent(models, "other")[0] == 2
    own = [done.made.run.scores(id)["benchmarks"] for id in confirm_ids(done.folder)]
    tokens = sum(
        each["tokens"] * each["questions"] * each["repeats"] for parts in own for each in parts.values()
    )
    assert confirmed.spent(models)[1] == pytest.approx(tokens, abs=len(own))


def test_same_questions_are_compared_in_pairs(done: Confirmed) -> None:
    """Of answers to the same questions only the luck of the draw differs, so that optimism is known better."""
    widths = {}
    for kind in done.ids:
        fresh = done.fresh(kind)
        widths[kind] = (fresh.searched_draws - fresh.draws)[:, :3].mean(axis=1).std(axis=0)
    assert widths[REPEATED][0] < widths[HELD_OUT][0]
    assert widths[REPEATED][1] < 0.8 * widths[HELD_OUT][1]


def test_failed_members_are_left_out(done: Confirmed) -> None:
    done.made.fail(done.ids[REPEATED]["members"][done.members[1]])
    fresh = done.fresh(REPEATED)
    assert fresh.candidates[:-2] == [done.members[0], done.members[2]]


def test_figure_says_that_scores_are_simulated(done: Confirmed) -> None:
    names = ["reasoning", "efficiency"]
    models = [confirmed.models(done.fresh(kind), done.pareto, names) for kind in done.ids]
    figure = confirmed.figure(pd.concat(models), names, simulated=True)
    assert "SIMULATED" in figure._suptitle.get_text()
    assert len(figure.axes) == 2


def test_stages_are_not_of_held_out_questions(done: Confirmed) -> None:
    run = replace(done.made.run, evaluation={**done.made.run.evaluation, "first_share": 0.5})
    ids = write_confirm(run, done.config, done.members)
    again, held_out = (
        done.evaluation(ids[kind]["members"][done.members[0]]) for kind in (REPEATED, HELD_OUT)
    )
    assert again["first_share"] == 0.5  # so that questions have the places that they have in the search
    assert "first_share" not in held_out


def test_members_make_up_the_front() -> None:
    tables_ = frames()
    ends = tables.end_points(tables_.observations)["candidate"].tolist()
    rows = tables_.pareto[(tables_.pareto["search"] == "all") & (tables_.pareto["front"] == "posterior")]
    some = confirmed.chosen(tables_.pareto, REFERENCE_POINT, ends, 3)
    assert len(some) == 3
    assert not {*some} & {*ends}
    means = [f"{name}_posterior_mean" for name in ("reasoning", "efficiency")]
    kept, first = (
        hypervolume(own[means].to_numpy(), REFERENCE_POINT)
        for own in (rows[rows["candidate"].isin(some)], rows[~rows["candidate"].isin(ends)].iloc[:3])
    )
    assert kept >= first
    nothing = tables_.pareto[tables_.pareto["candidate"].isin(ends)]
    with pytest.raises(
        BadInput, match="confirm: the front by posterior mean is that of the end points alone"
    ):
        confirmed.chosen(nothing, REFERENCE_POINT, ends, 3)


def check(**changes: Any) -> None:
    check_confirm(load(absolute(**{"evaluation__engine": "hf", **changes})))


def test_needs_something_new() -> None:
    check()
    check(confirm={}, evaluation__sampling=DRAWN)
    check(confirm={}, evaluation__engine="simulated")
    with pytest.raises(BadInput, match=r"confirm\.data\.tiny_gpqa: missing, expected held-out questions"):
        check(confirm={})
    data = absolute()["confirm"]["data"]
    with pytest.raises(BadInput, match=r"confirm\.data\.tiny_aime: missing"):
        check(confirm={"data": {"tiny_gpqa": data["tiny_gpqa"]}})
    with pytest.raises(BadInput, match=r"confirm\.data\.tiny_gpqa: found no /nowhere\.csv"):
        check(confirm={"data": data | {"tiny_gpqa": "/nowhere.csv"}})
    with pytest.raises(BadInput, match=r"confirm\.data\.tiny: found no such benchmark"):
        check(confirm={"data": {"tiny": "x.csv"}})
    with pytest.raises(BadInput, match="column"):
        check(confirm={"data": data | {"tiny_gpqa": data["tiny_aime"]}})


def test_held_out_questions_are_not_the_searchs(tmp_path: Path) -> None:
    given = absolute(evaluation__engine="hf")
    asked = Path(given["evaluation"]["tasks"]["tiny_aime"]["data"]).read_text().splitlines()
    fresh = Path(given["confirm"]["data"]["tiny_aime"]).read_text().splitlines()
    mixed = tmp_path / "mixed.jsonl"
    mixed.write_text(
        "\n".join([*fresh[:2], asked[5].replace('-0005"', '-9999"').replace("Start", "start "), fresh[3]])
    )
    with pytest.raises(
        BadInput, match=r"confirm\.data\.tiny_aime: row 3 of .*mixed.jsonl is a question that the search"
    ):
        check(confirm={"data": given["confirm"]["data"] | {"tiny_aime": str(mixed)}})
