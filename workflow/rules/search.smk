# The dynamic loop: a proposal decides, everything else follows from files.
#
# REQUIRED INPUTS  search/<search>/variables.json, endpoints/normalisation.json, scores of earlier iterations
# OUTPUTS          search/<search>/proposals/t<iteration>.json   candidates of one iteration; never decided twice
#                  search/<search>/proposals/s<slot>k<step>.json one candidate of a slot: of an asynchronous search
#                  search/<search>/promotions/<key>.json         which of them are asked all questions: with stages
#                  search/<search>/slot<slot>-<iterations>       a slot has come to the end of the budget
#                  search/<search>/complete-<iterations>         all of a budget is evaluated


checkpoint propose:
    """Fit the surrogate to all that is evaluated and choose the next batch, or a slot's next candidate.

    What it waits for is all that tells synchronous searches from asynchronous ones.
    """
    input:
        evaluated_before,
        variables=f"{RUN}/search/{{search}}/variables.json",
        normalisation=f"{RUN}/endpoints/normalisation.json",
    output:
        update(f"{RUN}/search/{{search}}/proposals/{{key}}.json"),
    log:
        f"{RUN}/logs/propose/{{search}}-{{key}}.log",
    # A proposal keeps several evaluations waiting.
    priority: 20
    conda:
        "../../envs/optimize.yaml"
    # One thread: the same seed then gives the same proposals, bit for bit.
    threads: 1
    resources:
        proposing=1,
        mem_mb=CONFIG.resources.propose.mem_mb,
        runtime=CONFIG.resources.propose.runtime,
    script:
        "../scripts/propose.py"


checkpoint promote:
    """Decide which candidates are asked all questions, from their answers to the first ones."""
    input:
        first_stages,
        normalisation=f"{RUN}/endpoints/normalisation.json",
    output:
        update(f"{RUN}/search/{{search}}/promotions/{{key}}.json"),
    log:
        f"{RUN}/logs/promote/{{search}}-{{key}}.log",
    priority: 20
    conda:
        "../../envs/optimize.yaml"
    threads: 1
    resources:
        mem_mb=CONFIG.resources.propose.mem_mb,
        runtime=CONFIG.resources.propose.runtime,
    script:
        "../scripts/promote.py"


rule slot:
    """The end of one slot; each has a target of its own, since a rule waits for one unknown proposal at a time."""
    input:
        evaluated_in_slot,
    output:
        touch(f"{RUN}/search/{{search}}/slot{{slot}}-{{iterations}}"),


rule complete:
    """The budget stands in the file's name: raising it does exactly the new evaluations."""
    input:
        evaluated_within,
    output:
        f"{RUN}/search/{{search}}/complete-{{iterations}}",
    log:
        f"{RUN}/logs/complete/{{search}}-{{iterations}}.log",
    conda:
        "../../envs/optimize.yaml"
    script:
        "../scripts/complete.py"
