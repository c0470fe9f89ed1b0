# The dynamic loop: a proposal decides, everything else follows from files.
#
# REQUIRED INPUTS  search/<search>/variables.json, endpoints/normalisation.json, scores of earlier iterations
# OUTPUTS          search/<search>/proposals/t<iteration>.json   candidates of one iteration; never decided twice
#                  search/<search>/complete-<iterations>         all of a budget is evaluated

import json


def proposal(search, iteration):
    """A decision that was made; Snakemake comes back here when it is made."""
    with checkpoints.propose.get(search=search, iteration=f"{iteration:03d}").output[0].open() as file:
        return json.load(file)


def evaluated_before(wildcards):
    """What a proposal waits for: every evaluation of the iterations before it."""
    earlier = range(int(wildcards.iteration))
    return scores(id for t in earlier for id in proposal(wildcards.search, t)["candidates"])


def evaluated_within(wildcards):
    """Everything that a budget asks for; a stop decided under a smaller budget is passed over."""
    budget = int(wildcards.iterations)
    ids = []
    for t in range(budget + 1):
        decision = proposal(wildcards.search, t)
        ids += decision["candidates"]
        if decision["stop"] and decision["iterations"] >= budget:
            break
    return scores(ids)


checkpoint propose:
    """Fit the surrogate to all that is evaluated and choose the next batch; iteration 0 is the initial design."""
    input:
        evaluated_before,
        variables=RUN + "/search/{search}/variables.json",
        normalisation=RUN + "/endpoints/normalisation.json",
    output:
        update(RUN + "/search/{search}/proposals/t{iteration}.json"),
    log:
        RUN + "/logs/propose/{search}-{iteration}.log",
    params:
        run=RUN,
    # One thread: the same seed then gives the same proposals, bit for bit.
    threads: 1
    resources:
        mem_mb=CONFIG.resources.propose.mem_mb,
        runtime=CONFIG.resources.propose.runtime,
    # A proposal keeps several evaluations waiting.
    priority: 20
    conda:
        "../../envs/optimize.yaml"
    script:
        "../scripts/propose.py"


rule complete:
    """The budget stands in the file's name: raising it does exactly the new iterations."""
    input:
        evaluated_within,
    output:
        RUN + "/search/{search}/complete-{iterations}",
    log:
        RUN + "/logs/complete/{search}-{iterations}.log",
    params:
        run=RUN,
    conda:
        "../../envs/optimize.yaml"
    script:
        "../scripts/complete.py"
