"""vLLM on a CPU, in an environment of its own: `make test-vllm`."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from bambo.errors import BadInput
from bambo.evaluation.engine import EvaluationFailed, Machine, Output, Request
from bambo.evaluation.hf import HFEngine
from pico import make_model
from pico_chat import (
    EOS,
    GREEDY,
    SAMPLING,
    THINKING_TEMPLATE,
    VOCABULARY,
    aime_task,
    chat_recipe,
    make_tokenizer,
)
from safetensors.torch import load_file

pytest.importorskip("vllm", reason="make test-vllm")

ROOT = Path(__file__).parents[2]
SIZES = {  # vLLM has attention for heads of 32 and more
    "vocab_size": len(VOCABULARY),
    "hidden_size": 64,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "max_position_embeddings": 256,
}
SETTINGS = {"dtype": "float32"}
ENDS = [EOS, 20, 30]


def _folder(path: Path, **settings: Any) -> Path:
    options = {**SIZES, "eos_token_id": EOS, "pad_token_id": 0, "initializer_range": 0.5, **settings}
    make_model(path, **options)
    make_tokenizer(THINKING_TEMPLATE).save_pretrained(path)
    (path / "generation_config.json").write_text(
        json.dumps({"eos_token_id": ENDS, "repetition_penalty": 9.0})
    )
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _folder(tmp_path_factory.mktemp("pico"))


@contextmanager
def _engine(folder: Path) -> Iterator[Any]:
    """Only one can live at a time: what vLLM holds of it is global."""
    from bambo.evaluation.vllm_engine import VLLMEngine

    engine = VLLMEngine(folder, SETTINGS, Machine(batch_size=3))
    with closing(engine):
        yield engine


@pytest.fixture
def engine(folder: Path) -> Iterator[Any]:
    with _engine(folder) as engine:
        yield engine


def _requests(sampling: dict = GREEDY, first_seed: int = 2**62, max_tokens: int = 40) -> list[list[Request]]:
    generator = torch.Generator().manual_seed(0)
    prompts = [torch.randint(8, 100, (1 + 3 * i,), generator=generator).tolist() for i in range(7)]
    return [
        [Request("", prompt, max_tokens, sampling, seed)]
        for seed, prompt in enumerate(prompts, start=first_seed)
    ]


def _answers(engine: Any, requests: list[list[Request]]) -> list[Output]:
    outputs = dict(engine.generate(requests))
    assert sorted(outputs) == list(range(len(requests)))
    return [outputs[place][0]._replace(seconds=0) for place in range(len(requests))]


def _expected(folder: Path) -> list[Output]:
    return _answers(HFEngine(folder, SETTINGS, Machine(batch_size=1)), _requests())


def test_greedy_answers_are_those_of_generate(engine: Any, folder: Path) -> None:
    expected = _expected(folder)
    assert {output.finish_reason for output in expected} == {"eos", "length"}
    assert _answers(engine, _requests()) == expected
    assert engine.context_length == 256


def test_answers_come_as_they_are_finished(engine: Any) -> None:
    endless = {"do_sample": True, "temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0}
    requests = [[Request("", [50], length, endless, 3)] for length in (9, 2, 2, 2, 2)]
    outputs = list(engine.generate(requests))
    assert [place for place, _ in outputs] == [1, 2, 3, 4, 0]
    assert 0 < outputs[0][1][0].seconds < outputs[-1][1][0].seconds
    stream = engine.generate(_requests())
    next(stream)
    stream.close()
    assert not engine.engine.has_unfinished_requests()


def test_draws_do_not_depend_on_what_is_at_work_beside_them(engine: Any) -> None:
    whole = _answers(engine, _requests(SAMPLING))
    assert [_answers(engine, [request])[0] for request in _requests(SAMPLING)] == whole
    assert _answers(engine, _requests(SAMPLING, first_seed=5)) != whole
    assert _answers(engine, _requests()) != whole


@pytest.mark.parametrize("tied", [False, True])
def test_new_weights_leave_nothing_of_the_old_ones(tmp_path: Path, tied: bool) -> None:
    one, two = (_folder(tmp_path / name, tied=tied, seed=seed) for seed, name in enumerate("ab"))
    with _engine(one) as engine:
        old = _answers(engine, _requests())
        sums = [engine.weights_sum()]
        weights = load_file(two / "model.safetensors")
        assert ("lm_head.weight" in weights) != tied
        engine.load_weights(iter(weights.items()))
        assert old != _answers(engine, _requests()) == _expected(two)
        if tied:
            engine.load_weights([*weights.items(), ("lm_head.weight", weights["model.embed_tokens.weight"])])
        engine.load_weights(load_file(one / "model.safetensors").items())
        assert _answers(engine, _requests()) == old
        assert engine.weights_sum() == sums[0]
        del weights["model.layers.1.mlp.up_proj.weight"]
        with pytest.raises(EvaluationFailed, match="not those that were merged"):
            engine.load_weights(weights.items())
        with pytest.raises(BadInput, match=r"vLLM cannot load these weights: .*nonsense"):
            engine.load_weights([("model.nonsense.weight", torch.zeros(3))])


def test_nan_fails_and_is_no_score(engine: Any, folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    broken = weights | {"model.norm.weight": torch.full_like(weights["model.norm.weight"], float("nan"))}
    engine.load_weights(broken.items())
    with pytest.raises(EvaluationFailed, match="logits are NaN") as failed:
        _answers(engine, _requests())
    assert failed.value.kind == "bad scores"


def test_what_does_not_fit_names_its_key(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bambo.evaluation import vllm_engine

    with pytest.raises(BadInput, match=r"^evaluation\.model_length: .* lower it$"):
        vllm_engine.VLLMEngine(folder, SETTINGS, Machine(model_length=999))
    with pytest.raises(BadInput, match=r"^evaluation\.device: cuda, but this vLLM is made for cpu"):
        vllm_engine.VLLMEngine(folder, SETTINGS, Machine(device="cuda", gpus=1))
    monkeypatch.setattr(vllm_engine, "CPU_CACHE", 1 << 14)
    with pytest.raises(EvaluationFailed, match=r"evaluation\.model_length") as failed:
        vllm_engine.VLLMEngine(folder, SETTINGS, Machine(model_length=256))
    assert failed.value.kind == "out of memory"


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to"),
            "CUDA out of memory; lower evaluation.memory_share",
        ),
        (RuntimeError("CUDA out of memory occurred when warming up sampler"), "or evaluation.batch_size"),
        (ValueError("Free memory on device cuda:0 (1.5/79.1 GiB) on startup is less"), "or free the GPU"),
        (ValueError("No available memory for the cache blocks. Try"), "or raise evaluation.memory_share"),
    ],
)
def test_what_a_gpu_does_not_hold_names_its_key(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, remedy: str
) -> None:
    from bambo.evaluation import vllm_engine

    def full(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(vllm_engine.vllm, "LLM", full)
    with pytest.raises(EvaluationFailed, match=re.escape(remedy)) as failed:
        vllm_engine.VLLMEngine(folder, SETTINGS, Machine())
    assert failed.value.kind == "out of memory"


def test_its_server_counts_as_it_does(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bambo.evaluation.server import ServerEngine

    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", "ERROR")
    vllm = f"{shlex.quote(sys.executable)} -m vllm.entrypoints.openai.api_server"
    vllm += " --model {model} --host 127.0.0.1 --port {port}"
    options = "--max-model-len {model_length} --tensor-parallel-size {gpus}"
    own = "--generation-config vllm --dtype float32 --enforce-eager"
    server = {"command": f"{vllm} {options} {own}", "url": "http://127.0.0.1:{port}/v1", "model": "{model}"}
    settings = {"server": server | {"key": None, "start": 300, "answer": 60}}
    tokenizer = make_tokenizer()
    requests = [[each._replace(prompt=tokenizer.decode(each.tokens))] for [each] in _requests()]
    with closing(ServerEngine(folder, settings, Machine(batch_size=3))) as engine:
        assert _answers(engine, requests) == _expected(folder)


def test_a_job_scores_with_it(folder: Path, tmp_path: Path) -> None:
    task = aime_task(tmp_path, max_tokens=30)
    recipe = chat_recipe({"aime": task}, engine="vllm")
    folder_of_candidate = tmp_path / "candidate"
    folder_of_candidate.mkdir()
    (folder_of_candidate / "recipe.json").write_text(json.dumps(recipe))
    (folder_of_candidate / "model").symlink_to(folder)
    done = subprocess.run(
        [sys.executable, "-m", "bambo.candidate", "evaluate", folder_of_candidate, "--device", "cpu"],
        capture_output=True,
        text=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    scores = json.loads((folder_of_candidate / "scores.json").read_text())
    assert scores["engine"] == "vllm"
    assert scores["benchmarks"]["aime"]["tokens"] > 0
