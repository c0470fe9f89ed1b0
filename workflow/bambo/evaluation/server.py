"""The engine of any server with the completions of the OpenAI API: vLLM, sglang, transformers serve.

Prompts are sent as text, the chat template applied. Tokens are those that the server says it made: vLLM, sglang and
transformers count the final end-of-sequence token, as the other engines do.
"""

import atexit
import email.utils
import os
import queue
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import requests

from ..errors import BadInput
from .devices import cpu_name
from .engine import EvaluationFailed, Machine, Output, Request
from .folder import read_folder

TRIES = 6
PAUSE = 1.0  # s before the second try; it doubles from try to try
LONGEST_PAUSE = 300.0  # s, whatever the server asks for
PASSING = {408, 425, 429, 500, 502, 503, 504}  # status of failures that may not come again
CONNECT = 10.0  # s until a connection stands
POLL = 0.2  # s between questions whether a started server is up
GRACE = 10.0  # s that a server has to end by itself
REASONS = {"stop": "eos", "length": "length"}
# Extensions of vLLM and sglang, beside the ids that end an answer: not a second begin-of-sequence token, and the text
# with its special tokens.
EXACT = {"add_special_tokens": False, "skip_special_tokens": False}
# Ends the server and all that it started as soon as standard input closes, which it does however its parent ends.
GUARD = """
import os, signal, subprocess, sys, threading
def watch():
    os.read(0, 1)
    os.killpg(0, signal.SIGKILL)
threading.Thread(target=watch, daemon=True).start()
sys.exit(subprocess.call(sys.argv[1:], stdin=subprocess.DEVNULL))
"""


