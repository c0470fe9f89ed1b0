"""Importance of the layers: discrepancies of pico models with known answers, their fusion, prompts, and the config."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from bambo.checkpoint import groups, open_checkpoint
from bambo.config import asking, compares_activations, deciding, granularities, importance_notes, load
from bambo.config.importance import check_prompts
from bambo.errors import BadInput
from bambo.evaluation.engine import EvaluationFailed, Machine
from bambo.evaluation.hidden_states import asked, compare, discrepancies, hidden_states
from bambo.evaluation.prompts import check_overlap, read_prompts
from bambo.importance import (
    LEAST,
    activation_discrepancy,
    fuse,
    of_groups,
    of_parts,
    parameter_discrepancy,
    read_discrepancies,
    smooth,
    squash,
    tables,
)
from bambo.partition import layer_differences
from bambo.report.importance import figure_importance
from bambo.report.style import save
from bambo.sources import describe
from bambo.space import importance as importance_of
from bambo.space import parts, variables
from demo_config import demo
from hypothesis import given
from hypothesis import strategies as st
from pico import make_adapter, make_model, make_pair
from pico_chat import aime_task, chat_recipe, gpqa_task, make_chat_pair

GROUPS = ["embeddings", *(f"layers.{i}" for i in range(5)), "head"]
HALVES = {"parameters": 0.5, "activations": 0.5}


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# -------------------------------------------------------------------------------------------------- squash and fusion


def test_squash_is_the_logistic_function_of_robust_units() -> None:
    values = np.array([1.0, 2.0, 3.0, 4.0, 100.0])
    found = squash(values)
    assert found[2] == 0.5
    np.testing.assert_allclose(found[1], 1 / (1 + np.exp(1 / 1.4826)))
    assert found[4] > 0.999
    np.testing.assert_allclose(squash(1e-6 * values + 7), found, rtol=1e-6)


def test_squash_where_most_are_equal_is_min_max() -> None:
    np.testing.assert_array_equal(squash(np.array([1.0, 1.0, 1.0, 3.0, 2.0])), [0, 0, 0, 1, 0.5])
    np.testing.assert_array_equal(squash(np.full(4, 0.2)), np.full(4, 0.5))


def test_layers_are_smoothed_and_their_neighbours_of_another_kind_are_not() -> None:
    values = np.array([9.0, 0.0, 0.0, 4.0, 0.0, 8.0, 7.0])
    np.testing.assert_array_equal(smooth(values, GROUPS), [9, 0, 1, 2, 3, 6, 7])
    names = ["layers.0.attention", "layers.0.mlp", "layers.1.attention", "layers.1.mlp", "layers.2.attention"]
    np.testing.assert_array_equal(smooth(np.array([4.0, 8, 0, 0, 0]), names), [3, 6, 1, 2, 0])


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 2)), min_size=7, max_size=7),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_importance_lies_in_its_bounds(pairs: list, first: float, second: float) -> None:
    own, other = np.array(pairs).T
    weights = {"parameters": first, "activations": second}
    if first + second == 0:
        return
    found = fuse(GROUPS, own, other, weights)
    if found is not None:
        assert ((found >= LEAST) & (found <= 1)).all()
        doubled = {name: 0.5 * weight for name, weight in weights.items()}
        np.testing.assert_allclose(fuse(GROUPS, own, other, doubled), found, atol=1e-9)


def test_weights_decide_whose_importance_it_is() -> None:
    own, other = np.linspace(0, 1, 7), np.linspace(1, 0, 7)
    rising = fuse(GROUPS, own, other, {"parameters": 1.0, "activations": 0.0})
    assert (np.diff(rising) > 0).all()
    np.testing.assert_array_equal(fuse(GROUPS, own, None, HALVES), rising)
    np.testing.assert_allclose(fuse(GROUPS, own, other, HALVES), 0.5, atol=1e-12)
    assert (np.diff(fuse(GROUPS, own, other, {"parameters": 0.2, "activations": 0.8})) < 0).all()


def test_no_importance_where_nothing_tells_the_parts_apart(caplog: pytest.LogCaptureFixture) -> None:
    assert fuse(GROUPS, np.full(7, 0.1), np.full(7, 0.3), HALVES) is None
    assert "searches go without importance" in caplog.text
    assert fuse(GROUPS, np.full(7, 0.1), np.linspace(0, 1, 7), HALVES) is not None
    # What has no weight tells nothing.
    only = {"parameters": 1.0, "activations": 0.0}
    assert fuse(GROUPS, np.full(7, 0.1), np.linspace(0, 1, 7), only) is None


def test_blocks_have_the_mean_of_their_layers() -> None:
    values = dict(zip(GROUPS, np.arange(7) / 10, strict=True))
    found = of_parts([["embeddings"], ["layers.0", "layers.1", "layers.2"], GROUPS], values)
    assert found == pytest.approx([0.0, 0.2, 0.3])
    assert of_parts([["embeddings"]], {"embeddings": np.nan}) is None


# ------------------------------------------------------------------------------------------------------- parameters


def test_parameters_are_compared_by_relative_norms(tmp_path: Path) -> None:
    """Each layer is the last source's, times a factor: the discrepancy is that factor less 1, whatever the norm."""
    make_model(tmp_path / "b")
    model = make_model(tmp_path / "a")
    for name, parameter in model.named_parameters():
        layer = name.split(".layers.")[-1].split(".")[0]
        parameter.data *= 1.0 + (0.1 * (int(layer) + 1) if layer.isdigit() else 0.05)
    model.save_pretrained(tmp_path / "a")
    frame = layer_differences([open_checkpoint(tmp_path / name) for name in "ab"])
    found = parameter_discrepancy(frame)
    assert list(found.index) == ["embeddings", *(f"layers.{i}" for i in range(12)), "head"]
    np.testing.assert_allclose(found, [0.05, *(0.1 * (i + 1) for i in range(12)), 0.05], rtol=1e-4)


