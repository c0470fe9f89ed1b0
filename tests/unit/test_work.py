"""The two jobs at a candidate, with real models of no size: what they leave, and what becomes of what fails."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from bambo import evaluation
from bambo.candidate import folder as folders
from bambo.candidate import work
from bambo.candidate.attempts import Attempts, Failure
from bambo.candidate.devices import VISIBLE
from bambo.candidate.folder import is_scored, read_samples, read_scores
from bambo.candidate.lease import hold
from bambo.candidate.work import Policy, evaluate, merge
from bambo.errors import BadInput
from bambo.evaluation.engine import EvaluationFailed, Machine
from bambo.recipe import make_recipe, write_recipe
from pico_chat import aime_task, chat_recipe, make_chat_pair
from safetensors.torch import load_file, save_file

MACHINE = Machine(batch_size=8)
RETRIES = 1
SCORED = ["lm_eval", "merged", "recipe.json", "samples.parquet", "scores.json"]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Two models that can be asked, as a recipe names them; and `groups`, their tensor groups."""
    return make_chat_pair(tmp_path_factory.mktemp("pair"))


pytestmark = pytest.mark.usefixtures("whole_imports")


@pytest.fixture
def make(sources: dict[str, Any], tmp_path: Path) -> Callable[..., Path]:
    """make(engine=..., ...) writes a candidate's recipe; returns its folder."""

    def write(**settings: Any) -> Path:
        task = aime_task(tmp_path) | settings.pop("task", {})
        recipe = make_recipe(
            weights={group: [0.5, 0.5] for group in sources["thinking"]["groups"]},
            sources={
                name: {key: record[key] for key in ("path", "fingerprint", "sample")}
                for name, record in sources.items()
            },
            files_from="instruct",
            evaluation=chat_recipe({"aime": task}, **settings)["evaluation"],
        )
        return write_recipe(tmp_path, recipe).parent

    return write


@pytest.fixture
def candidate(make: Callable[..., Path]) -> Path:
    return make()


def policy(attempt: int = 1, on_failure: str = "stop") -> Policy:
    return Policy(attempt, RETRIES, on_failure)


def merging(folder: Path, attempt: int = 1) -> None:
    merge(folder, policy(attempt), threads=1)


def scoring(folder: Path, attempt: int = 1, on_failure: str = "stop", machine: Machine = MACHINE) -> None:
    evaluate(folder, policy(attempt, on_failure), machine, lock=False, started=(0.0, 0.0))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def refuse(monkeypatch: pytest.MonkeyPatch, error: Exception) -> list[None]:
    """The engine raises instead of loading a model; gives a list that grows with each time."""
    calls: list[None] = []

    def load(*_: Any, **__: Any) -> NoReturn:
        calls.append(None)
        raise error

    monkeypatch.setattr(evaluation, "load_engine", load)
    return calls


def made_long_ago(path: Path) -> None:
    os.utime(path, (0, 0))


# What goes well


def test_a_merge_leaves_the_model_and_says_so(candidate: Path, sources: dict[str, Any]) -> None:
    merging(candidate)
    assert names(candidate) == ["attempts.jsonl", "merged", "model", "recipe.json"]
    assert [line["event"] for line in Attempts(candidate).lines] == ["begin", "end"]
    assert Attempts(candidate).failures == 0
    merged, *given = (
        load_file(path / "model.safetensors")
        for path in (candidate / "model", *(Path(record["path"]) for record in sources.values()))
    )
    for name, tensor in merged.items():
        torch.testing.assert_close(tensor, (given[0][name] + given[1][name]) / 2)


def test_an_evaluation_leaves_scores_and_no_model(candidate: Path) -> None:
    merging(candidate)
    scoring(candidate)
    assert names(candidate) == SCORED
    assert is_scored(candidate)
    scores = read_scores(candidate)
    assert (scores["engine"], scores["gpus"]) == ("hf", 0)
    assert scores["benchmarks"]["aime"]["questions"] == len(read_samples(candidate)) == 5


