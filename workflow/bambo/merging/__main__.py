"""`python -m bambo.merging RECIPE OUTPUT [--threads 2]`: make the model that a recipe describes."""

import argparse
import time
from pathlib import Path

from ..errors import BadInput, plain_errors
from ..recipe import is_scored, read_recipe
from .engine import merge


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bambo.merging", description=__doc__)
    parser.add_argument("recipe", type=Path, help="a recipe.json")
    parser.add_argument("output", type=Path, help="the model folder to write; replaced if it is there")
    parser.add_argument("--threads", type=int, default=2, help="threads, each on one tensor at a time")
    parser.add_argument(
        "--unless-scored",
        action="store_true",
        help="leave an empty folder where scores.json beside the recipe already holds its scores",
    )
    arguments = parser.parse_args()
    with plain_errors():
        if arguments.threads < 1:
            raise BadInput(f"--threads: {arguments.threads}, expected 1 or more")
        start = time.perf_counter()
        recipe = read_recipe(arguments.recipe)
        if arguments.unless_scored and is_scored(recipe, arguments.recipe.parent):
            arguments.output.mkdir(exist_ok=True)
            print(f"{arguments.output}: nothing merged, {recipe['id']} is scored")
            return
        merge(recipe, arguments.output, arguments.threads)
        size = sum(file.stat().st_size for file in arguments.output.rglob("*") if file.is_file())
        print(f"{arguments.output}: {size / 1e6:.1f} MB written in {time.perf_counter() - start:.2f} s")


if __name__ == "__main__":
    main()
