"""What is made from the models of the config: does it agree with the files in config/ and with the demo?"""

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml
from bambo.config import load
from bambo.config.reference import reference, schema_text
from bambo.config.schema import config_schema, rows
from bambo.search.presets import PRESETS

CONFIG = Path(__file__).parents[2] / "config"
ROWS = list(rows(config_schema()))


@pytest.mark.parametrize(("name", "text"), [("README.md", reference()), ("schema.json", schema_text())])
def test_generated_files_are_up_to_date(name: str, text: str) -> None:
    assert (CONFIG / name).read_text() == text, "run `python -m bambo.config --write`"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)
def test_every_key_is_described_on_one_line_and_in_the_reference(row) -> None:
    assert re.fullmatch(r"[^|\n]+", row.node["description"])
    top = row.key.partition(".")[0]
    assert f"`{row.key}`" in reference() or f"`{row.key.removeprefix(f'{top}.')}`" in reference()


def test_every_preset_is_a_row_with_what_differs_from_the_default() -> None:
    text = reference()
    assert [name for name in PRESETS if f"\n| `{name}` | `" in text] == [*PRESETS][1:]
    assert "| `layer-wise` | `granularity`: `layer` |" in text
    assert "| `noise_share` | `0.25` |" in text


def test_the_demo_fits_the_schema_and_a_misspelt_key_does_not() -> None:
    schema = json.loads(schema_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    demo = yaml.safe_load((CONFIG / "config.yaml").read_text())
    jsonschema.validate(demo, schema)
    with pytest.raises(jsonschema.ValidationError, match="iterationz"):
        jsonschema.validate(demo | {"searches": {"a": {"iterationz": 1}}}, schema)


def test_the_smallest_config_of_the_reference_loads() -> None:
    [example] = re.findall(r"```yaml\n(.*?)```", reference(), flags=re.DOTALL)
    smallest = yaml.safe_load(example)
    assert load(smallest).run == "qwen3-4b"


def test_every_key_of_the_demo_is_in_the_schema_and_the_marks_are_on_the_right_keys() -> None:
    marked = {row.key for row in ROWS if row.identity}
    assert {"evaluation.engine", "evaluation.sampling.top_p", "evaluation.tasks.<name>.prompt"} <= marked
    free = {"python", "device", "batch_size", "threads", "tasks.<name>.data"}
    assert marked.isdisjoint(f"evaluation.{key}" for key in free)
    others = {key for key in marked if not key.startswith("evaluation.")}
    assert others == {"merge.seed", "merge.vocabulary"}