def test_differences_of_an_earlier_checkout_are_to_be_made_anew(tmp_path: Path) -> None:
    pd.DataFrame({"group": ["head"], "l1": [1.0], "l2": [1.0]}).to_parquet(tmp_path / "differences.parquet")
    with pytest.raises(BadInput, match=r"differences.parquet: no column relative.*--forcerun differences"):
        read_discrepancies(tmp_path / "differences.parquet", None)


# ------------------------------------------------------------------------------------------------------ activations


@pytest.mark.parametrize("architecture", ["qwen3", "gpt2", "gpt_neox", "phi3"])
def test_hidden_states_are_those_behind_each_part(tmp_path: Path, architecture: str) -> None:
    """As transformers returns them, but for the last layer's, which it returns behind the norm only."""
    model = make_model(tmp_path / "m", architecture).eval()
    prompts = [[3, 4, 5], [6], [7, 8, 9], [5, 5]]
    found = hidden_states(model, prompts, batch_size=2)
    layers = open_checkpoint(tmp_path / "m").layers
    assert found.shape == (4, layers + 2, 16)
    for place, prompt in enumerate(prompts):
        with torch.no_grad():
            output = model(torch.tensor([prompt]), output_hidden_states=True)
        expected = [state[0, -1].numpy() for state in output.hidden_states]
        np.testing.assert_allclose(found[place, :layers], expected[:-1], atol=1e-5)
        np.testing.assert_allclose(found[place, -1], expected[-1], atol=1e-5)
        with torch.no_grad():
            logits = model.get_output_embeddings()(torch.tensor(found[place, -1]))
        np.testing.assert_allclose(logits, output.logits[0, -1], atol=1e-4)
    assert np.abs(found[:, -2] - found[:, -1]).max() > 1e-3


def test_the_cosine_knows_direction_alone_in_float64() -> None:
    R = np.array([[[1.0, 0.0], [3.0, 4.0], [0.0, 0.0]]], dtype=np.float32)
    B = np.array([[[0.0, 2.0], [6.0, 8.0], [1.0, 0.0]]], dtype=np.float32)
    found = discrepancies(R, B)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, [[1, 0, 1]], atol=1e-15)
    # A difference that float32 would round away.
    near = np.array([[[1.0, 1e-5]]], dtype=np.float32)
    assert discrepancies(near, np.array([[[1.0, 0.0]]], dtype=np.float32))[0, 0] == pytest.approx(
        5e-11, rel=1e-3
    )


def recipes_of(records: dict[str, Any], **options: Any) -> dict[str, dict[str, Any]]:
    """Of each source alone, under the first one's files."""
    recipe = chat_recipe({}, **options)
    names = list(records)
    sources = {
        name: {key: record[key] for key in ("path", "fingerprint", "sample", "adapter") if record.get(key)}
        for name, record in records.items()
    }
    return {
        name: {
            **recipe,
            "sources": sources,
            "weights": {
                group: [float(name == other) for other in names] for group in records[name]["groups"]
            },
            "files_from": names[0],
        }
        for name in names
    }


