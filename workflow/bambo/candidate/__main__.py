"""`python -m bambo.candidate {merge,evaluate} FOLDER`: the jobs at results/<run>/candidates/<id>.

Given several folders, `evaluate` merges their models into one engine that stays loaded.
"""

import argparse
import logging
import os
import sys
import time
from pathlib import Path

from ..errors import plain_errors
from ..evaluation.engine import EvaluationFailed, Machine
from ..evaluation.startup import leave
from .work import Policy, evaluate, evaluate_together, merge


def main() -> None:
    started = time.perf_counter(), 0.0
    parser = argparse.ArgumentParser(prog="python -m bambo.candidate", description=__doc__)
    steps = parser.add_subparsers(dest="step", required=True)
    for step, text in [("merge", "make its model"), ("evaluate", "score it, and remove its model")]:
        command = steps.add_parser(step, help=text)
        command.add_argument("folders", type=Path, nargs="+", metavar="folder", help="with recipe.json")
        command.add_argument("--threads", type=int, default=1, help="CPU threads")
        command.add_argument("--attempt", type=int, default=1, help="counted from 1")
        command.add_argument("--retries", type=int, default=0, help="attempts after a first one that failed")
        command.add_argument("--in-place", action="store_true", help="merge into the engine, without a file")
        command.add_argument("--lock-gpus", action="store_true", help="hold GPUs: no scheduler assigns any")
        if step == "merge":
            command.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
        else:
            command.add_argument("--on-failure", choices=("stop", "continue"), default="stop")
            command.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
            command.add_argument("--gpus", type=int, default=0, help="GPUs to take")
            command.add_argument("--batch-size", type=int, default=32, help="prompts at work together")
            command.add_argument("--memory-share", type=float, default=0.9, help="of the GPU's memory")
            command.add_argument(
                "--model-length", type=int, help="tokens of prompt and answer to make room for"
            )
            command.add_argument(
                "--pause",
                type=float,
                nargs=2,
                default=(0.0, 0.0),
                metavar=("SECONDS", "SIGMA"),
                help="how long a simulated evaluation takes: median, and sd of its logarithm",
            )
    given = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    with plain_errors():
        if given.step == "merge":
            policy = Policy(given.attempt, given.retries, "stop")
            for folder in given.folders:
                merge(folder, policy, given.threads, given.in_place, given.device, given.lock_gpus)
        else:
            os.environ.setdefault("TQDM_DISABLE", "1")
            logging.getLogger("lm_eval").setLevel(logging.ERROR)
            policy = Policy(given.attempt, given.retries, given.on_failure)
            machine = Machine(
                given.device,
                given.gpus,
                given.threads,
                given.batch_size,
                given.memory_share,
                given.model_length,
                tuple(given.pause),
            )
            try:
                if len(given.folders) > 1:
                    evaluate_together(given.folders, policy, machine, given.lock_gpus, started)
                else:
                    evaluate(given.folders[0], policy, machine, given.lock_gpus, started, given.in_place)
            except EvaluationFailed as error:
                sys.exit(f"error: {error}")
    leave()


if __name__ == "__main__":
    main()
