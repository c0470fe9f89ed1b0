"""Preferences, limits and names of the models to deploy."""

from math import comb

import numpy as np
import pandas as pd
import pytest
from bambo.errors import BadInput
from bambo.selection import das_dennis, excess, needs, scale, select, spread
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

OBJECTIVES = ["reasoning", "efficiency"]
BENCHMARKS = ["gpqa", "aime"]


def front(*rows: tuple[float, ...]) -> pd.DataFrame:
    """Rows of reasoning, efficiency, accuracy on gpqa and on aime; candidates a, b, c, ..."""
    frame = pd.DataFrame(list(rows), columns=[*OBJECTIVES, "gpqa.accuracy", "aime.accuracy"], dtype=float)
    frame["candidate"] = [chr(ord("a") + i) for i in range(len(frame))]
    frame["tokens"] = 100 - 90 * frame["efficiency"]
    frame["accuracy"] = frame[["gpqa.accuracy", "aime.accuracy"]].mean(axis=1)
    return frame


KNEE = front((0.0, 1.0, 0.2, 0.1), (0.8, 0.7, 0.6, 0.5), (0.9, 0.3, 0.5, 0.6), (1.0, 0.0, 0.7, 0.6))


@pytest.mark.parametrize("m", [2, 3, 4])
@pytest.mark.parametrize("divisions", [1, 3, 10])
def test_das_dennis_is_the_whole_lattice(m: int, divisions: int) -> None:
    vectors = das_dennis(m, divisions)
    assert len(np.unique(vectors, axis=0)) == len(vectors) == comb(divisions + m - 1, m - 1)
    assert (vectors >= 0).all()
    np.testing.assert_allclose(vectors.sum(axis=1), 1)
    np.testing.assert_allclose(vectors * divisions, np.round(vectors * divisions))


def test_scale_puts_nadir_at_0_and_ideal_at_1() -> None:
    Y = np.array([[1.0, 30.0, 5.0], [3.0, 10.0, 5.0], [2.0, 20.0, 5.0]])
    np.testing.assert_allclose(scale(Y), [[0, 1, 1], [1, 0, 1], [0.5, 0.5, 1]])


def test_preferences_choose_by_similarity_then_by_mean() -> None:
    """By hand: with one nearest, each preference gets the most similar; with three, the best mean of them."""
    alone = select(KNEE, OBJECTIVES, [], divisions=2, nearest=1)
    assert dict(zip(alone["preference"], alone["candidate"], strict=True)) == {
        "0-1": "a",
        "0.5-0.5": "b",
        "1-0": "d",
    }
    together = select(KNEE, OBJECTIVES, [], divisions=2, nearest=3)
    assert together["candidate"].tolist() == ["b"]
    assert together["name"].tolist() == ["preference-0.5-0.5"]
    assert together["reason"].tolist()[0].endswith("preference 0-1, 0.5-0.5, 1-0")


def test_the_best_of_each_benchmark_is_added_or_merged() -> None:
    chosen = select(KNEE, OBJECTIVES, BENCHMARKS, divisions=2, nearest=3).set_index("candidate")
    assert chosen["name"].to_dict() == {"b": "preference-0.5-0.5", "d": "best-gpqa", "c": "best-aime"}
    assert chosen.loc["d", "reason"] == "most accurate on gpqa"
    assert chosen.loc["d", "preference"] == ""
    # c and d are equally accurate on aime; c has the better mean objective.
    merged = select(KNEE.iloc[1:2], OBJECTIVES, BENCHMARKS, divisions=2, nearest=3)
    assert merged["candidate"].tolist() == ["b"]
    assert merged["reason"].str.endswith("; most accurate on gpqa, aime").all()


def test_preferences_of_ones_own_name_what_they_choose() -> None:
    plain = select(KNEE, OBJECTIVES, BENCHMARKS, divisions=2, nearest=1).set_index("candidate")
    own = {"chat": [1, 3], "proofs": [1, 0]}
    chosen = select(KNEE, OBJECTIVES, BENCHMARKS, divisions=2, nearest=1, preferences=own)
    named = chosen.set_index("name").loc[list(own)]
    for name, weights in own.items():
        scaled = scale(KNEE[OBJECTIVES].to_numpy(float))
        cosine = scaled @ np.array(weights) / np.linalg.norm(scaled, axis=1).clip(1e-12)
        assert named.loc[name, "candidate"] == KNEE["candidate"].iloc[int(cosine.argmax())]
        assert f"most similar to the preference {name}" in named.loc[name, "reason"]
    # What a preference of the grid chooses, too, keeps that preference.
    both = chosen[chosen["candidate"].isin(plain.index)].set_index("candidate")
    assert both["preference"].to_dict() == plain.loc[both.index, "preference"].to_dict()


