"""Task files of lm-evaluation-harness, loaded and overridden: local data, another prompt, our scoring.

This module imports neither torch, transformers nor the harness before a task is to be asked, so that tasks are checked
in a fraction of a second before any job runs.
"""

import difflib
import functools
import hashlib
import importlib.metadata
import importlib.util
import itertools
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from ..errors import BadInput
from .data import Data, check_columns, check_records, data_hash, read_data

# Of the prompts and the reading of answers below; raised when either changes a score, since it is part of a candidate.
READING = 2
REQUEST = "\n\nPlease reason step by step, and put your final answer within \\boxed{}."
OPTION_REQUEST = "\n\nPlease reason step by step, and put the letter of the right option within \\boxed{}."
# What stock prompts end in to make a base model answer.
TAIL = re.compile(r"\s*(?:Let's think step by step[:.]?|Answer:|Solution:|A:)\s*$")
GPQA = "Idavidrein/gpqa"
GPQA_OPTIONS = ["Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3"]
GPQA_NEEDED = {"Record ID", "Question", "Correct Answer"}  # in every row
GPQA_COLUMNS = {"Record ID", "Question", *GPQA_OPTIONS}
GPQA_ADDED = {"choice1", "choice2", "choice3", "choice4", "choices", "answer"}
# Our names of stock tasks.
ALIASES = {f"gpqa_{part}": f"gpqa_{part}_cot_zeroshot" for part in ("diamond", "main", "extended")}


def check_tasks(tasks: Mapping[str, Mapping[str, Any]]) -> None:
    """Check the config's `evaluation.tasks` (name -> task, data, prompt, scoring, ...) in under a CPU second.

    Raises BadInput: unknown task (with the nearest known ones), a task that does not generate text, benchmark data
    that are missing, unreadable, or lack a column or an answer, a prompt that is no template.
    """
    for name, settings in tasks.items():
        config = _override(_stock(name, settings["task"], resolve=False), name, settings)
        if settings.get("data"):
            place = f"evaluation.tasks.{name}.data"
            data = read_data(Path(settings["data"]), place)
            check_questions(name, settings, config, data.questions, f"{place}: {settings['data']}")


def check_questions(
    name: str, settings: Mapping[str, Any], config: Mapping[str, Any], rows: Sequence[dict], place: str
) -> None:
    """BadInput, beginning with `place`, where two questions are one record, or one lacks what prompt or target need.

    config: the benchmark's, as `_override` made it.
    """
    check_records(rows, place)
    key, added = f"evaluation.tasks.{name}", config.get("process_docs")
    prompt = _variables(config["doc_to_text"], f"{key}.prompt")
    target = _variables(config["doc_to_target"], f"{key}.task")
    if not settings.get("data"):
        # The data set that the task was written for: all that it can lack is an answer.
        bare = str(config["doc_to_target"]).isidentifier()
        prompt, target = set(), target if bare else set()
    if config.get("dataset_path") == GPQA:
        columns = GPQA_NEEDED | (GPQA_COLUMNS | prompt - GPQA_ADDED if settings.get("data") else set())
    elif added:
        columns = set()  # what it adds to a row cannot be known here
    else:
        columns = prompt | target
    check_columns(rows, columns, place)
    stratify = settings.get("stratify")
    if stratify and not any(stratify in row for row in rows) and added in (None, _gpqa_docs):
        found = ", ".join(map(repr, rows[0]))
        raise BadInput(
            f"{key}.stratify: the questions have no column {stratify!r}, found {found}; correct it"
        )


