# What every rule file uses: the validated config, paths of the run, and which python runs a job.
#
# REQUIRED INPUTS  the config
# OUTPUTS          none

import os
import sys
from pathlib import Path

ROOT = Path(workflow.basedir)
# Jobs import bambo from this checkout, also in an environment where it is not installed.
sys.path.insert(0, str(ROOT / "workflow"))
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(ROOT / "workflow"), *filter(None, [os.environ.get("PYTHONPATH")])]
)
# Waiting OpenMP threads that spin make busy cores several times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

import bambo.config
from bambo.errors import plain_errors

with plain_errors():
    CONFIG = bambo.config.load(config)
    if workflow.is_main_process:
        from bambo.preflight import check

        check(CONFIG)

RUN = f"results/{CONFIG.run}"
SOURCES = list(CONFIG.sources)


wildcard_constraints:
    source="|".join(SOURCES),
    search="|".join(CONFIG.searches),
    iteration=r"\d{3}",
    iterations=r"\d+",
    id="[0-9a-f]{12}",


def conda_in_use():
    return any("conda" in str(method).lower() for method in workflow.deployment_settings.deployment_method)


# A conda environment brings a python of its own; without one, jobs run in the environment of this process.
PYTHON = "python" if conda_in_use() else sys.executable


def source_records(wildcards=None):
    return expand(RUN + "/sources/{source}.json", source=SOURCES)


def scores(ids):
    return [f"{RUN}/candidates/{id}/scores.json" for id in ids]


def print_summary():
    from bambo.report.summary import print_run

    print_run(RUN)
