"""The engine `server` against a server that misbehaves on purpose, and against a real one."""

import json
import os
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest
from bambo.errors import BadInput
from bambo.evaluation import server
from bambo.evaluation.engine import EvaluationFailed, Machine, Output, Request
from bambo.evaluation.server import ServerEngine
from pico_chat import GREEDY, SAMPLING

THINKING = Path(__file__).parents[2] / "resources" / "models" / "thinking"
SERVER = {"command": None, "url": "", "model": "{model}", "key": None, "start": 30, "answer": 5}


class Misbehaving:
    """Says what `answer(body, attempt)` returns: status, headers and text; attempts are counted by prompt."""

    def __init__(self, answer: Callable[[dict, int], tuple[int, dict, str]]) -> None:
        self.bodies: list[dict] = []
        self.keys: list[str | None] = []
        self.models = 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._send(outer.models, {}, "{}")

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.keys.append(self.headers["Authorization"])
                outer.bodies.append(body)
                attempt = sum(each["prompt"] == body["prompt"] for each in outer.bodies)
                self._send(*answer(body, attempt))

            def _send(self, status: int, headers: dict, text: str) -> None:
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(text))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable]:
    monkeypatch.setattr(server, "PAUSE", 0.01)
    started = []

    def serve(
        answer: Callable[[dict, int], tuple[int, dict, str]], /, batch_size: int = 4, **settings: Any
    ) -> tuple[Misbehaving, ServerEngine]:
        served = Misbehaving(answer)
        started.append(served)
        settings = {"server": SERVER | {"url": served.url} | settings}
        return served, ServerEngine(THINKING, settings, Machine(batch_size=batch_size))

    yield serve
    for served in started:
        served.http.shutdown()
        served.http.server_close()


def completion(
    body: dict, text: str = "7", tokens: int = 2, reason: str = "stop", **usage: Any
) -> tuple[int, dict, str]:
    usage = {"prompt_tokens": len(body["prompt"]), "completion_tokens": tokens} | usage
    return 200, {}, json.dumps({"choices": [{"text": text, "finish_reason": reason}], "usage": usage})


def requests_of(*prompts: str, sampling: dict = GREEDY, max_tokens: int = 9) -> list[list[Request]]:
    return [[Request(prompt, [0] * len(prompt), max_tokens, sampling, 2**62 + 1)] for prompt in prompts]


def answers(engine: ServerEngine, requests: list[list[Request]]) -> list[Output]:
    outputs = dict(engine.generate(requests))
    assert sorted(outputs) == list(range(len(requests)))
    return [outputs[place][0] for place in range(len(requests))]


def test_what_is_asked_and_what_is_read(serve: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "s3")
    served, engine = serve(
        lambda body, _: completion(body, "a<think>", 9, "length" if body["prompt"] == "long" else "stop"),
        key="SECRET",
    )
    short, long = answers(engine, requests_of("no", "long"))
    assert short[:3] == ("a<think>", 9, "eos")
    assert long[:3] == ("a<think>", 9, "length")
    assert 0 < short.seconds < 5
    [body] = [body for body in served.bodies if body["prompt"] == "no"]
    greedy = {
        "model": str(THINKING),
        "prompt": "no",
        "max_tokens": 9,
        "temperature": 0.0,
        "stop_token_ids": [2],
    }
    greedy |= {"add_special_tokens": False, "skip_special_tokens": False}
    assert body == greedy
    assert set(served.keys) == {"Bearer s3"}
    answers(engine, requests_of("drawn", sampling={**SAMPLING, "min_p": 0.0}))
    drawn = {"temperature": 0.7, "top_p": 0.95, "top_k": 20, "seed": 2**62 + 1}
    assert served.bodies[-1] == greedy | {"prompt": "drawn"} | drawn


