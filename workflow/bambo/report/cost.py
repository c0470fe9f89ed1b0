"""The estimate of a run's cost for a terminal: every figure, what it stands on, and the option that changes that."""

from collections.abc import Iterator
from pathlib import Path

from ..candidate.work import SIMULATED
from ..config import Config, is_hub_id, iterations, load, needs_base, search_settings
from ..cost import Estimate, Given, Range, Stage, number
from ..disk import size
from ..errors import BadInput
from ..search.stopping import slots
from .summary import duration


def cost_text(config: Config, given: Given | None = None) -> str:
    """The estimate for a terminal; BadInput as `Estimate`."""
    found = Estimate(config, given)
    rows = [(name, text) for name, text in _figures(found)]
    width = max(len(name) for name, _ in rows)
    heading = (
        f"{config.run}: the whole run at most, without failures; ranges go from short answers to long ones"
    )
    lines = [heading, "", *(f"  {name:<{width}}  {text}" for name, text in rows), ""]
    lines += ["What this stands on, and what changes it", ""]
    for line in found.lines:
        lines.append(f"  {line.name}: {line.value}  [{line.option}]")
        lines.append(f"    {line.source}")
    return "\n".join(lines)


def _figures(found: Estimate) -> Iterator[tuple[str, str]]:
    config = found.config
    if config.evaluation.engine == SIMULATED:
        yield "SIMULATED", "no model is asked; the figures are those of an engine that asks it"
    yield (
        "evaluations",
        f"{number(found.evaluations)}: {found.ends.evaluations} end points, {_searches(found)}",
    )
    each = " + ".join(f"{found.questions[name]} x {found.repeats[name]} {name}" for name in found.questions)
    more = f"; an end point {found.factor} times that" if found.factor > 1 else ""
    yield "answers", f"{number(found.all_answers)}: {each} a candidate{more}"
    yield (
        "output tokens",
        f"{_count(found.all_output)}; {_count(found.tokens)} a candidate",
    )
    yield "prompt tokens", _count(found.all_prompts)
    yield "GPU hours" if found.on_gpu else "CPU hours", f"{number(found.hours, 1)}; {_takes(found)}"
    yield "wall-clock", f"{number(found.wall_hours, 1)} h at {found.parallel} at a time, no waiting in queues"
    yield "disk", _disk(found)
    yield "downloads", _downloads(found)
    money = found.money
    yield "price", "not known: evaluation.prices is not set" if money is None else number(money, 2)


def _searches(found: Estimate) -> str:
    parts = []
    for name in found.config.searches:
        settings = search_settings(found.config, name)
        count = iterations(found.config, name)
        if settings["schedule"] == "async":
            more = f" + {count - settings['n_initial']}" if count > settings["n_initial"] else ""
            more += f" in {slots(settings)} slots"
        else:
            more = f" + {count} x {settings['batch_size']}" if count else ""
        text = f"{name} {settings['n_initial']}{more}"
        shared = settings["n_initial"] - found.stages[name][0].evaluations
        parts.append(text + (f" ({shared} of them end points or shared)" if shared else ""))
    return ", ".join(parts)


def _count(value: float | Range) -> str:
    """12,345 or 3.38 - 4.69 million or 331 - 459 million."""
    most = value.high if isinstance(value, Range) else value
    if most < 1e6:
        return number(value)
    return f"{number(value * 1e-6, 0 if most >= 1e8 else 2)} million"


def _takes(found: Estimate) -> str:
    """How long a candidate takes."""
    low, high = map(duration, found.seconds(Stage(1, 1)))
    text = f"{low if low == high else f'{low} - {high}'} a candidate"
    if found.gpus > 1:
        text += f" on {found.gpus} GPUs"
    return text if found.at_full_speed else f"{text}; at most, since the smoke run's few answers were slow"


def _disk(found: Estimate) -> str:
    count = found.models_at_a_time
    if not count:
        return "no merged model is written"
    text = f"{count} merged models at a time"
    return text if found.model_bytes is None else f"{text}, {size(int(count * found.model_bytes))}"


def _downloads(found: Estimate) -> str:
    config = found.config
    needed = [*config.sources.values(), *([config.base] if config.base and needs_base(config) else [])]
    models = list(dict.fromkeys(each.model for each in needed if is_hub_id(each.model)))
    sets = [name for name, task in config.evaluation.tasks.items() if task.data is None]
    parts = []
    if models:
        known = "" if found.model_bytes is None else f", {size(int(len(models) * found.model_bytes))}"
        parts.append(f"{' and '.join(models)}{known}")
    if sets:
        parts.append(f"data sets of {', '.join(sets)}")
    return "; ".join(parts) or "none"


def print_cost(path: Path, given: Given) -> None:
    """Print the estimate for a config file; BadInput where it is none."""
    import yaml

    try:
        config = load(yaml.safe_load(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file, expected a config; correct the path") from None
    except yaml.YAMLError as error:
        raise BadInput(f"{path}: not valid YAML ({' '.join(str(error).split())}); mend the file") from None
    print(cost_text(config, given))
