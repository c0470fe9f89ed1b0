# Models to take home. Nothing here runs unless the target `export` is asked for.
#
# REQUIRED INPUTS  tables/selection.csv
# OUTPUTS          models/<name>/      complete Hugging Face folders of the chosen models
#                  models/index.json   name, path, accuracy, tokens, preference


rule export:
    """Merge the chosen models again and put them into models/<name>/."""
    input:
        RUN + "/tables/selection.csv",
    output:
        RUN + "/models/index.json",
    log:
        RUN + "/logs/export.log",
    threads: 2
    resources:
        mem_mb=CONFIG.resources.merge.mem_mb,
        runtime=CONFIG.resources.merge.runtime,
    params:
        run=RUN,
    conda:
        "../../envs/merge.yaml"
    script:
        "../scripts/export.py"
