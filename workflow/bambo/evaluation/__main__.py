"""`python -m bambo.evaluation RECIPE MODEL OUTPUT`: score one model as its recipe says."""

import argparse
import logging
import os
import sys
import time
from pathlib import Path

from ..errors import plain_errors
from ..recipe import read_recipe
from .engine import EvaluationFailed
from .job import evaluate
from .startup import lean, leave


def main() -> None:
    start = time.perf_counter()
    parser = argparse.ArgumentParser(prog="python -m bambo.evaluation", description=__doc__)
    parser.add_argument("recipe", type=Path, help="recipe.json, whose `evaluation` says how to score")
    parser.add_argument("model", type=Path, help="the merged checkpoint, a Hugging Face folder")
    parser.add_argument("output", type=Path, help="folder of scores.json, samples.parquet and lm_eval/")
    parser.add_argument("--engine", default="hf", help="what generates (default: hf)")
    parser.add_argument("--batch-size", type=int, default=32, help="prompts generated together")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:<i>")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
    arguments = parser.parse_args()
    with plain_errors():
        recipe = read_recipe(arguments.recipe)
        if arguments.device == "cpu":
            lean()  # small models: on a GPU, where seconds of start-up are nothing, all imports are the usual ones
        os.environ.setdefault("TQDM_DISABLE", "1")
        logging.getLogger("lm_eval").setLevel(logging.ERROR)
        try:
            evaluate(
                recipe,
                arguments.model,
                arguments.output,
                batch_size=arguments.batch_size,
                device=arguments.device,
                threads=arguments.threads,
                engine=arguments.engine,
                started=(start, 0.0),
            )
        except EvaluationFailed as error:
            sys.exit(f"error: {error}")
    leave()


if __name__ == "__main__":
    main()