def test_what_to_take_for_which_need() -> None:
    needed = needs(KNEE, OBJECTIVES, BENCHMARKS, nearest=1, preferences={"chat": [0, 1]}, tokens=40)
    rows = KNEE.set_index("candidate")
    found = needed.set_index("need")["candidate"]
    assert rows.loc[found["most accurate"], "accuracy"] == rows["accuracy"].max()
    close = rows[rows["accuracy"] >= rows["accuracy"].max() - 0.01]
    assert found["briefest within 1% of the best accuracy"] == close["tokens"].idxmin()
    few = rows[rows["tokens"] <= 40]
    assert found["most accurate with at most 40 tokens"] == few["accuracy"].idxmax()
    assert found["your preference chat"] == KNEE["candidate"].iloc[int(KNEE["efficiency"].argmax())]
    assert {"balanced", "best of gpqa", "best of aime"} <= set(found.index)
    none = needs(KNEE, OBJECTIVES, BENCHMARKS, limits={"tokens": {"max": 0}})
    assert none.empty
    assert "most accurate with at most 0 tokens" not in set(
        needs(KNEE, OBJECTIVES, BENCHMARKS, tokens=0)["need"]
    )


def test_limits_come_first() -> None:
    chosen = select(
        KNEE, OBJECTIVES, BENCHMARKS, limits={"tokens": {"max": 80}, "gpqa.accuracy": {"min": 0.3}}
    )
    assert set(chosen["candidate"]) == {"b", "c"}
    assert KNEE[excess(KNEE, {"tokens": {"min": 37, "max": 73}}) == 0]["candidate"].tolist() == ["b", "c"]
    missing = KNEE.assign(tokens=[np.nan, 1.0, 1.0, 1.0])
    assert missing[excess(missing, {"tokens": {"max": 1e9}}) == 0]["candidate"].tolist() == ["b", "c", "d"]


def test_nobody_within_the_limits_is_a_warning_and_an_empty_table() -> None:
    nearest = KNEE.sort_values("tokens")["candidate"].iloc[0]
    words = rf"no candidate of the front is within the limits; the nearest is {nearest} \(tokens "
    with pytest.warns(UserWarning, match=words):
        chosen = select(KNEE, OBJECTIVES, BENCHMARKS, limits={"tokens": {"max": 1}})
    assert chosen.empty
    assert list(chosen) == ["name", "candidate", "reason", "preference", "export"]


def test_a_limit_on_an_unknown_metric_is_an_error() -> None:
    with pytest.raises(BadInput, match=r"selection\.limits: 'token' was not recorded; is it 'tokens'\?"):
        select(KNEE, OBJECTIVES, BENCHMARKS, limits={"token": {"max": 1}})


@pytest.mark.parametrize(
    "degenerate",
    [
        front((0.3, 0.7, 0.5, 0.5)),
        front((0.3, 0.7, 0.5, 0.5), (0.3, 0.7, 0.5, 0.5)),
        front((0.3, 0.7, 0.5, 0.5), (0.3, 0.7, 0.6, 0.5), (0.9, 0.7, 0.5, 0.5)),
        front((-2.0, -1.0, 0.0, 0.0), (-1.0, -2.0, 0.0, 0.0)),
    ],
)
def test_degenerate_fronts(degenerate: pd.DataFrame) -> None:
    with np.errstate(all="raise"):
        chosen = select(degenerate, OBJECTIVES, BENCHMARKS)
    assert set(chosen["candidate"]) <= set(degenerate["candidate"])
    assert chosen["name"].is_unique
    assert chosen["candidate"].is_unique
    assert sorted(chosen["export"]) == list(range(1, len(chosen) + 1))


def test_one_candidate_answers_every_preference() -> None:
    chosen = select(front((0.3, 0.7, 0.5, 0.5)), OBJECTIVES, BENCHMARKS)
    assert chosen["name"].tolist() == ["preference-0.5-0.5"]


@given(arrays(np.float64, st.tuples(st.integers(1, 9), st.just(4)), elements=st.floats(-1, 2, width=16)))
def test_every_choice_is_named_once_and_file_name_safe(values: np.ndarray) -> None:
    table = front(*map(tuple, values))
    chosen = select(table, OBJECTIVES, BENCHMARKS)
    assert chosen["name"].is_unique
    assert chosen["candidate"].is_unique
    assert chosen["name"].str.fullmatch(r"[A-Za-z0-9._-]+").all()
    assert (chosen["reason"] != "").all()
    for benchmark in BENCHMARKS:
        best = table.set_index("candidate").loc[chosen["candidate"], f"{benchmark}.accuracy"].max()
        assert best == table[f"{benchmark}.accuracy"].max()


def test_exports_are_spread_over_the_front() -> None:
    scaled = np.array([[0.0, 1.0], [0.8, 0.7], [0.9, 0.3], [1.0, 0.0], [0.8, 0.7]])
    assert spread(scaled)[:3] == [1, 0, 3]
    assert sorted(spread(scaled)) == [0, 1, 2, 3, 4]
    chosen = select(KNEE, OBJECTIVES, [], divisions=2, nearest=1).sort_values("export")
    assert chosen["candidate"].tolist() == ["b", "a", "d"]
