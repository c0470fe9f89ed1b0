"""MM-MO's third objective: measured on merges of small models, and what a search makes of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bambo.config import load
from bambo.errors import BadInput
from bambo.merging import merge
from bambo.merging import sparsity as module
from bambo.merging.sparsity import sparsity
from bambo.objectives import Evaluation
from bambo.run import Merge, Run
from bambo.search import acquisition, mm_mo, surrogate
from bambo.search.decision import DENSEST, FAILED, LEFT, OBSERVED, SPARSITY, Seen, decide
from bambo.search.presets import PRESETS
from bambo.search.study import Study
from bambo.sources import describe
from demo_config import demo
from pico import make_model, make_pair, run_of
from safetensors.torch import load_file


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("pico")
    pair = make_pair(folder)
    make_model(folder / "base", seed=7)
    return run_of(pair, base=describe(str(folder / "base"), None))


def weights(path: str | Path) -> torch.Tensor:
    own = load_file(Path(path) / "model.safetensors")
    return torch.cat([own[name].double().flatten() for name in sorted(own)])


def dare(run: Run, weight: float, density: float) -> dict[str, Any]:
    everywhere = {
        "density": dict.fromkeys(run.groups, density),
        "lambda": dict.fromkeys(run.groups, 1.0),
    }
    return run.recipe(Merge({group: [weight, 1 - weight] for group in run.groups}, "dare_ties", everywhere))


@pytest.mark.parametrize(("weight", "density"), [(0.3, 0.2), (0.8, 1.0), (1.0, 0.5)])
@pytest.mark.parametrize("with_base", [True, False])
def test_it_is_the_norm_of_the_model_that_is_written(
    run: Run, tmp_path: Path, weight: float, density: float, with_base: bool
) -> None:
    own = run if with_base else run_of({name: Path(each["path"]) for name, each in run.sources.items()})
    recipe = dare(own, weight, density)
    merge(recipe, tmp_path / "model")
    sources = [weights(each["path"]) for each in own.sources.values()]
    base = weights(own.base["path"]) if own.base else sources[-1]
    norms = [float((each - base).abs().sum()) for each in sources]
    expected = float((weights(tmp_path / "model") - base).abs().sum()) / max(norms)
    assert sparsity(recipe, own.base) == pytest.approx(-expected, abs=1e-6)


def test_sources_alone(run: Run) -> None:
    both = [sparsity(run.source_recipe(name), run.base) for name in run.sources]
    assert min(both) == -1
    assert max(both) > -1
    assert sparsity(run.source_recipe("instruct"), None) == 0


def test_a_sample_estimates_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = dare(run, 0.4, 0.5)
    whole = sparsity(recipe, run.base)
    monkeypatch.setattr(module, "PIECE", 32)
    monkeypatch.setattr(module, "PIECES", 4)
    assert sparsity(recipe, run.base) == pytest.approx(whole, rel=0.1)
    assert sparsity(recipe, run.base) != whole


def seen(states: list[str], left: Evaluation | None = None) -> Seen:
    random = np.random.default_rng(3)
    count = states.count(OBSERVED)
    Y, variance = random.random((count, 2)), np.full((count, 2), 1e-3)
    return Seen(
        iteration=1,
        ids=[f"c{i}" for i in range(len(states))],
        points=random.random((len(states), 2)).round(6),
        iterations=[0] * len(states),
        states=states,
        values=Evaluation(Y, np.sqrt(variance), variance),
        left=left,
        sparsity=[-i / 10 for i in range(len(states))],
    )


def given_study(monkeypatch: pytest.MonkeyPatch, view: Seen, **changes: Any) -> Study:
    """What the optimiser is given for a decision."""
    found: list[Study] = []

    def ask(study: Study, q: int, settings: Any, seed: int) -> tuple[np.ndarray, dict[str, Any]]:
        found.append(study)
        return np.full((q, 2), 0.5), {}

    monkeypatch.setattr("bambo.search.decision.ask", ask)
    settings = {**PRESETS["mm-mo"], "n_initial": 4, **changes}
    variables = [{"name": name, "groups": [name]} for name in "ab"]
    decide(view, settings, variables, ["thinking", "instruct"], ["accuracy", "tokens"], [-0.1, -0.1])
    return found[0]


def test_it_is_an_objective_of_the_search_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    states = [OBSERVED, FAILED, LEFT, OBSERVED, OBSERVED]
    left = Evaluation(np.array([[0.1, 0.2]]), np.full((1, 2), 0.1), np.full((1, 2), 0.01))
    study = given_study(monkeypatch, seen(states, left))
    assert study.Y[:, 2].tolist() == [
        0,
        -0.3,
        -0.4,
        -0.2,
    ]  # those that were left come last, as their points do
    assert study.variance[:, 2].tolist() == [0] * 4
    assert study.Y.shape == study.variance.shape == (4, 3)
    assert list(study.names) == ["accuracy", "tokens", SPARSITY]
    assert study.reference.tolist() == [-0.1, -0.1, DENSEST]
    assert given_study(monkeypatch, seen(states, left), sparsity=False).Y.shape == (4, 2)


def test_proposals_go_by_it() -> None:
    """Where the config's objectives do not tell points apart, the sparsest is worth most."""
    random = np.random.default_rng(0)
    X = random.random((10, 1)).round(6)
    Y = np.column_stack([np.full((10, 2), 0.5) + 1e-3 * random.random((10, 2)), -np.abs(X - 0.62)])
    cheap = {"mc_samples": 32, "restarts": 2, "raw_samples": 32}
    settings = {**PRESETS["mm-mo"], "reference": "fixed", "noise": "known", **cheap}
    corner = np.array([-0.1, -0.1, DENSEST])
    model = surrogate.fit(X, Y, 0 * Y, settings)
    points, _ = acquisition.maximise(model, X, Y, 1, settings, 1, corner)
    assert points[0, 0] == pytest.approx(0.62, abs=0.05)
    study = Study(X, Y, 0 * Y, asked=X, pending=X[:0], reference=corner, names=["a", "b", SPARSITY])
    proposed, info = mm_mo.ask(study, 2, settings, 1)
    assert proposed.shape == (2, 1)
    assert SPARSITY in info["surrogate"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": "bambo", "sparsity": True}, "sparsity: found true, of no use with optimiser: bayesian;"),
        (
            {"preset": "mm-mo", "method": "linear"},
            "sparsity: found true with method: linear, whose merges do",
        ),
        (
            {"preset": "mm-mo", "granularity": "layer", "start_from": "coarse"},
            "sparsity: found true with start_from",
        ),
    ],
)
def test_where_it_is_of_no_use(changes: dict[str, Any], message: str) -> None:
    coarse = {"preset": "mm-mo"}
    with pytest.raises(BadInput, match=rf"^searches\.a\.{message}.*set it to false"):
        load(demo(base={"model": "org/base"}, searches={"coarse": coarse, "a": changes}))


def test_without_it_mm_mo_takes_any_method() -> None:
    searches = {"a": {"preset": "mm-mo", "method": "linear", "sparsity": False}}
    assert load(demo(searches=searches)).searches["a"].sparsity is False
