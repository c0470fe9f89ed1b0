"""Layer differences of all sources."""

from pathlib import Path

from bambo.checkpoint import open_checkpoint
from bambo.compatibility import check_compatible
from bambo.files import atomic, read_json
from bambo.jobs import job
from bambo.partition import layer_differences

with job(snakemake.log[0]):
    records = {Path(path).stem: read_json(path) for path in snakemake.input}
    checkpoints = [open_checkpoint(record["path"], record.get("adapter")) for record in records.values()]
    check_compatible(checkpoints, snakemake.params.vocabulary)
    files_from = list(records).index(snakemake.params.files_from)
    with atomic(Path(snakemake.output[0])) as temporary:
        layer_differences(checkpoints, files_from).to_parquet(temporary, index=False)
