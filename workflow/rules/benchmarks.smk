# Benchmark data that the config does not bring: from the hub, once, before any model is asked.
#
# REQUIRED INPUTS  evaluation.tasks.<name>.task: a task of lm-evaluation-harness whose data set is on the hub
# OUTPUTS          benchmarks/<name>.json   data set, revision, questions, hash
#                  benchmarks/<name>/       the questions, and the examples of few-shot prompts, in JSON lines


rule benchmark:
    """Download and check a benchmark; evaluations read this copy, so that they need no network and see the same rows."""
    output:
        # What a run began with stays: other rows would make other scores.
        update(f"{RUN}/benchmarks/{{benchmark}}.json"),
    log:
        f"{RUN}/logs/benchmark/{{benchmark}}.log",
    wildcard_constraints:
        benchmark="|".join(CONFIG.evaluation.tasks),
    conda:
        "../../envs/evaluate.yaml"
    params:
        python=PYTHON,
        settings=lambda wildcards: CONFIG.evaluation.tasks[wildcards.benchmark].model_dump_json(
            exclude_none=True
        ),
        folder=lambda wildcards, output: Path(output[0]).parent,
    shell:
        "{params.python} -m bambo.evaluation.hub {wildcards.benchmark} {params.settings:q} {params.folder} --log {log}"
