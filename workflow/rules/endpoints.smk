# The end points: every source alone. They say what 0 and 1 of every objective mean (Eq. 2).
#
# REQUIRED INPUTS  sources/<name>.json, base.json, benchmarks/<name>.json, the end points' scores
# OUTPUTS          endpoints/candidates.json      ids of the sources, with the run's files and with their own
#                  endpoints/normalisation.json   expert and base score of every benchmark, their gap and its error


checkpoint endpoints:
    """Write the recipes of the pure sources."""
    input:
        MODELS,
        expand(f"{RUN}/benchmarks/{{name}}.json", name=bambo.config.hub_benchmarks(CONFIG)),
    output:
        update(f"{RUN}/endpoints/candidates.json"),
    log:
        f"{RUN}/logs/endpoints.log",
    conda:
        "../../envs/optimize.yaml"
    script:
        "../scripts/endpoints.py"


rule normalisation:
    """Refuse a pair whose expert is no better than its base before anything else is evaluated."""
    input:
        end_point_scores,
        candidates=f"{RUN}/endpoints/candidates.json",
    output:
        f"{RUN}/endpoints/normalisation.json",
    log:
        f"{RUN}/logs/normalisation.log",
    conda:
        "../../envs/optimize.yaml"
    script:
        "../scripts/normalisation.py"
