"""The command `bambo`: what a user asks of one file or one run; searches are Snakemake's business."""

import argparse
from pathlib import Path

from .errors import plain_errors


def main() -> None:
    parser = argparse.ArgumentParser(prog="bambo", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    merge = commands.add_parser("merge", help="make the model that a recipe describes")
    merge.add_argument("recipe", type=Path, help="a recipe.json")
    merge.add_argument("output", type=Path, help="the folder to write; replaced if it is there")
    merge.add_argument("--threads", type=int, default=2)

    summary = commands.add_parser("summary", help="print the Pareto front of a run")
    summary.add_argument("run", type=Path, help="results/<run>")

    arguments = parser.parse_args()
    with plain_errors():
        # Imported when asked for: `bambo --help` should not wait for torch.
        if arguments.command == "merge":
            from .merging import merge as merge_recipe
            from .recipe import read_recipe

            merge_recipe(read_recipe(arguments.recipe), arguments.output, threads=arguments.threads)
            print(f"{arguments.output}: merged from {arguments.recipe}")
        else:
            from .report.summary import print_run

            print_run(arguments.run)