def test_answers_come_as_they_are_finished_so_many_at_a_time(serve: Callable) -> None:
    busy, most, lock = 0, 0, threading.Lock()

    def answer(body: dict, _: int) -> tuple[int, dict, str]:
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        time.sleep(len(body["prompt"]) / 50)
        with lock:
            busy -= 1
        return completion(body)

    _, engine = serve(answer, batch_size=2)
    places = [place for place, _ in engine.generate(requests_of("x" * 30, "a", "b", "c"))]
    assert places == [1, 2, 3, 0]
    assert most == 2


FAILURES = [
    (429, {"Retry-After": "0.2"}, "busy"),
    (500, {}, "oops"),
    (503, {}, ""),
    (200, {}, '{"choices": [{"te'),
]


def test_what_passes_is_tried_again(serve: Callable) -> None:
    def answer(body: dict, attempt: int) -> tuple[int, dict, str]:
        failure = int(body["prompt"])
        return FAILURES[failure] if attempt == 1 else completion(body, tokens=3)

    served, engine = serve(answer)
    start = time.monotonic()
    assert [output[:3] for output in answers(engine, requests_of("0", "1", "2", "3"))] == [
        ("7", 3, "eos")
    ] * 4
    assert time.monotonic() - start > 0.2  # what the server asked for
    assert len(served.bodies) == 8


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (
            (429, {}, "too\nmany"),
            r"status 429 \(too many\) in each of 6 tries; .* lower evaluation\.batch_size$",
        ),
        ((502, {}, ""), r"status 502 \(Bad Gateway\) in each of 6 tries"),
        ((200, {}, '{"choices": [{"te'), "an answer that is no JSON in each of 6 tries"),
        ((200, {"Content-Length": "99"}, "{}"), r"no answer \(ChunkedEncodingError\) in each of 6 tries"),
    ],
)
def test_what_does_not_pass_is_one_line(
    serve: Callable, failure: tuple[int, dict, str], message: str
) -> None:
    served, engine = serve(lambda body, _: failure)
    with pytest.raises(EvaluationFailed, match=message) as failed:
        answers(engine, requests_of("no"))
    assert failed.value.kind == "error"
    assert "\n" not in str(failed.value)
    assert len(served.bodies) == server.TRIES


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        ((404, {}, "no such model"), BadInput, r"refuses a prompt with status 404 \(no such model\)"),
        ((401, {}, "key?"), BadInput, r"status 401 \(key\?\)"),
        ((200, {}, "[]"), EvaluationFailed, "an answer without"),
        ((200, {}, '{"choices": [{"text": "a", "finish_reason": "stop"}]}'), EvaluationFailed, "usage"),
        ({"completion_tokens": None}, EvaluationFailed, "an answer without"),
        ({"completion_tokens": True}, EvaluationFailed, "an answer without"),
        ({"completion_tokens": 0}, EvaluationFailed, "an answer of 0 tokens that ended with 'stop'"),
        ({"completion_tokens": 10}, EvaluationFailed, "an answer of 10 tokens"),
        ({"prompt_tokens": 3}, BadInput, "it reads 3 tokens in a prompt of 2"),
        ({"text": None}, EvaluationFailed, "an answer without"),
        ({"reason": "abort"}, EvaluationFailed, "that ended with 'abort'"),
        ({"reason": "length"}, BadInput, "it cuts answers at 2 of 9 tokens"),
    ],
)
def test_a_wrong_answer_is_not_counted(serve: Callable, answer: Any, error: type, message: str) -> None:
    served, engine = serve(lambda body, _: completion(body, **answer) if isinstance(answer, dict) else answer)
    with pytest.raises(error, match=message):
        answers(engine, requests_of("no"))
    assert len(served.bodies) == 1


def test_an_answer_that_never_comes(serve: Callable) -> None:
    released = threading.Event()

    def answer(body: dict, _: int) -> tuple[int, dict, str]:
        if body["prompt"] == "never":
            released.wait(20)
        return completion(body)

    _, engine = serve(answer, answer=1)
    stream = engine.generate(requests_of("never", "a", "b"))
    assert {next(stream)[0], next(stream)[0]} == {1, 2}  # these are not lost
    with pytest.raises(EvaluationFailed, match=r"no answer within 1 s; raise evaluation\.server\.answer$"):
        next(stream)
    released.set()


