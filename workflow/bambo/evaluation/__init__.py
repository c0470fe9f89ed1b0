"""Scores of one model: lm-evaluation-harness with a language model that counts its tokens where they are made."""

from .job import evaluate
from .loading import load_engine
from .tasks import check_tasks

__all__ = ["check_tasks", "evaluate", "load_engine"]
