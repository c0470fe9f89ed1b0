import logging

import numpy as np
import pandas as pd
import pico
import pytest
from bambo.checkpoint import open_checkpoint
from bambo.partition import layer_differences
from bambo.space import expand, parts, variables

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
