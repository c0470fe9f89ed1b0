from pathlib import Path
from typing import Any

import pytest
from bambo.errors import BadInput
from bambo.evaluation.engine import EvaluationFailed, Output, Request
from bambo.evaluation.lm import CountingLM
from lm_eval.api.instance import Instance
from pico_chat import GREEDY, SAMPLING, THINKING_TEMPLATE, ScriptedEngine


class Killed(BaseException):
    pass


TASKS = {"a": ("a", 0), "b (repeat 0)": ("b", 0), "b (repeat 1)": ("b", 1)}


def _requests(sizes: list[int], sampling: dict = GREEDY, max_tokens: int = 20) -> list[Instance]:
    """For each task one request a size: a prompt of so many characters."""
    generation = {"until": [], "max_gen_toks": max_tokens, **sampling}
    return [
        Instance("generate_until", {}, ("x" * size, dict(generation)), 0, (task, doc, 1))
        for task in TASKS
        for doc, size in enumerate(sizes)
    ]


def _lm(engine: Any, folder: Path, **settings: Any) -> CountingLM:
    values = {
        "candidate": "c",
        "tasks": TASKS,
        "seed": 0,
        "answers": folder / "answers.jsonl",
    }
    return CountingLM(engine, **(values | settings))


def test_tokens_are_counted_where_they_are_made(tmp_path: Path) -> None:
    lm = _lm(ScriptedEngine(lambda prompt, seed: "<think>abc</think>7"), tmp_path)
    assert lm.generate_until(_requests([3])) == ["7"] * 3
    assert lm.rows["a", 0] == {
        "output_tokens": 7,  # <think> a b c </think> 7 <eos>
        "prompt_tokens": 3,
        "finish_reason": "eos",
        "seconds": 0.25,
        "text": "<think>abc</think>7",
        "answer": "7",
    }


def test_an_answer_cut_while_thinking_is_empty(tmp_path: Path) -> None:
    for template, prompt in [(THINKING_TEMPLATE, "<think>"), ("", "")]:
        lm = _lm(ScriptedEngine(lambda prompt, seed: "\\boxed{7}" * 9, template), tmp_path, candidate=prompt)
        request = Instance(
            "generate_until", {}, (prompt, {"until": [], "max_gen_toks": 12, **GREEDY}), 0, ("a", 0, 1)
        )
        assert lm.generate_until([request]) == ["" if prompt else "\\boxed{7}\\bo"]
        assert lm.rows["a", 0]["finish_reason"] == "length"
        assert lm.rows["a", 0]["output_tokens"] == 12


def test_chunks_hold_one_benchmark_and_prompts_of_similar_length(tmp_path: Path) -> None:
    engine = ScriptedEngine(lambda prompt, seed: str(len(prompt)))
    answers = _lm(engine, tmp_path).generate_until(_requests([5, 1, 3]))
    assert answers == ["5", "1", "3"] * 3  # in the order of the requests
    sizes = [[len(prompt) for prompt in chunk] for chunk in engine.chunks]
    assert sizes == [[1, 3], [5], [1, 1], [3, 3], [5, 5]]  # the repeats of b are one benchmark


def test_a_killed_evaluation_goes_on_with_the_chunks_that_are_left(tmp_path: Path) -> None:
    def answer(prompt: str, seed: int) -> str:
        return f"{len(prompt)} {seed % 997}"

    whole = _lm(ScriptedEngine(answer), tmp_path / "..", answers=tmp_path / "whole.jsonl")
    expected = whole.generate_until(_requests([5, 1, 3], SAMPLING))

    class Mortal(ScriptedEngine):
        def _output(self, request: Request) -> Output:
            if len(self.chunks) == 4:
                raise Killed
            return super()._output(request)

    with pytest.raises(Killed):
        _lm(Mortal(answer), tmp_path).generate_until(_requests([5, 1, 3], SAMPLING))
    with open(tmp_path / "answers.jsonl", "a") as file:
        file.write('{"key": "torn')
    resumed = _lm(engine := ScriptedEngine(answer), tmp_path)
    assert resumed.generate_until(_requests([5, 1, 3], SAMPLING)) == expected
    assert resumed.rows == whole.rows
    assert len(engine.chunks) == 2
    assert resumed.cost["tokens"] == whole.cost["tokens"]
    assert 0 < resumed.stored_cost["seconds"] < resumed.cost["seconds"]


