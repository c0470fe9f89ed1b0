# One candidate: merged, scored, thrown away. Both jobs are commands, so that they run in other environments.
#
# REQUIRED INPUTS  candidates/<id>/recipe.json   a source file for Snakemake: written once, by a proposal
# OUTPUTS          candidates/<id>/merged        empty: model/ was made; it is gone once scored, and made again if needed
#                  candidates/<id>/scores.json   scores, or, where failures do not stop the loop, why there are none


rule merge:
    """Stream the sources into one merged checkpoint."""
    input:
        f"{RUN}/candidates/{{id}}/recipe.json",
    output:
        f"{RUN}/candidates/{{id}}/merged",
    log:
        f"{RUN}/logs/merge/{{id}}.log",
    retries: ATTEMPTS
    group:
        "candidate"
    conda:
        "../../envs/merge.yaml"
    threads: CONFIG.resources.merge.threads
    resources:
        # Held by merge and evaluate alike, and evaluate goes first, so that few models wait on the disk.
        model=1,
        merging=1,
        gpu=int(CONFIG.merge.device == "cuda"),
        attempt=this_attempt,
        mem_mb=grown(CONFIG.resources.merge, "mem_mb"),
        runtime=grown(CONFIG.resources.merge, "runtime"),
    params:
        python=PYTHON,
        folder=lambda wildcards, output: Path(output[0]).parent,
        retries=CONFIG.retries,
        options=merge_options(),
    shell:
        "{params.python} -m bambo.candidate merge {params.folder} --threads {threads}"
        " --attempt {resources.attempt} --retries {params.retries} {params.options} > {log} 2>&1"


rule evaluate:
    """Score a merged checkpoint through lm-evaluation-harness; a valid score is kept as it is."""
    input:
        recipe=f"{RUN}/candidates/{{id}}/recipe.json",
        merged=f"{RUN}/candidates/{{id}}/merged",
    output:
        update(f"{RUN}/candidates/{{id}}/scores.json"),
    log:
        f"{RUN}/logs/evaluate/{{id}}.log",
    priority: 10
    retries: ATTEMPTS
    group:
        "candidate"
    conda:
        EVALUATE
    threads: CONFIG.evaluation.threads
    resources:
        model=1,
        attempt=this_attempt,
        gpu=gpus,
        mem_mb=grown(CONFIG.resources.evaluate, "mem_mb"),
        runtime=grown(CONFIG.resources.evaluate, "runtime"),
    params:
        python=CONFIG.evaluation.python or PYTHON,
        folder=lambda wildcards, output: Path(output[0]).parent,
        retries=CONFIG.retries,
        on_failure=CONFIG.on_failure,
        engine=engine_options(),
    # The command removes the model; temp() would keep all until the search ends.
    shell:
        "{params.python} -m bambo.candidate evaluate {params.folder} --threads {threads}"
        " --attempt {resources.attempt} --retries {params.retries} --on-failure {params.on_failure}"
        " {params.engine} > {log} 2>&1"


rule evaluate_together:
    """Score several candidates with one loaded engine; whom it fails with is left to be evaluated alone."""
    input:
        f"{RUN}/jobs/{{job}}.json",
    output:
        touch(f"{RUN}/jobs/{{job}}.done"),
    log:
        f"{RUN}/logs/evaluate/{{job}}.log",
    retries: ATTEMPTS
    conda:
        EVALUATE
    threads: CONFIG.evaluation.threads
    resources:
        model=1,
        attempt=this_attempt,
        gpu=gpus,
        mem_mb=grown(CONFIG.resources.evaluate, "mem_mb"),
        # The run time that the config names is that of one candidate.
        runtime=lambda wildcards, attempt: len(members(wildcards))
        * grown(CONFIG.resources.evaluate, "runtime")(wildcards, attempt),
    params:
        python=CONFIG.evaluation.python or PYTHON,
        folders=members,
        retries=CONFIG.retries,
        engine=engine_options(),
    shell:
        "{params.python} -m bambo.candidate evaluate {params.folders} --threads {threads}"
        " --attempt {resources.attempt} --retries {params.retries} {params.engine} > {log} 2>&1"


checkpoint together:
    """The jobs of an iteration are done: what they left without scores is known, and evaluated alone."""
    input:
        jobs_done,
    output:
        touch(f"{RUN}/search/{{search}}/together/{{key}}"),
