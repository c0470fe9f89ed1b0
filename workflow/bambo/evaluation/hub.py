"""Benchmark data of the hub: downloaded once, by the first job of a run, for all evaluations to read.

`python -m bambo.evaluation.hub NAME SETTINGS FOLDER` is that job; SETTINGS is the config's entry of the task, in JSON.
"""

import argparse
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import BadInput
from ..files import write_json
from ..jobs import job
from .data import Data, data_hash, read_hub_record, write_data
from .tasks import benchmark_config, check_questions, has_examples, task_hash


def save(name: str, settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Write `folder`/<name>/ (the rows) and `folder`/<name>.json (what they are); returns the latter.

    What is there already for this task stays, so that all candidates of a run are asked the same questions.
    Raises BadInput where the data are not to be had, or are not what the task needs.
    """
    path, rows = folder / f"{name}.json", folder / name
    of = {"task": settings["task"], "task_hash": task_hash(name, settings["task"])}
    try:
        record = read_hub_record(path)
    except BadInput:
        record = {}  # to be made, also where it is damaged
    if record.items() >= of.items():
        write_json(path, record)  # for Snakemake: made now
        return record
    config = benchmark_config(name, settings)
    data, origin = _download(name, config)
    if not data.questions:
        raise BadInput(f"evaluation.tasks.{name}.task: {origin['dataset']} has no questions; use `data`")
    check_questions(
        name, settings, config, data.questions, f"evaluation.tasks.{name}.task: {origin['dataset']}"
    )
    write_data(rows, data)
    record = {
        **of,
        **origin,
        "questions": len(data.questions),
        "examples": len(data.examples),
        "data_hash": data_hash(rows),
    }
    write_json(path, record)
    return record


def _download(name: str, config: Mapping[str, Any]) -> tuple[Data, dict[str, Any]]:
    """The rows that a task needs, and where they are from."""
    import datasets
    from datasets.exceptions import DatasetNotFoundError

    datasets.disable_progress_bars()
    path, place = config.get("dataset_path"), f"evaluation.tasks.{name}.task"
    options = {
        key: value
        for key, value in (config.get("dataset_kwargs") or {}).items()
        if key != "trust_remote_code"
    }
    try:
        if callable(config.get("custom_dataset")):
            splits = config["custom_dataset"](**(config.get("metadata") or {}), **options)
        else:
            splits = datasets.load_dataset(path, config.get("dataset_name"), **options)
    except DatasetNotFoundError as error:
        if "gated" in str(error):
            raise BadInput(
                f"{place}: {path} is gated; accept the conditions at https://huggingface.co/datasets/{path} with your "
                "account, then set HF_TOKEN or run `hf auth login`; or give the questions as `data`"
            ) from None
        raise BadInput(
            f"{place}: the hub has no data set {path}, or hides it from you; correct the task, set HF_TOKEN, "
            "or give the questions as `data`"
        ) from None
    except OSError as error:
        raise BadInput(
            f"{place}: {path} is not to be had ({_first_line(error)}) and in no cache; start once with a network, "
            "set HF_HOME to a cache that holds it, or give the questions as `data`"
        ) from None
    except (ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise BadInput(
            f"{place}: {path} cannot be read ({_first_line(error)}); correct the task, or give the questions as `data`"
        ) from None
    asked = config.get("test_split") or config.get("validation_split")
    shown = _examples_split(config) if has_examples(config) else None
    for split in {asked, shown} - {None}:
        if split not in splits:
            raise BadInput(
                f"{place}: {path} has no split {split!r}, found {', '.join(splits)}; correct the task file"
            )
    examples = [] if shown in (None, asked) else [dict(row) for row in splits[shown]]
    origin = {
        "dataset": path,
        "name": config.get("dataset_name"),
        "split": asked,
        "revision": options.get("revision") or _revision(splits[asked]),
    }
    return Data([dict(row) for row in splits[asked]], examples), origin


def _examples_split(config: Mapping[str, Any]) -> str | None:
    """Where the harness takes the examples of few-shot prompts from."""
    own = (config.get("fewshot_config") or {}).get("split")
    given = own or config.get("fewshot_split") or config.get("training_split")
    return given or config.get("validation_split") or config.get("test_split")


def _revision(split: Any) -> str | None:
    """The commit of the hub that a split was made from, where it says so."""
    files = getattr(getattr(split, "info", None), "download_checksums", None) or {}
    commits = [found[1] for file in files if (found := re.search(r"@([0-9a-f]{40})/", file))]
    return commits[0] if commits else None


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bambo.evaluation.hub", description=__doc__)
    parser.add_argument("name")
    parser.add_argument("settings", type=json.loads)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--log", required=True)
    given = parser.parse_args()
    with job(given.log):
        save(given.name, given.settings, given.folder)
