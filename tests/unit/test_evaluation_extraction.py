import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from bambo.evaluation.extraction import Cut, answer_text, boxed_match, is_correct, last_boxed
from bambo.evaluation.tasks import _gpqa_options, lm_eval_tasks
from endings import LETTERS, NUMBERS
from hypothesis import given
from hypothesis import strategies as st

OPTIONS = {"Question": "?", "Correct Answer": "Mitosis"} | {
    f"Incorrect Answer {i}": f"w{i}" for i in (1, 2, 3)
}
FILTERS = ["strict-match", "flexible-extract"]


@cache
def stock_task(task: str) -> Any:
    """The task of lm-eval as it is, with one question: right are (C) Mitosis, and 70."""
    from datasets import Dataset
    from lm_eval.api.task import ConfigurableTask

    docs = (OPTIONS | {"Record ID": f"{n}"} for n in range(99))
    row = {"problem": "?", "answer": "70"}
    if task != "aime25":
        row = next(doc for doc in docs if _gpqa_options(doc)["answer"] == "(C)")
    config = lm_eval_tasks("b", {"task": task, "scoring": "stock"}, 1, {"until": []})["b"]
    split = config["test_split"] or config["validation_split"]
    config |= {"custom_dataset": lambda **_: {split: Dataset.from_list([row])}, "training_split": None}
    return ConfigurableTask(config=config | {"fewshot_split": None})


def stock_scores(task: Any, text: str) -> dict[str, float]:
    """What lm-eval's own filters and metrics make of a text, by filter."""
    from lm_eval.api.instance import Instance

    doc = task.eval_docs[0]
    request = Instance("generate_until", doc, (text, {}), 0, task_name="b", doc_id=0, repeats=1)
    request.resps, task._instances = [text], [request]
    task.apply_filters()
    return {
        name: float(task.process_results(doc, [answer])["exact_match"])
        for name, answer in request.filtered_resps.items()
    }


@pytest.mark.parametrize(("text", "right"), LETTERS)
def test_letters_are_read_as_a_person_would(text: str, right: bool) -> None:
    assert is_correct(text, "(C)") is right
    assert is_correct(f"The first step is (A), or D.\n\n{text}", "(C)") is right


@pytest.mark.parametrize(("text", "right"), NUMBERS)
def test_numbers_are_read_as_a_person_would(text: str, right: bool) -> None:
    assert is_correct(text, "70") is right
    assert is_correct(f"Let x = 71 and y = 72.\n\n{text}", "070") is right


def _verdict(right: bool | float) -> str:
    return "right" if right else "wrong"


def _table(kind: str, names: Sequence[str], task: str, endings: list[tuple[str, bool]]) -> str:
    """Markdown of the endings that one of the stock task's filters `names` judges as no person would."""
    lines = [f"| {kind} | a person | {' | '.join(names)} |", f"|---|---|{'---|' * len(names)}"]
    for text, right in endings:
        scores = stock_scores(stock_task(task), text)
        if scores[names[-1]] != right:
            cell = text.replace("\n", "⏎").replace("|", "\\|")
            cells = [f"`{cell}`", _verdict(right), *(_verdict(scores[name]) for name in names)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def tables() -> list[str]:
    return [
        _table("ending, (C) is right", FILTERS, "gpqa_diamond", LETTERS),
        _table("ending, 70 is right", ["none"], "aime25", NUMBERS),
    ]


def test_the_documentation_lists_the_errors_of_the_stock_scorers() -> None:
    page = Path("docs/tasks.md").read_text()
    for table in tables():
        assert len(table.splitlines()) > 12
        assert table in page
    strict = sum(
        stock_scores(stock_task("gpqa_diamond"), text)[FILTERS[0]] != right for text, right in LETTERS
    )
    flexible, aime = (len(table.splitlines()) - 2 for table in tables())
    counts = [f"{strict} of {len(LETTERS)}", f"{flexible} of {len(LETTERS)}", f"{aime} of {len(NUMBERS)}"]
    for count in counts:
        assert count in page


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
    text = answer_text(output, prompt, truncated)
    assert text == expected
    assert isinstance(text, Cut) is truncated


def test_a_cut_answer_counts_by_a_complete_box_alone() -> None:
    assert is_correct(Cut("\\boxed{70} is the"), "70")
    for text in ("The answer is 70", "**70**", "\\boxed{70", "\\boxed{71} or \\boxed{70"):
        assert not is_correct(Cut(text), "70")
    assert is_correct("The answer is 70", "70")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no box", None),
        ("\\boxed{1} then \\boxed{2}", "2"),
        ("\\boxed {3}", "3"),
        ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
        ("\\boxed{1} and \\boxed{cut of", "1"),
        ("\\boxed{\\boxed{4}}", "4"),
        ("\\boxed{1} in \\boxed{}", "1"),
        ("\\boxed{ }", None),
    ],
)
def test_last_boxed(text: str, expected: str | None) -> None:
    assert last_boxed(text) == expected


@given(
    st.lists(st.text("ab{}", max_size=6).map(lambda text: re.sub("[{}]", "", text)), min_size=1, max_size=4)
)
def test_last_boxed_of_flat_boxes_is_that_of_a_regular_expression(parts: list[str]) -> None:
    text = " ".join(f"x \\boxed{{{part}}}" for part in parts)
    found = re.findall(r"\\boxed\{([^}]+)\}", text)
    assert last_boxed(text) == (found[-1] if found else None)


@pytest.mark.parametrize(
    ("text", "target", "right"),
    [
        ("\\boxed{1,234}", "1234", True),
        ("\\boxed{1{,}234}", "1234", True),
        ("\\boxed{1\\,234}", "1234", True),
        ("The answer is 1,234.", "1234", True),
        ("\\boxed{-3}", "-3", True),
        ("\\boxed{−3}", "-3", True),
        ("\\boxed{3}", "-3", False),
        ("\\boxed{0}", "000", True),
        ("\\boxed{\\frac{1}{2}}", "\\frac{1} {2}", True),
        ("The answer is **Paris**.", "Paris", True),
        ("\\boxed{\\text{Paris}}", "Paris", True),
        ("Paris is not it.", "Paris", False),
        ("The answer is A.", "A", True),
        ("The answer is A because B is too small.", "A", True),
        ("A cell divides.", "A", False),
        ("Answer: A cell divides.", "A", False),
        ("the answer is a proton", "A", False),
        ("\\boxed{A proton}", "A", False),
        ("\\boxed{B cell}", "B", False),
    ],
)
def test_other_answers(text: str, target: str, right: bool) -> None:
    assert is_correct(text, target) is right


@given(st.text(), st.sampled_from(["(C)", "70", "Paris"]))
def test_any_text_can_be_read(text: str, target: str) -> None:
    assert is_correct(text, target) in (True, False)


@given(st.text(alphabet="abc CD.()\n*\\"), st.sampled_from("ABCD"))
def test_a_box_wins_over_all_else(text: str, letter: str) -> None:
    for other in "ABCD":
        assert is_correct(f"{text}\\boxed{{{letter}}}", other) is (other == letter)
        assert is_correct(f"\\boxed{{{letter}}}{text}", other) is (other == letter)


def test_one_of_several_references_is_enough() -> None:
    assert boxed_match(["1", "2"], ["\\boxed{2}"]) == 1.0
    assert boxed_match(["1", "2"], ["\\boxed{3}"]) == 0.0
