# Source models: where they lie, what they are, and that they fit together.
#
# REQUIRED INPUTS  sources.<name>.model: a folder with safetensors, or a hub id
# OUTPUTS          sources/<name>.json   fingerprint, architecture, dtype, tensors per layer


rule source:
    """Fingerprint a source; a hub id is downloaded first (into the hub's own cache)."""
    input:
        lambda wildcards: bambo.config.source_files(CONFIG, wildcards.source),
    output:
        RUN + "/sources/{source}.json",
    log:
        RUN + "/logs/source/{source}.log",
    params:
        model=lambda wildcards: CONFIG.sources[wildcards.source].model,
        revision=lambda wildcards: CONFIG.sources[wildcards.source].revision,
    resources:
        mem_mb=CONFIG.resources.merge.mem_mb,
        runtime=CONFIG.resources.merge.runtime,
    conda:
        "../../envs/merge.yaml"
    script:
        "../scripts/source.py"


rule train_demo_models:
    """Make the embedded pair again from code and seed; declares no outputs, so no run ever plans or deletes it."""
    threads: 2
    log:
        "results/train_demo_models.log",
    params:
        python=PYTHON,
    conda:
        "../../envs/evaluate.yaml"
    shell:
        "{params.python} resources/recipe/train.py 2>&1 | tee {log}"
