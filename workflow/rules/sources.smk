# Source models: where they lie, what they are, and that they fit together.
#
# REQUIRED INPUTS  sources.<name>.model and base.model: folders with safetensors, or hub ids
# OUTPUTS          sources/<name>.json   fingerprint, architecture, dtype, tensors per layer
#                  base.json             the same of the base, where it makes a difference to a search


rule source:
    """Fingerprint a source; a hub id is downloaded first (into the hub's own cache)."""
    input:
        lambda wildcards: bambo.config.source_files(CONFIG.sources[wildcards.source]),
    output:
        f"{RUN}/sources/{{source}}.json",
    log:
        f"{RUN}/logs/source/{{source}}.log",
    conda:
        "../../envs/merge.yaml"
    resources:
        mem_mb=CONFIG.resources.merge.mem_mb,
        runtime=CONFIG.resources.merge.runtime,
    params:
        model=lambda wildcards: CONFIG.sources[wildcards.source].model,
        revision=lambda wildcards: CONFIG.sources[wildcards.source].revision,
        adapter=lambda wildcards: CONFIG.sources[wildcards.source].adapter,
    script:
        "../scripts/source.py"


rule base:
    """Fingerprint the base, likewise."""
    input:
        lambda wildcards: bambo.config.source_files(CONFIG.base),
    output:
        f"{RUN}/base.json",
    log:
        f"{RUN}/logs/base.log",
    conda:
        "../../envs/merge.yaml"
    resources:
        mem_mb=CONFIG.resources.merge.mem_mb,
        runtime=CONFIG.resources.merge.runtime,
    params:
        model=lambda wildcards: CONFIG.base.model,
        revision=lambda wildcards: CONFIG.base.revision,
        adapter=None,
    script:
        "../scripts/source.py"


rule train_demo_models:
    """Make the embedded pair again from code and seed; declares no outputs, so no run ever plans or deletes it."""
    log:
        "results/train_demo_models.log",
    conda:
        "../../envs/evaluate.yaml"
    threads: 2
    params:
        python=PYTHON,
    shell:
        "{params.python} resources/recipe/train.py 2>&1 | tee {log}"
