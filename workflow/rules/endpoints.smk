# The end points: every source alone. They say what 0 and 1 of every objective mean (Eq. 2).
#
# REQUIRED INPUTS  sources/<name>.json, the end points' scores
# OUTPUTS          endpoints/candidates.json      ids of the sources, with the run's files and with their own
#                  endpoints/normalisation.json   expert and base score of every benchmark, their gap and its error


checkpoint endpoints:
    """Write the recipes of the pure sources."""
    input:
        source_records,
    output:
        update(RUN + "/endpoints/candidates.json"),
    log:
        RUN + "/logs/endpoints.log",
    params:
    conda:
        "../../envs/optimize.yaml"
    script:
        "../scripts/endpoints.py"


def end_point_scores(wildcards):
    with checkpoints.endpoints.get().output[0].open() as file:
        record = json.load(file)
    return scores(sorted({*record["end_points"].values(), *record["own_files"].values()}))


rule normalisation:
    """Refuse a pair whose expert is no better than its base before anything else is evaluated."""
    input:
        end_point_scores,
        candidates=RUN + "/endpoints/candidates.json",
    output:
        RUN + "/endpoints/normalisation.json",
    log:
        RUN + "/logs/normalisation.log",
    params:
        run=RUN,
    conda:
        "../../envs/optimize.yaml"
    script:
        "../scripts/normalisation.py"
