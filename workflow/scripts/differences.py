"""Layer differences of all sources."""

from pathlib import Path

from bambo.checkpoint import check_compatible, open_checkpoint
from bambo.files import atomic, read_json
from bambo.jobs import job
from bambo.partition import layer_differences

with job(snakemake.log[0]):
    checkpoints = [open_checkpoint(Path(read_json(path)["path"])) for path in snakemake.input]
    check_compatible(checkpoints)
    with atomic(Path(snakemake.output[0])) as temporary:
        layer_differences(checkpoints).to_parquet(temporary, index=False)
