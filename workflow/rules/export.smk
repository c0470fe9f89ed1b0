# Models to take home. Nothing here runs unless the target `export` is asked for.
#
# REQUIRED INPUTS  tables/{selection,observations}.csv, candidates/<id>/{recipe,scores}.json, sources/<name>.json
# OUTPUTS          models/<name>/      complete Hugging Face folders of the chosen models
#                  models/index.json   name, path, accuracy, tokens, preference
#                  models/settings-<hash>   empty: what was asked for


rule export:
    """Merge the chosen models again and put them into models/<name>/."""
    input:
        f"{RUN}/tables/selection.csv",
        f"{RUN}/tables/observations.csv",
    output:
        index=f"{RUN}/models/index.json",
        settings=f"{RUN}/models/settings-{settings(CONFIG.selection.export)}",
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
