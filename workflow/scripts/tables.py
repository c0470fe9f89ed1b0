"""Observations, fronts, hypervolume, the searches side by side, and selection."""

from pathlib import Path

from bambo.config import iterations, load, search_settings
from bambo.files import mark, read_json
from bambo.jobs import job
from bambo.report import fronts, searches, surrogates, tables, timeline

with job(snakemake.log[0]):
    config = load(snakemake.config)
    folder = config.folder / "tables"
    blocks = read_json(snakemake.input.blocks)["searches"]
    run = tables.read_run(
        config.folder,
        {name: search["variables"] for name, search in blocks.items()},
        limits=list(config.selection.limits),
        prices=config.evaluation.prices.model_dump(),
    )
    tables.check_scored(run, {name: iterations(config, name) for name in config.searches})
    observations = tables.observations(run)
    settings = {name: search_settings(config, name) for name in config.searches}
    pareto = fronts.pareto(
        run,
        observations,
        settings,
        config.reference_point,
        base_source=config.base_source,
    )
    hypervolume = fronts.hypervolume(observations, config.reference_point, config.resources.evaluate.gpu)
    comparison = fronts.comparison(observations, pareto, hypervolume, settings, config.left_out)
    presets = {name: search.preset for name, search in config.searches.items()}
    side_by_side = searches.table(run, observations, pareto, settings, presets, config.reference_point)
    checks, relevances = surrogates.surrogates(run, observations, settings)
    curves = searches.curves(run, observations, settings, config.reference_point)
    selection = fronts.selection(
        observations, pareto, preferences=config.selection.preferences, **config.selection.rules
    )
    tables.write(folder / "observations", observations, parquet=True)
    tables.write(folder / "pareto", pareto)
    tables.write(folder / "hypervolume", hypervolume)
    tables.write(folder / "comparison", comparison)
    tables.write(folder / "searches", side_by_side)
    tables.write(folder / "curves", curves)
    tables.write(folder / "surrogates", checks)
    tables.write(folder / "relevances", relevances)
    tables.write(folder / "selection", selection)
    tables.write(folder / "timeline", timeline.timeline(config.folder, run, observations))
    mark(Path(snakemake.output.settings))
