"""The command `bambo`: what a user asks of one file or one run; searches are Snakemake's business."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from .errors import BadInput, plain_errors

# Imported when asked for: `bambo --help` should not wait for torch.


def _merge(given: argparse.Namespace) -> None:
    from .merging import merge
    from .recipe import read_recipe

    merge(read_recipe(given.recipe), given.output, threads=given.threads)
    print(f"{given.output}: merged from {given.recipe}")


def _push(given: argparse.Namespace) -> None:
    from .export import push

    print(push(given.model, given.repository, given.public))


def _summary(given: argparse.Namespace) -> None:
    from .report.summary import print_run

    print_run(given.run)


def _show(given: argparse.Namespace) -> None:
    from .report.show import print_show

    print_show(given.run, given.id, given.question, given.benchmark)


def _compare(given: argparse.Namespace) -> None:
    from .report.compare import print_compare

    print_compare(given.run, given.other)


def _status(given: argparse.Namespace) -> None:
    from .report.status import print_status

    print_status(given.run)


def _track(given: argparse.Namespace) -> None:
    from .config import load
    from .start import read_start
    from .tracking import print_warnings, track

    print_warnings(track(load(read_start(given.run)["config"])))


def _failed(given: argparse.Namespace) -> None:
    from .report.status import print_failed

    print_failed(given.run, given.id)


def _check(given: argparse.Namespace) -> None:
    from .integrity import print_check

    if not print_check(given.run):
        sys.exit(1)


def _replay(given: argparse.Namespace) -> None:
    # Before numpy and torch are imported: more threads add in another order, which jobs that propose never do.
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))
    from .search.replay import print_replay

    if not print_replay(given.run, given.search):
        sys.exit(1)


def _cost(given: argparse.Namespace) -> None:
    from .cost import Given, Range
    from .report.cost import print_cost

    asked = Given(
        questions=dict(given.questions),
        prompt_tokens=dict(given.prompt_tokens),
        output_tokens={name: Range(*ends) for name, ends in given.output_tokens},
        tokens_per_second=given.tokens_per_second,
        start_seconds=given.start_seconds,
        merge_seconds=given.merge_seconds,
        model_gb=given.model_gb,
        parallel=given.parallel,
    )
    print_cost(given.config, asked)


def _range(text: str) -> tuple[str, tuple[float, float]]:
    """NAME=N or NAME=LOW-HIGH."""
    name, _, numbers = text.partition("=")
    low, _, high = numbers.partition("-")
    try:
        found = _positive(low), _positive(high or low)
    except argparse.ArgumentTypeError:
        found = 1.0, 0.0
    if not name or found[0] > found[1]:
        raise argparse.ArgumentTypeError(f"found {text}, expected NAME=N or NAME=LOW-HIGH")
    return name, found


def _figure(text: str) -> tuple[str, float]:
    """NAME=N."""
    name, (low, high) = _range(text)
    if low != high:
        raise argparse.ArgumentTypeError(f"found {text}, expected NAME=N")
    return name, low


def _positive(text: str) -> float:
    try:
        number = float(text.replace(",", ""))
    except ValueError:
        number = 0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"found {text}, expected a number above 0")
    return number


def _whole(text: str) -> int:
    number = _positive(text)
    if number != int(number):
        raise argparse.ArgumentTypeError(f"found {text}, expected a whole number")
    return int(number)


def _tasks(given: argparse.Namespace) -> None:
    import yaml

    from .config import evaluation_identity, load
    from .evaluation.export import write_tasks

    try:
        config = load(yaml.safe_load(given.config.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise BadInput(f"{given.config}: no YAML ({' '.join(str(error).split())}); correct it") from None
    evaluation = evaluation_identity(config, end_point=False)
    tasks = {name: {"limit": evaluation["limit"], **task} for name, task in evaluation["tasks"].items()}
    write_tasks(tasks, config.folder / "benchmarks", given.folder)
    command = f"lm_eval --include_path {given.folder} --tasks {','.join(tasks)} --apply_chat_template"
    print(f"{given.folder}: {len(tasks)} tasks; {command} --model hf --model_args pretrained=MODEL")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bambo", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, do: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(do=do)
        return command

    def add_of_run(name: str, do: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        command = add(name, do, text)
        command.add_argument("run", type=Path, help="results/<run>")
        return command

    merge = add("merge", _merge, "make the model that a recipe describes")
    merge.add_argument("recipe", type=Path, help="a recipe.json")
    merge.add_argument("output", type=Path, help="the folder to write; replaced if it is there")
    merge.add_argument("--threads", type=int, default=2)

    push = add("push", _push, "upload an exported model to a new repository of the Hugging Face hub")
    push.add_argument("model", type=Path, help="results/<run>/models/<name>")
    push.add_argument("repository", help="USER/NAME, of a repository that is not there yet")
    push.add_argument("--public", action="store_true", help="for all to see; private unless given")

    cost = add("cost", _cost, "reckon what a run takes: evaluations, tokens, GPU hours, disk, money")
    cost.add_argument("config", type=Path, help="the run's config; what the run has measured so far is used")
    for option, read, form, text in [
        ("questions", _figure, "NAME=N", "questions of a benchmark; may be given for each"),
        ("prompt-tokens", _figure, "NAME=N", "mean tokens of a benchmark's prompts"),
        (
            "output-tokens",
            _range,
            "NAME=LOW-HIGH",
            "mean tokens of an answer, of the briefest candidate and the longest",
        ),
    ]:
        cost.add_argument(f"--{option}", type=read, action="append", default=[], metavar=form, help=text)
    for option, text in [
        ("tokens-per-second", "output tokens of one GPU (without any: of an evaluation)"),
        ("start-seconds", "from the start of an evaluation's job until it generates"),
        ("merge-seconds", "a merge"),
        ("model-gb", "size of one model"),
    ]:
        cost.add_argument(f"--{option}", type=_positive, metavar="N", help=text)
    cost.add_argument("--parallel", type=_whole, metavar="N", help="evaluations at a time")

    tasks = add("tasks", _tasks, "write the benchmarks of a config as task files of lm-evaluation-harness")
    tasks.add_argument("config", type=Path, help="a config file, as for snakemake --configfile")
    tasks.add_argument("folder", type=Path, help="the folder to write to; give it to lm_eval --include_path")

    add_of_run("summary", _summary, "print the Pareto front of a run")
    show = add_of_run(
        "show", _show, "print a candidate's scores and weights, or its answers beside the sources'"
    )
    show.add_argument("id", help="a candidate's id, or its beginning")
    show.add_argument(
        "--question", type=int, metavar="N", help="its answers to this question, counted from 0"
    )
    show.add_argument("--benchmark", metavar="NAME", help="of this benchmark alone")
    compare = add_of_run(
        "compare", _compare, "print two runs beside each other: configs, hypervolume, fronts"
    )
    compare.add_argument("other", type=Path, help="results/<other run>")
    add_of_run("status", _status, "print how far a run is, also while it goes on")
    add_of_run("track", _track, "log what a run has so far to the trackers of its config")
    replay = add_of_run("replay", _replay, "decide every recorded proposal anew, from what it saw")
    replay.add_argument("--search", metavar="NAME", help="only this search")
    add_of_run("check", _check, "read all that a run relies on, and print the command that repairs it")
    failed = add_of_run(
        "failed", _failed, "list the scores.json of failed candidates, for snakemake --forcerun"
    )
    failed.add_argument("id", nargs="*", metavar="ID", help="only these candidates")
    return parser


def main() -> None:
    given = _parser().parse_args()
    with plain_errors():
        try:
            given.do(given)
        except BrokenPipeError:  # of `bambo ... | head`, which has read enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
