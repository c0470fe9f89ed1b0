"""What becomes of a proposal's first stages; a decision that was made is emitted again as it is."""

import os
from pathlib import Path

from bambo.config import load, search_settings
from bambo.files import read_json
from bambo.jobs import job
from bambo.recipe import read_recipe, whole
from bambo.records import is_made, read_record, write_record
from bambo.run import Run
from bambo.search.promotions import promote
from bambo.search.proposals import proposal_path


def restore_recipes(config, record):
    """Write the recipes that are missing: no rule makes them."""
    folder = config.folder / "candidates"
    if all((folder / id / "recipe.json").exists() for id in record["candidates"]):
        return
    run = Run.open(config)
    for id in record["promoted"]:
        run.add(whole(read_recipe(folder / id / "recipe.json")))


with job(snakemake.log[0]):
    config = load(snakemake.config)
    search, key = snakemake.wildcards.search, snakemake.wildcards.key
    output = Path(snakemake.output[0])
    if is_made(output, "promotion"):
        restore_recipes(config, read_record(output, "promotion"))
        os.utime(output)
    else:
        proposal = read_record(proposal_path(config.folder, search, key), "proposal")
        normalisation = read_json(snakemake.input.normalisation)
        settings = search_settings(config, search)
        record = promote(Run.open(config), search, key, proposal, settings, normalisation)
        write_record(output, "promotion", record)
