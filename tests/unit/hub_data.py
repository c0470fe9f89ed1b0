"""Made-up questions in the schemas of GPQA and AIME25, in folders that stand for their data sets on the hub.

`datasets` takes a folder of the working directory for a data set of that name, so that the stock tasks run offline.
"""

import csv
import json
from pathlib import Path

GPQA_REPOSITORY, AIME_REPOSITORY = "Idavidrein/gpqa", "math-ai/aime25"
DOMAINS = {"Physics": "Quantum Mechanics", "Chemistry": "Organic Chemistry", "Biology": "Genetics"}


def gpqa_rows(questions: int = 12) -> list[dict[str, str]]:
    """Rows of GPQA: sums whose right option is the sum, in three domains of unequal size (6, 4 and 2 of 12)."""
    names = list(DOMAINS)
    rows = []
    for n in range(questions):
        domain = names[(0, 1, 0, 2, 0, 1)[n % 6]]
        right = 2 * n + 3
        wrong = {f"Incorrect Answer {i}": f"{right + 10 * i} kJ" for i in (1, 2, 3)}
        rows.append(
            {
                "Record ID": f"rec{n:02d}",
                "Question": f"What is {n} kJ + {n + 3} kJ?",
                "Correct Answer": f"{right} kJ",
                **wrong,
                "Subdomain": DOMAINS[domain],
                "High-level domain": domain,
            }
        )
    return rows


def aime_rows(problems: int = 12) -> list[dict[str, str]]:
    """Rows of AIME25: products, the answer a whole number from 0 to 999."""
    return [
        {"problem": f"Find ${n} \\cdot {n + 5}$.", "answer": f"{n * (n + 5)}", "id": f"{n}"}
        for n in range(problems)
    ]


def make_gpqa(folder: Path, rows: list[dict[str, str]] | None = None) -> Path:
    """`Idavidrein/gpqa` with its configuration gpqa_diamond (split train) in `folder`; returns the file of rows."""
    rows = gpqa_rows() if rows is None else rows
    repository = folder / GPQA_REPOSITORY
    repository.mkdir(parents=True)
    (repository / "README.md").write_text(
        "---\nconfigs:\n- config_name: gpqa_diamond\n  data_files: gpqa_diamond.csv\n---\n"
    )
    with open(repository / "gpqa_diamond.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(gpqa_rows(1)[0]))
        writer.writeheader()
        writer.writerows(rows)
    return repository / "gpqa_diamond.csv"


def make_aime(folder: Path, rows: list[dict[str, str]] | None = None) -> Path:
    """`math-ai/aime25` (split test) in `folder`; returns the file of rows."""
    rows = aime_rows() if rows is None else rows
    repository = folder / AIME_REPOSITORY
    repository.mkdir(parents=True)
    path = repository / "test.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def make_hub(folder: Path) -> None:
    """Both data sets in `folder`, which is to be the working directory."""
    make_gpqa(folder)
    make_aime(folder)
