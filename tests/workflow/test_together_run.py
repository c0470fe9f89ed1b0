"""Jobs that score several candidates, merged into one engine that stays loaded."""

from pathlib import Path

import faulty
from bambo.records import read_record
from runs import Workflow, small_config


def test_the_tables_are_those_of_a_job_a_candidate_and_whoever_fails_reruns_alone(
    finished: Workflow, tmp_path: Path
) -> None:
    settings = small_config()["evaluation"] | {"candidates_per_job": 2}
    settings["python"] = str(faulty.interpreter(tmp_path, {}))
    config = small_config(merge={"materialize": False}, evaluation=settings, retries=0)
    last = read_record(finished.results / "search/blocks/proposals/t002.json", "proposal")["candidates"]
    faults = tmp_path / "faults.json"
    faults.write_text(f'{{"{last[0]}": "exits"}}')

    workflow = Workflow(tmp_path / "run", config)
    assert workflow.run().returncode != 0
    begun = faulty.started(tmp_path)
    jobs = {
        frozenset(members)
        for path in (workflow.results / "search").glob("*/proposals/*.json")
        for members in read_record(path, "proposal")["jobs"].values()
    }
    assert frozenset(last) in jobs
    assert all(len(job) == 2 for job in jobs)
    assert len(list((workflow.results / "jobs").glob("*.done"))) == len(jobs)
    # With the others, and once more alone; those have their scores, whatever became of it.
    assert sorted(begun) == sorted([*finished.scores(), last[0]])
    assert workflow.scores().keys() == finished.scores().keys() - {last[0]}

    faults.write_text("{}")
    workflow.succeed()
    assert faulty.started(tmp_path)[len(begun) :] == [last[0]]
    for name in ("observations", "pareto", "hypervolume", "selection"):
        assert workflow.table(name).equals(finished.table(name)), name
    assert "Nothing to be done" in workflow.succeed("-n")
    assert not list(workflow.results.glob("candidates/*/model"))
