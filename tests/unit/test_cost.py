"""What a run takes: the counts of its searches, the arithmetic, and where figures come from."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from bambo.cli import main
from bambo.config import load
from bambo.cost import Estimate, Given, Range, Stage, end_points, number, stages
from bambo.errors import BadInput
from bambo.files import write_json
from bambo.report.cost import cost_text
from demo_config import ROOT, demo
from fake_run import fake_run

PAPER_RUN = ROOT / "config/qwen3-4b.yaml"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without results; a run of this checkout is nobody's business."""
    monkeypatch.chdir(tmp_path)


def qwen(**changes: Any) -> dict[str, Any]:
    config = yaml.safe_load(PAPER_RUN.read_text())
    for key, value in changes.items():
        config["evaluation"][key] = value
    for objective in config["objectives"].values():
        del objective["benchmarks"]  # all that there are
    return config


def counts(**changes: Any) -> dict[str, list[int]]:
    return {name: [stage.evaluations for stage in own] for name, own in stages(load(demo(**changes))).items()}


def test_end_points_and_what_is_shared_count_once() -> None:
    # Of 8 the two sources are end points; the grid's .5 is the other search's balance.
    assert counts() == {"blocks": [6, *[4] * 10], "single": [8]}
    only = {"single": {"preset": "model-grid", "weights": [0, 0.25, 0.5, 1]}}
    assert counts(searches=only) == {"single": [2]}


def test_what_is_one_model_counts_once() -> None:
    base = {"model": "resources/models/base"}
    searches = {"a": {"preset": "model-grid"}, "b": {"preset": "baseline", "method": "task_arithmetic"}}
    assert counts(searches=searches) == {"a": [9], "b": [0]}
    searches["b"]["lambda"] = 0.5
    assert counts(searches=searches) == {"a": [9], "b": [9]}
    # Under ties its ends are no end points; without a base, the last source is one under every method.
    ties = {"a": {"method": "dare_ties", "iterations": 0}}
    assert counts(searches=ties, base=base) == {"a": [8]}
    assert counts(searches=ties) == {"a": [7]}
    searched = {"a": {"method": "dare_ties", "density": {"min": 0.2, "max": 0.4}, "iterations": 0}}
    fixed = {"b": {"preset": "model-grid", "method": "dare_ties", "density": 0.3, "weights": [0.5]}}
    assert counts(searches=searched | fixed, base=base) == {"a": [8], "b": [0]}


def test_three_sources() -> None:
    sources = demo()["sources"] | {"base": {"model": "resources/models/base"}}
    grid = {"preset": "model-grid", "weights": [[0.2, 0.3, 0.5], [0, 1, 0]]}
    config = load(demo(sources=sources, searches={"a": {"iterations": 0}, "b": grid}))
    assert [stage.evaluations for own in stages(config).values() for stage in own] == [5, 1]
    assert end_points(config) == 5


def test_a_budget_cuts_the_last_batch() -> None:
    assert counts(searches={"a": {"iterations": 10, "evaluations": 17}}) == {"a": [6, 4, 4, 1]}
    assert counts(searches={"a": {"iterations": 0}}) == {"a": [6]}


def test_jobs_of_several_candidates() -> None:
    config = load(demo(merge={"materialize": False}, evaluation__candidates_per_job=4))
    assert stages(config)["blocks"][:2] == [Stage(6, 2), Stage(4, 1)]


@pytest.mark.parametrize("place", [0, 1])
def test_the_arithmetic_of_the_papers_run(place: int) -> None:
    """By hand, as docs/qwen3-4b.md has it."""
    found = Estimate(load(qwen()))
    tokens = 198 * 1 * (7_706, 10_423)[place] + 30 * 4 * (15_469, 21_845)[place]
    evaluations, units = 86 + 3, 86 + 3 * 4
    each = tokens / 1_500 + 180 + 60
    assert found.evaluations == evaluations
    assert found.all_answers == units * (198 + 30 * 4)
    assert found.tokens[place] == tokens
    assert found.all_output[place] == units * tokens
    assert found.hours[place] == pytest.approx((units * tokens / 1_500 + evaluations * 240) / 3600)
    # The three end points side by side, 6 more in two rounds, then 20 rounds of 4.
    assert found.wall_hours[place] == pytest.approx((4 * tokens / 1_500 + 240 + 22 * each) / 3600)
    assert found.models_at_a_time == 5


