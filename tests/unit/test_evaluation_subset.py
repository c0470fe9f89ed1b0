import random
import re
from collections import Counter
from math import sqrt
from pathlib import Path

import pytest
from bambo.evaluation.subset import stratified
from hub_data import gpqa_rows
from hypothesis import given
from hypothesis import strategies as st

DOMAIN = "High-level domain"


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=40), st.data())
def test_each_value_has_its_share_to_the_nearest_question(values: list[str], data: st.DataObject) -> None:
    rows = [{"id": str(place), "kind": value} for place, value in enumerate(values)]
    size = data.draw(st.integers(1, len(rows)))
    chosen = stratified(rows, "kind", size)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == size
    counts = Counter(values[place] for place in chosen)
    for value, count in Counter(values).items():
        assert abs(counts[value] - count * size / len(rows)) < 1


def test_largest_remainders_are_rounded_up() -> None:
    chosen = stratified(gpqa_rows(12), DOMAIN, 7)  # shares of 3.5, 2.33 and 1.17
    assert Counter(gpqa_rows(12)[place][DOMAIN] for place in chosen) == {
        "Physics": 4,
        "Chemistry": 2,
        "Biology": 1,
    }


@pytest.mark.parametrize("named", [True, False])
def test_the_same_questions_are_drawn_whatever_their_order(named: bool) -> None:
    rows = gpqa_rows(60)
    if not named:
        for row in rows:
            del row["Record ID"]
    first = {rows[place]["Question"] for place in stratified(rows, DOMAIN, 20)}
    random.Random(0).shuffle(rows)
    assert {rows[place]["Question"] for place in stratified(rows, DOMAIN, 20)} == first
    assert first != {row["Question"] for row in gpqa_rows(60)[:20]}


def test_the_documentation_has_the_standard_errors_of_each_size() -> None:
    page = Path("docs/tasks.md").read_text()
    rows = re.findall(r"^\| (\d+) \| (\.\d+) \| (\.\d+) \|", page, re.MULTILINE)
    assert {"30", "198"} <= {size for size, _, _ in rows}
    for size, half, fifth in rows:
        for share, written in ((0.5, half), (0.2, fifth)):
            assert float(written) == pytest.approx(sqrt(share * (1 - share) / int(size)), abs=5e-4)
