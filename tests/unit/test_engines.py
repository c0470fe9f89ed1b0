"""Every engine that runs here gives the same answers, scores and token counts; the server is a real one."""

import shlex
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from bambo.errors import BadInput
from bambo.evaluation import evaluate, load_engine
from bambo.evaluation.engine import Machine, Request
from bambo.evaluation.hub import save
from hub_data import make_hub
from pico import make_model
from pico_chat import GREEDY, chat_recipe
from safetensors.torch import load_file, save_file

RESOURCES = Path(__file__).parents[2] / "resources"
ENGINES = ("hf", "continuous", "server")
BATCH = Machine(batch_size=7)
# Without its own cache in the home directory, transformers' list of models is an error.
SERVE = "env HF_HUB_CACHE={model} HF_HUB_OFFLINE=1 %s serve {model} --host 127.0.0.1 --port {port}"
SERVER = {
    "command": SERVE % shlex.quote(str(Path(sys.executable).with_name("transformers")))
    + " --device cpu --dtype float32",
    "url": "http://127.0.0.1:{port}/v1",
    "model": "{model}",
    "key": None,
    "start": 120,
    "answer": 60,
}


def _settings(engine: str) -> dict[str, Any]:
    return {"engine": engine, "dtype": "float32", "server": SERVER if engine == "server" else None}


def _tasks() -> dict[str, dict[str, Any]]:
    """Both stock tasks and ours on 12 made-up rows each, and what the tiny models can answer."""
    tasks: dict[str, dict[str, Any]] = {
        "gpqa": {"task": "gpqa_diamond", "max_tokens": 20},
        "gpqa_stock": {"task": "gpqa_diamond_cot_zeroshot", "scoring": "stock", "max_tokens": 20},
        "aime": {"task": "aime25", "max_tokens": 20},
        "aime_stock": {"task": "aime25", "scoring": "stock", "max_tokens": 20},
    }
    for name, settings in tasks.items():
        record = save(name, settings, Path("benchmarks"))
        settings |= {"data": f"benchmarks/{name}", "data_hash": record["data_hash"]}
    data = str(RESOURCES / "benchmarks" / "tiny_aime.jsonl")
    tiny = {"task": "aime25", "data": data, "prompt": "{{problem}}", "max_tokens": 160, "limit": 12}
    return {**tasks, "tiny": tiny}


@pytest.mark.parametrize("model", ["thinking", "instruct"])
def test_scores_and_token_counts_are_those_of_every_engine(offline: Path, model: str) -> None:
    make_hub(offline)
    tasks = _tasks()
    samples, scores = {}, {}
    for name in ENGINES:
        recipe = chat_recipe(tasks, **_settings(name))
        with closing(load_engine(recipe["evaluation"], RESOURCES / "models" / model, BATCH)) as engine:
            assert engine.context_length == 512
            scores[name] = evaluate(recipe, engine, offline / name)["benchmarks"]
        samples[name] = pd.read_parquet(offline / name / "samples.parquet").drop(columns="seconds")
    measured = ("latency", "throughput", "energy")
    for name in ENGINES[1:]:
        pd.testing.assert_frame_equal(samples[name], samples["hf"])
        for benchmark, values in scores["hf"].items():
            equal = {key: value for key, value in values.items() if not key.startswith(measured)}
            assert {key: scores[name][benchmark][key] for key in equal} == equal
    tiny = samples["hf"][samples["hf"]["benchmark"] == "tiny"]
    assert tiny["text"].str.contains("</think>").any() == (model == "thinking")
    assert tiny["correct"].sum() > 0
    assert (samples["hf"]["finish_reason"] == "length").any() == (model == "thinking")


DIGITS = "0123456789"
SPECIAL = ["<pad>", "<eos>"]
PAIRS = [one + other for one in DIGITS for other in DIGITS]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that emits digits one by one, with a tokenizer that reads them in pairs."""
    from tokenizers import Tokenizer, decoders
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("digits")
    vocabulary = {token: place for place, token in enumerate([*SPECIAL, *DIGITS, *PAIRS])}
    sizes = {"vocab_size": len(vocabulary), "num_hidden_layers": 2, "max_position_embeddings": 128}
    make_model(folder, **sizes, eos_token_id=1, pad_token_id=0, initializer_range=0.5)
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"][len(SPECIAL) + len(DIGITS) :] = 0
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    inner = Tokenizer(BPE(vocabulary, [(one, other) for one, other in PAIRS]))
    inner.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>")
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    tokenizer.save_pretrained(folder)
    return folder


def _counts(folder: Path, prompts: list[int]) -> list[int]:
    """Tokens of each greedy answer, made one by one by the bare model; at most 30."""
    from transformers import AutoModelForCausalLM

    model, counts = AutoModelForCausalLM.from_pretrained(folder, dtype="float32"), []
    for prompt in prompts:
        tokens = [prompt]
        with torch.inference_mode():
            while len(tokens) <= 30 and tokens[-1] != 1:
                tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
        counts.append(len(tokens) - 1)
    return counts


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, digits: Path) -> Iterator[Any]:
    with closing(load_engine(_settings(request.param), digits, BATCH)) as engine:
        yield engine


def test_tokens_are_counted_where_reading_the_text_again_would_count_others(
    engine: Any, digits: Path
) -> None:
    prompts = list(range(len(SPECIAL), len(SPECIAL) + len(DIGITS)))
    requests = [[Request(DIGITS[prompt - 2], [prompt], 30, GREEDY, 0)] for prompt in prompts]
    chunks = [[request for [request] in requests]] if engine.chunk_size > 1 else requests
    outputs = [output for _, part in sorted(engine.generate(chunks)) for output in part]
    expected = _counts(digits, prompts)
    assert [output.tokens for output in outputs] == expected
    again = [len(engine.tokenizer(output.text).input_ids) for output in outputs]
    assert all(fewer < count - 1 for fewer, count in zip(again, expected, strict=True) if count > 3)
    assert max(expected) > 3


def test_the_length_to_make_room_for_is_the_context(digits: Path) -> None:
    for name in ("hf", "continuous"):
        machine = Machine(model_length=64)
        assert load_engine(_settings(name), digits, machine).context_length == 64


def test_an_engine_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, digits: Path) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    monkeypatch.delitem(sys.modules, "bambo.evaluation.vllm_engine", raising=False)
    message = (
        r"^evaluation\.engine: vllm is not installed in this environment; evaluation jobs need "
        r"envs/evaluate-vllm\.yaml: --sdm conda, or evaluation\.python$"
    )
    with pytest.raises(BadInput, match=message):
        load_engine(_settings("vllm"), digits, Machine())
