"""A small run that all tests of the workflow share."""

import pytest
from runs import Workflow, small_config


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """A small run that has ended; tests that change it take a copy."""
    workflow = Workflow(tmp_path_factory.mktemp("finished"), small_config())
    workflow.output = workflow.succeed()
    return workflow
