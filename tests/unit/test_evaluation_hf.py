import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from bambo.errors import BadInput
from bambo.evaluation.engine import EvaluationFailed, Machine, Request
from bambo.evaluation.hf import HFEngine, sampler
from pico_chat import EOS, GREEDY, SAMPLING, VOCABULARY, make_chat_model, make_tokenizer
from safetensors.torch import load_file, save_file
from scipy.stats import chisquare
from transformers import AutoModelForCausalLM

CPU = torch.device("cpu")


def _engine(folder: Path, **machine: Any) -> HFEngine:
    return HFEngine(folder, {"dtype": "float32"}, Machine(**machine))


def _generate(
    engine: HFEngine, prompts: list[list[int]], sampling: dict, seeds: Sequence[int] | None = None
) -> list[tuple[str, int, str]]:
    """Text, tokens and finish reason of one chunk's answers."""
    requests = [
        Request("", prompt, 12, sampling, seed)
        for prompt, seed in zip(prompts, seeds or [0] * len(prompts), strict=True)
    ]
    [(place, outputs)] = engine.generate([requests])
    assert place == 0
    assert len({output.seconds for output in outputs}) == 1
    return [output[:3] for output in outputs]


def _prompts(n: int = 7) -> list[list[int]]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(8, len(VOCABULARY), (1 + 3 * i,), generator=generator).tolist() for i in range(n)]


def _set_eos(folder: Path, eos: int | list[int], **settings: Any) -> None:
    (folder / "generation_config.json").write_text(
        json.dumps({"eos_token_id": eos, "pad_token_id": 0} | settings)
    )


def _naive(folder: Path, prompt: list[int], eos: set[int], steps: int) -> list[int]:
    """Greedy tokens of one prompt, without padding, batch or cache."""
    model, tokens = AutoModelForCausalLM.from_pretrained(folder), []
    with torch.inference_mode():
        while len(tokens) < steps and not eos & set(tokens):
            tokens.append(int(model(torch.tensor([prompt + tokens])).logits[0, -1].argmax()))
    return tokens


def test_a_chunk_answers_as_each_prompt_alone(copy: Path) -> None:
    free = [_naive(copy, prompt, set(), 12) for prompt in _prompts()]
    eos = [free[0][3], free[1][0]]  # so that some answers end early, on either of two
    _set_eos(copy, eos)
    outputs = _generate(_engine(copy), _prompts(), GREEDY)
    expected = [_naive(copy, prompt, set(eos), 12) for prompt in _prompts()]
    reasons = ["eos" if set(eos) & set(tokens) else "length" for tokens in expected]
    texts = [
        "".join(VOCABULARY[token] for token in (tokens[:-1] if reason == "eos" else tokens))
        for tokens, reason in zip(expected, reasons, strict=True)
    ]
    assert outputs == list(zip(texts, map(len, expected), reasons, strict=True))
    assert set(reasons) == {"eos", "length"}


def test_chunks_are_answered_one_after_the_other(folder: Path) -> None:
    engine, prompts = _engine(folder), _prompts()
    requests = [[Request("", prompt, 12, GREEDY, 0)] for prompt in prompts]
    outputs = dict(engine.generate(requests))
    assert list(outputs) == list(range(7))
    assert [outputs[place][0][:3] for place in range(7)] == _generate(engine, prompts, GREEDY)


def test_nothing_but_the_recipe_decides_how_tokens_are_chosen(folder: Path, copy: Path) -> None:
    _set_eos(copy, EOS, repetition_penalty=9.0, do_sample=True, temperature=5.0, max_new_tokens=3)
    outputs = [_generate(_engine(path), _prompts(), GREEDY) for path in (folder, copy)]
    assert outputs[0] == outputs[1]


@pytest.mark.parametrize("tied", [False, True])
def test_loading_leaves_nothing_uninitialised(tmp_path: Path, tied: bool) -> None:
    make_chat_model(tmp_path, tied=tied)
    ids = torch.tensor([_prompts()[4]])
    expected = AutoModelForCausalLM.from_pretrained(tmp_path)(ids).logits
    assert torch.equal(_engine(tmp_path).model(ids).logits, expected)


