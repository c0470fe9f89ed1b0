"""How far the sources' hidden states are apart, part by part of the model, over prompts that are no scored questions.

`python -m bambo.evaluation.hidden_states RUN --prompts FILE --output FILE ...` is the job of a run's folder.
"""

import argparse
import logging
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..candidate.work import device_of, held_gpus
from ..checkpoint import EMBEDDINGS, HEAD
from ..errors import BadInput, plain_errors
from ..files import atomic, read_json
from ..recipe import read_recipe
from .engine import EvaluationFailed, Machine
from .prompts import KEY, check_overlap, read_prompts, texts_of
from .startup import lean, leave
from .tasks import lm_eval_tasks

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

COLUMNS = ("source", "group", "prompt", "discrepancy")


def discrepancies(states: "NDArray[np.float32]", last: "NDArray[np.float32]") -> "NDArray[np.float64]":
    """1 - cosine of the states of two sources, each [prompts x groups x width], in float64 [prompts x groups]."""
    import numpy as np

    R, B = states.astype(np.float64), last.astype(np.float64)
    products = np.linalg.norm(R, axis=-1) * np.linalg.norm(B, axis=-1)
    return 1 - (R * B).sum(axis=-1) / np.where(products > 0, products, 1.0)


def hidden_states(model: Any, prompts: Sequence[Sequence[int]], batch_size: int) -> "NDArray[np.float32]":
    """States behind embeddings, each layer and the final norm, at the last token of each prompt [p x L + 2 x width].

    prompts: token ids. Prompts of one length go together, so that none is padded: padding would shift positions.
    """
    import numpy as np
    import torch

    decoder, device = model.base_model, next(model.parameters()).device
    layers = _layers(decoder)
    kept: list[torch.Tensor] = []

    def keep(states: Any) -> None:
        kept.append((states[0] if isinstance(states, tuple) else states)[:, -1].float().cpu())

    # Not `output_hidden_states`, whose last entry is behind the norm, so that the last layer's own is missing.
    hooks = [layer.register_forward_hook(lambda _, __, output: keep(output)) for layer in layers]
    hooks.append(
        layers[0].register_forward_pre_hook(
            lambda _, given, named: keep(given[0] if given else named["hidden_states"]), with_kwargs=True
        )
    )
    rows: list[Any] = [None] * len(prompts)
    try:
        for chunk in _chunks(prompts, batch_size):
            kept.clear()
            ids = torch.tensor([list(prompts[place]) for place in chunk], device=device)
            with torch.inference_mode():
                keep(decoder(input_ids=ids, use_cache=False).last_hidden_state)
            states = torch.stack(kept, dim=1).numpy()
            for place, row in zip(chunk, states, strict=True):
                rows[place] = row
    finally:
        for hook in hooks:
            hook.remove()
    found = np.stack(rows)
    if not np.isfinite(found).all():
        raise EvaluationFailed(
            "bad scores",
            "hidden states are NaN or infinite: the weights are broken, or too large for evaluation.dtype",
        )
    return found


def _layers(decoder: Any) -> Any:
    """The list of a decoder's layers: the outermost one of the names that checkpoints know them by."""
    import torch

    lists = {
        name: module for name, module in decoder.named_modules() if isinstance(module, torch.nn.ModuleList)
    }
    named = [name for name in lists if re.fullmatch(r"(?:.*\.)?(?:layers?|h|blocks?)", name)]
    if not named:
        raise BadInput(
            f"importance.activations: {type(decoder).__name__} has no list of layers (found "
            f"{', '.join(lists) or 'none'}), so nothing is known behind each; set it to 0"
        )
    return lists[min(named, key=lambda name: name.count("."))]


def _chunks(prompts: Sequence[Sequence[int]], size: int) -> Iterator[list[int]]:
    """Places of prompts of one length, at most so many together."""
    lengths: dict[int, list[int]] = {}
    for place, tokens in enumerate(prompts):
        lengths.setdefault(len(tokens), []).append(place)
    for _, places in sorted(lengths.items()):
        yield from (places[start : start + size] for start in range(0, len(places), size))


