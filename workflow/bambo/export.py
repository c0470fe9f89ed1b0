"""Chosen models, merged again, checked, and put where they can be served from."""

import logging
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import pandas as pd

from . import mergekit_config, model_card
from .candidate.folder import read_scores
from .candidate.work import SIMULATED
from .checkpoint import check_finite, check_replaceable, fingerprint, merged_from, open_checkpoint
from .errors import BadInput
from .files import atomic, read_json, write_json, write_text
from .merging import merge
from .recipe import read_recipe

CARD, MERGEKIT = "README.md", "mergekit_config.yml"
SHARD = "50GB"  # the largest weight file, as transformers has it

log = logging.getLogger(__name__)


def choose(
    selection: pd.DataFrame, observations: pd.DataFrame, asked: int | Sequence[str]
) -> list[dict[str, Any]]:
    """What to export, one dict a model: `name`, `candidate`, `preference`, `reason`.

    asked: how many of the chosen models, spread over the front, or names of chosen models and ids of candidates.
    BadInput for a candidate that failed or that there is none of, with those that are spelt most alike.
    """
    columns = ["name", "candidate", "preference", "reason"]
    if isinstance(asked, int):
        return selection.sort_values("export").head(asked)[columns].to_dict("records")  # type: ignore[return-value]
    return [_chosen(selection, observations, name, columns) for name in asked]


def _chosen(
    selection: pd.DataFrame, observations: pd.DataFrame, name: str, columns: list[str]
) -> dict[str, Any]:
    for column in ("name", "candidate"):
        rows = selection[selection[column] == name]
        if len(rows):
            return {str(key): value for key, value in rows.iloc[0][columns].items()}
    rows = observations[observations["candidate"] == name]
    if rows.empty:
        known = [*selection["name"], *dict.fromkeys(observations["candidate"])]
        nearest = get_close_matches(name, known, n=3, cutoff=0)
        raise BadInput(
            f"selection.export: found {name}, expected a name in tables/selection.csv or a candidate's id; most alike: "
            f"{', '.join(nearest)}"
        )
    status, failure = rows[["status", "failure"]].iloc[0]
    if status == "failed":
        raise BadInput(
            f"selection.export: candidate {name} failed ({failure}), expected one that has scores; "
            "`bambo failed` says how to evaluate it again"
        )
    return {"name": name, "candidate": name, "preference": "", "reason": "asked for by its id"}


def export(
    run: Path, choices: Sequence[Mapping[str, Any]], models: Path, threads: int = 2
) -> list[dict[str, Any]]:
    """Write models/<name>/ for every choice; returns the rows of models/index.json.

    Each is a complete Hugging Face folder, whole or absent, with a model card (README.md), the recipe that makes it
    (recipe.json), and mergekit's configuration of the same model where there is one (mergekit_config.yml). Of what is
    there already nothing is made again; an older export of that name is replaced, anything else there is not.

    BadInput where the scores that they were chosen by are simulated, where the sources are no longer what the search
    merged, where something else is in the way, and where transformers would not load what was written.
    """
    paths = [run / "candidates" / choice["candidate"] / "recipe.json" for choice in choices]
    for path in paths:
        if read_json(path)["evaluation"]["engine"] == SIMULATED:
            raise BadInput(
                f"{run}: its scores are simulated, expected those of real models; there is nothing to export: "
                "choose another evaluation.engine, and another run name"
            )
    recipes = [read_recipe(path) for path in paths]
    folders = [models / choice["name"] for choice in choices]
    missing = [
        (folder, recipe)
        for folder, recipe in zip(folders, recipes, strict=True)
        if merged_from(folder) != recipe["id"] or not (folder / CARD).exists()
    ]
    for folder, _ in missing:
        check_replaceable(folder)
    check_sources([recipe for _, recipe in missing])
    rows = []
    for choice, folder, recipe in zip(choices, folders, recipes, strict=True):
        scores = read_scores(run / "candidates" / recipe["id"])
        if (folder, recipe) in missing:
            _write(run, choice, folder, recipe, scores, threads)
        else:
            log.info("%s: is there already", folder)
        rows.append(_row(choice, folder, scores))
    return rows


