"""The variables of one search, and the settings that the search is tied to from now on."""

import logging
from pathlib import Path

import pandas as pd
from bambo.config import base_notes, deciding, load, search_settings
from bambo.files import write_json
from bambo.importance import of_groups, of_parts
from bambo.jobs import job
from bambo.space import parts, variables

with job(snakemake.log[0]):
    config = load(snakemake.config)
    search = snakemake.wildcards.search
    settings = search_settings(config, search)
    if search in (notes := base_notes(config)):
        logging.warning(notes[search])
    found = parts(
        pd.read_parquet(snakemake.input.differences),
        n_blocks=settings["n_blocks"],
        strategy=settings["strategy"],
        norm=config.blocks.norm,
        fold=settings["fold"],
    )
    if snakemake.input.importance:  # asked for by this search
        table = pd.read_csv(snakemake.input.importance)
        values = of_parts([part["groups"] for part in found], of_groups(table, settings["granularity"]))
        if values is not None:
            found = [{**part, "importance": value} for part, value in zip(found, values, strict=True)]
    record = {
        "strategy": settings["strategy"],
        "n_blocks": settings["n_blocks"],
        "variables": variables(found, list(config.sources), settings),
        "settings": deciding(config, search),
    }
    write_json(Path(snakemake.output[0]), record)
