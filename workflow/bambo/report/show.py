"""One candidate in the terminal: its scores and weights, or its answers to a question beside those of the sources."""

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ..candidate.folder import SCORES, read_samples, read_scores
from ..errors import BadInput
from ..evaluation.scores import shown
from ..files import read_json
from ..recipe import read_recipe, runs


def print_show(run: Path, id: str, question: int | None, benchmark: str | None) -> None:
    """BadInput where there is no such candidate, with those that are spelt most alike, no such question, or no scores.

    id: of a candidate, or its beginning.
    """
    folder = find(Path(run), id)
    print("\n".join(about(folder) if question is None else answers(Path(run), folder, question, benchmark)))


def find(run: Path, id: str) -> Path:
    known = sorted(path.parent.name for path in run.glob("candidates/*/recipe.json"))
    if not known:
        raise BadInput(f"{run}: no candidates, expected results/<run> of a search that has begun")
    found = [name for name in known if name.startswith(id)]
    if len(found) != 1:
        nearest = found or get_close_matches(id, known, n=3, cutoff=0)
        raise BadInput(
            f"{run}: {len(found)} candidates begin with {id}, expected one; most alike: {', '.join(nearest[:3])}"
        )
    return run / "candidates" / found[0]


def about(folder: Path) -> Iterator[str]:
    """What a candidate is made of, and how it scored."""
    recipe = read_recipe(folder / "recipe.json")
    yield f"{folder.name}: {recipe['method']} of {', '.join(recipe['sources'])}, files from {recipe['files_from']}"
    if not (folder / SCORES).exists():
        yield "not scored yet"
    else:
        scores = read_scores(folder)
        if scores["status"] == "ok":
            for name, part in scores["benchmarks"].items():
                accuracy, tokens = shown(part, "accuracy", ".3f"), shown(part, "tokens", ".1f")
                yield (
                    f"  {name}: accuracy {accuracy}, tokens {tokens}, "
                    f"{part['questions']} questions x {part['repeats']}, {part['truncated']:.1%} cut off"
                )
        else:
            yield f"  failed: {scores['failure']}: {' '.join(scores['reason'].split())}"
    yield f"  weights of {', '.join([*recipe['sources'], *recipe.get('parameters', {})])}:"
    for part, values in runs(recipe):
        yield f"    {part:26} " + "  ".join(f"{value:.3f}" for value in values)


def answers(run: Path, folder: Path, question: int, benchmark: str | None) -> Iterator[str]:
    """All answers to one question, the candidate's first, then those of the end points."""
    ends = read_json(run / "endpoints" / "candidates.json")["end_points"]
    names = {folder.name: folder.name} | {id: f"{source} ({id})" for source, id in ends.items()}
    samples = {id: read_samples(run / "candidates" / id) for id in names}
    own = samples[folder.name]
    known = list(own["benchmark"].unique())
    if benchmark is not None and benchmark not in known:
        raise BadInput(f"--benchmark: found {benchmark}, expected one of {', '.join(known)}")
    asked = [benchmark] if benchmark is not None else known
    if own[(own["question"] == question) & own["benchmark"].isin(asked)].empty:
        last = own.groupby("benchmark")["question"].max()
        ranges = ", ".join(f"{name} 0 to {last[name]}" for name in asked)
        raise BadInput(f"--question: found {question}, expected a question of {ranges}")
    for name in asked:
        for id, title in names.items():
            rows = samples[id]
            for row in rows[(rows["benchmark"] == name) & (rows["question"] == question)].itertuples():
                yield from (_heading(name, question, title, row), str(row.text).rstrip(), "")


def _heading(benchmark: str, question: int, title: str, row: Any) -> str:
    right = "right" if row.correct >= 0.5 else "wrong"
    return (
        f"--- {benchmark} {question}, {title}, answer {row.repeat + 1}: {right} (expected {row.target}), "
        f"{row.output_tokens} tokens, ended by {row.finish_reason} ---"
    )
