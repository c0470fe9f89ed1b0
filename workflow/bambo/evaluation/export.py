"""A config's benchmarks as task files of lm-evaluation-harness, so that its own command scores a model as we do."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from lm_eval.api.task import ConfigurableTask

from ..errors import BadInput
from ..files import write_text
from .boxed import BoxedTask
from .data import read_data, write_data
from .extraction import answer_text, before
from .hub import save
from .subset import keep
from .tasks import check_tasks, lm_eval_tasks

UTILS = '''\
"""The tasks of the YAML files in this folder: prompts, questions and scores are BAMBO's."""

from pathlib import Path

from bambo.evaluation import export


class Boxed(export.Boxed):
    folder = Path(__file__).parent


class Stock(export.Stock):
    folder = Path(__file__).parent
'''
SETTINGS = ("task", "prompt", "scoring", "limit", "stratify", "unsafe_code")


def write_tasks(tasks: Mapping[str, Mapping[str, Any]], copies: Path, folder: Path) -> None:
    """Write for each benchmark <name>.yaml and <name>/ with its questions, and utils.py beside them.

    tasks: a recipe's, so with their `limit` and `max_tokens`. copies: the run's folder of downloaded benchmarks, from
    which questions are taken where they are there; others are downloaded. Raises BadInput as `check_tasks` does.
    """
    check_tasks(tasks)
    folder.mkdir(parents=True, exist_ok=True)
    for name, settings in tasks.items():
        path = Path(settings["data"]) if settings.get("data") else copies / name
        if path.exists():
            write_data(folder / name, read_data(path, f"evaluation.tasks.{name}.data"))
        else:
            save(name, settings, folder)
        own = {key: settings[key] for key in SETTINGS if settings.get(key) is not None}
        if own["task"].endswith((".yaml", ".yml")):
            own["task"] = str(Path(own["task"]).resolve())
        generation = {"max_gen_toks": settings["max_tokens"], "do_sample": False}
        config = {"task": name, "generation_kwargs": generation, "bambo": own}
        text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=110)
        kind = "Stock" if settings.get("scoring") == "stock" else "Boxed"
        write_text(folder / f"{name}.yaml", f"class: !function utils.{kind}\n{text}")
    write_text(folder / "utils.py", UTILS)


class _Exported:
    """A task of one of these YAML files, which lies in `folder`."""

    folder: Path
    _instances: list
    _until: list[str]

    def __init__(self, config: dict[str, Any]) -> None:
        name, settings = config["task"], config["bambo"]
        place = f"{self.folder / name}.yaml: bambo"
        if not (self.folder / name).is_dir():
            raise BadInput(
                f"{place}: no folder {name} beside it, expected the questions; write the tasks again"
            )
        data = {"data": str(self.folder / name)}
        own = lm_eval_tasks(name, settings | data, 1, config["generation_kwargs"])[name]
        # They cut the answer, not the thinking: what the harness would stop at, it would stop at anywhere.
        self._until = own["generation_kwargs"]["until"]
        own["generation_kwargs"]["until"] = []
        super().__init__(config={key: value for key, value in own.items() if key != "class"})  # type: ignore[call-arg]
        keep(self, settings.get("limit"), settings.get("stratify"), place)

    def apply_filters(self) -> Any:
        """Read what follows the thinking. Of a thought without an end it is not known why; it counts as cut."""
        for request in self._instances:
            # Plain text: that an answer may have been cut is no reason to read less of it.
            request.resps = [
                before(str(answer_text(text, request.args[0], truncated=True)), self._until)
                for text in request.resps
            ]
        return super().apply_filters()  # type: ignore[misc]


class Boxed(_Exported, BoxedTask):
    pass


class Stock(_Exported, ConfigurableTask):
    pass
