# Layer differences and the blocks that share one merging weight (Eq. 4-6, Algorithm 1).
#
# REQUIRED INPUTS  sources/<name>.json, importance/importance.csv where a search asks for it
# OUTPUTS          partition/differences.parquet   one row a tensor: group, parameters, L1, L2
#                  partition/blocks.json           the variables of every search


rule differences:
    """How much the sources differ, tensor by tensor (Eq. 4)."""
    input:
        expand(f"{RUN}/sources/{{source}}.json", source=CONFIG.sources),
    output:
        f"{RUN}/partition/differences.parquet",
    log:
        f"{RUN}/logs/differences.log",
    conda:
        "../../envs/merge.yaml"
    resources:
        mem_mb=CONFIG.resources.merge.mem_mb,
        runtime=CONFIG.resources.merge.runtime,
    params:
        vocabulary=CONFIG.merge.vocabulary,
        files_from=CONFIG.files_from,
    script:
        "../scripts/differences.py"


rule variables:
    """Group the tensors into the variables of one search; a file a search, so that a new search disturbs no other."""
    input:
        differences=f"{RUN}/partition/differences.parquet",
        importance=lambda wildcards: (
            f"{RUN}/importance/importance.csv" if wildcards.search in bambo.config.asking(CONFIG) else []
        ),
    output:
        f"{RUN}/search/{{search}}/variables.json",
    log:
        f"{RUN}/logs/variables/{{search}}.log",
    conda:
        "../../envs/optimize.yaml"
    script:
        "../scripts/variables.py"


rule blocks:
    """All searches' variables in one file, for readers."""
    input:
        expand(f"{RUN}/search/{{search}}/variables.json", search=CONFIG.searches),
    output:
        f"{RUN}/partition/blocks.json",
    log:
        f"{RUN}/logs/blocks.log",
    conda:
        "../../envs/optimize.yaml"
    params:
        searches=list(CONFIG.searches),
    script:
        "../scripts/blocks.py"
