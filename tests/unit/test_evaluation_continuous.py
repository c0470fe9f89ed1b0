import json
from pathlib import Path
from typing import Any

import pytest
import torch
from bambo.evaluation import continuous
from bambo.evaluation.continuous import ContinuousEngine, _key, gumbel
from bambo.evaluation.engine import EvaluationFailed, Machine, Output, Request
from bambo.evaluation.hf import HFEngine
from pico_chat import GREEDY, SAMPLING, VOCABULARY, make_chat_model
from safetensors.torch import load_file, save_file
from scipy.stats import chisquare, kstest

SETTINGS = {"dtype": "float32"}


def _prompts(n: int = 7) -> list[list[int]]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(8, len(VOCABULARY), (1 + 3 * i,), generator=generator).tolist() for i in range(n)]


def _requests(sampling: dict = GREEDY, first_seed: int = 0, max_tokens: int = 40) -> list[list[Request]]:
    prompts = enumerate(_prompts(), start=first_seed)
    return [[Request("", prompt, max_tokens, sampling, seed)] for seed, prompt in prompts]


def _answers(engine: Any, requests: list[list[Request]]) -> list[Output]:
    outputs = dict(engine.generate(requests))
    assert sorted(outputs) == list(range(len(requests)))
    return [outputs[place][0]._replace(seconds=0) for place in range(len(requests))]


def test_greedy_answers_are_those_of_generate(copy: Path) -> None:
    alone = HFEngine(copy, SETTINGS, Machine(batch_size=1))
    ends = [_tokens(alone, output)[3] for output in _answers(alone, _requests())[:2]]
    (copy / "generation_config.json").write_text(
        json.dumps({"eos_token_id": ends, "repetition_penalty": 9.0})
    )
    expected = _answers(HFEngine(copy, SETTINGS, Machine(batch_size=1)), _requests())
    assert {output.finish_reason for output in expected} == {"eos", "length"}
    for batch_size in (1, 3, 32):
        assert (
            _answers(ContinuousEngine(copy, SETTINGS, Machine(batch_size=batch_size)), _requests())
            == expected
        )


def _tokens(engine: HFEngine, output: Output) -> list[int]:
    return engine.tokenizer(output.text, add_special_tokens=False).input_ids


def test_prompts_longer_than_a_step_and_a_full_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(continuous, "PREFILL", 8)
    monkeypatch.setattr(continuous, "PAGE", 4)
    expected = _answers(HFEngine(folder, SETTINGS, Machine(batch_size=1)), _requests())
    engine = ContinuousEngine(folder, SETTINGS, Machine(batch_size=7))
    assert _answers(engine, _requests()) == expected
    drawn = _answers(engine, _requests(SAMPLING))
    manager, sizes = engine.model.init_continuous_batching, iter([20, 20, 8])

    def small(generation: Any, config: Any) -> Any:
        config.num_blocks = next(sizes)
        return manager(generation, config)

    monkeypatch.setattr(engine.model, "init_continuous_batching", small)
    assert _answers(engine, _requests()) == expected  # answers wait for room, or are begun again
    assert _answers(engine, _requests(SAMPLING)) == drawn
    with pytest.raises(
        EvaluationFailed, match=r"room for 32 tokens, prompt and answer may have 59; raise"
    ) as failed:
        _answers(engine, _requests())
    assert failed.value.kind == "out of memory"


def test_answers_come_as_they_are_finished(folder: Path) -> None:
    engine = ContinuousEngine(folder, SETTINGS, Machine(batch_size=2))
    assert engine.chunk_size == 1
    lengths = [90, 5, 5, 5]
    requests = [[Request("", [20], length, GREEDY, 0)] for length in lengths]
    outputs = list(engine.generate(requests))
    assert [place for place, _ in outputs] == [1, 2, 3, 0]
    assert [output.tokens for _, [output] in outputs] == [5, 5, 5, 90]
    assert 0 < outputs[0][1][0].seconds < outputs[-1][1][0].seconds


def test_a_stream_that_is_left_leaves_nothing_behind(folder: Path) -> None:
    engine = ContinuousEngine(folder, SETTINGS, Machine(batch_size=2))
    stream = engine.generate(_requests())
    next(stream)
    stream.close()
    assert len(_answers(engine, _requests())) == 7


def test_draws_do_not_depend_on_what_is_at_work_beside_them(folder: Path) -> None:
    whole = _answers(ContinuousEngine(folder, SETTINGS, Machine(batch_size=7)), _requests(SAMPLING))
    engine = ContinuousEngine(folder, SETTINGS, Machine(batch_size=2))
    assert _answers(engine, _requests(SAMPLING)) == whole
    assert [_answers(engine, [request])[0] for request in _requests(SAMPLING)] == whole
    assert _answers(engine, _requests(SAMPLING, first_seed=1)) != whole
    assert _answers(engine, _requests()) != whole


def test_noise_is_gumbel_noise() -> None:
    keys = torch.tensor([[_key(seed, position)] for seed in range(20) for position in range(20)])
    noise = gumbel(keys.to(torch.int32), 1000).double()
    assert len(keys.unique()) == 400
    assert kstest(noise.flatten().numpy(), "gumbel_r").pvalue > 0.01
    correlations = torch.corrcoef(noise) - torch.eye(400)
    assert correlations.abs().max() < 6 / 1000**0.5
    assert torch.corrcoef(noise.T).fill_diagonal_(0).abs().max() < 6 / 400**0.5


def test_draws_follow_the_distribution() -> None:
    logits = torch.randn(12, generator=torch.Generator().manual_seed(1)) * 2
    keys = torch.tensor([[_key(seed, 7)] for seed in range(20_000)]).to(torch.int32)
    counts = torch.bincount((logits + gumbel(keys, 12)).argmax(-1), minlength=12)
    assert chisquare(counts, 20_000 * logits.double().softmax(0)).pvalue > 0.01


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLING])
def test_nan_fails_and_is_no_score(copy: Path, sampling: dict) -> None:
    tensors = load_file(copy / "model.safetensors")
    tensors["model.norm.weight"][0] = float("nan")
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EvaluationFailed, match="NaN or infinite") as failed:
        _answers(ContinuousEngine(copy, SETTINGS, Machine()), _requests(sampling))
    assert failed.value.kind == "bad scores"


def test_failures_of_the_loop_are_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = ContinuousEngine(folder, SETTINGS, Machine())
    for error, kind in [
        (torch.OutOfMemoryError("no room\nlots"), "out of memory"),
        (RuntimeError("a\nb"), "error"),
    ]:

        def broken(*_: Any, error: Exception = error, **__: Any) -> None:
            raise error

        monkeypatch.setattr(engine.model, "forward", broken)
        with pytest.raises(EvaluationFailed, match=r"^(no room; lower|continuous batching: a b$)") as failed:
            _answers(engine, _requests())
        assert failed.value.kind == kind


def test_new_weights_leave_nothing_of_the_old_ones(folder: Path, tmp_path: Path) -> None:
    make_chat_model(tmp_path, seed=1, initializer_range=0.5)
    expected = _answers(ContinuousEngine(tmp_path, SETTINGS, Machine()), _requests())
    engine = ContinuousEngine(folder, SETTINGS, Machine())
    assert _answers(engine, _requests()) != expected
    engine.load_weights(load_file(tmp_path / "model.safetensors").items())
    assert _answers(engine, _requests()) == expected