@pytest.mark.parametrize("change", [{"candidate": "other"}, {"seed": 1}, {"chunk_size": 3}])
def test_answers_of_another_evaluation_are_not_taken(tmp_path: Path, change: dict) -> None:
    _lm(ScriptedEngine(lambda prompt, seed: "1"), tmp_path).generate_until(_requests([5, 1, 3]))
    engine = ScriptedEngine(lambda prompt, seed: "2", chunk_size=change.pop("chunk_size", 2))
    assert set(_lm(engine, tmp_path, **change).generate_until(_requests([5, 1, 3]))) == {"2"}


def test_seeds_are_those_of_the_question_and_repeat(tmp_path: Path) -> None:
    def seeds(candidate: str, sizes: list[int], chunk_size: int = 2, **settings: Any) -> list[str]:
        engine = ScriptedEngine(lambda prompt, seed: str(seed), chunk_size=chunk_size)
        lm = _lm(engine, tmp_path, candidate=candidate, **settings)
        return lm.generate_until(_requests(sizes, SAMPLING, max_tokens=30))

    one = seeds("one", [5, 1, 3])
    assert len(set(one)) == len(one) == 9
    assert one == seeds("two", [5, 1, 3])
    assert one == seeds("two", [2, 9, 2])
    assert one == seeds("three", [5, 1, 3], chunk_size=1)
    assert not set(one) & set(seeds("one", [5, 1, 3], seed=1))


def test_what_does_not_fit_the_context_is_reported(tmp_path: Path) -> None:
    lm = _lm(ScriptedEngine(lambda prompt, seed: "1"), tmp_path)
    with pytest.raises(
        BadInput, match=r"evaluation\.tasks\.a\.max_tokens: a prompt of 981 tokens .* context of 1000"
    ):
        lm.generate_until(_requests([981]))
    lm.generate_until(_requests([980]))


def test_an_engine_that_leaves_prompts_unanswered_gives_no_score(tmp_path: Path) -> None:
    class Lossy(ScriptedEngine):
        def generate(self, chunks: Any) -> Any:
            return super().generate(chunks[:-1])

    lm = _lm(Lossy(lambda prompt, seed: "1"), tmp_path)
    with pytest.raises(EvaluationFailed, match="7 of 9 answers came back from the engine"):
        lm.generate_until(_requests([5, 1, 3]))


def test_chunks_are_kept_in_whatever_order_they_are_finished(tmp_path: Path) -> None:
    class Shuffled(ScriptedEngine):
        def generate(self, chunks: Any) -> Any:
            return reversed(list(super().generate(chunks)))

    lm = _lm(Shuffled(lambda prompt, seed: str(len(prompt)), chunk_size=1), tmp_path)
    assert lm.generate_until(_requests([5, 1, 3])) == ["5", "1", "3"] * 3


def test_preempted_after_150_of_198_questions_it_answers_the_48_that_are_left(tmp_path: Path) -> None:
    def answer(prompt: str, seed: int) -> str:
        return f"{len(prompt)} {seed % 997}"

    def asked(folder: str, last: int = 198) -> tuple[CountingLM, ScriptedEngine]:
        class Mortal(ScriptedEngine):
            def _output(self, request: Request) -> Output:
                if len(self.chunks) > last:
                    raise Killed
                return super()._output(request)

        (tmp_path / folder).mkdir(exist_ok=True)
        engine = Mortal(answer, chunk_size=1)
        lm = _lm(engine, tmp_path / folder, tasks={"a": ("a", 0)})
        requests = _requests([1 + n % 50 for n in range(198)], SAMPLING)[:198]
        try:
            lm.generate_until(requests)
        except Killed:
            assert last < 198
        return lm, engine

    whole, _ = asked("whole")
    asked("preempted", last=150)
    resumed, engine = asked("preempted")
    assert len(engine.chunks) == 48
    assert resumed.rows == whole.rows
    assert len(resumed.rows) == 198
