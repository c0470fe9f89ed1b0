"""Models to take home: complete folders with a card, and the mistakes that leave everything as it was."""

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pico
import pytest
import torch
import yaml
from bambo import export as exporting
from bambo.checkpoint import merged_from
from bambo.config import is_hub_id
from bambo.errors import BadInput
from bambo.export import choose, export, push
from bambo.files import read_json, write_json
from bambo.merging import merge
from bambo.run import Merge, Run
from bambo.sources import describe
from fake_run import write_scores
from huggingface_hub import ModelCard
from safetensors.torch import load_file

TOKENIZER = Path(__file__).parents[2] / "resources" / "models" / "instruct"
PART = {
    **{"accuracy": 0.625, "accuracy_stderr": 0.03, "tokens": 1234.5, "tokens_stderr": None},
    **{"truncated": 0.01, "questions": 40, "repeats": 2},
}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run of two pico models with tokenizers, and their records."""
    pair = pico.make_pair(tmp_path)
    for name, path in pair.items():
        for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
            shutil.copyfile(TOKENIZER / file, path / file)
        if name == "thinking":
            (path / "README.md").write_text("---\nlicense: apache-2.0\n---\n\nA model.\n")
    asked = {"engine": "hf", "tasks": {}}
    run = pico.run_of(pair, folder=tmp_path / "results", evaluation=asked, end_point_evaluation=asked)
    for name, record in run.sources.items():
        write_json(tmp_path / "results" / "sources" / f"{name}.json", record)
    return run


def blockwise(run: Run) -> Merge:
    """Embeddings as the second source has them, three layers apart from the others."""
    weights = {group: [0.25, 0.75] for group in run.groups}
    weights["embeddings"] = [0.0, 1.0]
    weights |= {f"layers.{layer}": [0.7, 0.3] for layer in (3, 4, 5)}
    return Merge(weights)


def candidate(run: Run, merge: Merge) -> str:
    id = run.add(run.recipe(merge))
    versions = {"bambo": "0.1.0", "lm_eval": "1.2.3"}
    write_scores(
        run.folder / "candidates" / id,
        {"id": id, "status": "ok", "benchmarks": {"tiny": PART}, "versions": versions},
    )
    return id


def choice(id: str, name: str = "preference-0.5-0.5", **others: str) -> dict[str, str]:
    return {"name": name, "candidate": id, "preference": "0.5-0.5", "reason": "balanced", **others}


# -------------------------------------------------------------------------------------------------- a folder


def test_a_complete_folder_that_loads_and_generates(run: Run) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    id = candidate(run, blockwise(run))
    (row,) = export(run.folder, [choice(id)], run.folder / "models")
    folder = run.folder / "models" / "preference-0.5-0.5"
    assert row == {
        **{"name": folder.name, "path": str(folder), "candidate": id, "accuracy": 0.625, "tokens": 1234.5},
        "benchmarks": {
            "tiny": {"accuracy": 0.625, "accuracy_stderr": 0.03, "tokens": 1234.5, "tokens_stderr": None}
        },
        "preference": [0.5, 0.5],
        "reason": "balanced",
    }
    assert {path.name for path in folder.iterdir()} == {
        *("README.md", "recipe.json", "mergekit_config.yml", "model.safetensors", "config.json"),
        *("generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"),
    }
    assert read_json(folder / "recipe.json")["id"] == merged_from(folder) == id
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert tokenizer.chat_template
    prompt = torch.tensor([[2, 3]])
    assert model.generate(prompt, max_new_tokens=2, do_sample=False).shape[1] > 2


def test_the_card_says_what_it_is(run: Run) -> None:
    id = candidate(run, blockwise(run))
    export(run.folder, [choice(id)], run.folder / "models")
    card = ModelCard.load(run.folder / "models" / "preference-0.5-0.5" / "README.md")
    assert "merge" in card.data.tags
    assert (card.data.license, card.data.library_name) == ("other", "transformers")
    for text in (
        "| tiny | 40 | 2 | 0.625 ± 0.030 | 1,234 | 1.0% |",
        "| embeddings | 0 | 1 |",
        "| layers.0 to layers.2 | 0.25 | 0.75 |",
        "| layers.3 to layers.5 | 0.7 | 0.3 |",
        "| layers.6 to head | 0.25 | 0.75 |",
        "| apache-2.0 |",
        "| not stated |",
        "Method: `linear`",
        f"candidate `{id}`",
        "bambo merge recipe.json",
        "mergekit-yaml mergekit_config.yml",
        "lm_eval 1.2.3",
    ):
        assert text in card.text, text


def test_one_licence_of_all_sources_is_the_models(run: Run) -> None:
    for source in run.sources.values():
        Path(source["path"], "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    export(run.folder, [choice(candidate(run, blockwise(run)))], run.folder / "models")
    card = ModelCard.load(run.folder / "models" / "preference-0.5-0.5" / "README.md")
    assert card.data.license == "apache-2.0"


def test_sources_of_the_hub_are_its_base_models(run: Run) -> None:
    for name in run.sources:
        path = run.folder / "sources" / f"{name}.json"
        record = read_json(path) | {"model": f"no-such-org/{name}", "revision": "v1"}
        assert is_hub_id(record["model"])
        write_json(path, record)
    export(run.folder, [choice(candidate(run, blockwise(run)))], run.folder / "models")
    folder = run.folder / "models" / "preference-0.5-0.5"
    card = ModelCard.load(folder / "README.md")
    assert card.data.base_model == [f"no-such-org/{name}" for name in run.sources]
    assert card.data.base_model_relation == "merge"
    models = yaml.safe_load((folder / "mergekit_config.yml").read_text())["models"]
    assert [each["model"] for each in models] == [f"no-such-org/{name}@v1" for name in run.sources]


def test_random_masks_have_no_configuration_of_mergekit_and_the_card_says_why(run: Run) -> None:
    merge = Merge(run.everywhere([0.5, 0.5]).weights, "dare_linear")
    parameters = {
        name: dict.fromkeys(run.groups, value) for name, value in (("density", 0.5), ("lambda", 1.0))
    }
    id = candidate(run, Merge(merge.weights, merge.method, parameters))
    export(run.folder, [choice(id)], run.folder / "models")
    folder = run.folder / "models" / "preference-0.5-0.5"
    assert not (folder / "mergekit_config.yml").exists()
    card = (folder / "README.md").read_text()
    assert "no configuration of mergekit beside it: dare_linear draws its masks at random" in card
    assert "seed: 0" in card


def test_large_models_come_in_shards_as_transformers_writes_them(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM

    id = candidate(run, blockwise(run))
    merge(run.recipe(blockwise(run)), tmp_path / "single")
    monkeypatch.setattr(exporting, "SHARD", "20KB")
    export(run.folder, [choice(id)], run.folder / "models")
    folder = run.folder / "models" / "preference-0.5-0.5"
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.save_pretrained(tmp_path / "theirs", max_shard_size="20KB")
    ours, theirs = (
        sorted(path.name for path in each.glob("model*")) for each in (folder, tmp_path / "theirs")
    )
    assert ours == theirs
    assert len(ours) > 3
    index = "model.safetensors.index.json"
    mine, their = (read_json(each / index) for each in (folder, tmp_path / "theirs"))
    assert mine["metadata"] == their["metadata"]
    assert mine["weight_map"].keys() == their["weight_map"].keys()
    whole = load_file(tmp_path / "single" / "model.safetensors")
    shards = [load_file(path) for path in folder.glob("*.safetensors")]
    for name, tensor in {name: tensor for shard in shards for name, tensor in shard.items()}.items():
        assert tensor.equal(whole.pop(name))
    assert not whole
    assert merged_from(folder) == id
    export(run.folder, [choice(id)], run.folder / "models")  # and may be replaced


# ------------------------------------------------------------------------------------- again, and what is there


def test_what_is_there_is_not_made_again_and_another_candidate_takes_its_place(run: Run) -> None:
    first, second = (candidate(run, merge) for merge in (blockwise(run), run.everywhere([0.5, 0.5])))
    models = run.folder / "models"
    export(run.folder, [choice(first)], models)
    weights = models / "preference-0.5-0.5" / "model.safetensors"
    made = weights.stat().st_mtime_ns
    export(run.folder, [choice(first)], models)
    assert weights.stat().st_mtime_ns == made
    export(run.folder, [choice(second)], models)
    assert merged_from(weights.parent) == second


def test_other_contents_in_the_way_are_left_alone(run: Run) -> None:
    folder = run.folder / "models" / "preference-0.5-0.5"
    folder.mkdir(parents=True)
    (folder / "thesis.tex").write_text("all of it")
    with pytest.raises(BadInput, match=r"preference-0\.5-0\.5: there already and no merged model"):
        export(run.folder, [choice(candidate(run, blockwise(run)))], run.folder / "models")
    assert (folder / "thesis.tex").read_text() == "all of it"


def test_sources_that_changed_are_refused_wherever_they_changed(run: Run) -> None:
    id = candidate(run, blockwise(run))
    path = Path(run.sources["thinking"]["path"]) / "model.safetensors"
    with open(path, "r+b") as file:  # in the middle of a tensor, where no sample is taken
        file.seek(path.stat().st_size - 8)
        middle = max(8, path.stat().st_size // 2)
        file.seek(middle)
        byte = file.read(1)
        file.seek(middle)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(BadInput, match=r"sources\.thinking .*changed since the search"):
        export(run.folder, [choice(id)], run.folder / "models")
    assert not (run.folder / "models").exists()


def test_a_model_that_transformers_would_not_load_is_not_left_there(run: Run) -> None:
    for source in run.sources.values():
        path = Path(source["path"]) / "config.json"
        write_json(path, read_json(path) | {"num_hidden_layers": 13, "layer_types": None})
        record = describe(source["path"], None)
        source |= {key: record[key] for key in ("fingerprint", "sample")}
    id = candidate(run, blockwise(run))
    with pytest.raises(BadInput, match=r"loads it with missing keys: model\.layers\.12\."):
        export(run.folder, [choice(id)], run.folder / "models")
    assert not any((run.folder / "models").iterdir())


# ------------------------------------------------------------------------------------------------- what to export

SELECTION = pd.DataFrame(
    {
        "name": ["preference-0-1", "preference-1-0", "best-tiny"],
        "candidate": ["aaa", "bbb", "ccc"],
        "preference": ["0-1", "1-0", ""],
        "reason": ["brief", "accurate", "best"],
        "export": [3, 1, 2],
    }
)
OBSERVATIONS = pd.DataFrame(
    {
        "candidate": ["aaa", "bbb", "ccc", "ddd", "eee"],
        "status": ["ok", "ok", "ok", "ok", "failed"],
        "failure": ["", "", "", "", "out of memory"],
    }
)


def chosen(asked: Any) -> list[str]:
    return [each["candidate"] for each in choose(SELECTION, OBSERVATIONS, asked)]


def test_a_number_is_spread_over_the_front_and_names_and_ids_are_taken_as_they_are() -> None:
    assert chosen(2) == ["bbb", "ccc"]
    assert chosen(0) == []
    assert chosen(["ddd", "preference-0-1", "bbb"]) == ["ddd", "aaa", "bbb"]
    own, named = choose(SELECTION, OBSERVATIONS, ["ddd", "bbb"])
    assert own == {"name": "ddd", "candidate": "ddd", "preference": "", "reason": "asked for by its id"}
    assert named["name"] == "preference-1-0"


def test_a_candidate_that_failed_or_is_unknown_is_refused() -> None:
    with pytest.raises(BadInput, match=r"candidate eee failed \(out of memory\)"):
        chosen(["eee"])
    with pytest.raises(BadInput, match=r"found preference-0-2, expected .*most alike: preference-0-1"):
        chosen(["preference-0-2"])


# ----------------------------------------------------------------------------------------------------------- push


class Hub:
    """Stands in for the hub's interface, which cannot be reached from a test: it records what is asked of it."""

    calls: list[tuple[Any, ...]]

    def __init__(self) -> None:
        Hub.calls = []

    def create_repo(self, repository: str, **options: Any) -> str:
        Hub.calls.append(("create", repository, options))
        return f"https://hub/{repository}"

    def upload_folder(self, **options: Any) -> None:
        Hub.calls.append(("upload", options))


def test_push_makes_a_private_repository_of_the_given_name(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    export(run.folder, [choice(candidate(run, blockwise(run)))], run.folder / "models")
    folder = run.folder / "models" / "preference-0.5-0.5"
    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    assert push(folder, "user/merged") == "https://hub/user/merged"
    assert Hub.calls == [
        ("create", "user/merged", {"private": True, "exist_ok": False}),
        ("upload", {"repo_id": "user/merged", "folder_path": folder}),
    ]
    with pytest.raises(BadInput, match="merged: no name of a repository"):
        push(folder, "merged")
    with pytest.raises(BadInput, match="no exported model"):
        push(run.folder, "user/merged")


def test_a_hub_out_of_reach_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    export(run.folder, [choice(candidate(run, blockwise(run)))], run.folder / "models")
    monkeypatch.setattr(
        Hub, "create_repo", lambda *_, **__: (_ for _ in ()).throw(OSError("no network\nat all"))
    )
    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    with pytest.raises(BadInput, match=r"user/merged: not uploaded \(no network\); log in"):
        push(run.folder / "models" / "preference-0.5-0.5", "user/merged")
