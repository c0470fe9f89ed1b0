# Layer differences and the blocks that share one merging weight (Eq. 4-6, Algorithm 1).
#
# REQUIRED INPUTS  sources/<name>.json
# OUTPUTS          partition/differences.parquet   one row a tensor: group, parameters, L1, L2
#                  partition/blocks.json           the variables of every search


rule differences:
    """How much the sources differ, tensor by tensor (Eq. 4)."""
    input:
        source_records,
    output:
        RUN + "/partition/differences.parquet",
    log:
        RUN + "/logs/differences.log",
    resources:
        mem_mb=CONFIG.resources.merge.mem_mb,
        runtime=CONFIG.resources.merge.runtime,
    conda:
        "../../envs/merge.yaml"
    script:
        "../scripts/differences.py"


rule variables:
    """Group the tensors into the variables of one search; a file a search, so that a new search disturbs no other."""
    input:
        RUN + "/partition/differences.parquet",
    output:
        RUN + "/search/{search}/variables.json",
    log:
        RUN + "/logs/variables/{search}.log",
    params:
        settings=lambda wildcards: bambo.config.search_settings(CONFIG, wildcards.search),
    conda:
        "../../envs/optimize.yaml"
    script:
        "../scripts/variables.py"


rule blocks:
    """All searches' variables in one file, for readers."""
    input:
        expand(RUN + "/search/{search}/variables.json", search=CONFIG.searches),
    output:
        RUN + "/partition/blocks.json",
    log:
        RUN + "/logs/blocks.log",
    params:
        searches=list(CONFIG.searches),
    conda:
        "../../envs/optimize.yaml"
    script:
        "../scripts/blocks.py"
