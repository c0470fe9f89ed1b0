"""Order statistics, draws by position, and statistics that are gathered once."""

import threading

import numpy as np
import pytest
import torch
from bambo.merging import draws, merge, statistics, thresholds
from bambo.merging.parts import Part
from fine_tunes import recipe_for, write
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

# ---------------------------------------------------------------------------------------------- order statistics


def found(values, ranks, size):
    tensor = torch.from_numpy(values)

    def pieces():
        yield from tensor.split(size)

    return thresholds.largest(pieces, lambda start, stop: tensor[start:stop], len(values), ranks)


VALUES = {
    "normal": lambda rng, n: rng.normal(size=n),
    "few values": lambda rng, n: rng.integers(-3, 4, n) / 8,
    "mostly zero": lambda rng, n: rng.normal(size=n) * (rng.random(n) < 0.1),
    "all equal": lambda rng, n: np.full(n, 0.25),
    # The sample sees one half of it only now and then.
    "sorted": lambda rng, n: np.sort(rng.normal(size=n)),
    "wide": lambda rng, n: np.exp(rng.normal(size=n) * 20),
}


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("small", [True, False])
def test_largest_is_what_sorting_finds(kind, small, monkeypatch):
    monkeypatch.setattr(thresholds, "SMALL", 10**6 if small else 0)
    monkeypatch.setattr(thresholds, "SAMPLE", 2048)
    monkeypatch.setattr(thresholds, "PENDING", 1000)
    n = 20_000
    values = VALUES[kind](np.random.default_rng(0), n).astype(np.float32)
    order = np.sort(np.abs(values))[::-1]
    for ranks in ([1], [n], [200, 4000], [n // 2, 17], [n - 1, 1]):
        assert found(values, ranks, 3000) == [order[rank - 1] for rank in ranks]


def test_largest_where_the_sample_misleads(monkeypatch):
    """All that is large lies where the sample does not look."""
    monkeypatch.setattr(thresholds, "SMALL", 0)
    monkeypatch.setattr(thresholds, "SAMPLE", 2048)
    values = np.full(100_000, 1e-3, np.float32)
    values[50_000:60_000] = np.linspace(1, 2, 10_000)
    assert found(values, [5000, 10_000, 10_001], 4096) == pytest.approx([values[55_000], 1, 1e-3], rel=1e-3)


# -------------------------------------------------------------------------------------------------------- draws


@settings(deadline=None)
@given(st.integers(0, 200), st.integers(0, 60))
def test_draws_depend_on_position_alone(start, count):
    whole, part = np.empty(300, np.float32), np.empty(count, np.float32)
    draws.uniform(7, 0, whole)
    draws.uniform(7, start, part)
    assert np.array_equal(part, whole[start : start + count])


def test_draws_are_uniform_and_differ_by_key():
    drawn = {}
    for arguments in [(0, "aa", "x"), (1, "aa", "x"), (0, "bb", "x"), (0, "aa", "y")]:
        numbers = np.empty(200_000, np.float32)
        draws.uniform(draws.key_of(*arguments), 0, numbers)
        assert abs(numbers.mean() - 0.5) < 0.003
        assert np.allclose(np.histogram(numbers, 20, (0, 1))[0] / len(numbers), 0.05, atol=0.003)
        drawn[arguments] = numbers
    pairs = np.corrcoef(list(drawn.values())) - np.eye(4)
    assert np.abs(pairs).max() < 0.01


# -------------------------------------------------------------------------------------------------------- cache


@pytest.fixture
def counted(monkeypatch):
    """Tensors whose statistics were gathered."""
    names = []
    gather = Part.statistics

    def count(part):
        names.append(part.name)
        return gather(part)

    monkeypatch.setattr(Part, "statistics", count)
    return names


@pytest.mark.parametrize("method", ["ties", "breadcrumbs", "breadcrumbs_ties", "slerp"])
def test_gathered_once_for_all_weights(tmp_path, counted, method):
    paths = write(tmp_path)
    first = recipe_for(paths, method, [0.3, 0.7])
    merge(first, tmp_path / "without")
    direct = load_file(tmp_path / "without" / "model.safetensors")
    counted.clear()
    for weights in ([0.3, 0.7], [0.6, 0.4], [1, 0]):
        merge(recipe_for(paths, method, weights), tmp_path / "out", cache=tmp_path / "cache")
        if weights == [0.3, 0.7]:
            again = load_file(tmp_path / "out" / "model.safetensors")
            assert all(torch.equal(again[name], direct[name]) for name in direct)
    assert len(counted) == len(direct)
    if method != "slerp":
        own = {"density": 0.4, "lambda": 2.0}
        merge(recipe_for(paths, method, [0.3, 0.7], **own), tmp_path / "out", cache=tmp_path / "cache")
        merge(
            recipe_for(paths, method, [0.3, 0.7], **own | {"lambda": 1.0}),
            tmp_path / "out",
            cache=tmp_path / "cache",
        )
        assert len(counted) == 2 * len(direct)
        assert len(list((tmp_path / "cache").iterdir())) == 2


def test_thresholds_of_ties_serve_dare_not_and_other_sources_not(tmp_path):
    paths = write(tmp_path, 3)
    keys = {
        statistics._key(recipe_for(own, method, weights, base, options))
        for own, method, weights, base, options in [
            (paths, "ties", [0.2, 0.3, 0.5], True, None),
            (paths, "ties", [0.2, 0.3, 0.5], False, None),
            ({name: paths[name] for name in ["base", "instruct", "coder"]}, "ties", [0.5, 0.5], True, None),
            (paths, "breadcrumbs", [0.2, 0.3, 0.5], True, None),
            (paths, "della", [0.2, 0.3, 0.5], True, {"rescale": "l1"}),
            (paths, "della", [0.2, 0.3, 0.5], True, {"rescale": "l1", "seed": 1}),
        ]
    }
    assert len(keys) == 6
    assert None not in keys
    for method in ("linear", "task_arithmetic", "dare_ties", "della"):
        recipe = recipe_for(paths, method, [0.2, 0.3, 0.5])
        assert statistics._key(recipe) is None


def test_parameters_of_one_candidate_are_not_kept(tmp_path):
    recipe = recipe_for(write(tmp_path), "ties", [0.3, 0.7])
    recipe["parameters"]["density"]["head"] = 0.9
    merge(recipe, tmp_path / "out", cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_damaged_statistics_are_gathered_again(tmp_path, counted):
    recipe = recipe_for(write(tmp_path), "ties", [0.3, 0.7])
    merge(recipe, tmp_path / "out", cache=tmp_path / "cache")
    expected = (tmp_path / "out" / "model.safetensors").read_bytes()
    (path,) = (tmp_path / "cache").glob("*/statistics.json")
    whole = path.read_text()
    path.write_text(whole.replace("0.", "1.", 1))
    counted.clear()
    merge(recipe, tmp_path / "out", cache=tmp_path / "cache")
    assert counted
    assert path.read_text() == whole
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == expected


def test_several_at_once_gather_once(tmp_path, counted):
    paths = write(tmp_path)
    recipes = [recipe_for(paths, "ties", [w, 1 - w]) for w in (0.2, 0.4, 0.6)]
    workers = [
        threading.Thread(target=merge, args=(recipe, tmp_path / str(i)), kwargs={"cache": tmp_path / "cache"})
        for i, recipe in enumerate(recipes)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(counted) == len(set(counted))
