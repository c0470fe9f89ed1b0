import logging

import numpy as np
import pandas as pd
import pico
import pytest
from bambo.checkpoint import open_checkpoint
from bambo.partition import layer_differences
from bambo.space import (
    end_points,
    everywhere,
    expand,
    n_sources,
    natural,
    parts,
    places,
    spread,
    tidied,
    unit,
    variables,
)
from hypothesis import given
from hypothesis import strategies as st

LINEAR = {"method": "linear"}


def frame(embeddings=3.0, layers=(1.0, 1.0, 5.0, 9.0), head=4.0):
    """Two tensors of 10 parameters a group, each with the given norm."""
    norms = {
        "embeddings": embeddings,
        **{f"layers.{i}": value for i, value in enumerate(layers)},
        "head": head,
    }
    rows = [(group, f"{group}.{part}", 10, 2 * l2, l2) for group, l2 in norms.items() for part in "ab"]
    return pd.DataFrame(rows, columns=["group", "tensor", "parameters", "l1", "l2"])


def names(found):
    return [variable["name"] for variable in found]


def test_blocks_between_embeddings_and_head():
    found = parts(frame(), 3)
    assert names(found) == ["embeddings", "layers 0-1", "layer 2", "layer 3", "head"]
    assert found[1]["groups"] == ["layers.0", "layers.1"]
    assert found[1]["parameters"] == 40
    assert found[1]["difference"] == pytest.approx(2.0)
    assert sum(variable["share"] ** 2 for variable in found) == pytest.approx(1)
    assert names(parts(frame(), 3, norm=1)) == names(found)


def test_granularities():
    assert names(parts(frame(), 3, "layer")) == ["embeddings", *(f"layer {i}" for i in range(4)), "head"]
    (whole,) = parts(frame(), 3, "model")
    assert whole["name"] == "model"
    assert whole["groups"] == ["embeddings", "layers.0", "layers.1", "layers.2", "layers.3", "head"]
    assert (whole["parameters"], whole["share"]) == (120, 1)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"head": 1e-3}, ["embeddings", "layers 0-1", "layer 2", "layer 3 + head"]),
        ({"embeddings": 1e-3}, ["embeddings + layers 0-1", "layer 2", "layer 3", "head"]),
        ({"layers": (1e-3, 1e-3, 5, 9)}, ["embeddings + layers 0-1", "layer 2", "layer 3", "head"]),
        (
            {"embeddings": 0, "layers": (1e-3, 1e-3, 5, 9)},
            ["embeddings + layers 0-1 + layer 2", "layer 3", "head"],
        ),
    ],
)
def test_variables_that_hardly_move_are_folded(caplog, changes, expected):
    caplog.set_level(logging.INFO, "bambo.space")
    found = parts(frame(**changes), 3)
    assert names(found) == expected
    groups = [group for variable in found for group in variable["groups"]]
    assert groups == ["embeddings", "layers.0", "layers.1", "layers.2", "layers.3", "head"]
    assert sum(variable["parameters"] for variable in found) == 120
    assert "folded into its neighbour" in caplog.text
    assert "layer 3: 20 parameters, difference norm 12.73" in caplog.text


def test_only_a_warning_where_asked(caplog):
    found = parts(frame(head=1e-3), 3, fold=False)
    assert names(found) == ["embeddings", "layers 0-1", "layer 2", "layer 3", "head"]
    assert "head moves 0.009 % of the difference norm, less than 0.1 %" in caplog.text


def test_what_moves_enough_is_not_warned_about(caplog):
    assert len(parts(frame(head=0.02), 3)) == 5
    assert not caplog.records


@pytest.mark.parametrize("tied", [False, True])
def test_expand_sets_every_group_once(tmp_path, tied):
    checkpoints = [open_checkpoint(path) for path in pico.make_pair(tmp_path, tied=tied).values()]
    found = variables(parts(layer_differences(checkpoints), 6), ["a", "b"], LINEAR)
    assert len(found) == 8  # six blocks, embeddings, head
    x = np.linspace(0, 1, 8)
    weights = expand(x, found, LINEAR).weights
    assert list(weights) == ["embeddings", *(f"layers.{i}" for i in range(12)), "head"]
    for weight, variable in zip(x, found, strict=True):
        assert all(weights[group] == [weight, 1 - weight] for group in variable["groups"])
    with pytest.raises(ValueError, match="argument 2 is longer"):
        expand(x[:-1], found, LINEAR)


# Variables of several sources and of parameters

NAMES = ["a", "b", "c"]
TIES = {"method": "ties", "density": {"min": 0.2, "max": 0.6}, "lambda": 1.0}


def two_parts():
    return [{"name": "embeddings", "groups": ["e"]}, {"name": "layers 0-1", "groups": ["l0", "l1"]}]


