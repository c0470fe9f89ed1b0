# What the user reads: tables and figures of all searches of the run.
#
# REQUIRED INPUTS  search/<search>/complete-<iterations>, partition/, endpoints/
# OUTPUTS          tables/{observations,pareto,hypervolume,comparison,searches,curves,selection,surrogates,relevances,timeline}.csv
#                  figures/*.svg
#                  tables/settings-<hash>   empty: by which selection and prices they were made

TABLE_NAMES = ["observations", "pareto", "hypervolume", "comparison", "searches", "curves", "selection"]
TABLE_NAMES += ["surrogates", "relevances", "timeline"]
TABLES = expand(
    f"{RUN}/tables/{{name}}",
    name=["observations.parquet", *(f"{name}.csv" for name in TABLE_NAMES)],
)
# Other settings, another file: so Snakemake, which looks at files alone, makes the tables again.
TABLES_FOR = f"{RUN}/tables/settings-{settings(CONFIG.selection.model_dump(exclude={'export'}), CONFIG.evaluation.prices.model_dump())}"
REPORTED = ["selection.csv", "pareto.csv"]  # what `snakemake --report` shows beside the figures
FIGURE_NAMES = [
    "partition",
    "objectives",
    "benchmarks",
    "preferences",
    "granularities",
    "progress",
    "searches",
]
FIGURE_NAMES += ["surrogates", "weights", "parallel", "timeline"]
FIGURES = expand(f"{RUN}/figures/{{name}}.svg", name=FIGURE_NAMES)


rule tables:
    """Observations, fronts, hypervolume, searches and the models chosen for each preference (section 3.4)."""
    input:
        completed,
        blocks=f"{RUN}/partition/blocks.json",
        normalisation=f"{RUN}/endpoints/normalisation.json",
    output:
        [table for table in TABLES if Path(table).name not in REPORTED],
        [reported("tables", name, "Tables") for name in REPORTED],
        settings=TABLES_FOR,
    log:
        f"{RUN}/logs/tables.log",
    conda:
        "../../envs/optimize.yaml"
    script:
        "../scripts/tables.py"


rule figures:
    """Partition, objective space, progress, searches side by side, surrogates, and weights along the front."""
    input:
        TABLES,
        blocks=f"{RUN}/partition/blocks.json",
        differences=f"{RUN}/partition/differences.parquet",
    output:
        [reported("figures", f"{name}.svg", "Figures") for name in FIGURE_NAMES],
    log:
        f"{RUN}/logs/figures.log",
    conda:
        "../../envs/optimize.yaml"
    script:
        "../scripts/figures.py"