def test_fewer_at_a_time_take_longer_but_no_more_gpu_hours() -> None:
    config = load(qwen())
    two, many = Estimate(config, Given(parallel=2)), Estimate(config, Given(parallel=100))
    assert two.hours == many.hours
    each = two.tokens.low / 1_500 + 240
    ends = 4 * two.tokens.low / 1_500 + 240
    assert two.wall_hours.low == pytest.approx((2 * ends + (3 + 20 * 2) * each) / 3600)
    assert many.wall_hours.low == pytest.approx((ends + 21 * each) / 3600)


def test_several_gpus_an_evaluation_are_faster_and_counted() -> None:
    config = qwen()
    config["resources"]["evaluate"]["gpu"] = 2
    one, two = Estimate(load(qwen())), Estimate(load(config))
    saved = one.wall_hours.low - two.wall_hours.low
    assert saved == pytest.approx(26 * one.tokens.low / 1_500 / 2 / 3600)
    assert two.hours.low - one.hours.low == pytest.approx(89 * 240 / 3600)  # starts hold both


def test_several_searches_share_the_places() -> None:
    config = qwen()
    config["searches"]["other"] = {"preset": "bambo", "seed": 1}
    found = Estimate(load(config), Given(parallel=4))
    work = sum(stage.evaluations for own in found.stages.values() for stage in own)
    assert work == 86 + 85  # the balance is shared
    each = found.tokens.low / 1_500 + 240
    assert found.wall_hours.low == pytest.approx(
        (4 * found.tokens.low / 1_500 + 240 + work / 4 * each) / 3600
    )
    assert Estimate(load(config)).parallel == 8


def test_prices_add_up() -> None:
    config = load(qwen(prices={"gpu_hour": 2.0, "input_tokens": 0.1, "output_tokens": 0.4}))
    found = Estimate(config)
    prompts = 98 * (198 * 300 + 120 * 200)
    expected = 2 * found.hours.high + 0.1 * prompts / 1e6 + 0.4 * found.all_output.high / 1e6
    assert found.money is not None
    assert found.money.high == pytest.approx(expected)
    assert number(found.money, 2) in cost_text(config)
    assert Estimate(load(qwen())).money is None


def test_answers_are_no_longer_than_the_limit() -> None:
    found = Estimate(load(qwen(max_tokens=8_000)))
    assert found.output_tokens == {"gpqa": Range(7_706, 8_000), "aime25": Range(8_000, 8_000)}


def test_greedy_end_points_are_asked_once() -> None:
    config = qwen(sampling={"do_sample": False})
    del config["evaluation"]["tasks"]["aime25"]["repeats"]
    assert Estimate(load(config)).all_answers == 89 * 228


def test_local_questions_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found = Estimate(load(demo(run="none", evaluation__limit=None)))
    assert found.questions == {"tiny_gpqa": 150, "tiny_aime": 150}
    # Other questions than the paper's: nothing is assumed of them.
    assert found.output_tokens["tiny_gpqa"] == Range(160, 160)
    assert Estimate(load(demo(run="none", evaluation__limit=9))).questions["tiny_aime"] == 9


def test_unknown_data_sets_are_asked_for() -> None:
    config = qwen(tasks={"mine": {"task": "gsm8k_cot"}})
    with pytest.raises(BadInput, match=r"evaluation\.tasks\.mine: .* give --questions mine=N"):
        Estimate(load(config))
    assert Estimate(load(config), Given(questions={"mine": 10})).questions == {"mine": 10}
    config["evaluation"]["limit"] = 7
    assert Estimate(load(config)).questions == {"mine": 7}
    write_json(Path("results/qwen3-4b/benchmarks/mine.json"), {"questions": 5})
    assert Estimate(load(config)).questions == {"mine": 5}


def test_a_wrong_benchmark_is_named() -> None:
    with pytest.raises(BadInput, match="--output-tokens: found gppa, expected one of gpqa, aime25"):
        Estimate(load(qwen()), Given(output_tokens={"gppa": Range(1, 2)}))