def test_what_is_scored_is_only_touched(candidate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    merging(candidate)
    scoring(candidate)
    before = (candidate / "scores.json").read_bytes()
    calls = refuse(monkeypatch, RuntimeError("loaded"))
    for attempt in (1, RETRIES + 2):
        (candidate / "merged").unlink()  # Snakemake does so before a merge
        merging(candidate, attempt)
        assert names(candidate) == SCORED
        made_long_ago(candidate / "scores.json")
        scoring(candidate, attempt, "continue")
        assert names(candidate) == SCORED
        assert (candidate / "scores.json").read_bytes() == before
        assert (candidate / "scores.json").stat().st_mtime > 0
    assert calls == []


def test_a_whole_model_is_kept(candidate: Path) -> None:
    merging(candidate)
    (candidate / "model" / "mark").touch()
    made_long_ago(candidate / "merged")
    merging(candidate, 2)
    assert (candidate / "model" / "mark").exists()
    assert (candidate / "merged").stat().st_mtime > 0


def test_an_evaluation_merges_where_the_model_is_gone(
    candidate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    merging(candidate)
    expected = load_file(candidate / "model" / "model.safetensors")
    shutil.rmtree(candidate / "model")
    seen, load = {}, evaluation.load_engine

    def watched(settings: dict, model: Path, machine: Machine) -> Any:
        seen.update(load_file(model / "model.safetensors"))
        return load(settings, model, machine)

    monkeypatch.setattr(evaluation, "load_engine", watched)
    scoring(candidate)
    assert seen.keys() == expected.keys()
    assert all(seen[name].equal(tensor) for name, tensor in expected.items())
    assert names(candidate) == SCORED


def test_what_killed_attempts_left_half_made_is_removed(candidate: Path) -> None:
    (candidate / ".model.12.tmp").mkdir()
    (candidate / ".model.12.tmp" / "model.safetensors").touch()
    (candidate / ".samples.parquet.12.tmp").touch()
    (candidate / ".lease.vm.12.tmp").touch()  # that of a process which takes the lease just now
    merging(candidate)
    assert names(candidate) == [".lease.vm.12.tmp", "attempts.jsonl", "merged", "model", "recipe.json"]
    (candidate / ".model.12.tmp").mkdir()
    scoring(candidate)
    assert names(candidate) == sorted([".lease.vm.12.tmp", *SCORED])


def test_a_model_is_removed_at_once(candidate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    merging(candidate)

    def killed(path: Path, **_: Any) -> None:
        if Path(path).exists():
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(folders.shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            folders.remove_model(candidate)
    assert not (candidate / "model").exists()
    folders.remove_model(candidate)
    assert names(candidate) == ["attempts.jsonl", "merged", "recipe.json"]


@pytest.mark.parametrize("name", ["scores.json", "samples.parquet"])
def test_what_is_damaged_is_evaluated_again(
    candidate: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    merging(candidate)
    scoring(candidate)
    before = read_scores(candidate)
    (candidate / name).write_bytes((candidate / name).read_bytes()[:-1])
    merging(candidate)
    assert (candidate / "model").exists()
    scoring(candidate)
    assert "evaluated again" in caplog.text
    assert names(candidate) == SCORED
    measured = {
        "samples",
        "seconds",
        "ended",
        "generation_seconds",
        "cpu_seconds",
        "generation_cpu_seconds",
        "peak_memory_gb",
        "throughput",
    }
    after = read_scores(candidate)
    for scores in (before, after):
        for part in scores["benchmarks"].values():
            for key in [key for key in part if key.startswith("latency")]:
                del part[key]
    assert {key for key in before if before[key] != after[key]} <= measured
    assert is_scored(candidate)


def test_simulated_scores_need_no_model(make: Callable[..., Path]) -> None:
    folder = make(engine="simulated")
    merging(folder)
    assert names(folder) == ["merged", "recipe.json"]
    scoring(folder, machine=Machine("cuda", 4))
    assert names(folder) == ["merged", "recipe.json", "samples.parquet", "scores.json"]
    assert is_scored(folder)


# What fails


def test_a_failing_evaluation_keeps_the_model_and_says_why(
    candidate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    merging(candidate)
    with monkeypatch.context() as patch:
        refuse(patch, RuntimeError("always\n  fails"))
        with pytest.raises(RuntimeError, match="always"):
            scoring(candidate)
    assert names(candidate) == ["attempts.jsonl", "merged", "model", "recipe.json"]
    found = Attempts(candidate)
    assert found.last_failure == Failure("error", "RuntimeError: always fails")
    assert found.lines[-2]["attempt"] == 1
    scoring(candidate, 2)
    assert names(candidate) == sorted(["attempts.jsonl", *SCORED])  # it tells what was lost
    found = Attempts(candidate)
    assert (found.failures, found.last_failure) == (1, None)
    assert found.lost_seconds > 0


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (MemoryError(), "out of memory", "MemoryError: "),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
            "out of memory",
            "DefaultCPUAllocator",
        ),
        (OSError(12, "Cannot allocate memory"), "out of memory", "Cannot allocate memory"),
        (EvaluationFailed("out of memory", "CUDA; lower"), "out of memory", "CUDA; lower"),
        (EvaluationFailed("bad scores", "its accuracy is nan"), "bad scores", "its accuracy is nan"),
        (KeyError("x"), "error", "KeyError: 'x'"),
        (BadInput("data: missing; restore it"), "input", "data: missing; restore it"),
        (
            PermissionError(13, "Permission denied", "a/model"),
            "input",
            "a/model: Permission denied; see whether",
        ),
        (
            OSError(28, "No space left on device", "a/model"),
            "input",
            "a/model: No space left on device; free space",
        ),
    ],
)
def test_kinds_of_failure(
    candidate: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: str, said: str
) -> None:
    refuse(monkeypatch, error)
    with pytest.raises(BadInput if isinstance(error, OSError) else type(error)):
        scoring(candidate)
    failure = Attempts(candidate).last_failure
    assert failure is not None
    assert failure.kind == kind
    assert said in failure.reason


def test_logits_that_are_no_numbers_are_bad_scores(candidate: Path) -> None:
    merging(candidate)
    path = candidate / "model" / "model.safetensors"
    tensors = load_file(path)
    tensors["model.norm.weight"][0] = float("nan")
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(EvaluationFailed, match="NaN or infinite"):
        scoring(candidate)
    assert Attempts(candidate).last_failure.kind == "bad scores"
    assert not (candidate / "scores.json").exists()


def test_a_merge_that_fails_says_why(candidate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bambo.merging.merge", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        merging(candidate)
    assert names(candidate) == ["attempts.jsonl", "recipe.json"]
    found = Attempts(candidate)
    assert found.lines[0]["step"] == "merge"
    assert found.last_failure == Failure("error", "ZeroDivisionError: division by zero")


def test_an_attempt_that_was_killed_is_counted_by_the_next_one(candidate: Path) -> None:
    merging(candidate)
    Attempts(candidate).begin(1, "evaluate")
    scoring(candidate, 2)
    found = Attempts(candidate)
    assert [line["kind"] for line in found.lines if line["event"] == "end"] == ["ok", "killed", "ok"]
    assert is_scored(candidate)


# After the last retry


def failed(folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, on_failure: str) -> list[None]:
    """All attempts that may fail have failed."""
    calls = refuse(monkeypatch, error)
    merging(folder)
    for attempt in range(1, RETRIES + 2):
        with suppress(type(error)):
            scoring(folder, attempt, on_failure)
    assert len(calls) == RETRIES + 1
    return calls


def test_continue_records_the_failure(candidate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = failed(candidate, monkeypatch, RuntimeError("always fails"), "continue")
    scoring(candidate, RETRIES + 2, "continue")
    assert len(calls) == RETRIES + 1  # the last attempt works no more
    assert names(candidate) == ["attempts.jsonl", "merged", "recipe.json", "scores.json"]
    assert read_scores(candidate) == {
        **{"id": candidate.name, "status": "failed", "failure": "error"},
        **{"reason": "RuntimeError: always fails", "attempts": RETRIES + 1},
    }
    assert not is_scored(candidate)
    assert Attempts(candidate).lines[-1]["event"] == "gave up"


def test_a_recorded_failure_is_evaluated_again_by_the_next_start(
    candidate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        failed(candidate, patch, RuntimeError("always fails"), "continue")
        scoring(candidate, RETRIES + 2, "continue")
    merging(candidate)
    assert (candidate / "model").exists()
    scoring(candidate)
    assert is_scored(candidate)
    assert Attempts(candidate).failures == RETRIES + 1


def test_stop_ends_with_what_went_wrong(candidate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed(candidate, monkeypatch, MemoryError("no byte left"), "stop")
    with pytest.raises(EvaluationFailed) as found:
        scoring(candidate, RETRIES + 2, "stop")
    message = str(found.value)
    assert message.startswith(
        f"candidate {candidate.name}: out of memory in the last of 2 attempts (MemoryError: no byte"
    )
    assert "\n" not in message
    assert found.value.kind == "out of memory"
    assert names(candidate) == ["attempts.jsonl", "merged", "recipe.json"]
    # What fails later is not what failed before.
    with pytest.raises(
        EvaluationFailed, match=rf"ended before it began; see logs/evaluate/{candidate.name}\.log"
    ):
        scoring(candidate, RETRIES + 2, "stop")


@pytest.mark.parametrize("on_failure", ["stop", "continue"])
def test_what_the_user_gave_ends_the_run(make: Callable[..., Path], on_failure: str) -> None:
    folder = make(task={"max_tokens": 100_000})
    merging(folder)
    for attempt in range(1, RETRIES + 3):
        with pytest.raises(BadInput, match=r"evaluation\.tasks\.aime\.max_tokens"):
            scoring(folder, attempt, on_failure)
    assert names(folder) == ["attempts.jsonl", "merged", "model", "recipe.json"]
    with pytest.raises(BadInput, match=r"evaluation\.tasks\.aime\.max_tokens"):
        merging(folder, RETRIES + 2)


@pytest.mark.parametrize("on_failure", ["stop", "continue"])
def test_gpus_that_are_not_there_end_the_run(
    candidate: Path, monkeypatch: pytest.MonkeyPatch, on_failure: str
) -> None:
    monkeypatch.setenv("PATH", "")
    for attempt in range(1, RETRIES + 3):
        with pytest.raises(BadInput, match=r"resources\.evaluate\.gpu: 1, but 0 GPUs can be used here"):
            scoring(candidate, attempt, on_failure, Machine("cuda", 1, True, 1, 8))
    assert names(candidate) == ["attempts.jsonl", "recipe.json"]


def test_a_merge_on_a_gpu_holds_one(candidate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BadInput, match=r"merge\.device: cuda, but no GPU can be used here; set cpu"):
        merge(candidate, policy(), threads=1, device="cuda", lock=True)
    asked: dict[str, Any] = {}

    def merged(recipe: dict[str, Any], output: Path, **options: Any) -> None:
        asked.update(options, visible=os.environ.get(VISIBLE))

    monkeypatch.setattr("bambo.merging.merge", merged)
    monkeypatch.setattr("bambo.candidate.devices.gpus", lambda: ["GPU-a", "GPU-b"])
    monkeypatch.setenv(VISIBLE, "0,1")
    merge(candidate, policy(), threads=3, device="cuda", lock=True)
    assert asked.pop("visible") in ("GPU-a", "GPU-b")
    # Statistics of the sources lie beside their fingerprints, for all candidates of the run.
    assert asked == {"threads": 3, "device": "cuda", "cache": tmp_path / "sources/statistics"}


def test_an_exhausted_merge_leaves_the_rest_to_the_evaluation(
    candidate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bambo.merging.merge", lambda *_, **__: 1 / 0)
    for attempt in range(1, RETRIES + 2):
        with pytest.raises(ZeroDivisionError):
            merging(candidate, attempt)
    merging(candidate, RETRIES + 2)
    assert names(candidate) == ["attempts.jsonl", "merged", "recipe.json"]
    scoring(candidate, RETRIES + 2, "continue")
    assert read_scores(candidate)["reason"] == "ZeroDivisionError: division by zero"


def test_a_full_disk_cannot_take_the_last_words_either(
    candidate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> NoReturn:
        raise OSError(28, "No space left on device", str(candidate))

    refuse(monkeypatch, RuntimeError("always fails"))
    monkeypatch.setattr(Attempts, "end", full)
    with pytest.raises(RuntimeError, match="always fails"):
        scoring(candidate)
    assert Attempts(candidate).lines[-1]["event"] == "begin"


# Devices


@pytest.mark.parametrize(
    ("machine", "lock", "visible", "expected"),
    [
        (Machine("cpu", 2), True, "0,1", ("cpu", 0)),
        (Machine("auto", 0), True, "0,1", ("cpu", 0)),
        (Machine("auto", 2), True, "", ("cpu", 0)),
        (Machine("auto", 1), False, "0,1", ("cuda", 1)),
        (Machine("auto", 2), False, "0,1", ("cuda", 2)),
        (Machine("cuda", 1), False, "0", ("cuda", 1)),
        (Machine("auto", 2), True, "0", None),
        (Machine("cuda", 1), True, "", None),
    ],
)
def test_the_device_of_an_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: Machine, lock: bool, visible: str, expected: Any
) -> None:
    script = tmp_path / "nvidia-smi"
    script.write_text("#!/bin/sh\necho GPU-a\necho GPU-b\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv(VISIBLE, visible)
    with work.held_gpus(machine, lock) as found:
        assert os.environ[VISIBLE] == visible  # a lock would have set it to what it holds
        if expected is None:
            with pytest.raises(
                BadInput, match=f"gpu: {machine.gpus}, but {len(found)} GPUs can be used here"
            ):
                work.device_of(machine, found)
        else:
            assert work.device_of(machine, found) == expected


# The command


IMPATIENT = "from bambo.candidate import __main__ as command, lease; lease.POLL = 0.01; command.main()"


def command(*arguments: object) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", IMPATIENT, *map(str, arguments)], text=True, **pipes)


def test_the_command_merges(candidate: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bambo.candidate", "merge", candidate, "--threads", "1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert names(candidate) == ["attempts.jsonl", "merged", "model", "recipe.json"]


def test_two_commands_at_one_candidate_score_it_once(make: Callable[..., Path]) -> None:
    folder = make(engine="simulated")
    with hold(folder):
        processes = [command("evaluate", folder, "--device", "cpu") for _ in range(2)]
        waiting = [process.stderr.readline() for process in processes]
    assert all(f"{folder}: waiting for process {os.getpid()} on" in line for line in waiting)
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    assert is_scored(folder)
    assert names(folder) == ["recipe.json", "samples.parquet", "scores.json"]


def test_the_command_ends_with_one_line(make: Callable[..., Path]) -> None:
    folder = make(engine="simulated")
    process = command("evaluate", folder, "--attempt", 3, "--retries", 1, "--on-failure", "stop")
    output, said = process.communicate()
    assert (process.returncode, output) == (1, "")
    assert said.startswith(
        f"error: candidate {folder.name}: error in the last of 2 attempts (ended before it began"
    )
    assert said.count("\n") == 1
    recipe = json.loads((folder / "recipe.json").read_text())
    (folder / "recipe.json").write_text(json.dumps(recipe | {"files_from": "thinking"}))
    process = command("merge", folder)
    output, said = process.communicate()
    assert (process.returncode, output) == (1, "")
    assert said.startswith(f"error: {folder / 'recipe.json'}: id {folder.name} is not that of the contents")
    assert said.count("\n") == 1
