r"""A task of lm-evaluation-harness that is asked for a `\boxed{}`: our reading of its answers beside its own."""

import logging
from collections.abc import Iterable
from typing import Any, NamedTuple

from lm_eval.api.metrics import mean
from lm_eval.api.registry import METRIC_REGISTRY
from lm_eval.api.task import ConfigurableTask
from lm_eval.filters import build_filter_ensemble

from .extraction import boxed_match

METRIC, FILTER = "boxed_match", "boxed"


class Whole(NamedTuple):
    """What our filter makes of an answer, so that it can be told from what the task's own filters make of it."""

    text: str


class BoxedTask(ConfigurableTask):
    """Scored by `boxed_match,boxed` first, then by the task's own filters and metrics.

    Metrics that would be downloaded are left out: a benchmark without them can be scored offline.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        config = {key: value for key, value in config.items() if key != "class"}
        metrics = config.get("metric_list")
        if metrics and not config.get("process_results"):
            config["metric_list"] = [entry for entry in metrics if _is_here(entry)]
        super().__init__(config=config)
        self._filters.insert(0, build_filter_ensemble(FILTER, [("custom", {"filter_fn": _wholes})]))
        self._aggregation_list[METRIC] = mean
        self._higher_is_better[METRIC] = True

    def process_results(self, doc: dict, results: list) -> dict[str, Any]:
        answer = results[0]
        if isinstance(answer, Whole):
            return {METRIC: boxed_match(self._targets(doc), [answer.text])}
        try:
            return super().process_results(doc, results)
        except Exception as error:  # the task's own code, which is not what counts here
            logging.getLogger(__name__).warning("%s: its own scoring failed: %s", self.task_name, error)
            return {}

    def _targets(self, doc: dict) -> list[str]:
        target = self.doc_to_target(doc)
        if self.config.doc_to_choice is not None:
            target = self.doc_to_choice(doc)[target]
        return [str(each) for each in target] if isinstance(target, list) else [str(target)]


def _is_here(metric: dict[str, Any]) -> bool:
    name = metric["metric"]
    return callable(name) or (name in METRIC_REGISTRY and not metric.get("hf_evaluate"))


def _wholes(answers: Iterable[list[str]], docs: Any) -> list[Whole]:
    return [Whole(answer[0]) for answer in answers]
