"""What becomes of candidates after their first questions: recorded decisions, made once.

One file a proposal, `search/<search>/promotions/<key>.json`: `candidates` that are asked all questions; which first
stages were `promoted`, which were `left`, with the probability that they are dominated, by whom; of those left, the
objectives and variances that enter the surrogate; which `failed`; and which candidates they were `compared` with.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..candidate.folder import SAMPLES, SCORES, check_samples, read_scores
from ..evaluation.scores import COLUMNS
from ..objectives import evaluate
from ..recipe import read_recipe, whole
from ..records import Damaged, read_record
from ..run import Run
from .proposals import Place, in_order, place_of, read_proposals

if TYPE_CHECKING:
    from .staging import Terms

PROMOTIONS = "promotions"


def promotion_paths(run_dir: Path, search: str) -> list[Path]:
    """The records of a search that are there."""
    return sorted((run_dir / "search" / search / PROMOTIONS).glob("*.json"))


def read_promotions(run_dir: Path, search: str) -> dict[Place, dict[str, Any]]:
    """What became of first stages, by the place of the proposal; without damaged records, which are made again."""
    found = {}
    for path in promotion_paths(run_dir, search):
        try:
            found[place_of(path.stem)] = read_record(path, "promotion")
        except Damaged:
            continue
    return found


def promote(
    run: Run,
    search: str,
    key: str,
    proposal: Mapping[str, Any],
    settings: Mapping[str, Any],
    normalisation: Mapping[str, Any],
) -> dict[str, Any]:
    """The record of what becomes of a proposal's first stages; recipes of those that are asked the rest are written.

    They are compared with the end points and with all that the search has asked all questions by now.
    """
    compared = _compared(run, search, normalisation)
    return _decide(run, search, key, proposal["whole"], settings, normalisation, compared)


def again(
    run: Run,
    record: Mapping[str, Any],
    proposal: Mapping[str, Any],
    settings: Mapping[str, Any],
    normalisation: Mapping[str, Any],
) -> dict[str, Any]:
    """A record made anew from what it saw; what had failed is passed over."""
    judged = {id: own for id, own in proposal["whole"].items() if id not in record["failed"]}
    made = _decide(run, record["search"], record["key"], judged, settings, normalisation, record["compared"])
    return {**made, "failed": record["failed"]}


def _decide(
    run: Run,
    search: str,
    key: str,
    first: Mapping[str, str],
    settings: Mapping[str, Any],
    normalisation: Mapping[str, Any],
    compared: Sequence[str],
) -> dict[str, Any]:
    """first: first stage -> the candidate that it becomes where it is promoted."""
    # Here, not above: readers of these records need no statistics, which take a second to import.
    from .staging import judge

    wholes = [_terms(run, id, normalisation) for id in compared]
    values = evaluate([run.scores(id) for id in compared], normalisation, settings["noise_share"])
    promoted, left, failed = {}, {}, []
    for id in first:
        if run.scores(id)["status"] != "ok":
            failed.append(id)
            continue
        found = judge(_terms(run, id, normalisation), wholes, values)
        judged = {"probability": found.probability, "by": compared[found.by]}
        if found.probability >= settings["leave"]:
            left[id] = {**judged, "objectives": found.Y.tolist(), "variance": found.variance.tolist()}
        else:
            promoted[id] = judged
            run.add(whole(read_recipe(run.folder / "candidates" / id / "recipe.json")))
    return {
        "search": search,
        "key": key,
        "leave": settings["leave"],
        "candidates": [first[id] for id in promoted],
        "promoted": promoted,
        "left": left,
        "failed": failed,
        "compared": list(compared),
    }


def became(proposals: Iterable[Mapping[str, Any]], promotions: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Of each first stage that was promoted, the candidate that is asked all questions."""
    wholes = {id: own for proposal in proposals for id, own in proposal.get("whole", {}).items()}
    return {id: wholes[id] for record in promotions for id in record["promoted"] if id in wholes}


def settled(
    proposals: Iterable[Mapping[str, Any]], promotions: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The proposals with what their first stages became: the candidate that is asked all questions, or, of those that
    were left or failed, themselves. Those of which nothing is decided yet are not there.
    """
    proposals = list(proposals)
    wholes = became(proposals, promotions)
    ended = {id for record in promotions for id in [*record["left"], *record["failed"]]}
    found = []
    for proposal in proposals:
        waiting = proposal.get("whole", {}).keys() - wholes.keys() - ended
        rows = zip(proposal["candidates"], proposal["variables"], proposal["origin"], strict=True)
        kept = [(wholes.get(id, id), point, origin) for id, point, origin in rows if id not in waiting]
        columns = ("candidates", "variables", "origin")
        found.append({**proposal, **{key: [row[place] for row in kept] for place, key in enumerate(columns)}})
    return found


def left_in(promotions: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """What is recorded of the candidates that were left."""
    return {id: own for record in promotions for id, own in record["left"].items()}


def _compared(run: Run, search: str, normalisation: Mapping[str, Any]) -> list[str]:
    """Ids of the end points, and of all that the search has asked all questions, without what failed."""
    ends = [spec[f"{end}_id"] for spec in normalisation["objectives"].values() for end in ("expert", "base")]
    proposals = in_order(read_proposals(run.folder, search))
    wholes = became(proposals, read_promotions(run.folder, search).values())
    asked = [
        wholes.get(id) if id in proposal.get("whole", {}) else id
        for proposal in proposals
        for id in proposal["candidates"]
    ]
    ids = [id for id in dict.fromkeys([*ends, *asked]) if id is not None]
    done = [id for id in ids if (run.folder / "candidates" / id / SCORES).exists()]
    return [id for id in done if run.scores(id)["status"] == "ok"]


def _terms(run: Run, id: str, normalisation: Mapping[str, Any]) -> "Terms":
    import pandas as pd

    from .staging import terms

    folder = run.folder / "candidates" / id
    check_samples(folder, read_scores(folder))
    columns = ["benchmark", "question", *COLUMNS.values()]
    return terms(pd.read_parquet(folder / SAMPLES, columns=columns), normalisation)
