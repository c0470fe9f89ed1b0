from itertools import combinations, pairwise

import numpy as np
import pico
import pytest
import torch
from bambo.checkpoint import open_checkpoint
from bambo.errors import BadInput
from bambo.partition import STRATEGIES, blocks, layer_differences, layer_means, partition_layers
from hypothesis import given, settings
from hypothesis import strategies as st

values = st.lists(st.floats(0, 1e3, allow_subnormal=False), min_size=1, max_size=8).filter(any)


def cost(differences, partition, variance_weight, balance_weight):
    """Eq. 5 and 6 as they stand."""
    parts = [np.array([differences[i] for i in block]) for block in partition]
    target = sum(differences) / len(partition)
    variance = sum(((part - part.mean()) ** 2).sum() for part in parts)
    return variance_weight * variance + balance_weight * sum((part.sum() - target) ** 2 for part in parts)


def all_partitions(n_layers, n_blocks):
    for inner in combinations(range(1, n_layers), n_blocks - 1):
        edges = [0, *inner, n_layers]
        yield [range(a, b) for a, b in pairwise(edges)]


def sizes(partition):
    return [len(block) for block in partition]


@settings(deadline=None)
@given(values, st.data(), st.sampled_from([(1, 0.005), (1, 0), (0, 1), (2, 0.3)]))
def test_partition_is_the_best_of_all(differences, data, weights):
    n_blocks = data.draw(st.integers(1, len(differences)))
    partition = partition_layers(differences, n_blocks, *weights)
    assert [i for block in partition for i in block] == list(range(len(differences)))
    assert len(partition) == n_blocks
    assert all(len(block) > 0 for block in partition)
    best = min(cost(differences, other, *weights) for other in all_partitions(len(differences), n_blocks))
    assert cost(differences, partition, *weights) <= best + 1e-9 * (1 + sum(differences) ** 2)


def test_variance_finds_the_steps():
    differences = [1.0, 1.1, 1.0, 5.0, 5.1, 9.0]
    assert partition_layers(differences, 3, 1, 0) == [range(0, 3), range(3, 5), range(5, 6)]


def test_variance_far_from_zero():
    differences = 1e8 + np.array([0, 0, 0, 1e-3, 1e-3, 1e-3])
    assert sizes(partition_layers(differences, 2, 1, 0)) == [3, 3]


def test_balance_equalises_the_sums():
    assert sizes(partition_layers([1, 1, 1, 1, 2, 2, 4], 3, 0, 1)) == [4, 2, 1]


def test_weights_trade_variance_for_balance():
    # The variance alone isolates the last layer; the balance puts the cut where the sums are equal.
    differences = [1, 1, 1, 1, 1, 1, 1, 1, 3]
    assert sizes(partition_layers(differences, 2, 1, 0)) == [8, 1]
    assert sizes(partition_layers(differences, 2, 0, 1)) in ([5, 4], [6, 3])
    assert sizes(partition_layers(differences, 2, 1, 0.005)) == [8, 1]
    assert sizes(partition_layers(differences, 2, 1, 100)) in ([5, 4], [6, 3])


def test_defaults_are_the_hybrid_strategy():
    scaled = np.random.default_rng(0).random(20)
    scaled[[3, 7]] = 0, 1  # scaled to [0, 1] already
    assert partition_layers(scaled, 5) == blocks(scaled, 5, "hybrid") == blocks(7 + 0.1 * scaled, 5)
    assert partition_layers(scaled, 5, 1, 0) == blocks(scaled, 5, "variance")
    assert partition_layers(scaled, 5, 0, 1) == blocks(scaled, 5, "balance")


def test_raw_values_give_uniform_blocks():
    # Norms as a pair of fine-tunes has them: a slow rise over a large offset.
    raw = np.linspace(20, 30, 36)
    assert max(sizes(partition_layers(raw, 6))) - min(sizes(partition_layers(raw, 6))) <= 2
    rising = np.concatenate([np.full(30, 20.0), np.linspace(20, 30, 6)])
    assert sizes(blocks(rising, 6, "hybrid"))[0] > 20
    assert max(sizes(partition_layers(rising, 6))) <= 8


