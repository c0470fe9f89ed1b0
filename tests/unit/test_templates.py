"""Chat templates: found as transformers finds them, compared between the sources, rendered for a look."""

import json
import shutil
from pathlib import Path

import pytest
from bambo.config import load
from bambo.errors import BadInput
from bambo.preflight import check, template_notes
from bambo.templates import chat_template, check_templates, frame, opens_thinking
from demo_config import ROOT, demo

MODELS = {name: ROOT / f"resources/models/{name}" for name in ("thinking", "instruct")}
# What real templates use: a loop with `break`, exceptions, special tokens, white space that is cut.
TRICKY = """{{- bos_token }}
{%- for message in messages %}
    {%- if message.role != 'user' %}{% break %}{% endif %}
    {{- '<|user|>' + message['content'] | trim }}
{% endfor %}
{% if add_generation_prompt %}
{{- '<|assistant|>\\n<think>\\n' }}
{%- endif %}
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The demo's thinking model without weights and without a template."""
    folder = tmp_path / "copy"
    shutil.copytree(MODELS["thinking"], folder, ignore=shutil.ignore_patterns("*.safetensors", "*.jinja"))
    return folder


def set_template(folder: Path, template: object, **settings: object) -> None:
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "chat_template": template, **settings}))


def test_a_template_is_found_in_either_place(copy: Path) -> None:
    assert chat_template(MODELS["thinking"]) == (MODELS["thinking"] / "chat_template.jinja").read_text()
    assert chat_template(copy) is None
    assert frame(copy) == ""
    set_template(copy, "{{ 1 }}")
    assert chat_template(copy) == "{{ 1 }}"
    set_template(copy, [{"name": "tools", "template": "no"}, {"name": "default", "template": "yes"}])
    assert chat_template(copy) == "yes"
    (copy / "chat_template.jinja").write_text("first")
    assert chat_template(copy) == "first"


@pytest.mark.parametrize("template", [None, TRICKY])
def test_a_frame_is_what_transformers_renders(copy: Path, template: str | None) -> None:
    from transformers import AutoTokenizer

    folder = MODELS["thinking"]
    if template is not None:
        folder = copy
        set_template(folder, template, bos_token="<|im_start|>")
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    messages = [{"role": "user", "content": "..."}]
    expected = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert frame(folder) == expected
    assert opens_thinking(expected)


def test_the_frame_says_whether_a_thought_is_opened() -> None:
    assert opens_thinking(frame(MODELS["thinking"]))
    assert not opens_thinking(frame(MODELS["instruct"]))
    assert not opens_thinking("<think></think>\n")


def test_a_template_that_does_not_render_shows_nothing(copy: Path) -> None:
    set_template(copy, "{{ raise_exception('no') }}")
    assert frame(copy) == ""
    set_template(copy, "{% if %}")
    assert frame(copy) == ""


def test_differing_templates_are_said(copy: Path) -> None:
    assert check_templates({"a": MODELS["thinking"], "b": MODELS["thinking"]}, "b") == []
    [note] = check_templates(MODELS, "instruct")
    assert note.startswith("chat template: that of instruct; thinking has another one, and is scored under")
    [note] = check_templates({"a": MODELS["thinking"], "b": copy}, "a")
    assert note.startswith("chat template: that of a; b has none, and")


def test_a_missing_template_stops_before_any_job(copy: Path, tmp_path: Path) -> None:
    for name, other in (("thinking", "instruct"), ("instruct", None)):
        with pytest.raises(
            BadInput, match=r'files_from: found "copy", a source without a chat template, '
        ) as error:
            check_templates({"copy": copy, name: MODELS[name] if other else copy}, "copy")
        assert str(error.value).endswith(f"name {name}" if other else f"add chat_template.jinja to {copy}")
    shutil.copy(MODELS["thinking"] / "model.safetensors", copy)
    models = {"thinking": {"model": str(copy)}, "instruct": {"model": str(MODELS["instruct"])}}
    config = demo(sources=models, files_from="thinking")
    with pytest.raises(BadInput, match=r"^files_from: found \"thinking\""):
        template_notes(load(config))
    for task in config["evaluation"]["tasks"].values():
        task["data"] = str(ROOT / task["data"])
    with pytest.raises(BadInput, match=r"^files_from: found \"thinking\""):
        check(load(config), 1)
    config["evaluation"]["engine"] = "simulated"  # no prompts
    assert template_notes(load(config)) == []


def test_hub_sources_are_looked_at_once_they_are_here(copy: Path) -> None:
    config = demo(sources={"thinking": {"model": "org/thinking"}, "instruct": {"model": "org/instruct"}})
    assert template_notes(load(config)) == []
    [note] = template_notes(load(config), MODELS)
    assert "thinking has another one" in note
    with pytest.raises(BadInput, match="files_from"):
        template_notes(load(config), {"thinking": MODELS["thinking"], "instruct": copy})
    local = demo(sources={name: {"model": str(path)} for name, path in MODELS.items()})
    assert len(template_notes(load(local))) == 1
    assert template_notes(load(local), MODELS) == []  # the start said so
