# Experiment trackers. Nothing here runs unless the config names one, and nothing waits for it.
#
# REQUIRED INPUTS  tables/, figures/, README.md, report.html, front.html
# OUTPUTS          tracked-<hash>   empty: by which settings the run was logged

TRACKED = []
if CONFIG.tracking.mlflow or CONFIG.tracking.tensorboard:
    TRACKED = [f"{RUN}/tracked-{settings(CONFIG.tracking.model_dump())}"]


rule track:
    """Log observations, hypervolume and files; a failure there is a warning."""
    input:
        TABLES,
        FIGURES,
        REPORT,
    output:
        TRACKED or f"{RUN}/tracked",
    log:
        f"{RUN}/logs/track.log",
    conda:
        "../../envs/track.yaml"
    script:
        "../scripts/track.py"
