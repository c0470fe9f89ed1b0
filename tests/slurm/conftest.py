"""The one-node Slurm that `cluster.sh up` started; `make test-slurm` starts it, runs the tests, and stops it."""

import shutil

import pytest
from slurm_runs import slurm


@pytest.fixture(scope="session", autouse=True)
def cluster() -> None:
    """Refuse any other cluster than the tests' own: jobs are cancelled here."""
    if shutil.which("scontrol") is None or "= bambo-test" not in slurm("scontrol", "show", "config"):
        pytest.exit(
            "no test cluster, expected that of tests/slurm/cluster.sh: run make test-slurm", returncode=1
        )
