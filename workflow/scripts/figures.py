"""All figures of a run but that of the importance."""

import pandas as pd
from bambo.config import load
from bambo.jobs import job
from bambo.partition import WEIGHTS, blocks, layer_means
from bambo.report import choice, figures, searches, surrogates, tables, timeline
from bambo.report.style import save

with job(snakemake.log[0]):
    config = load(snakemake.config)
    run = config.folder
    table = tables.read(run, "searches")
    # One figure shows the seeds; the others would drown in them.
    observations, pareto, hypervolume = (
        searches.first_seeds(frame, table)
        for frame in (
            pd.read_parquet(run / "tables" / "observations.parquet"),
            tables.read(run, "pareto"),
            tables.read(run, "hypervolume"),
        )
    )
    differences = pd.read_parquet(snakemake.input.differences)
    layers = pd.DataFrame({f"l{norm}": layer_means(differences, norm) for norm in (1, 2)})
    partitions = {
        strategy: blocks(layers[f"l{config.blocks.norm}"], config.blocks.n_blocks, strategy)
        for strategy in dict.fromkeys([*WEIGHTS, config.blocks.strategy])
    }
    drawn = {
        "partition": figures.figure_partition(layers, partitions, config.blocks.strategy),
        "objectives": figures.figure_objective_space(observations, pareto, config.reference_point),
        "benchmarks": figures.figure_benchmarks(observations, pareto),
        "preferences": choice.figure_preferences(observations, pareto, **config.selection.rules),
        "granularities": choice.figure_granularities(
            observations, pareto, choice.searched_granularities(table)
        ),
        "progress": figures.figure_progress(observations, hypervolume),
        "searches": searches.figure(table, tables.read(run, "curves")),
        "surrogates": surrogates.figure(
            *(searches.first_seeds(tables.read(run, name), table) for name in ("surrogates", "relevances")),
            tables.is_simulated(observations),
        ),
        "weights": figures.figure_weights(observations, pareto, config.selection.front),
        "parallel": choice.figure_parallel(observations, pareto, config.selection.front),
        "timeline": timeline.figure(tables.read(run, "timeline"), tables.is_simulated(observations)),
    }
    for name, figure in drawn.items():
        save(figure, run / "figures" / f"{name}.svg")