def test_only_what_lies_behind_a_change_is_apart(tmp_path: Path) -> None:
    """The second source is the first with another last layer: states part there, and not before."""
    records = make_chat_pair(tmp_path, num_hidden_layers=4)
    from transformers import AutoModelForCausalLM

    folder = Path(records["instruct"]["path"])
    model = AutoModelForCausalLM.from_pretrained(records["thinking"]["path"])
    for name, parameter in model.named_parameters():
        if ".layers.2." in name:
            parameter.data = torch.randn(parameter.shape)
    model.save_pretrained(folder)
    rows = compare(recipes_of(records), ["What is 1+1?", "2", "abc"], Machine(batch_size=2), tmp_path)
    frame = pd.DataFrame(rows, columns=["source", "group", "prompt", "discrepancy"])
    assert set(frame["source"]) == {"thinking"}
    assert len(frame) == 3 * 6
    found = activation_discrepancy(frame, ["embeddings", *(f"layers.{i}" for i in range(4)), "head"])
    np.testing.assert_allclose(found[:3], 0, atol=1e-12)
    assert (found[3:] > 0.01).all()
    # A module has the states of its layer, which lie behind both.
    np.testing.assert_array_equal(
        activation_discrepancy(frame, ["layers.2.mlp", "layers.3.attention"]), found[3:5]
    )


def test_a_source_with_an_adapter_is_merged_first_and_leaves_nothing(tmp_path: Path) -> None:
    records = make_chat_pair(tmp_path)
    thinking = records["thinking"]
    folder = Path(thinking["path"])
    adapter = make_adapter(folder, tmp_path / "adapter", target_modules=["q_proj", "down_proj"])
    records = {"tuned": describe(str(folder), None, str(adapter)), "thinking": thinking}
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    rows = compare(recipes_of(records), ["2"], Machine(), scratch)
    values = {group: value for _, group, _, value in rows}
    assert values["embeddings"] == pytest.approx(0, abs=1e-12)
    assert values["layers.0"] > 1e-4
    assert list(scratch.iterdir()) == []


def test_broken_weights_are_no_discrepancy(tmp_path: Path) -> None:
    model = make_model(tmp_path / "m").eval()
    model.model.layers[3].mlp.up_proj.weight.data[:] = np.inf
    with pytest.raises(EvaluationFailed, match="NaN or infinite"):
        hidden_states(model, [[1, 2]], 1)


def test_a_prompt_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"prompt 2 has 302 tokens, the models have room for 256"):
        compare(recipes_of(make_chat_pair(tmp_path)), ["a", "b" * 300], Machine(), tmp_path)


# ------------------------------------------------------------------------------------------------------------- table


def test_modules_have_their_own_parameters_and_the_activations_of_their_layer(tmp_path: Path) -> None:
    pair = make_pair(tmp_path)
    checkpoints = [open_checkpoint(path) for path in pair.values()]
    differences = layer_differences(checkpoints)
    names = list(groups(checkpoints[0]))
    rows = [("thinking", group, 0, 0.01 * place) for place, group in enumerate(names)]
    activations = pd.DataFrame(rows, columns=["source", "group", "prompt", "discrepancy"])
    found = tables(differences, activations, HALVES, ["layer", "module"])
    layers, modules = (found[found["granularity"] == kind].set_index("group") for kind in ("layer", "module"))
    assert list(layers.index) == names
    assert len(modules) == 2 + 2 * 12
    for layer in range(12):
        pair_of = modules.loc[[f"layers.{layer}.attention", f"layers.{layer}.mlp"]]
        assert (pair_of["activations"] == layers.loc[f"layers.{layer}", "activations"]).all()
        assert pair_of["parameters"].nunique() == 2
        mine = differences[differences["group"] == f"layers.{layer}"]
        mlp = mine[mine["tensor"].str.contains("mlp|post_attention")]["relative"].mean()
        assert pair_of.loc[f"layers.{layer}.mlp", "parameters"] == pytest.approx(mlp)
    for kind, granularity in [
        ("module", "module"),
        ("layer", "layer"),
        ("hybrid", "block"),
        ("model", "model"),
    ]:
        cut = parts(differences, 3, kind)
        values = of_parts([part["groups"] for part in cut], of_groups(found, granularity))
        assert values is not None
        named = [{**part, "importance": value} for part, value in zip(cut, values, strict=True)]
        space = variables(named, ["a", "b"], {"method": "linear"})
        np.testing.assert_array_equal(importance_of(space), values)
    for frame in (found, found.assign(importance=np.nan, activations=np.nan)):
        save(figure_importance(frame, HALVES), tmp_path / "importance.svg")
        assert (tmp_path / "importance.svg").stat().st_size > 5000


