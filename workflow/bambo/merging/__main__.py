"""`python -m bambo.merging RECIPE OUTPUT [--threads 2]`: make the model that a recipe describes."""

import argparse
import time
from pathlib import Path

from ..errors import BadInput, plain_errors
from ..recipe import read_recipe
from .engine import merge


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bambo.merging", description=__doc__)
    parser.add_argument("recipe", type=Path, help="a recipe.json")
    parser.add_argument("output", type=Path, help="the model folder to write; replaced if it is there")
    parser.add_argument("--threads", type=int, default=2, help="threads, each on one tensor at a time")
    arguments = parser.parse_args()
    with plain_errors():
        if arguments.threads < 1:
            raise BadInput(f"--threads: {arguments.threads}, expected 1 or more")
        start = time.perf_counter()
        merge(read_recipe(arguments.recipe), arguments.output, arguments.threads)
        size = sum(file.stat().st_size for file in arguments.output.rglob("*") if file.is_file())
        print(f"{arguments.output}: {size / 1e6:.1f} MB written in {time.perf_counter() - start:.2f} s")


if __name__ == "__main__":
    main()
