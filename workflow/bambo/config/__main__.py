"""The reference of the config's keys: `python -m bambo.config --write` in the repository's root."""

import argparse
from pathlib import Path

from .reference import reference, write

parser = argparse.ArgumentParser(prog="python -m bambo.config", description=__doc__)
parser.add_argument(
    "--write", action="store_true", help="write config/README.md and config/schema.json, not to the screen"
)
if parser.parse_args().write:
    write(Path("config"))
else:
    print(reference(), end="")