# ----------------------------------------------------------------------------------------------------------- prompts


def test_prompts_are_rows_or_lines(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "one\\ntwo"}\n{"prompt": "three"}\n')
    assert read_prompts(tmp_path / "a.jsonl") == ["one\ntwo", "three"]
    (tmp_path / "a.csv").write_text('id,prompt\n1,"one, two"\n2,\n')
    assert read_prompts(tmp_path / "a.csv") == ["one, two"]
    (tmp_path / "a.txt").write_text("one\n\n two\n")
    assert read_prompts(tmp_path / "a.txt") == ["one", " two"]


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("none.txt", None, "cannot read"),
        ("none.jsonl", None, "no file"),
        ("a.md", "one", r"ends in '.md', expected one of txt, csv"),
        ("a.jsonl", '{"question": "one"}\n', r"no column 'prompt', found 'question'"),
        ("a.txt", "\n \n", "holds no prompts"),
        ("a.csv", "prompt\n \n", "holds no prompts"),
        ("a.jsonl", "", "no rows"),
    ],
)
def test_what_is_no_file_of_prompts(tmp_path: Path, name: str, text: str | None, problem: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(BadInput, match=rf"^importance\.prompts: .*{problem}"):
        read_prompts(tmp_path / name)


LONG = "What is the smallest prime number above one hundred?"


@pytest.mark.parametrize(
    ("prompt", "question"),
    [
        ("sum 3", "sum 3"),
        ("  What IS\tthe smallest prime number above\none hundred? ", LONG),
        (f"{LONG}\n\nPlease reason step by step.", LONG),
        (LONG, f"Question: {LONG} (A)101 (B)103"),
    ],
)
def test_a_scored_question_is_no_prompt(prompt: str, question: str) -> None:
    with pytest.raises(
        BadInput, match=r"importance\.prompts: prompt 2 of p\.txt is a question of evaluation\.tasks\.b "
    ):
        check_overlap(["another", prompt], [("b", [question])], Path("p.txt"))


@pytest.mark.parametrize(
    ("prompt", "question"), [("sum 3", "sum 31"), ("1", "What is 1+1?"), (LONG, LONG[:-12])]
)
def test_other_questions_are_prompts(prompt: str, question: str) -> None:
    check_overlap([prompt], [("b", [question, ""])], Path("p.txt")) if len(question) < 30 else None
    check_overlap([prompt], [("b", ["Something else that is long enough to count."])], Path("p.txt"))


def test_questions_are_compared_as_they_are_asked(tmp_path: Path) -> None:
    """The prompt that the template makes of a row, with the options in the order in which they are asked."""
    tasks = {"tiny": gpqa_task(tmp_path), "numbers": aime_task(tmp_path)}
    texts = list(asked(chat_recipe(tasks)["evaluation"]["tasks"]))
    assert [name for name, _ in texts] == ["tiny"] * 6 + ["numbers"] * 5
    options = texts[2][1][0]
    assert options.startswith("sum 2|")
    assert sorted(options.split("|")[1:]) == ["2", "21", "22", "23"]
    with pytest.raises(BadInput, match=r"prompt 1 of .* evaluation\.tasks\.tiny"):
        check_overlap([options.upper()], texts, Path("p.txt"))
    check_overlap(["sum 9|9|91|92|93"], texts, Path("p.txt"))


# ------------------------------------------------------------------------------------------------------------ config


def given_config(**changes: Any) -> Any:
    return demo(searches={"ap": {"preset": "ap-bmm"}}, **changes)


def test_a_search_that_asks_needs_prompts() -> None:
    with pytest.raises(
        BadInput,
        match=r"importance\.prompts: missing.* searches\.ap; add one, or set importance\.activations",
    ):
        load(given_config())
    assert compares_activations(load(given_config(importance={"prompts": "p.txt"})))
    alone = load(given_config(importance={"activations": 0}))
    assert asking(alone) == ["ap"]
    assert not compares_activations(alone)


def test_one_of_the_weights_is_needed() -> None:
    with pytest.raises(
        BadInput, match=r"importance\.parameters: found 0, as activations, expected more than 0"
    ):
        load(given_config(importance={"parameters": 0, "activations": 0}))


def test_simulated_models_have_no_hidden_states() -> None:
    config = given_config()
    config["evaluation"]["engine"] = "simulated"
    with pytest.raises(
        BadInput, match=r"importance\.activations: found 0\.5 with engine: simulated.*set it to 0"
    ):
        load(config)
    assert asking(load(config | {"importance": {"activations": 0}})) == ["ap"]


def test_what_nobody_asks_for_is_noted() -> None:
    config = load(demo(importance={"prompts": "p.txt"}))
    assert asking(config) == []
    assert importance_notes(config) == ["importance: no search asks for it (lengthscale_prior: importance)"]
    assert importance_notes(load(demo())) == []


def test_modules_are_told_apart_where_a_search_does() -> None:
    assert granularities(load(given_config(importance={"activations": 0}))) == ["layer"]
    searches = {"ap": {"preset": "ap-bmm", "granularity": "module"}}
    assert granularities(load(demo(searches=searches, importance={"activations": 0}))) == ["layer", "module"]


def test_a_search_is_tied_to_the_prompts_contents(tmp_path: Path) -> None:
    keys = []
    for name, text in [("a.txt", "one"), ("b.txt", "one"), ("c.txt", "two")]:
        (tmp_path / name).write_text(text)
        config = load(given_config(importance={"prompts": str(tmp_path / name)}))
        keys.append(deciding(config, "ap"))
    assert keys[0] == keys[1] != keys[2]
    assert keys[0]["importance.activations"] == 0.5
    other = deciding(load(given_config(importance={"activations": 0})), "ap")
    assert other["importance.activations"] == 0
    assert "importance.prompts_hash" not in other
    assert not any(key.startswith("importance") for key in deciding(load(demo()), "blocks"))


def test_prompts_are_checked_against_local_questions_before_any_job(tmp_path: Path) -> None:
    config = load(given_config(importance={"prompts": "resources/prompts/tiny.jsonl"}))
    root = Path(__file__).parents[2]
    data = {
        name: task.model_copy(update={"data": str(root / task.data)})
        for name, task in config.evaluation.tasks.items()
    }
    evaluation = config.evaluation.model_copy(update={"tasks": data})

    def with_prompts(path: Path) -> Any:
        table = config.importance.model_copy(update={"prompts": str(path)})
        return config.model_copy(update={"evaluation": evaluation, "importance": table})

    check_prompts(with_prompts(root / "resources/prompts/tiny.jsonl"))
    (tmp_path / "p.txt").write_text("Start 0: a+1 b+1 = ?\nstart 1: A*2 b+3 c*3  = ?\n")
    with pytest.raises(BadInput, match=r"prompt 2 of .*p\.txt is a question of evaluation\.tasks\.tiny_aime"):
        check_prompts(with_prompts(tmp_path / "p.txt"))
    with pytest.raises(BadInput, match="no file"):
        check_prompts(with_prompts(tmp_path / "none.jsonl"))


def test_reranking_that_is_of_no_use_is_refused() -> None:
    config = given_config(importance={"activations": 0})
    config["searches"]["ap"]["acquisition"] = "thompson"
    with pytest.raises(
        BadInput, match=r"searches\.ap\.gap_reward: found 0\.25, of no use with acquisition: thompson"
    ):
        load(config)
    config = given_config(importance={"activations": 0})
    third = {"metric": "flops", "expert": "instruct", "base": "thinking"}
    config["objectives"] = {**config["objectives"], "flops_saved": third}
    config.pop("reference_point", None)
    with pytest.raises(BadInput, match=r"searches\.ap\.gap_reward: found 0\.25, of no use with 3 objectives"):
        load(config)
    config["searches"]["ap"]["gap_reward"] = 0.0
    load(config)


def test_the_prompts_that_ship_are_no_questions_of_the_demo() -> None:
    root = Path(__file__).parents[2] / "resources"
    prompts = read_prompts(root / "prompts/tiny.jsonl")
    assert len(set(prompts)) == len(prompts) == 64
    chains = {prompt.partition(" = ?")[0] for prompt in prompts}
    assert len(chains) == 64
    for file in (root / "benchmarks").iterdir():
        text = file.read_text()
        assert not any(f"{chain} = ?" in text for chain in chains)