def test_a_server_of_openai_settings_alone_answers_greedily(serve: Callable) -> None:
    def answer(body: dict, _: int) -> tuple[int, dict, str]:
        unknown = body.keys() & server.EXACT.keys()
        return (422, {}, f"Unexpected fields: {unknown}") if unknown else completion(body)

    served, engine = serve(answer, batch_size=1)
    answers(engine, requests_of("a", "b"))
    assert len(served.bodies) == 3
    _, engine = serve(answer)
    with pytest.raises(BadInput, match=r"^evaluation\.sampling: .* OpenAI's own"):
        answers(engine, requests_of("a", sampling=SAMPLING))


def test_settings_that_are_wrong(serve: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"^evaluation\.server: not set"):
        ServerEngine(THINKING, {"server": None}, Machine())
    with pytest.raises(BadInput, match=r"^evaluation\.server\.key: .* NO_SUCH_KEY is not set"):
        serve(lambda body, _: completion(body), key="NO_SUCH_KEY")
    with pytest.raises(EvaluationFailed, match=r"/models: no answer; start the server"):
        ServerEngine(THINKING, {"server": SERVER | {"url": "http://127.0.0.1:9/v1"}}, Machine())
    for command, start, error, message in [
        ("no-such-program {model}", 1, BadInput, r"evaluation\.server\.command: no program no-such-program"),
        (f"{sys.executable} -c 'raise SystemExit(3)'", 30, EvaluationFailed, "ended with status 3"),
        ("sleep 60", 1, EvaluationFailed, r"no answer within 1 s .*evaluation\.server\.start"),
    ]:
        settings = SERVER | {"command": command, "start": start, "url": "http://127.0.0.1:{port}/v1"}
        with pytest.raises(error, match=message):
            ServerEngine(THINKING, {"server": settings}, Machine())
    _, engine = serve(lambda body, _: completion(body))
    with pytest.raises(BadInput, match=r"evaluation\.candidates_per_job"):
        engine.load_weights([])


STUB = """
import http.server, json, subprocess, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
subprocess.Popen(["sleep", "60"])
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
OWNER = """
import sys
from pathlib import Path
from bambo.evaluation.engine import Machine
from bambo.evaluation.server import ServerEngine
import json
engine = ServerEngine(Path(sys.argv[1]), {"server": json.loads(sys.argv[2])}, Machine())
print(engine.process.pid, flush=True)
sys.stdin.read()
"""


def _started(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "stub.py").write_text(STUB)
    command = shlex.join([sys.executable, str(tmp_path / "stub.py"), "{port}"])
    return SERVER | {"command": command, "url": "http://127.0.0.1:{port}/v1"}


def _alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return psutil.wait_procs(processes, timeout=5)[1]


def test_a_started_server_ends_with_all_that_it_started(tmp_path: Path) -> None:
    engine = ServerEngine(THINKING, {"server": _started(tmp_path)}, Machine())
    assert engine.process is not None
    processes = psutil.Process(engine.process.pid).children(recursive=True)
    assert len(processes) == 2
    assert engine.peak_memory_gb() > 0.005
    engine.close()
    assert not _alive(processes)
    engine.close()


def test_a_started_server_ends_with_a_job_that_is_killed(tmp_path: Path) -> None:
    owner = psutil.Popen(
        [sys.executable, "-c", OWNER, str(THINKING), json.dumps(_started(tmp_path))],
        stdin=-1,
        stdout=-1,
        env=os.environ,
    )
    assert owner.stdout is not None
    guard = psutil.Process(int(owner.stdout.readline()))
    processes = [guard, *guard.children(recursive=True)]
    owner.kill()
    owner.wait()
    assert not _alive(processes)
