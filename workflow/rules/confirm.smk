# Chosen models on answers that did not choose them. Nothing here is evaluated unless the target `confirm` is asked for.
#
# REQUIRED INPUTS  tables/pareto.csv, endpoints/, the candidates' scores
# OUTPUTS          confirm/candidates.json      which models are measured again, and under which ids
#                  confirm/settings-<hash>      empty: by which settings they were chosen
#                  tables/{confirmed,optimism}.csv  figures/confirmed.svg

CONFIRMED = [f"{RUN}/tables/confirmed.csv", f"{RUN}/tables/optimism.csv", f"{RUN}/figures/confirmed.svg"]


checkpoint confirm_candidates:
    """Choose the models that make up the front, and write recipes that ask them anew."""
    input:
        pareto=when_asked(f"{RUN}/tables/pareto.csv"),
        endpoints=when_asked(f"{RUN}/endpoints/candidates.json"),
        data=held_out,
    output:
        candidates=update(f"{RUN}/confirm/candidates.json"),
        settings=f"{RUN}/confirm/settings-{settings(CONFIG.confirm.model_dump())}",
    log:
        f"{RUN}/logs/confirm_candidates.log",
    conda:
        "../../envs/optimize.yaml"
    script:
        "../scripts/confirm_candidates.py"


rule confirmed:
    """Fresh scores with their intervals, and how much the front had promised too much."""
    input:
        confirm_scores,
        candidates=f"{RUN}/confirm/candidates.json",
        pareto=when_asked(f"{RUN}/tables/pareto.csv"),
    output:
        CONFIRMED[0],
        CONFIRMED[1],
        reported("figures", "confirmed.svg", "Figures"),
    log:
        f"{RUN}/logs/confirmed.log",
    conda:
        "../../envs/optimize.yaml"
    script:
        "../scripts/confirmed.py"


rule confirm:
    """Measure chosen models again, and report that."""
    input:
        CONFIRMED,
        lambda wildcards: REPORT,
