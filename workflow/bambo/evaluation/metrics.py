"""Which metrics a task of the harness has, known from its file before any job runs."""

from collections.abc import Mapping
from typing import Any

from .tasks import _stock


def harness_metrics(name: str, settings: Mapping[str, Any]) -> list[str]:
    """Names `<metric>,<filter>` of a benchmark's metrics, [] where the task's file does not list them.

    name, settings: of the config's `evaluation.tasks`. BadInput where there is no such task.
    """
    config = _stock(name, settings["task"], resolve=False)
    filters = [each["name"] for each in config.get("filter_list") or []] or ["none"]
    # A function is given by its path, and called by its name.
    metrics = [str(each["metric"]).rpartition(".")[2] for each in config.get("metric_list") or []]
    return [f"{metric},{reading}" for metric in metrics for reading in filters]
