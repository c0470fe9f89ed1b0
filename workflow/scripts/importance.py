"""Importance of each group of tensors, and its figure."""

from pathlib import Path

from bambo.files import atomic
from bambo.importance import read_discrepancies, tables
from bambo.jobs import job
from bambo.report.importance import figure_importance
from bambo.report.style import save

with job(snakemake.log[0]):
    params = snakemake.params
    differences, activations = read_discrepancies(snakemake.input.differences, snakemake.input.activations)
    weights = {"parameters": params.parameters, "activations": params.activations}
    found = tables(differences, activations, weights, params.granularities)
    with atomic(Path(snakemake.output.table)) as temporary:
        found.to_csv(temporary, index=False)
    save(figure_importance(found, weights), Path(snakemake.output.figure))
