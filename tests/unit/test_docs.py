"""What the documentation draws and names is what the workflow has."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_drawn_graph_has_every_rule_and_no_other() -> None:
    listing = subprocess.run(
        [sys.executable, "-m", "snakemake", "--list-rules"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    rules = set(re.findall(r"^([a-z_]+) \(", listing.stdout, flags=re.MULTILINE))
    source = (ROOT / "docs/rules.dot").read_text()
    nodes = set(re.findall(r"^  ([a-z_]+) \[label", source, flags=re.MULTILINE))
    assert "propose" in rules
    assert nodes == rules
    drawn = set(re.findall(r"<title>([a-z_]+)</title>", (ROOT / "docs/rules.svg").read_text()))
    assert drawn - {"rules"} == rules


def test_links_within_the_repository_lead_somewhere() -> None:
    for page in [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *(ROOT / "docs").glob("*.md"),
        ROOT / "results/README.md",
    ]:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page}: {target}"
