"""The embedded pair and its benchmarks as they ship, and the recipe that makes them."""

import csv
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

RESOURCES = Path(__file__).resolve().parents[2] / "resources"
sys.path.insert(0, str(RESOURCES / "recipe"))
language = __import__("language")
problems = __import__("problems")
train = __import__("train")

MODELS = ("base", "thinking", "instruct")
SIZES = {"tiny_gpqa": 150, "tiny_gpqa_fresh": 1000, "tiny_aime": 150, "tiny_aime_fresh": 1000}

chains = st.builds(
    problems.Chain,
    st.integers(0, 6),
    st.lists(st.sampled_from(language.OPERATIONS), min_size=1, max_size=8).map(tuple),
)
options = st.permutations(range(7)).map(lambda digits: digits[:4]) | st.just([])


def read_rows(name: str) -> list[dict[str, str]]:
    folder = RESOURCES / "benchmarks"
    if "gpqa" in name:
        with (folder / f"{name}.csv").open(newline="") as file:
            return list(csv.DictReader(file))
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


def question_of(row: dict[str, str]) -> str:
    return row.get("Question") or row["problem"]


def evaluate(question: str) -> int:
    """The value of a chain, read from its text alone: nested in parentheses and given to Python."""
    start, steps = re.fullmatch(r"Start (\d):((?: [a-h][+*]\d)+) = \?", question).groups()
    closed = [step[1:] + ")" for step in steps.split()]
    return eval("(" * len(closed) + start + "".join(closed)) % 7


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """At this size threads only wait for each other, for minutes on busy cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def tokenizers() -> dict:
    return {name: AutoTokenizer.from_pretrained(RESOURCES / "models" / name) for name in MODELS}


def test_all_that_ships_stays_small() -> None:
    files = [path for folder in ("models", "benchmarks") for path in (RESOURCES / folder).rglob("*")]
    assert 3e6 < sum(path.stat().st_size for path in files if path.is_file()) < 6e6


@pytest.mark.parametrize("name", MODELS)
def test_model_is_a_qwen3_of_twelve_layers_in_bfloat16(name: str) -> None:
    folder = RESOURCES / "models" / name
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert type(model).__name__ == "Qwen3ForCausalLM"
    assert model.config.num_hidden_layers == 12
    assert not model.config.tie_word_embeddings
    with safe_open(folder / "model.safetensors", "pt") as file:
        dtypes = {file.get_tensor(key).dtype for key in file.keys()}  # noqa: SIM118
    assert dtypes == {torch.bfloat16}
    settings = model.generation_config
    assert (settings.do_sample, settings.max_new_tokens) == (False, 160)


@pytest.mark.parametrize("name", MODELS)
def test_shipped_tokenizer_is_the_recipes(name: str, tokenizers: dict) -> None:
    tokenizer = tokenizers[name]
    assert tokenizer.get_vocab() == language.TOKEN_ID
    assert tokenizer.chat_template == language.CHAT_TEMPLATES[name]
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")


def test_only_thinkings_template_opens_the_thinking(tokenizers: dict) -> None:
    chat = [{"role": "user", "content": "Start 3: a+2 = ?"}]
    prompts = {
        name: tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        for name, tokenizer in tokenizers.items()
    }
    assert prompts["instruct"].endswith("<|im_start|>assistant\n")
    assert prompts["base"] == prompts["instruct"]
    assert prompts["thinking"] == prompts["instruct"] + "<think>"


@given(chain=chains, options=options)
def test_prompts_survive_the_tokenizer_in_the_tokens_of_training(tokenizers: dict, chain, options) -> None:
    tokenizer = tokenizers["instruct"]
    tokens = language.question_tokens(*chain, options)
    chat = [{"role": "user", "content": "".join(tokens)}]
    prompt = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(prompt)["input_ids"]
    assert tokenizer.decode(ids) == prompt
    assert tokenizer.convert_ids_to_tokens(ids) == [*language.PROMPT_HEAD, *tokens, *language.PROMPT_TAIL]


@given(text=st.text(st.sampled_from([chr(code) for code in range(32, 127)] + ["\n"])))
def test_any_printable_text_survives_the_tokenizer(tokenizers: dict, text: str) -> None:
    tokenizer = tokenizers["base"]
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


@pytest.mark.parametrize(("name", "size"), SIZES.items())
def test_benchmark_has_its_columns_and_right_answers(name: str, size: int) -> None:
    rows = read_rows(name)
    assert len(rows) == size
    for row in rows:
        if "gpqa" in name:
            wrong = [row[f"Incorrect Answer {number}"] for number in (1, 2, 3)]
            assert list(row) == [
                "Record ID",
                "Question",
                "Correct Answer",
                *(f"Incorrect Answer {i}" for i in (1, 2, 3)),
            ]
            assert len({row["Correct Answer"], *wrong} & set("0123456")) == 4
            assert row["Correct Answer"] == str(evaluate(row["Question"]))
        else:
            assert list(row) == ["problem", "answer", "id"]
            assert row["answer"] == str(evaluate(row["problem"]))
    assert len({row.get("Record ID") or row["id"] for row in rows}) == size


def test_no_question_occurs_twice_in_any_benchmark() -> None:
    questions = [question_of(row) for name in SIZES for row in read_rows(name)]
    assert len(questions) == 2300
    assert len(set(questions)) == len(questions)


@pytest.mark.parametrize("name", ["tiny_gpqa", "tiny_aime"])
def test_fresh_questions_are_as_long_as_those_of_the_search(name: str) -> None:
    shares = []
    for suffix in ("", "_fresh"):
        lengths = Counter(question_of(row).count(" ") - 3 for row in read_rows(name + suffix))
        shares.append({length: count / lengths.total() for length, count in lengths.items()})
    assert shares[0] == pytest.approx(shares[1], abs=0.002)


def test_recipe_draws_the_shipped_benchmarks_and_never_trains_on_them() -> None:
    benchmarks, held_out = problems.draw_benchmarks(Random("0 benchmarks"))
    assert benchmarks == {name: read_rows(name) for name in benchmarks}
    assert {question_of(row) for rows in benchmarks.values() for row in rows} == {
        "".join(language.question_tokens(*chain)) for chain in held_out
    }
    random = Random(0)
    short = {chain for chain in held_out if len(chain.operations) == 3}
    trained = set()
    for _ in range(2000):
        tokens, _ = problems.draw_example(random, 3, 3, problems.INSTRUCT, held_out)
        trained.add(re.search(r"Start .* = \?", "".join(tokens)).group())
    assert len(trained) > 500
    assert not trained & {"".join(language.question_tokens(*chain)) for chain in short}


@given(chain=chains)
def test_chain_agrees_with_an_evaluation_of_its_text(chain) -> None:
    assert chain.values()[-1] == evaluate("".join(language.question_tokens(*chain)))


@given(chain=chains, style=st.sampled_from(["base", "thinking", "instruct"]), seed=st.integers(0, 10**6))
def test_every_stated_value_of_a_response_is_right(chain, style: str, seed: int) -> None:
    styles = {"base": problems.base_style(0.7), "thinking": problems.THINKING, "instruct": problems.INSTRUCT}
    values = chain.values()
    tokens, weights = problems.draw_response(Random(seed), chain, str(values[-1]), styles[style])
    text = "".join(tokens)
    answer = re.fullmatch(r"(?:<think>(.*)</think>)?\\boxed\{(\d)\}<\|im_end\|>", text)
    assert answer is not None
    assert answer.group(2) == str(values[-1])
    for label, before, operation, after in re.findall(
        r" ([a-h])(?::(\d)([+*]\d)=)?(\d)", answer.group(1) or ""
    ):
        position = "abcdefgh".index(label)
        assert after == str(values[position + 1])
        if operation:
            assert (before, operation) == (str(values[position]), chain.operations[position])
    assert len(weights) == len(tokens)
    assert set(weights) <= {0.0, 0.4, 1.0, 2.0}


def test_styles_differ_as_their_models_should() -> None:
    chain = problems.Chain(3, ("+2", "*5", "+1", "*3", "+2"))
    thinks, lengths = {}, {}
    for name, style in (("thinking", problems.THINKING), ("instruct", problems.INSTRUCT)):
        unforced = replace(style, forced_thinking=0.0)
        responses = [problems.draw_response(Random(seed), chain, "0", unforced)[0] for seed in range(300)]
        thinks[name] = sum("<think>" in tokens for tokens in responses) / 300
        lengths[name] = sum(map(len, responses)) / 300
    assert thinks["thinking"] > 0.9 > 0.1 > thinks["instruct"]
    assert lengths["thinking"] > 3 * lengths["instruct"]


def test_batches_hold_their_examples_within_the_limit() -> None:
    batches = train.draw_batches(Random(0), train.BASE, 0.5, set())
    assert sum(len(tokens) for tokens, _ in batches) == train.CHUNK_EXAMPLES
    for tokens, weights in batches:
        assert tokens.shape == weights.shape
        assert tokens.numel() <= train.BATCH_TOKENS
        assert (weights[tokens == 0] == 0).all()
        boxes = (tokens == language.TOKEN_ID["\\boxed{"]).nonzero()
        assert (weights[boxes[:, 0], boxes[:, 1] + 1] == 2.0).all()


def small_stages() -> tuple:
    return replace(train.BASE, steps=1), [replace(stage, steps=1) for stage in train.FINE_TUNES]


def test_training_replaces_both_folders_at_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "BATCH_TOKENS", 100)
    for folder in ("models", "benchmarks"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "old").touch()
    train.make_pair(tmp_path, 1, *small_stages())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["benchmarks", "models"]
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == sorted(MODELS)
    assert not (tmp_path / "benchmarks" / "old").exists()
    shipped = {path.name for path in (RESOURCES / "models" / "base").iterdir()}
    assert {path.name for path in (tmp_path / "models" / "thinking").iterdir()} == shipped


def test_interrupted_training_leaves_what_ships_untouched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "old").touch()

    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "train", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train.make_pair(tmp_path, 1, *small_stages())
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["old"]
    assert not (tmp_path / "benchmarks").exists()
