# A look before the leap: few models, four questions a benchmark. Nothing here runs unless the target `smoke` is asked for.
#
# REQUIRED INPUTS  sources/<name>.json, base.json, benchmarks/<name>.json, the candidates' scores
# OUTPUTS          smoke/candidates.json   ids of the sources and their balance, asked few questions
#                  smoke/report.txt        texts, scores, what looks wrong, and what the whole run takes


checkpoint smoke_candidates:
    """Write the recipes of a smoke run."""
    input:
        MODELS,
        expand(f"{RUN}/benchmarks/{{name}}.json", name=bambo.config.hub_benchmarks(CONFIG)),
    output:
        update(f"{RUN}/smoke/candidates.json"),
    log:
        f"{RUN}/logs/smoke_candidates.log",
    conda:
        "../../envs/optimize.yaml"
    script:
        "../scripts/smoke_candidates.py"


rule smoke:
    """Show what the models wrote, and reckon what the whole run takes."""
    input:
        smoke_scores,
        candidates=f"{RUN}/smoke/candidates.json",
    output:
        f"{RUN}/smoke/report.txt",
    log:
        f"{RUN}/logs/smoke.log",
    conda:
        "../../envs/optimize.yaml"
    script:
        "../scripts/smoke.py"
