"""What becomes of a proposal's first stages; a decision that was made is emitted again as it is."""

import os
import sys
from pathlib import Path

from bambo.config import load, search_settings
from bambo.files import read_json
from bambo.jobs import job
from bambo.recipe import read_recipe, whole
from bambo.records import Damaged, read_record, write_record
from bambo.run import Run
from bambo.search.promotions import promote
from bambo.search.proposals import proposal_path


def decided(path):
    if not path.exists():
        return False
    try:
        read_record(path, "promotion")
    except Damaged as error:
        print(f"{error}; decided anew", file=sys.stderr, flush=True)
        return False
    return True


def restore_recipes(run, record):
    """Write the recipes that are missing: no rule makes them."""
    for id in record["promoted"]:
        run.add(whole(read_recipe(run.folder / "candidates" / id / "recipe.json")))


with job(snakemake.log[0]):
    config = load(snakemake.config)
    search, key = snakemake.wildcards.search, snakemake.wildcards.key
    output, run = Path(snakemake.output[0]), Run.open(config)
    if decided(output):
        restore_recipes(run, read_record(output, "promotion"))
        os.utime(output)
    else:
        proposal = read_record(proposal_path(config.folder, search, key), "proposal")
        normalisation = read_json(snakemake.input.normalisation)
        record = promote(run, search, key, proposal, search_settings(config, search), normalisation)
        write_record(output, "promotion", record)