def benchmark_config(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The task file of a benchmark, with its functions and the user's settings, but for their data.

    Raises BadInput as `check_tasks`, and where a package or word list is missing that the task's functions need.
    """
    if settings.get("unsafe_code"):
        os.environ["HF_ALLOW_CODE_EVAL"] = "1"  # asked for by the metric that runs code, when it is loaded
    else:
        _override(
            _stock(name, settings["task"], resolve=False), name, settings
        )  # before any of its code is run
    config = _override(_stock(name, settings["task"], resolve=True), name, settings)
    if "ifeval" in getattr(config.get("process_results"), "__module__", ""):
        _check_word_lists(f"evaluation.tasks.{name}.task")
    return config


def _check_word_lists(place: str) -> None:
    """BadInput where nltk lacks what ifeval downloads when it is loaded, which compute nodes cannot."""
    import nltk

    try:
        nltk.data.find("tokenizers/punkt_tab")
    except LookupError:
        raise BadInput(
            f"{place}: nltk has no punkt_tab, which ifeval needs; where there is a network, run "
            "`python -c \"import nltk; nltk.download('punkt_tab')\"` (NLTK_DATA says where to)"
        ) from None


def lm_eval_tasks(name: str, settings: Mapping[str, Any], repeats: int, generation: dict) -> dict[str, dict]:
    """Configs of lm-eval for one benchmark of a recipe: {the harness's name: config}, one a repeat.

    Each repeat is a task of its own, so that the harness scores every answer with whatever filters and metric the
    task has. generation: what the task's generation_kwargs become, beside its stop strings where scoring is its own.
    Raises BadInput as `check_tasks` does, and where the benchmark's file is no longer the one that the recipe was
    written for.
    """
    place = f"evaluation.tasks.{name}"
    config = benchmark_config(name, settings)
    if settings.get("reading", READING) != READING:
        raise BadInput(
            f"{place}.scoring: the recipe was written for other prompts and another reading of answers; "
            "go on with the bambo of that time, or give the run another name"
        )
    if "task_hash" in settings and task_hash(name, settings["task"]) != settings["task_hash"]:
        raise BadInput(
            f"{place}.task: the file of {settings['task']} is another than when the run began; "
            "restore it, or install the lm-eval of that time"
        )
    if settings.get("data"):
        path = Path(settings["data"])
        data = read_data(path, f"{place}.data")
        if "data_hash" in settings and data_hash(path) != settings["data_hash"]:
            raise BadInput(f"{place}.data: {path} has changed since the recipe was written; restore it")
        config |= _local_data(path, data, config)
    if settings.get("scoring", "boxed") == "boxed":
        from .boxed import BoxedTask

        config["class"] = BoxedTask
    until: str | list[str] = []
    if settings.get("scoring") == "stock":
        until = (config.get("generation_kwargs") or {}).get("until") or []
    generation = {**generation, "until": [until] if isinstance(until, str) else until}
    names = [name] if repeats == 1 else [f"{name} (repeat {repeat})" for repeat in range(repeats)]
    return {each: config | {"task": each, "generation_kwargs": dict(generation)} for each in names}


def task_hash(name: str, task: str) -> str:
    """sha256 over a task's file, the files that it includes, and the Python files beside it whose functions it names.

    BadInput where there is no such task or file; `name` is the benchmark's name in the config.
    """
    digest = hashlib.sha256()
    waiting, seen = [_task_file(name, task)], set()
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        try:
            contents = path.read_bytes()
        except OSError as error:
            raise BadInput(
                f"evaluation.tasks.{name}.task: cannot read {path} ({error.strerror}); restore the file"
            ) from None
        digest.update(f"{path.name} {len(contents)}\n".encode() + contents)
        if path.suffix != ".py":
            waiting += _needed(path, contents)
    return digest.hexdigest()


def _needed(path: Path, contents: bytes) -> list[Path]:
    """The files that a task's file includes, and the Python files beside it; none where it is no YAML."""

    class Loader(yaml.SafeLoader):
        pass

    functions: list[str] = []
    Loader.add_constructor("!function", lambda _, node: functions.append(node.value))
    try:
        config = yaml.load(contents, Loader)
    except yaml.YAMLError:
        return []  # `check_tasks` says so
    included = config.get("include") or [] if isinstance(config, dict) else []
    modules = [path.parent / f"{name.rpartition('.')[0].replace('.', '/')}.py" for name in functions]
    return [
        *(path.parent / other for other in ([included] if isinstance(included, str) else included)),
        *(module for module in modules if module.exists()),  # others are those of an installed package
    ]


def _stock(name: str, task: str, resolve: bool) -> dict:
    """The task file as lm-eval loads it, `include:` followed; functions stay names unless `resolve`."""
    try:
        config = _yaml_loader().load_yaml(_task_file(name, task), resolve_func=resolve)
    except ImportError as error:
        raise BadInput(
            f"evaluation.tasks.{name}.task: {task} needs a package that is not installed here ({error}); install it"
        ) from None
    except (yaml.YAMLError, ValueError, OSError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise BadInput(
            f"evaluation.tasks.{name}.task: {task} cannot be loaded ({reason}); mend the file"
        ) from None
    kind = config.get("output_type", "generate_until")
    if not isinstance(config.get("task"), str) or "class" in config:
        reason = "is a group of tasks or written in Python"
    elif kind != "generate_until":
        reason = f"is scored by {kind}, so it has no output tokens to count"
    elif config.get("repeats", 1) != 1:
        reason = f"draws {config['repeats']} answers and scores them together"
    else:
        return config
    raise BadInput(
        f"evaluation.tasks.{name}.task: {task!r} {reason}; expected one task that generates text (generate_until)"
    )


def _task_file(name: str, task: str) -> Path:
    """The user's own file if `task` is a path to one, else lm-eval's `<task>.yaml`."""
    if task.endswith((".yaml", ".yml")):
        if Path(task).is_file():
            return Path(task)
        raise BadInput(f"evaluation.tasks.{name}.task: no file {task}; correct the path")
    stock = ALIASES.get(task, task)
    by_stem = _stock_files()
    # The harness goes by the name in the file, which is mostly the file's own: others are read only if need be.
    for file in itertools.chain(by_stem.get(stock, []), itertools.chain.from_iterable(by_stem.values())):
        if _names_task(Path(file), stock):
            return Path(file)
    if stock in by_stem:
        return Path(by_stem[stock][0])
    nearest = (
        ", ".join(difflib.get_close_matches(task, [*ALIASES, *by_stem], n=3, cutoff=0.5)) or "no name is near"
    )
    raise BadInput(
        f"evaluation.tasks.{name}.task: lm-eval has no {task}.yaml (nearest: {nearest}); "
        "expected the name of one of its task files or a path to your own"
    )


def _names_task(file: Path, task: str) -> bool:
    name = re.escape(task)
    return (
        re.search(rf"^task:\s*([\"']?){name}\1\s*(?:#.*)?$", file.read_text("utf-8"), re.MULTILINE)
        is not None
    )


@functools.cache
def _stock_files() -> dict[str, list[str]]:
    """lm-eval's 14,000 task files by the file's name, from the list of its installed files: to walk its 4,000 folders
    takes seconds.
    """
    record = importlib.metadata.distribution("lm_eval").read_text("RECORD") or ""
    files: dict[str, list[str]] = {}
    root = _lm_eval().parent
    for path in re.findall(r"^(lm_eval/tasks/.*\.yaml),", record, re.MULTILINE):
        files.setdefault(path.rpartition("/")[2].removesuffix(".yaml"), []).append(f"{root}/{path}")
    return files


def _lm_eval() -> Path:
    spec = importlib.util.find_spec("lm_eval")
    if spec is None or spec.origin is None:
        raise BadInput("environment: lm_eval is not installed; install the pinned requirements")
    return Path(spec.origin).parent


@functools.cache
def _yaml_loader() -> ModuleType:
    """lm-eval's loader of task files, found by its path: importing the package around it costs a CPU second."""
    path = _lm_eval() / "tasks" / "_yaml_loader.py"
    spec = importlib.util.spec_from_file_location("bambo_lm_eval_yaml_loader", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _override(stock: dict, name: str, settings: Mapping[str, Any]) -> dict:
    """The stock config with what the user's settings say, but for their data."""
    place = f"evaluation.tasks.{name}"
    for key in ("doc_to_text", "doc_to_target"):
        if stock.get(key) is None:
            raise BadInput(f"{place}.task: the task file {settings['task']} has no {key}; add it")
    if stock.get("unsafe_code") and not settings.get("unsafe_code"):
        raise BadInput(
            f"{place}.task: {settings['task']} runs the code that models write, with all your rights; "
            "set unsafe_code: true for it, on machines that may come to harm"
        )
    config = {key: value for key, value in stock.items() if key != "use_prompt"}
    config["num_fewshot"] = config.get("num_fewshot") or 0
    boxed = settings.get("scoring", "boxed") == "boxed"
    if boxed and not (isinstance(config["doc_to_target"], str | list) or callable(config["doc_to_target"])):
        raise BadInput(
            f"{place}.scoring: {settings['task']} has no answer that a box could hold, expected stock; set it"
        )
    gpqa = config.get("dataset_path") == GPQA
    if prompt := settings.get("prompt"):
        _variables(prompt, f"{place}.prompt")
        config["doc_to_text"] = prompt
    elif boxed:
        config["doc_to_text"] = _request(config["doc_to_text"], OPTION_REQUEST if gpqa else REQUEST)
    for key in ("doc_to_text", "doc_to_target"):
        config[key] = _bare(config[key])
    if gpqa:
        config["process_docs"] = _gpqa_docs
    elif callable(config.get("process_docs")):
        # The harness calls it at each access: once shuffled, the questions must stay in their order.
        config["process_docs"] = functools.cache(config["process_docs"])
    return config


def _request(text: str | Callable, request: str) -> str | Callable:
    """The stock prompt, which asks for no box; boxed scoring has to."""
    if callable(text):
        return lambda doc: TAIL.sub("", text(doc)) + request
    if text.startswith("/"):
        return text  # the name of a function that is not resolved
    return (
        "{{" + text + "}}" if text.isidentifier() else TAIL.sub("", text)
    ) + request  # a bare name is a column


def _bare(template: Any) -> Any:
    """`{{column}}` as `column`, which the harness takes as it is instead of compiling it for every question."""
    column = isinstance(template, str) and re.fullmatch(r"{{\s*(\w+)\s*}}", template)
    return column[1] if column else template


def _variables(template: Any, place: str) -> set[str]:
    """Columns that a prompt or a target reads; none where it is a function, whose needs are not known."""
    # Where functions are not resolved, one stands as its absolute path.
    if not isinstance(template, str) or template.startswith("/"):
        return set()
    if template.isidentifier():
        return {template}
    import jinja2.meta

    environment = jinja2.Environment()
    environment.filters["regex_replace"] = str  # the harness adds it
    try:
        return jinja2.meta.find_undeclared_variables(environment.parse(template)) - set(environment.globals)
    except jinja2.TemplateSyntaxError as error:
        raise BadInput(f"{place}: {template!r} is no template of jinja2 ({error}); correct it") from None


def _local_data(path: Path, data: Data, config: Mapping[str, Any]) -> dict:
    """Overrides that make `data` the task's, in memory: no cache of datasets is touched."""

    def load(**_: Any) -> dict:
        from datasets import Dataset

        return {split: Dataset.from_list(rows) for split, rows in splits.items()}

    splits = {"test": data.questions} | ({"examples": data.examples} if data.examples else {})
    examples = list(splits)[-1] if has_examples(config) else None
    fewshot = config.get("fewshot_config")
    return {
        "custom_dataset": load,
        "dataset_path": str(path),
        "dataset_name": None,
        "dataset_kwargs": None,
        "training_split": None,
        "validation_split": None,
        "test_split": "test",
        "fewshot_split": examples,
        "fewshot_config": fewshot | {"split": examples} if fewshot and examples else fewshot,
    }


def has_examples(config: Mapping[str, Any]) -> bool:
    """Whether the data hold the examples of the prompts: a task may have none, or bring its own."""
    return bool(config["num_fewshot"]) and not (config.get("fewshot_config") or {}).get("samples")


def _gpqa_docs(dataset: Iterable[dict]) -> Any:
    """Questions of GPQA with their options in an order that depends on the record alone.

    The stock function shuffles with the global generator at each call, so that prompt and answer key may disagree.
    """
    from datasets import Dataset

    return Dataset.from_list([doc | _gpqa_options(doc) for doc in dataset])


def _gpqa_options(doc: dict) -> dict:
    """Options and answer letter, in the order of the options' hashes: uniform over the orders."""
    order = sorted(
        range(4), key=lambda place: hashlib.sha256(f"{doc['Record ID']}|{place}".encode()).digest()
    )
    choices = [_clean(doc[GPQA_OPTIONS[place]]) for place in order]
    letters = {f"choice{number}": choice for number, choice in enumerate(choices, 1)}
    return letters | {"choices": choices, "answer": f"({'ABCD'[order.index(0)]})"}


def _clean(text: Any) -> str:
    """An option as the stock task writes it."""
    return str(text).strip().replace(" [title]", ". ").replace("  ", " ")