class ServerEngine:
    """What a server makes of batches and seeds is its own affair."""

    chunk_size = 1

    def __init__(self, model_dir: Path, settings: Mapping[str, Any], machine: Machine) -> None:
        """Start the server that `settings["server"]` names, or find the one that is up.

        Raises BadInput where the folder lacks a part that scoring needs or the settings are wrong, EvaluationFailed
        where no server answers.
        """
        server = settings["server"]
        if server is None:
            raise BadInput(
                "evaluation.server: not set, but evaluation.engine is server; name a command or a url"
            )
        self.machine = machine
        self.process: subprocess.Popen | None = None
        self.tokenizer, eos, context_length = read_folder(model_dir)
        self.context_length = machine.model_length or context_length
        values = {
            "model": str(model_dir),
            "port": str(_free_port()),
            "gpus": str(max(1, machine.gpus)),
            "model_length": str(self.context_length),
        }
        self.url = _filled(server["url"], values).rstrip("/")
        self.model = _filled(server["model"], values)
        self.limit = server["answer"]
        self.session = requests.Session()
        adapter = requests.adapters.HTTPAdapter(pool_maxsize=machine.batch_size)
        self.session.mount("http://", adapter)
        self.session.mount("https://", adapter)
        self.session.auth = Key(server["key"])
        self.exact: dict[str, Any] = EXACT | {"stop_token_ids": sorted(eos)}
        if server["command"] is None:
            self.device_name = f"server at {urlsplit(self.url).netloc}"
            self._find()
        else:
            self.session.trust_env = False  # no proxy on the way to this machine
            self.device_name = cpu_name() if machine.device == "cpu" else _gpu_name()
            command = [_filled(word, values) for word in shlex.split(server["command"])]
            self._start(command, server["start"])

    def generate(self, chunks: Sequence[Sequence[Request]]) -> Iterator[tuple[int, list[Output]]]:
        waiting: queue.SimpleQueue[tuple[int, Request]] = queue.SimpleQueue()
        done: queue.SimpleQueue[tuple[int, Output | BaseException]] = queue.SimpleQueue()
        for place, [request] in enumerate(chunks):
            waiting.put((place, request))
        stopped = threading.Event()

        def work() -> None:
            while not stopped.is_set():
                try:
                    place, request = waiting.get_nowait()
                except queue.Empty:
                    return
                try:
                    done.put((place, self._complete(request, stopped)))
                except BaseException as error:
                    done.put((place, error))

        for _ in range(min(self.machine.batch_size, len(chunks))):
            threading.Thread(target=work, daemon=True).start()
        try:
            for _ in chunks:
                place, result = done.get()
                if isinstance(result, BaseException):
                    raise result
                yield place, [result]
        finally:
            stopped.set()

    def load_weights(self, tensors: Iterable[tuple[str, Any]]) -> None:
        raise BadInput(
            "evaluation.candidates_per_job: a server loads its model from a folder; set it to 1 and "
            "merge.materialize to true"
        )

    def peak_memory_gb(self) -> float:
        """Main memory that a server started here holds now, else this process; the GPUs' is not known."""
        processes = [psutil.Process()] if self.process is None else _descendants(self.process.pid)
        return sum(process.memory_info().rss for process in processes) / 1e9

    def close(self) -> None:
        """End the server, if it was started here, and all that it started."""
        if self.process is None:
            return
        atexit.unregister(self.close)
        processes = _descendants(self.process.pid)
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        psutil.wait_procs(processes, timeout=GRACE)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None

    def _start(self, command: list[str], patience: float) -> None:
        if shutil.which(command[0]) is None:
            raise BadInput(
                f"evaluation.server.command: no program {command[0]}; install it where jobs run, or correct it"
            )
        # What it prints goes to this job's log.
        self.process = subprocess.Popen(
            [sys.executable, "-c", GUARD, *command], stdin=subprocess.PIPE, stdout=2, start_new_session=True
        )
        atexit.register(self.close)
        end = time.monotonic() + patience
        while time.monotonic() < end:
            self._check_alive()
            with suppress(requests.RequestException):
                if self._is_up():
                    return
            time.sleep(POLL)
        self.close()
        raise EvaluationFailed(
            "error",
            f"{self.url}/models: no answer within {patience} s of its start; see what it wrote above, or raise "
            "evaluation.server.start",
        )

    def _find(self) -> None:
        for attempt in range(TRIES):
            time.sleep(attempt and PAUSE * 2 ** (attempt - 1))
            with suppress(requests.RequestException):
                if self._is_up():
                    return
        raise EvaluationFailed(
            "error", f"{self.url}/models: no answer; start the server, or correct evaluation.server.url"
        )

    def _is_up(self) -> bool:
        response = self.session.get(f"{self.url}/models", timeout=CONNECT)
        if response.status_code in (401, 403):
            raise BadInput(
                f"evaluation.server.key: {self.url} refuses it ({response.status_code}); correct it"
            )
        return response.status_code < 500

    def _check_alive(self) -> None:
        if self.process is not None and self.process.poll() is not None:
            status = self.process.returncode
            raise EvaluationFailed(
                "error", f"the server ended with status {status}; see what it wrote above, in this job's log"
            )

    def _complete(self, request: Request, stopped: threading.Event) -> Output:
        sampling = {"temperature": 0.0}
        if request.sampling["do_sample"]:
            drawn = {key: request.sampling[key] for key in ("temperature", "top_p", "top_k", "min_p")}
            off = {"top_k": 0, "min_p": 0}  # not sent, as not every server knows them
            sampling = {key: value for key, value in drawn.items() if value != off.get(key)}
            sampling["seed"] = request.seed
        body = {"model": self.model, "prompt": request.prompt, "max_tokens": request.max_tokens, **sampling}
        answer, seconds = self._ask(body, stopped)
        return self._output(answer, request, seconds)

    def _ask(self, body: dict[str, Any], stopped: threading.Event) -> tuple[Any, float]:
        """The server's answer and the seconds that it took; what may pass is tried again."""
        reason, pause = "", 0.0
        for attempt in range(TRIES):
            stopped.wait(pause)
            pause = PAUSE * 2**attempt
            start = time.perf_counter()
            try:
                response = self._post(body)
            except requests.RequestException as error:
                if isinstance(error, requests.ReadTimeout) or "Read timed out" in str(error):
                    raise EvaluationFailed(
                        "error",
                        f"{self.url}: no answer within {self.limit} s; raise evaluation.server.answer",
                    ) from None
                self._check_alive()
                reason = f"no answer ({type(error).__name__})"
                continue
            if response.status_code in PASSING:
                reason = f"status {response.status_code} ({_message(response)})"
                pause = _retry_after(response.headers.get("Retry-After")) or pause
                continue
            if response.status_code != 200:
                raise BadInput(
                    f"{self.url}: it refuses a prompt with status {response.status_code} ({_message(response)}); "
                    "correct evaluation.server, or what it names"
                )
            try:
                return response.json(), time.perf_counter() - start
            except ValueError:
                reason = "an answer that is no JSON"
        raise EvaluationFailed(
            "error",
            f"{self.url}: {reason} in each of {TRIES} tries; see the server's log, or lower evaluation.batch_size",
        )

    def _post(self, body: dict[str, Any]) -> requests.Response:
        while True:
            exact = self.exact
            response = self.session.post(
                f"{self.url}/completions", json=body | exact, timeout=(CONNECT, self.limit)
            )
            unknown = response.status_code in (400, 422) and any(key in response.text for key in exact)
            if not unknown:
                return response
            if "seed" in body:
                raise BadInput(
                    f"evaluation.sampling: {self.url} takes nothing but OpenAI's own settings, with which draws are "
                    "not as the recipe says; use greedy answers, vLLM or sglang"
                )
            self.exact = {}

    def _output(self, answer: Any, request: Request, seconds: float) -> Output:
        try:
            choice, usage = answer["choices"][0], answer["usage"]
            text, reason = choice["text"], choice["finish_reason"]
            tokens, prompt_tokens = usage["completion_tokens"], usage["prompt_tokens"]
        except (LookupError, TypeError):
            text = tokens = prompt_tokens = reason = None
        if not (isinstance(text, str) and type(tokens) is type(prompt_tokens) is int):
            raise EvaluationFailed(
                "error",
                f"{self.url}: an answer without choices[0].text, finish_reason, usage.prompt_tokens and "
                "usage.completion_tokens; use a server with OpenAI's completions",
            )
        if prompt_tokens != len(request.tokens):
            raise BadInput(
                f"{self.url}: it reads {prompt_tokens} tokens in a prompt of {len(request.tokens)}; serve the model "
                "with its own tokenizer, without further tokens at the beginning"
            )
        if reason not in REASONS or not 1 <= tokens <= request.max_tokens:
            raise EvaluationFailed(
                "error",
                f"{self.url}: an answer of {tokens} tokens that ended with {reason!r}; see the server's log",
            )
        if reason == "length" and tokens < request.max_tokens:
            raise BadInput(
                f"{self.url}: it cuts answers at {tokens} of {request.max_tokens} tokens; raise the server's longest "
                "length, or lower evaluation.max_tokens"
            )
        return Output(text, tokens, REASONS[reason], seconds)


class Key(requests.auth.AuthBase):
    """The API key that an environment variable holds; none where no variable is named."""

    def __init__(self, variable: str | None) -> None:
        self.key = os.environ.get(variable) if variable else None
        if variable and not self.key:
            raise BadInput(
                f"evaluation.server.key: the environment variable {variable} is not set; export it"
            )

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self.key:
            request.headers["Authorization"] = f"Bearer {self.key}"
        return request


def _filled(text: str, values: Mapping[str, str]) -> str:
    for key, value in values.items():
        text = text.replace(f"{{{key}}}", value)
    return text


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []


def _gpu_name() -> str:
    import torch

    return torch.cuda.get_device_name()


def _message(response: requests.Response) -> str:
    """What the server says of an error, in one line of at most 300 characters."""
    return " ".join(response.text.split())[:300] or response.reason


def _retry_after(value: str | None) -> float | None:
    """Seconds of a header Retry-After: a number, or a date."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return None
    return min(max(seconds, 0.0), LONGEST_PAUSE)
