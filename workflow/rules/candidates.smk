# One candidate: merged, scored, thrown away. Both jobs are commands, so that they run in other environments.
#
# REQUIRED INPUTS  candidates/<id>/recipe.json   a source file for Snakemake: written once, by a proposal
# OUTPUTS          candidates/<id>/model/        gone once scored, kept on failure
#                  candidates/<id>/scores.json


rule merge:
    """Stream the sources into one merged checkpoint."""
    input:
        f"{RUN}/candidates/{{id}}/recipe.json",
    output:
        directory(f"{RUN}/candidates/{{id}}/model"),
    log:
        f"{RUN}/logs/merge/{{id}}.log",
    group:
        "candidate"
    conda:
        "../../envs/merge.yaml"
    threads: CONFIG.resources.merge.threads
    resources:
        # Held by merge and evaluate alike, and evaluate goes first: `--resources model=N` bounds the disk in use.
        model=1,
        mem_mb=CONFIG.resources.merge.mem_mb,
        runtime=CONFIG.resources.merge.runtime,
    params:
        python=PYTHON,
    shell:
        "{params.python} -m bambo.merging {input} {output} --threads {threads} --unless-scored > {log} 2>&1"


rule evaluate:
    """Score a merged checkpoint through lm-evaluation-harness; a valid score is kept as it is."""
    input:
        recipe=f"{RUN}/candidates/{{id}}/recipe.json",
        model=f"{RUN}/candidates/{{id}}/model",
    output:
        update(f"{RUN}/candidates/{{id}}/scores.json"),
    log:
        f"{RUN}/logs/evaluate/{{id}}.log",
    priority: 10
    group:
        "candidate"
    conda:
        "../../envs/evaluate.yaml"
    threads: CONFIG.evaluation.threads
    resources:
        model=1,
        gpu=CONFIG.resources.evaluate.gpu,
        mem_mb=CONFIG.resources.evaluate.mem_mb,
        runtime=CONFIG.resources.evaluate.runtime,
    params:
        python=CONFIG.evaluation.python or PYTHON,
        engine=CONFIG.evaluation.engine,
        device=CONFIG.evaluation.device,
        batch_size=CONFIG.evaluation.batch_size,
        folder=lambda wildcards, output: Path(output[0]).parent,
    # Scores that were kept count as made now. The model goes last; temp() would keep all until the search ends.
    shell:
        "{params.python} -m bambo.evaluation {input.recipe} {input.model} {params.folder}"
        " --engine {params.engine} --device {params.device} --batch-size {params.batch_size} --threads {threads}"
        " > {log} 2>&1 && touch {output} && rm -rf {input.model}"