def check_sources(recipes: Sequence[Mapping[str, Any]]) -> None:
    """Read all that the recipes are made of once; BadInput where its contents are not those that were merged."""
    models = {
        (model["path"], model.get("adapter")): (name, model["fingerprint"])
        for recipe in recipes
        for name, model in [
            *recipe["sources"].items(),
            *([("base", recipe["base"])] if "base" in recipe else []),
        ]
    }
    for (path, adapter), (name, expected) in models.items():
        found = fingerprint(open_checkpoint(path, adapter))["fingerprint"]
        if found != expected:
            raise BadInput(
                f"sources.{name} ({path}): changed since the search, its contents have the hash {found[:12]}, expected "
                f"{expected[:12]}; restore its files, or start a run with another name"
            )


def _write(
    run: Path,
    choice: Mapping[str, Any],
    folder: Path,
    recipe: Mapping[str, Any],
    scores: Mapping[str, Any],
    threads: int,
) -> None:
    origins = {name: read_json(run / "sources" / f"{name}.json") for name in recipe["sources"]}
    if "base" in recipe and (run / "base.json").exists():
        origins["base"] = read_json(run / "base.json")
    names = {record["fingerprint"]: model_card.title(record) for record in origins.values()}
    template = open_checkpoint(recipe["sources"][recipe["files_from"]]["path"])
    with atomic(folder) as temporary:
        merge(recipe, temporary, threads=threads, max_shard_size=SHARD)
        check_loads(temporary)
        write_json(temporary / "recipe.json", recipe)
        config = mergekit_config.text(recipe, template, names)
        if config is not None:
            write_text(temporary / MERGEKIT, config)
        obstacle = mergekit_config.obstacle(recipe, template)
        write_text(temporary / CARD, model_card.card(choice, recipe, scores, origins, obstacle))
    log.info("%s: merged from %s%s", folder, recipe["id"], f"; no {MERGEKIT}: {obstacle}" if obstacle else "")


def check_loads(folder: Path) -> None:
    """BadInput unless all weights are finite, and transformers finds all that the architecture has, and a tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    check_finite(open_checkpoint(folder))
    try:
        # The weights' names and shapes alone, which takes no memory.
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder, device_map="meta", output_loading_info=True
        )
        AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise BadInput(
            f"{folder}: transformers does not load it ({reason}); see whether it loads the sources"
        ) from None
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if wrong := sorted(map(str, loaded[1][kind])):
            raise BadInput(
                f"{folder}: transformers loads it with {kind.replace('_', ' ')}: {', '.join(wrong[:3])}; "
                "see whether it loads the sources, and which version they ask for"
            )


def _row(choice: Mapping[str, Any], folder: Path, scores: Mapping[str, Any]) -> dict[str, Any]:
    parts = scores["benchmarks"]
    means = {key: sum(part[key] for part in parts.values()) / len(parts) for key in ("accuracy", "tokens")}
    preference = [float(weight) for weight in choice["preference"].split("-") if weight]
    return {
        "name": choice["name"],
        "path": str(folder),
        "candidate": choice["candidate"],
        **means,
        "benchmarks": {
            name: {key: part[key] for key in ("accuracy", "accuracy_stderr", "tokens", "tokens_stderr")}
            for name, part in parts.items()
        },
        "preference": preference or None,
        "reason": choice["reason"],
    }


def push(folder: Path, repository: str, public: bool = False) -> str:
    """Upload an exported model to a new repository of the hub, private unless asked; returns its address.

    BadInput where the folder is no export, the name is no `user/name`, the repository is there, or the hub refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    if merged_from(folder) is None or not (folder / CARD).exists():
        raise BadInput(
            f"{folder}: no exported model, expected a folder of `snakemake export` (results/<run>/models/<name>)"
        )
    if repository.count("/") != 1:
        raise BadInput(f"{repository}: no name of a repository, expected USER/NAME")
    api = HfApi()
    try:
        address = str(api.create_repo(repository, private=not public, exist_ok=False))
        api.upload_folder(repo_id=repository, folder_path=folder)
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise BadInput(
            f"{repository}: not uploaded ({reason}); log in with `hf auth login`, or choose another name"
        ) from None
    return address
