"""The model card of an exported model: what it is made of, how it scored, and how to make it again."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from . import __version__
from .config import is_hub_id
from .evaluation.scores import shown
from .methods import METHODS
from .recipe import runs

TAGS = ["merge", "model-merging", "bambo"]


def card(
    choice: Mapping[str, Any],
    recipe: Mapping[str, Any],
    scores: Mapping[str, Any],
    origins: Mapping[str, Mapping[str, Any]],
    obstacle: str | None,
) -> str:
    """README.md of an exported model.

    origins: name -> record of sources/<name>.json, and `base` where the method has one; obstacle: why mergekit does not
    make the same model, None where it does.
    """
    licences = {name: licence(Path(record["path"])) for name, record in origins.items()}
    known = {own for own in licences.values() if own}
    data = ModelCardData(
        base_model=[record["model"] for record in origins.values() if is_hub_id(record["model"])] or None,
        base_model_relation="merge",
        tags=TAGS,
        license=known.pop() if len(known) == 1 and all(licences.values()) else "other",
        library_name="transformers",
        pipeline_tag="text-generation",
    )
    parts = [
        f"# {choice['name']}",
        f"A merge of {listed([title(record) for record in origins.values()])}, made by BAMBO {__version__}.",
        f"Chosen as: {choice['reason']}.",
        "## Scores",
        *_scores(scores),
        "## What it is made of",
        *_sources(origins, licences, recipe["files_from"]),
        f"Method: `{recipe['method']}` ({METHODS[recipe['method']].source}). Weights, by parts of the model:",
        *_weights(recipe),
        "## How to make it again",
        *_again(recipe, obstacle),
        f"Exported {datetime.now(UTC):%Y-%m-%d}; candidate `{recipe['id']}`; scored with "
        + listed([f"{name} {version}" for name, version in scores["versions"].items()])
        + ".",
    ]
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n"))


def title(record: Mapping[str, Any]) -> str:
    """What a source is called: its hub id, with the revision that was asked for, or its folder."""
    revision = f"@{record['revision']}" if record["revision"] and is_hub_id(record["model"]) else ""
    return f"{record['model']}{revision}"


def licence(folder: Path) -> str | None:
    """The licence that a model's own card states; None where it states none."""
    path = folder / "README.md"
    if not path.exists():
        return None
    try:
        data = ModelCard.load(path).data
    except ValueError:  # no YAML
        return None
    stated = data.get("license_name") if data.license == "other" else data.license
    return str(stated) if stated else None


def listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _scores(scores: Mapping[str, Any]) -> list[str]:
    rows = [
        "| benchmark | questions | answers each | accuracy | output tokens an answer | cut off |",
        "|---" * 6 + "|",
    ]
    for name, part in scores["benchmarks"].items():
        rows.append(
            f"| {name} | {part['questions']} | {part['repeats']} | {shown(part, 'accuracy', '.3f')} "
            f"| {shown(part, 'tokens', ',.0f')} | {part['truncated']:.1%} |"
        )
    return [
        "\n".join(rows),
        "± is the standard error over questions. The model was chosen by these very scores out of many, so that they "
        "promise somewhat too much; other questions tell what it is worth.",
    ]


def _sources(
    origins: Mapping[str, Mapping[str, Any]], licences: Mapping[str, str | None], files_from: str
) -> list[str]:
    rows = ["| | model | licence | contents (sha256) |", "|---" * 4 + "|"]
    rows += [
        f"| {name} | {title(record)}{' + ' + record['adapter'] if record.get('adapter') else ''} "
        f"| {licences[name] or 'not stated'} | `{record['fingerprint'][:12]}` |"
        for name, record in origins.items()
    ]
    return [
        "\n".join(rows),
        f"Config, tokenizer, chat template and generation config are those of {files_from}. "
        "Whoever passes this model on is bound by the licences of all sources.",
    ]


def _weights(recipe: Mapping[str, Any]) -> list[str]:
    names, parameters = list(recipe["sources"]), recipe.get("parameters", {})
    rows = [
        "| part | " + " | ".join([*names, *parameters]) + " |",
        "|---" * (1 + len(names) + len(parameters)) + "|",
    ]
    for part, values in runs(recipe):
        rows.append(f"| {part} | " + " | ".join(f"{value:.6g}" for value in values) + " |")
    return ["\n".join(rows)]


def _again(recipe: Mapping[str, Any], obstacle: str | None) -> list[str]:
    lines = ["```\nbambo merge recipe.json OUTPUT\n```"]
    if "options" in recipe:
        lines.append(f"With {listed([f'{key}: {value}' for key, value in recipe['options'].items()])}.")
    lines.append(
        "`recipe.json` names the sources' folders as they were here; their contents must have the hashes above."
    )
    if obstacle is None:
        lines.append("Or with mergekit: `mergekit-yaml mergekit_config.yml OUTPUT`.")
    else:
        lines.append(f"There is no configuration of mergekit beside it: {obstacle}.")
    return lines
