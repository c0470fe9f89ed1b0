"""config/README.md and config/schema.json, made from the models and the presets."""

import json
from collections.abc import Iterable
from pathlib import Path

from ..files import write_text
from ..search.presets import PRESETS
from .schema import Row, config_schema, expectation, resolved, rows
from .searches import DEFAULT_PRESET

INTRODUCTION = """\
<!-- Made by `python -m bambo.config --write` from the tables in workflow/bambo/config: edit those. -->

# The config

`config.yaml` is the demo. For a run of your own, write another file and give it to Snakemake:

```
snakemake --cores 2 --configfile my.yaml
```

The smallest config names a run, two models, one search, the benchmarks and two objectives:

```yaml
run: qwen3-4b
sources:
  thinking: {model: Qwen/Qwen3-4B-Thinking-2507}
  instruct: {model: Qwen/Qwen3-4B-Instruct-2507}
files_from: instruct
searches:
  blocks: {preset: bambo-robust}
evaluation:
  device: cuda
  dtype: bfloat16
  tasks:
    gpqa: {task: gpqa_diamond}
    aime: {task: aime25}
objectives:
  reasoning: {metric: accuracy, expert: thinking, base: instruct}
  efficiency: {metric: tokens, expert: instruct, base: thinking}
```

- A config given with `--configfile` **replaces** the demo's: a key that it omits has the default below.
- **A run's name is tied to its settings.** Results lie in `results/<run>/`. When something that decides a
  search's proposals has changed under the same name, the run stops, names the keys and asks for another name.
  Free to change are a search's `iterations`, `evaluations` and `stop`, `selection`, `resources`, and the keys
  of `evaluation` without a mark; searches may be added. Raising the iterations does exactly the new work.
- `<name>` stands for a name of your choice.
- Keys marked with \\* determine a candidate's scores and belong to its identity, as do the contents of the
  sources and of the benchmark files.
- Paths are relative to the folder in which Snakemake runs.
- A mistake stops the run before its first job, with one line that names the key.
- Editors complete and check a config beside this file that has `# yaml-language-server: $schema=schema.json`
  on top.
"""

# The sections with a table of their own, and what to know about them beside their keys.
SECTIONS = {
    "sources": "",
    "blocks": "Embeddings and head stand beside the blocks, with weights of their own.",
    "searches": "Each is a preset and the settings that differ from it.",
    "evaluation": "",
    "objectives": "A model's value is its place between base (0) and expert (1), a mean over the benchmarks.",
    "selection": "",
    "resources": "For schedulers; on one machine Snakemake heeds the threads.",
}


def reference() -> str:
    """The key reference, as Markdown."""
    schema = config_schema()
    every = list(rows(schema))
    parts = [
        INTRODUCTION,
        "## The run\n",
        _key_table(row for row in every if row.key.partition(".")[0] not in SECTIONS),
    ]
    for section, remark in SECTIONS.items():
        node = schema["properties"][section]
        required = " Required." if section in schema["required"] else ""
        text = f"{node['description']} {remark}".strip()
        start = f"{section}."
        inner = [row._replace(key=row.key.removeprefix(start)) for row in every if row.key.startswith(start)]
        parts += [f"## `{section}`\n", f"{text}{required}\n", _key_table(inner)]
        if section == "searches":
            parts += ["### Presets\n", _preset_table()]
    return "\n".join(parts)


def _key_table(every: Iterable[Row]) -> str:
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for row in every:
        mark = " \\*" if row.identity else ""
        kind = expectation(row.node).removeprefix("a ")
        lines.append(f"| `{row.key}`{mark} | {kind} | {_default(row)} | {row.node['description']} |")
    return "\n".join(lines) + "\n"


def _default(row: Row) -> str:
    if row.required:
        return "required"
    if "default" not in row.node:
        return "preset's"
    # The default of a table is that of its keys, which have rows of their own.
    return (
        "" if resolved(row.node)["type"] == "object" and row.node["default"] else _value(row.node["default"])
    )


def _preset_table() -> str:
    default = PRESETS[DEFAULT_PRESET]
    lines = [f"| setting | `{DEFAULT_PRESET}` |", "|---|---|"]
    lines += [f"| `{setting}` | {_value(value)} |" for setting, value in default.items()]
    lines += ["", "The others differ from it in these; docs/searches.md says what each of them is.", ""]
    lines += ["| preset | settings |", "|---|---|"]
    for name, preset in PRESETS.items():
        own = [f"`{key}`: {_value(value)}" for key, value in preset.items() if value != default[key]]
        if own:
            lines.append(f"| `{name}` | {', '.join(own)} |")
    return "\n".join(lines) + "\n"


def _value(value: object) -> str:
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def schema_text() -> str:
    """The JSON schema, for editors."""
    return json.dumps(config_schema(), indent=1) + "\n"


def write(folder: Path) -> None:
    """Write README.md and schema.json into the folder of the config."""
    write_text(folder / "README.md", reference())
    write_text(folder / "schema.json", schema_text())