def test_draws_follow_the_warped_distribution() -> None:
    generator = torch.Generator().manual_seed(1)
    logits, n = torch.randn(12, generator=generator) * 2, 20_000
    *warpers, noise = sampler({**SAMPLING, "top_k": 8, "min_p": 0.02}, range(n), CPU)
    ids = torch.zeros((1, 1), dtype=torch.long)
    warped = logits[None].clone()
    for warper in warpers:
        warped = warper(ids, warped)
    probabilities = warped.softmax(-1)[0]
    assert (probabilities == 0).any()
    for _ in range(2):  # the first step and one more
        draws = noise(ids, warped.expand(n, -1)).argmax(-1)
        counts = torch.bincount(draws, minlength=12).double()
        assert counts[probabilities == 0].sum() == 0
        kept = probabilities > 0
        expected = probabilities[kept].double()
        assert chisquare(counts[kept], n * expected / expected.sum()).pvalue > 0.01


def test_draws_do_not_depend_on_the_batch_or_the_order(folder: Path) -> None:
    engine, prompts, seeds = _engine(folder), _prompts(), list(range(100, 107))
    whole = _generate(engine, prompts, SAMPLING, seeds)
    alone = [_generate(engine, [p], SAMPLING, [s]) for p, s in zip(prompts, seeds, strict=True)]
    assert whole == [output for [output] in alone]
    assert whole[::-1] == _generate(engine, prompts[::-1], SAMPLING, seeds[::-1])
    assert whole != _generate(engine, prompts, SAMPLING, [seed + 1 for seed in seeds])
    assert whole != _generate(engine, prompts, GREEDY, seeds)


def test_similar_models_draw_mostly_equal_tokens() -> None:
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(2000, 30, generator=generator)
    ids = torch.zeros((2000, 1), dtype=torch.long)
    plain = {**SAMPLING, "temperature": 1.0, "top_p": 1.0, "top_k": 0}

    def draw(scores: torch.Tensor, first_seed: int) -> torch.Tensor:
        for processor in sampler(plain, range(first_seed, first_seed + 2000), CPU):
            scores = processor(ids, scores)
        return scores.argmax(-1)

    near = logits + 0.1 * torch.randn(logits.shape, generator=generator)
    assert (draw(logits, 0) == draw(near, 0)).double().mean() > 0.9
    assert (draw(logits, 0) == draw(near, 5000)).double().mean() < 0.3


def test_nan_fails_and_is_no_score(copy: Path) -> None:
    tensors = load_file(copy / "model.safetensors")
    tensors["model.norm.weight"][0] = float("nan")
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EvaluationFailed, match="NaN or infinite") as failed:
        _generate(_engine(copy), _prompts(), GREEDY)
    assert failed.value.kind == "bad scores"


def test_out_of_memory_says_what_to_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(**_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\nlots")

    engine = _engine(folder)
    monkeypatch.setattr(engine.model, "generate", exhausted)
    message = r"^CUDA out of memory\. .* allocate; lower evaluation\.batch_size, here 7$"
    with pytest.raises(EvaluationFailed, match=message) as failed:
        _generate(engine, _prompts(), GREEDY)
    assert failed.value.kind == "out of memory"


def test_a_missing_tensor_is_not_made_up(copy: Path) -> None:
    tensors = load_file(copy / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BadInput, match=r"no tensor model\.layers\.1\.mlp\.up_proj\.weight"):
        _engine(copy)


def test_parts_that_scoring_needs(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none: no config\.json"):
        _engine(tmp_path / "none")
    for device, message in [("gpu", "'gpu', expected cpu, cuda or"), ("cuda:99", "cuda:99, but torch finds")]:
        with pytest.raises(BadInput, match=rf"evaluation\.device: {message}"):
            _engine(copy, device=device)
    make_tokenizer(template=None).save_pretrained(copy)
    (copy / "chat_template.jinja").unlink()
    with pytest.raises(BadInput, match="no chat template"):
        _engine(copy)
