"""Several candidates in one engine: merged into it in place, each with a result and a failure of its own."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from bambo import evaluation
from bambo.candidate.attempts import Attempts
from bambo.candidate.folder import is_scored, read_samples, read_scores
from bambo.candidate.work import Policy, evaluate, evaluate_together
from bambo.errors import BadInput
from bambo.evaluation import hf
from bambo.evaluation.engine import EvaluationFailed, Machine
from bambo.evaluation.hf import HFEngine
from bambo.evaluation.weights import bit_sum
from bambo.merging import merge, merged_tensors, open_sources
from bambo.recipe import make_recipe, write_recipe
from bambo.search.ledger import shared
from hypothesis import given
from hypothesis import strategies as st
from pico_chat import aime_task, chat_recipe, make_chat_pair
from safetensors.torch import load_file

MACHINE = Machine(batch_size=8)
POLICY = Policy(1, 0, "stop")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return make_chat_pair(tmp_path_factory.mktemp("pair"))


pytestmark = pytest.mark.usefixtures("whole_imports")


def recipe(sources: dict[str, Any], weight: float, folder: Path, files_from: str = "instruct") -> dict:
    groups = sources["thinking"]["groups"]
    return make_recipe(
        weights={
            group: [weight * (i + 1) / len(groups), 1 - weight * (i + 1) / len(groups)]
            for i, group in enumerate(groups)
        },
        sources={
            name: {key: record[key] for key in ("path", "fingerprint", "sample")}
            for name, record in sources.items()
        },
        files_from=files_from,
        evaluation=chat_recipe({"aime": aime_task(folder)})["evaluation"],
    )


@pytest.fixture
def candidates(sources: dict[str, Any], tmp_path: Path) -> Callable[..., list[Path]]:
    def write(run: str) -> list[Path]:
        recipes = [recipe(sources, weight, tmp_path) for weight in (0.2, 0.5, 0.9)]
        return [write_recipe(tmp_path / run, own).parent for own in recipes]

    return write


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders from which engines are loaded."""
    folders, load = [], evaluation.load_engine

    def watched(settings: dict, model: Path, machine: Machine) -> Any:
        folders.append(model)
        return load(settings, model, machine)

    monkeypatch.setattr(evaluation, "load_engine", watched)
    return folders


# Merging in place


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("architecture", ["qwen3", "llama", "gpt2"])
def test_an_engine_that_was_merged_into_holds_the_merged_files_weights(
    tmp_path: Path, architecture: str, tied: bool, dtype: torch.dtype
) -> None:
    pair = make_chat_pair(tmp_path, architecture, tied=tied, dtype=dtype)
    own = recipe(pair, 0.7, tmp_path)
    merge(own, tmp_path / "file")
    names = dict(merged_tensors(own, open_sources(own), threads=2, chunk_bytes=64))
    written = load_file(tmp_path / "file" / "model.safetensors")
    assert names.keys() == written.keys()
    assert all(names[name].equal(tensor) for name, tensor in written.items())

    settings = {"dtype": "float32"}
    engine = HFEngine(Path(pair["instruct"]["path"]), settings, MACHINE)
    engine.load_weights(merged_tensors(own, open_sources(own)))
    fresh = HFEngine(tmp_path / "file", settings, MACHINE)
    for name, tensor in fresh.model.state_dict().items():
        assert engine.model.state_dict()[name].equal(tensor), name


def test_what_cannot_be_merged_into_is_named(sources: dict[str, Any], tmp_path: Path) -> None:
    engine = HFEngine(Path(sources["instruct"]["path"]), {"dtype": "float32"}, MACHINE)
    own = recipe(sources, 0.5, tmp_path)
    tensors = dict(merged_tensors(own, open_sources(own)))
    with pytest.raises(BadInput, match=r"tensor other: \w+ has none .* merge\.materialize: true"):
        engine.load_weights([*tensors.items(), ("other", torch.zeros(1))])
    name = next(iter(tensors))
    with pytest.raises(BadInput, match=f"no tensor {name}"):
        engine.load_weights(list(tensors.items())[1:])
    with pytest.raises(BadInput, match=f"tensor {name}: "):
        engine.load_weights([(name, torch.zeros(1))])


