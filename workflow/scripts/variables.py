"""The variables of one search, and the settings that the search is tied to from now on."""

from pathlib import Path

import pandas as pd
from bambo.config import deciding, load, search_settings
from bambo.files import write_json
from bambo.jobs import job
from bambo.space import variables

with job(snakemake.log[0]):
    config = load(snakemake.config)
    search = snakemake.wildcards.search
    settings = search_settings(config, search)
    found = variables(
        pd.read_parquet(snakemake.input[0]),
        n_blocks=settings["n_blocks"],
        strategy=settings["strategy"],
        norm=config.blocks.norm,
        fold=settings["fold"],
    )
    record = {
        "strategy": settings["strategy"],
        "n_blocks": settings["n_blocks"],
        "variables": found,
        "settings": deciding(config, search),
    }
    write_json(Path(snakemake.output[0]), record)
