# Models to take home. Nothing here runs unless the target `export` is asked for.
#
# REQUIRED INPUTS  tables/selection.csv
# OUTPUTS          models/<name>/      complete Hugging Face folders of the chosen models
#                  models/index.json   name, path, accuracy, tokens, preference


rule export:
    """Merge the chosen models again and put them into models/<name>/."""
    input:
        f"{RUN}/tables/selection.csv",
    output:
        f"{RUN}/models/index.json",
    log:
        f"{RUN}/logs/export.log",
    conda:
        "../../envs/merge.yaml"
    threads: 2
    resources:
        mem_mb=CONFIG.resources.merge.mem_mb,
        runtime=CONFIG.resources.merge.runtime,
    script:
        "../scripts/export.py"
