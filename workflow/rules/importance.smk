# How much each part of the model may matter: the prior of searches that ask for it (lengthscale_prior: importance).
#
# REQUIRED INPUTS  partition/differences.parquet, endpoints/candidates.json, importance.prompts
# OUTPUTS          importance/activations.parquet   how far the sources' hidden states are apart, by prompt and group
#                  importance/importance.csv        both discrepancies of each group, and the importance made of them
#                  figures/importance.svg

IMPORTANCE = expand(
    f"{RUN}/{{name}}",
    name=["importance/importance.csv", "figures/importance.svg"] if bambo.config.asking(CONFIG) else [],
)


rule activations:
    """Run every source over the prompts, forward only, one at a time; none of the prompts may be a scored question."""
    input:
        # It names the recipe of each source alone, which no rule makes.
        f"{RUN}/endpoints/candidates.json",
        prompts=CONFIG.importance.prompts or [],
    output:
        f"{RUN}/importance/activations.parquet",
    log:
        f"{RUN}/logs/activations.log",
    retries: CONFIG.retries if workflow.is_main_process else 0
    conda:
        EVALUATE
    threads: CONFIG.evaluation.threads
    resources:
        model=1,
        gpu=gpus,
        mem_mb=grown(CONFIG.resources.evaluate, "mem_mb"),
        runtime=grown(CONFIG.resources.evaluate, "runtime"),
    params:
        python=CONFIG.evaluation.python or PYTHON,
        folder=lambda wildcards, output: Path(output[0]).parents[1],
        device=CONFIG.evaluation.device,
        gpus=CONFIG.resources.evaluate.gpu,
        batch_size=CONFIG.evaluation.batch_size,
        lock=LOCK_GPUS,
    shell:
        "{params.python} -m bambo.evaluation.hidden_states {params.folder} --prompts {input.prompts:q}"
        " --output {output} --threads {threads} --device {params.device} --gpus {params.gpus}"
        " --batch-size {params.batch_size} {params.lock} > {log} 2>&1"


rule importance:
    """Fuse what the parameters and the hidden states say."""
    input:
        differences=f"{RUN}/partition/differences.parquet",
        activations=(
            f"{RUN}/importance/activations.parquet" if bambo.config.compares_activations(CONFIG) else []
        ),
    output:
        table=f"{RUN}/importance/importance.csv",
        figure=reported("figures", "importance.svg", "Figures"),
    log:
        f"{RUN}/logs/importance.log",
    conda:
        "../../envs/optimize.yaml"
    params:
        granularities=bambo.config.granularities(CONFIG),
        parameters=CONFIG.importance.parameters,
        activations=CONFIG.importance.activations,
    script:
        "../scripts/importance.py"