def test_simple_strategies():
    differences = np.arange(1.0, 9.0)
    assert sizes(blocks(differences, 3, "uniform")) == [3, 3, 2]
    assert sizes(blocks(differences, 3, "layer")) == [1] * 8
    assert blocks(differences, 3, "model") == [range(8)]
    assert sizes(blocks(np.full(8, 2.5), 4, "hybrid")) == [2, 2, 2, 2]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_identical_layers(strategy):
    with pytest.raises(BadInput, match="identical"):
        blocks(np.zeros(4), 2, strategy)
    with pytest.raises(BadInput, match="identical"):
        partition_layers([0.0, 0.0], 1)


@pytest.mark.parametrize("n_blocks", [0, 5])
def test_more_blocks_than_layers(n_blocks):
    for strategy in ("hybrid", "variance", "balance", "uniform"):
        with pytest.raises(BadInput, match=rf"n_blocks: {n_blocks} blocks, expected 1 to 4"):
            blocks([1.0, 2.0, 3.0, 4.0], n_blocks, strategy)
    with pytest.raises(BadInput, match="expected 1 to 4"):
        partition_layers([1.0, 2.0, 3.0, 4.0], n_blocks)


def test_unknown_strategy():
    with pytest.raises(BadInput, match=r"strategy: best, expected one of hybrid, variance"):
        blocks([1.0, 2.0], 1, "best")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("n_sources", [2, 3])
def test_layer_differences_are_equation_4(tmp_path, dtype, n_sources):
    models = [pico.tensors(layers=11, width=8, seed=seed, dtype=dtype) for seed in range(n_sources)]
    # Longer than a chunk, so that the norm is added up over pieces.
    for seed, model in enumerate(models):
        model["model.layers.10.mlp.weight"] = torch.randn(
            700_001, generator=torch.Generator().manual_seed(seed)
        )
    paths = [pico.write_checkpoint(tmp_path / str(seed), model) for seed, model in enumerate(models)]
    frame = layer_differences([open_checkpoint(path) for path in paths]).set_index("tensor")
    assert list(frame["group"].unique()) == ["embeddings", *(f"layers.{i}" for i in range(11)), "head"]
    expected = {}
    for name in models[0]:
        stack = torch.stack([model[name].double().flatten() for model in models])
        deviation = stack - stack.mean(dim=0)
        expected[name] = [float(deviation.norm(p=p, dim=1).sum()) for p in (1, 2)]
        assert frame.loc[name, ["l1", "l2"]].tolist() == pytest.approx(expected[name], rel=1e-5)
        assert frame.loc[name, "parameters"] == models[0][name].numel()
        distances = [float((theta - stack[-1]).norm() / stack[-1].norm()) for theta in stack[:-1]]
        assert frame.loc[name, "relative"] == pytest.approx(np.mean(distances), rel=1e-5)
    for norm in (1, 2):
        means = layer_means(frame.reset_index(), norm)
        assert means.shape == (11,)
        for i in (1, 10):
            members = [expected[f"model.layers.{i}.{part}.weight"][norm - 1] for part in ("mlp", "norm")]
            assert means[i] == pytest.approx(np.mean(members), rel=1e-5)


def test_nothing_is_relative_to_zero(tmp_path):
    models = [pico.tensors(seed=seed) for seed in range(2)]
    models[1]["model.layers.0.norm.weight"][:] = 0
    paths = [pico.write_checkpoint(tmp_path / str(seed), model) for seed, model in enumerate(models)]
    frame = layer_differences([open_checkpoint(path) for path in paths]).set_index("tensor")
    assert np.isnan(frame.loc["model.layers.0.norm.weight", "relative"])
    assert frame["relative"].isna().sum() == 1


def test_identical_sources(tmp_path):
    paths = [pico.write_checkpoint(tmp_path / name, pico.tensors()) for name in "ab"]
    with pytest.raises(BadInput, match=r"sources .*/a, .*/b: all weights are identical"):
        layer_differences([open_checkpoint(path) for path in paths])