def test_what_the_run_measured_takes_the_place_of_assumptions() -> None:
    run = fake_run(Path("results/made-up"))
    given = demo(run="made-up", sources={name: {"model": f"org/{name}"} for name in ("thinking", "instruct")})
    write_json(run / "sources/instruct.json", {"model": "org/instruct", "parameters": 10**6, "dtype": "BF16"})
    write_json(run / "run.json", {"parallel": 7})
    found = Estimate(load(given))
    assert found.questions == {"tiny_gpqa": 150, "tiny_aime": 150}
    low, high = found.output_tokens["tiny_gpqa"]
    assert 3 < low < 10 < 30 < high < 50
    assert found.start == pytest.approx(1.5)
    assert found.speed != 1_500
    assert found.parallel == 7
    assert found.model_bytes == 2e6
    text = cost_text(load(given))
    assert "CPU hours" in text  # the demo's device is `auto`, and these evaluations found no GPU
    assert re.search(r"tokens a second: .*\n +measured over \d+ evaluations of this run\n", text)
    # What the user says comes first.
    asked = Given(tokens_per_second=10, output_tokens={"tiny_gpqa": Range(1, 2)}, parallel=2, model_gb=3)
    told = Estimate(load(given), asked)
    assert (told.speed, told.parallel, told.model_bytes) == (10, 2, 3e9)
    assert told.output_tokens["tiny_gpqa"] == Range(1, 2)
    assert told.output_tokens["tiny_aime"] == found.output_tokens["tiny_aime"]


def test_a_smoke_run_is_measured_but_said_to_be_slow() -> None:
    run = fake_run(Path("results/made-up"), iterations=0)
    ids = sorted(path.name for path in (run / "candidates").iterdir())
    write_json(run / "smoke/candidates.json", dict(enumerate(ids)))
    (run / "endpoints/candidates.json").unlink()
    given = demo(run="made-up", sources={name: {"model": f"org/{name}"} for name in ("thinking", "instruct")})
    given["evaluation"]["tasks"]["tiny_gpqa"]["data"] = given["evaluation"]["tasks"]["tiny_aime"]["data"] = (
        None
    )
    given["evaluation"]["limit"] = 20
    found = Estimate(load(given))
    assert found.questions == {"tiny_gpqa": 20, "tiny_aime": 20}  # not the smoke run's
    assert not found.at_full_speed
    text = cost_text(load(given))
    assert "measured by the smoke run, few at a time: more are faster" in text
    assert "at most, since the smoke run's few answers were slow" in text
    assert Estimate(load(given), Given(tokens_per_second=1_000)).at_full_speed


def test_simulated_scores_are_no_measurement() -> None:
    fake_run(Path("results/made-up"))
    config = qwen(engine="simulated") | {"run": "made-up"}
    assert Estimate(load(config)).speed == 1_500
    assert "no model is asked" in cost_text(load(config))


def test_the_documented_example_is_what_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs/qwen3-4b.md").read_text()
    command = ["bambo", "cost", str(PAPER_RUN), "--model-gb", "8.04"]
    assert "bambo cost config/qwen3-4b.yaml --model-gb 8.04" in page
    monkeypatch.setattr(sys, "argv", command)
    main()
    assert capsys.readouterr().out.strip() in page


def test_the_documented_figures_of_the_papers_own_settings() -> None:
    page = (ROOT / "docs/qwen3-4b.md").read_text()
    found = Estimate(load(yaml.safe_load((ROOT / "config/qwen3-4b-paper.yaml").read_text())))
    [row] = [line for line in page.splitlines() if line.startswith("| GPU hours")]
    hours = [number(each.hours, 1) for each in (found, Estimate(load(qwen())))]
    assert row == f"| GPU hours | {' | '.join(hours)} |"
    readme = (ROOT / "README.md").read_text()
    for each in (found, Estimate(load(qwen()))):
        assert f" {each.hours.low:.0f}-{each.hours.high:.0f}" in readme


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--output-tokens", "gpqa"], "expected NAME=N or NAME=LOW-HIGH"),
        (["--output-tokens", "gpqa=9-8"], "expected NAME=N or NAME=LOW-HIGH"),
        (["--questions", "gpqa=8-9"], "found gpqa=8-9, expected NAME=N"),
        (["--parallel", "0"], "expected a number above 0"),
        (["--parallel", "1.5"], "expected a whole number"),
        (["--model-gb", "nan"], "expected a number above 0"),
    ],
)
def test_wrong_options(
    options: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bambo", "cost", str(PAPER_RUN), *options])
    with pytest.raises(SystemExit):
        main()
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"), [(None, "no such file, expected a config"), ("a: [", "not valid YAML")]
)
def test_a_wrong_file(text: str | None, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if text is not None:
        Path("my.yaml").write_text(text)
    monkeypatch.setattr(sys, "argv", ["bambo", "cost", "my.yaml"])
    with pytest.raises(SystemExit, match=f"error: my.yaml: {said}"):
        main()
