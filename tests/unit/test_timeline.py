"""When evaluations ran: places, idle time, failed attempts."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from bambo.candidate.folder import read_scores
from bambo.report import tables, timeline
from fake_run import VARIABLES, fake_run, frames, write_scores
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("began", "ended", "expected"),
    [
        ([0, 0, 1, 2, 2], [1, 4, 2, 3, 3], [0, 1, 0, 0, 2]),
        ([0, 1, 2], [1, 2, 3], [0, 0, 0]),
        ([0, 0, 0], [1, 1, 1], [0, 1, 2]),
        ([], [], []),
    ],
)
def test_places(began, ended, expected):
    assert timeline.places(np.array(began, float), np.array(ended, float)) == expected


@given(st.lists(st.tuples(st.floats(0, 50), st.floats(0.1, 20)), max_size=30))
def test_no_place_has_two_at_a_time_and_no_more_places_than_needed(jobs):
    jobs = sorted(jobs)
    began, ended = np.array([a for a, _ in jobs]), np.array([a + d for a, d in jobs])
    found = timeline.places(began, ended)
    for place in set(found):
        own = [i for i, each in enumerate(found) if each == place]
        assert all(ended[i] <= began[j] + 1e-9 for i, j in pairwise(own))
    most = max((((began <= t) & (t < ended)).sum() for t in began), default=0)
    assert len(set(found)) <= most + 1  # ends that fall on a beginning, to the last digit


def run_with_times(folder: Path) -> pd.DataFrame:
    run_dir = fake_run(folder)
    run = tables.read_run(run_dir, VARIABLES)
    for place, id in enumerate(list(run.scores)[:4]):
        scores = {
            **read_scores(run_dir / "candidates" / id),
            "seconds": 3600.0,
            "ended": 7200.0 + 3600 * (place // 2),
        }
        write_scores(run_dir / "candidates" / id, scores)
    last = list(run.scores)[3]
    lines = [
        {
            "event": "begin",
            "step": "evaluate",
            "attempt": 1,
            "time": 5400.0,
            "host": "a",
            "pid": 1,
            "job": None,
        },
        {"event": "end", "time": 7200.0, "kind": "out of memory", "reason": "x"},
        {"event": "begin", "step": "merge", "attempt": 2, "time": 7200.0, "host": "a", "pid": 1, "job": None},
        {"event": "end", "time": 7200.0, "kind": "ok"},
    ]
    (run_dir / "candidates" / last / "attempts.jsonl").write_text("\n".join(map(json.dumps, lines)))
    run = tables.read_run(run_dir, VARIABLES)
    return timeline.timeline(run_dir, run, tables.observations(run))


def test_evaluations_and_failed_attempts_of_a_run(tmp_path):
    rows = run_with_times(tmp_path)
    assert rows["status"].tolist() == ["ok", "ok", "out of memory", "ok", "ok"]
    assert rows["began"].tolist() == [0, 0, 0.5, 1, 1]
    assert rows["ended"].tolist() == [1, 1, 1, 2, 2]
    assert rows["place"].tolist() == [0, 1, 2, 0, 1]
    assert timeline.idle(rows) == pytest.approx(1 - 4.5 / 6)
    figure = timeline.figure(rows)
    assert figure.axes[0].get_title(loc="left") == "5 evaluations; places idle 25% of the time"
    assert [text.get_text() for text in figure.legends[0].get_texts()][-1] == "failed attempt"


def test_a_run_without_times_says_so(tmp_path):
    run_dir = fake_run(tmp_path)
    run = tables.read_run(run_dir, VARIABLES)
    rows = timeline.timeline(run_dir, run, frames().observations)
    assert rows.empty
    assert timeline.figure(rows).axes[0].get_title(loc="left") == "No times of evaluations are recorded"
