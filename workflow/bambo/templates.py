"""Chat templates: how a question becomes a prompt, and what that says to the model about thinking."""

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from .errors import BadInput
from .files import read_json

THINK, THOUGHT = "<think>", "</think>"


def chat_template(folder: Path) -> str | None:
    """The chat template of a model folder, as transformers would take it; None where there is none."""
    file = folder / "chat_template.jinja"
    if file.exists():
        return file.read_text(encoding="utf-8")
    settings = folder / "tokenizer_config.json"
    found: Any = read_json(settings).get("chat_template") if settings.exists() else None
    if isinstance(found, list):  # several, by name
        found = {each["name"]: each["template"] for each in found}.get("default")
    return found or None


def check_templates(folders: Mapping[str, Path], files_from: str) -> list[str]:
    """What a user should know of the sources' templates (name -> folder); BadInput where all would go without one."""
    templates = {name: chat_template(folder) for name, folder in folders.items()}
    own = templates[files_from]
    if own is None:
        having = [name for name, template in templates.items() if template]
        remedy = (
            f"name {' or '.join(having)}" if having else f"add chat_template.jinja to {folders[files_from]}"
        )
        raise BadInput(
            f"files_from: found {json.dumps(files_from)}, a source without a chat template, expected one that says "
            f"how questions are put; {remedy}"
        )
    notes = []
    for name, template in templates.items():
        if template != own:
            other = "another one" if template else "none"
            notes.append(
                f"chat template: that of {files_from}; {name} has {other}, and is scored under that of {files_from}, "
                "too (docs/your-own-models.md)"
            )
    return notes


def frame(folder: Path) -> str:
    """The prompt that the template of a model folder makes of a question, "..." in the question's place.

    Rendered as transformers does it, which not every environment has; "" where that does not go.
    """
    template = chat_template(folder)
    if template is None:
        return ""
    from jinja2.exceptions import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    messages = [{"role": "user", "content": "..."}]
    try:
        return environment.from_string(template).render(
            messages=messages, add_generation_prompt=True, **_special_tokens(folder)
        )
    except TemplateError:
        return ""


def _special_tokens(folder: Path) -> dict[str, str]:
    """bos_token, eos_token, ... as text."""
    settings = folder / "tokenizer_config.json"
    found = read_json(settings) if settings.exists() else {}
    tokens = {key: value for key, value in found.items() if key.endswith("_token")}
    return {
        key: value["content"] if isinstance(value, dict) else value for key, value in tokens.items() if value
    }


def opens_thinking(prompt: str) -> bool:
    """Whether the answer to a prompt begins as a thought: only the end of the thought then shows in the text."""
    return prompt.rstrip().endswith(THINK)
