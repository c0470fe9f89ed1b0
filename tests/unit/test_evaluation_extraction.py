import re

import pytest
from bambo.evaluation.extraction import answer_text, is_correct, last_boxed
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("output", "prompt", "truncated", "expected"),
    [
        ("7", "", False, "7"),
        ("<think>a</think>7", "", False, "7"),
        ("a</think>b</think>7", "<think>", True, "7"),
        ("<think>half \\boxed{7}", "", True, ""),
        ("half \\boxed{7}", "...<think>\n", True, ""),
        ("long without thinking \\boxed{7}", "", True, "long without thinking \\boxed{7}"),
        ("never closed \\boxed{7}", "<think>", False, "never closed \\boxed{7}"),
    ],
)
def test_answer_is_what_follows_the_thinking(
    output: str, prompt: str, truncated: bool, expected: str
) -> None:
    assert answer_text(output, prompt, truncated) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no box", None),
        ("\\boxed{1} then \\boxed{2}", "2"),
        ("\\boxed {3}", "3"),
        ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("\\boxed{1} and \\boxed{cut of", "1"),
        ("\\boxed{\\boxed{4}}", "4"),
    ],
)
def test_last_boxed(text: str, expected: str | None) -> None:
    assert last_boxed(text) == expected


@given(
    st.lists(st.text("ab{}", max_size=6).map(lambda text: re.sub("[{}]", "", text)), min_size=1, max_size=4)
)
def test_last_boxed_of_flat_boxes_is_that_of_a_regular_expression(parts: list[str]) -> None:
    text = " ".join(f"x \\boxed{{{part}}}" for part in parts)
    assert last_boxed(text) == re.findall(r"\\boxed\{([^}]*)\}", text)[-1]


@pytest.mark.parametrize("box", ["C", "(C)", " C ", "\\text{C}", "\\textbf{(C)}", "C. Mitosis", "C)", "$C$"])
def test_letters_that_match(box: str) -> None:
    assert is_correct(f"so \\boxed{{{box}}}", "(C)")
    assert not is_correct(f"so \\boxed{{{box}}}", "(D)")


@pytest.mark.parametrize("box", ["", "c", "Calcium", "the third"])
def test_letters_that_do_not_match(box: str) -> None:
    assert not is_correct(f"\\boxed{{{box}}}", "(C)")


@pytest.mark.parametrize(
    ("box", "target", "correct"),
    [
        ("70", "70", True),
        ("070", "70", True),
        ("7", "007", True),
        ("1,234", "1234", True),
        ("-3", "-3", True),
        ("3", "-3", False),
        ("$12$", "12", True),
        ("0", "000", True),
        ("7.0", "7", False),
        ("x = 7", "7", False),
        ("\\frac{1}{2}", "\\frac{1} {2}", True),
    ],
)
def test_numbers_and_expressions(box: str, target: str, correct: bool) -> None:
    assert is_correct(f"\\boxed{{{box}}}", target) is correct


@pytest.mark.parametrize("text", ["", "The answer is 7", "7", "boxed{7}"])
def test_an_answer_without_box_is_wrong(text: str) -> None:
    assert not is_correct(text, "7")