def test_weights_that_are_not_those_given_are_noticed(
    sources: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = HFEngine(Path(sources["instruct"]["path"]), {"dtype": "float32"}, MACHINE)
    own = recipe(sources, 0.5, tmp_path)
    first = next(engine.model.parameters())

    def tensors() -> Iterator[tuple[str, torch.Tensor]]:
        yield from merged_tensors(own, open_sources(own))
        with torch.no_grad():
            first[0, 0] = 2.0  # one number, after it was loaded

    with pytest.raises(EvaluationFailed, match="not those that were merged"):
        engine.load_weights(tensors())
    monkeypatch.setattr(hf, "bit_sum", lambda tensor: 0)
    engine.load_weights(tensors())


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=40), st.integers(1, 7))
def test_the_sum_of_bits_does_not_see_how_tensors_are_laid_out(numbers: list[float], cut: int) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        whole = torch.tensor(numbers).to(dtype)
        bits = whole.view(torch.int32 if dtype == torch.float32 else torch.int16).tolist()
        assert bit_sum(whole) == sum(bits) % 2**64
        assert bit_sum(whole) == (bit_sum(whole[:cut]) + bit_sum(whole[cut:])) % 2**64
        assert bit_sum(torch.cat([whole.flip(0), torch.zeros(3, dtype=dtype)])) == bit_sum(whole)


# Jobs


def test_scores_are_those_of_candidates_that_are_merged_to_files(
    candidates: Callable[..., list[Path]], loads: list[Path], sources: dict[str, Any]
) -> None:
    together, alone, in_place = candidates("together"), candidates("alone"), candidates("in place")
    evaluate_together(together, POLICY, MACHINE, lock=False, started=(0.0, 0.0))
    assert loads == [Path(sources["instruct"]["path"])]
    for one, other, third in zip(alone, together, in_place, strict=True):
        evaluate(one, POLICY, MACHINE, lock=False, started=(0.0, 0.0))
        evaluate(third, POLICY, MACHINE, lock=False, started=(0.0, 0.0), in_place=True)
        columns = ["question", "correct", "output_tokens", "finish_reason", "text"]
        answers = [read_samples(folder)[columns] for folder in (one, other, third)]
        assert answers[0].equals(answers[1])
        assert answers[0].equals(answers[2])
        assert sorted(path.name for path in other.iterdir()) == [
            "lm_eval",
            "recipe.json",
            "samples.parquet",
            "scores.json",
        ]
    texts = {tuple(read_samples(folder)["text"]) for folder in together}
    assert len(texts) == 3
    evaluate_together(together, POLICY, MACHINE, lock=False, started=(0.0, 0.0))
    assert len(loads) == 1 + 2 * 3  # nothing was left to score


def test_a_member_that_fails_is_left_without_scores_and_keeps_no_other_from_theirs(
    candidates: Callable[..., list[Path]], loads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folders, score = candidates("run"), evaluation.evaluate

    def failing(own: dict, *arguments: Any, **settings: Any) -> Any:
        if own["id"] == folders[1].name:
            raise EvaluationFailed("out of memory", "no byte left")
        return score(own, *arguments, **settings)

    monkeypatch.setattr(evaluation, "evaluate", failing)
    evaluate_together(folders, POLICY, MACHINE, lock=False, started=(0.0, 0.0))
    assert [is_scored(folder) for folder in folders] == [True, False, True]
    assert Attempts(folders[1]).last_failure.kind == "out of memory"
    assert len(loads) == 2  # the engine of the one that failed is not trusted
    monkeypatch.setattr(evaluation, "evaluate", score)
    evaluate(folders[1], POLICY, MACHINE, lock=False, started=(0.0, 0.0), in_place=True)
    assert read_scores(folders[1])["status"] == "ok"
    assert Attempts(folders[1]).lines[-1]["kind"] == "ok"


def test_bad_input_ends_the_job(
    candidates: Callable[..., list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = candidates("run")

    def refused(*_: Any, **__: Any) -> Any:
        raise BadInput("evaluation.dtype: no")

    monkeypatch.setattr(evaluation, "load_engine", refused)
    with pytest.raises(BadInput, match="no"):
        evaluate_together(folders, POLICY, MACHINE, lock=False, started=(0.0, 0.0))
    with pytest.raises(BadInput, match="no"):  # the attempt that only records
        evaluate_together(folders, Policy(2, 0, "stop"), MACHINE, lock=False, started=(0.0, 0.0))


@given(st.integers(0, 30), st.integers(1, 9))
def test_jobs_are_few_and_equal(count: int, most: int) -> None:
    ids = [str(i) for i in range(count)]
    jobs = shared(ids, most)
    members = [id for job in jobs for id in job]
    assert len(set(members)) == len(members)
    assert all(2 <= len(job) <= most for job in jobs)
    if jobs:
        assert len(ids) - len(members) <= len(ids) % most + 1
        assert max(map(len, jobs)) - min(map(len, jobs)) <= 1
