# What the user reads: tables and figures of all searches of the run.
#
# REQUIRED INPUTS  search/<search>/complete-<iterations>, partition/, endpoints/
# OUTPUTS          tables/{observations,pareto,hypervolume,selection}, figures/*.svg

TABLES = expand(
    RUN + "/tables/{name}",
    name=["observations.parquet", "observations.csv", "pareto.csv", "hypervolume.csv", "selection.csv"],
)
FIGURES = expand(RUN + "/figures/{name}.svg", name=["partition", "objectives", "progress", "weights"])


rule tables:
    """Observations, fronts, hypervolume and the models chosen for each preference (section 3.4)."""
    input:
        [
            f"{RUN}/search/{name}/complete-{bambo.config.iterations(CONFIG, name)}"
            for name in CONFIG.searches
        ],
        blocks=RUN + "/partition/blocks.json",
        normalisation=RUN + "/endpoints/normalisation.json",
    output:
        TABLES,
    log:
        RUN + "/logs/tables.log",
    params:
        run=RUN,
    conda:
        "../../envs/optimize.yaml"
    script:
        "../scripts/tables.py"


rule figures:
    """Partition, objective space, progress and weights along the front."""
    input:
        TABLES,
        blocks=RUN + "/partition/blocks.json",
        differences=RUN + "/partition/differences.parquet",
    output:
        FIGURES,
    log:
        RUN + "/logs/figures.log",
    params:
        run=RUN,
    conda:
        "../../envs/optimize.yaml"
    script:
        "../scripts/figures.py"