def compare(
    recipes: Mapping[str, Mapping[str, Any]], prompts: Sequence[str], machine: Machine, scratch: Path
) -> list[tuple[str, str, int, float]]:
    """Rows of `COLUMNS`: the discrepancy of each source but the last from the last one, by group and prompt.

    recipes: of each source alone, in the order of the sources; they name the files that all merged models get, whose
    tokenizer and chat template prompts go through, too. One source is loaded at a time; what has to be merged for that,
    a source with an adapter, goes into a folder of `scratch` until it is.
    """
    import torch

    from .folder import read_folder
    from .hf import memory_errors, open_device

    torch.set_num_threads(machine.threads)
    device, _ = open_device(machine.device)
    *others, last = recipes
    files_from = recipes[last]["sources"][recipes[last]["files_from"]]
    tokenizer, _, length = read_folder(Path(files_from["path"]))
    tokens = [_tokens(tokenizer, prompt) for prompt in prompts]
    for place, own in enumerate(tokens):
        if length is not None and len(own) > length:
            raise BadInput(
                f"{KEY}: prompt {place + 1} has {len(own)} tokens, the models have room for {length}; cut it"
            )
    rows: list[tuple[str, str, int, float]] = []
    states: dict[str, NDArray[np.float32]] = {}
    for name in (last, *others):
        print(f"{name}: {len(prompts)} prompts", file=sys.stderr, flush=True)
        with _model(name, recipes[name], scratch) as model, memory_errors("lower evaluation.batch_size"):
            states[name] = hidden_states(model.to(device).eval(), tokens, machine.batch_size)
        if name != last:
            apart = discrepancies(states.pop(name), states[last])
            groups = [EMBEDDINGS, *(f"layers.{layer}" for layer in range(apart.shape[1] - 2)), HEAD]
            rows += [
                (name, group, prompt, float(apart[prompt, place]))
                for prompt in range(len(prompts))
                for place, group in enumerate(groups)
            ]
    return rows


def _tokens(tokenizer: Any, prompt: str) -> list[int]:
    """As evaluations ask: a turn of the user's, and the beginning of the answer."""
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
    )
    return tokenizer(text, add_special_tokens=False).input_ids


@contextmanager
def _model(name: str, recipe: Mapping[str, Any], scratch: Path) -> Iterator[Any]:
    """A source's model on the CPU: its own folder's, or merged where what is asked is not what the folder holds."""
    from ..merging import merge
    from .hf import load_model

    source, dtype = recipe["sources"][name], recipe["evaluation"]["dtype"]
    if "adapter" not in source and "vocabulary" not in recipe.get("options", {}):
        yield load_model(Path(source["path"]), dtype)
        return
    with tempfile.TemporaryDirectory(prefix=".model-", dir=scratch) as folder:
        merge(recipe, Path(folder) / "model")
        yield load_model(Path(folder) / "model", dtype)


def asked(tasks: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, list[str]]]:
    """Benchmark and texts of each question of a recipe's tasks: as the models are asked it, and as the data hold it."""
    from lm_eval.tasks import TaskManager

    for name, settings in tasks.items():
        configs = lm_eval_tasks(name, settings, 1, {})
        for task in TaskManager(include_defaults=False).load(list(configs.values()))["tasks"].values():
            for doc in task.eval_docs:
                yield name, [str(task.doc_to_text(doc)), *texts_of(doc)]


def source_recipes(run: Path) -> dict[str, dict[str, Any]]:
    """The recipe of each source alone, in the order of the sources, from a run's folder."""
    ids = read_json(run / "endpoints" / "candidates.json")["end_points"]
    return {name: read_recipe(run / "candidates" / id / "recipe.json") for name, id in ids.items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bambo.evaluation.hidden_states", description=__doc__)
    parser.add_argument("run", type=Path, help="the run's folder")
    parser.add_argument("--prompts", type=Path, required=True, help="file of prompts")
    parser.add_argument(
        "--output", type=Path, required=True, help="parquet: one row a source, prompt and group"
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--gpus", type=int, default=0, help="GPUs to take")
    parser.add_argument("--batch-size", type=int, default=32, help="prompts at work together")
    parser.add_argument("--lock-gpus", action="store_true", help="hold GPUs: no scheduler assigns any")
    given = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    os.environ.setdefault("TQDM_DISABLE", "1")
    machine = Machine(given.device, given.gpus, given.threads, given.batch_size)
    with plain_errors(), held_gpus(machine, given.lock_gpus) as found:
        device, _ = device_of(machine, found)
        if device == "cpu":
            lean()
        recipes = source_recipes(given.run)
        prompts = read_prompts(given.prompts)
        check_overlap(prompts, asked(next(iter(recipes.values()))["evaluation"]["tasks"]), given.prompts)
        try:
            rows = compare(recipes, prompts, replace(machine, device=device), given.output.parent)
        except EvaluationFailed as error:
            sys.exit(f"error: {error}")
        import pandas as pd

        with atomic(given.output) as temporary:
            pd.DataFrame(rows, columns=list(COLUMNS)).to_parquet(temporary, index=False)
    leave()


if __name__ == "__main__":
    main()