def test_a_weight_of_two_sources_is_called_like_its_part():
    found = variables(two_parts(), NAMES[:2], LINEAR)
    assert [(each["name"], each["sets"], each["source"]) for each in found] == [
        ("embeddings", "weight", "a"),
        ("layers 0-1", "weight", "a"),
    ]


def test_more_sources_and_parameters_have_variables_of_their_own():
    found = variables(two_parts(), NAMES, TIES)
    assert names(found)[3:] == ["layers 0-1: a", "layers 0-1: b (of the rest)", "layers 0-1: density"]
    assert [each["sets"] for each in found] == ["weight", "weight", "density"] * 2
    assert (found[2]["min"], found[2]["max"]) == (0.2, 0.6)
    assert places(found) == [0, 1, None] * 2
    assert n_sources(found) == 3


def test_expand_breaks_the_stick():
    found = variables(two_parts(), NAMES, TIES)
    merge = expand([0.5, 0.4, 0.0, 1.0, 0.7, 0.25], found, TIES)
    assert merge.method == "ties"
    assert merge.weights["e"] == pytest.approx([0.5, 0.2, 0.3])
    assert merge.weights["l0"] == merge.weights["l1"] == [1, 0, 0]
    assert merge.parameters == {
        "density": {"e": 0.2, "l0": 0.3, "l1": 0.3},
        "lambda": {"e": 1.0, "l0": 1.0, "l1": 1.0},
    }
    assert natural([0.5, 0.4, 0.0, 1.0, 0.7, 0.25], found) == [0.5, 0.4, 0.2, 1.0, 0.7, 0.3]


def test_natural_values_and_back():
    found = variables(two_parts(), NAMES, TIES)
    X = np.random.default_rng(0).random((20, len(found))).round(6)
    shown = np.array([natural(x, found) for x in X.tolist()])
    np.testing.assert_allclose(unit(shown, found), X, atol=2e-6)


@given(st.integers(2, 5).flatmap(lambda n: st.lists(st.integers(0, 1000), min_size=n, max_size=n)))
def test_fractions_give_the_weights_back(shares):
    if not sum(shares):
        return
    weights = np.array(shares) / sum(shares)
    found = variables(two_parts(), "abcde"[: len(shares)], LINEAR)
    merge = expand(everywhere(weights.tolist(), found), found, LINEAR)
    for own in merge.weights.values():
        np.testing.assert_allclose(own, weights, atol=1e-9)
        assert min(own) >= -1e-12


def test_points_are_uniform_on_the_simplex():
    found = variables(two_parts()[:1], NAMES, LINEAR)
    U = np.random.default_rng(1).random((20000, 2))
    weights = np.array([expand(x, found, LINEAR).weights["e"] for x in spread(U, found).tolist()])
    np.testing.assert_allclose(weights.mean(axis=0), 1 / 3, atol=0.01)
    # Dirichlet(1, 1, 1): each weight is Beta(1, 2), of which (1 - w)^2 is uniform.
    for column in weights.T:
        counts = np.histogram((1 - column) ** 2, bins=5, range=(0, 1))[0]
        np.testing.assert_allclose(counts / 4000, 1, atol=0.06)


def test_points_of_two_sources_stay_where_they_are():
    found = variables(two_parts(), NAMES[:2], TIES)
    U = np.random.default_rng(2).random((50, len(found))).round(6)
    assert (spread(U, found) == U).all()
    assert (tidied(U, found) == U).all()


def test_equal_merges_are_equal_points():
    found = variables(two_parts(), ["a", "b", "c", "d"], TIES)
    X = np.array([[1.0, 0.3, 0.4, 0.5, 0.2, 1.0, 0.9, 0.5], [0.2, 0.3, 0.4, 0.5, 0.2, 0.1, 0.9, 0.5]])
    kept = tidied(X, found)
    assert kept[0].tolist() == [1.0, 0.0, 0.0, 0.5, 0.2, 1.0, 0.0, 0.5]
    assert kept[1].tolist() == X[1].tolist()
    before, after = (expand(x[0], found, TIES) for x in (X, kept))
    assert before == after


@pytest.mark.parametrize(
    ("settings", "base", "inside"),
    [
        (LINEAR, None, {0, 1, 2}),
        ({"method": "task_arithmetic", "lambda": 1.0}, None, {0, 1, 2}),
        ({"method": "task_arithmetic", "lambda": 0.5}, None, set()),
        ({"method": "task_arithmetic", "lambda": 0.5}, 2, {2}),
        (TIES, None, set()),
        (TIES, 2, {2}),
        (TIES, 0, {0}),
    ],
)
def test_end_points_within_the_space(settings, base, inside):
    found = variables(two_parts(), NAMES, settings)
    points = end_points(found, settings, base)
    assert set(points) == inside
    for place, point in points.items():
        assert expand(point, found, settings).only_source == place
    if settings is TIES and base == 0:
        assert points[0] == [1, 0, 0.5] * 2
