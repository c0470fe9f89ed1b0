"""Our merged models beside those of mergekit, tensor by tensor (`make test-peers`).

mergekit merges whole tensors in float32 and rounds once to the type of the sources; ours does the same in chunks.
A recipe of ours becomes mergekit's configuration that an export has beside it, with weights and parameters of every
block of its own. All configs are merged by two processes of mergekit's environment, once for all tests.
"""

import functools
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pico
import pytest
import torch
import yaml
from bambo.checkpoint import fingerprint, groups, open_checkpoint
from bambo.mergekit_config import configuration, text
from bambo.merging import merge
from bambo.methods import METHODS
from bambo.recipe import make_recipe
from safetensors.torch import load_file

PYTHON = Path(__file__).parents[2] / ".venv-mergekit" / "bin" / "python"
PEER = Path(__file__).with_name("peer.py")
SEED = 0


# ----------------------------------------------------------------------------------------------------- models


def make_models(folder: Path, architecture: str, shards: dict[str, str], **options: Any) -> None:
    """`base` and its fine-tunes `thinking`, `instruct` and `coder`: base + noise, as bf16 rounds it.

    The deltas are small multiples of a bf16 step, so that many have one magnitude, as those of true models. shards:
    name -> size of a shard, by which the sources' files differ.
    """
    model = pico.make_model(folder / "base", architecture, dtype=torch.bfloat16, **options)
    base = [parameter.clone() for parameter in model.parameters()]
    for seed, name in enumerate(("thinking", "instruct", "coder")):
        torch.manual_seed(seed)
        for parameter, origin in zip(model.parameters(), base, strict=True):
            parameter.data = (origin.float() + 0.004 * torch.randn(origin.shape)).to(origin.dtype)
        model.save_pretrained(folder / name, max_shard_size=shards.get(name, "5GB"))


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of models: `tied`, `untied`, `large`, and `random`, whose base is 0."""
    folder = tmp_path_factory.mktemp("models")
    make_models(folder / "tied", "llama", {}, tied=True)
    make_models(folder / "untied", "qwen3", {"thinking": "20KB", "base": "12KB"})
    make_models(folder / "large", "llama", {}, tied=True, **LARGE)
    for seed, name in enumerate(("base", "thinking", "instruct")):
        # With a base of 0 the merged tensor is the sparsified task vector itself, without a rounding.
        model = pico.make_model(folder / "random" / name, "llama", seed=seed, **RANDOM_SIZES)
        if name == "base":
            for parameter in model.parameters():
                parameter.data.zero_()
            model.save_pretrained(folder / "random" / name)
    return folder


# Embeddings of more elements than are sorted, or held, at once.
LARGE = {"num_hidden_layers": 1, "hidden_size": 64, "vocab_size": 20_000}
RANDOM_SIZES = {"num_hidden_layers": 1, "hidden_size": 256, "intermediate_size": 512}
MATRIX = "model.layers.0.mlp.down_proj.weight"  # 256 rows of 512


def load(folder: Path) -> dict[str, torch.Tensor]:
    files = [load_file(file) for file in sorted(folder.glob("*.safetensors"))]
    return {name: tensor for file in files for name, tensor in file.items()}


# ------------------------------------------------------------------------------------------------------ cases


@dataclass(frozen=True)
class Case:
    """One merge; of lists of weights and values the first group takes the first, the next the next, and around."""

    models: str
    method: str
    weights: tuple[tuple[float, ...], ...]
    parameters: dict[str, tuple[float, ...]] | None = None
    options: dict[str, Any] | None = None
    sources: tuple[str, ...] = ("thinking", "instruct", "coder")

    def __str__(self) -> str:
        return f"{self.method}-{len(self.weights[0])}-{self.models}"

    @property
    def names(self) -> tuple[str, ...]:
        return self.sources[: len(self.weights[0])]

    def recipe(self, models: Path) -> dict[str, Any]:
        checkpoints = {name: open_checkpoint(models / self.models / name) for name in (*self.names, "base")}
        records = {name: {"path": str(c.path), **fingerprint(c)} for name, c in checkpoints.items()}
        base = records.pop("base")
        members = list(groups(checkpoints["base"]))

        def spread(values: tuple[Any, ...]) -> dict[str, Any]:
            return {group: values[i % len(values)] for i, group in enumerate(members)}

        return make_recipe(
            spread(self.weights),
            records,
            "thinking",
            {},
            method=self.method,
            base=base if METHODS[self.method].task_vectors else None,
            parameters={name: spread(values) for name, values in (self.parameters or {}).items()},
            options=self.options,
        )


def peer_config(recipe: dict[str, Any]) -> str:
    """mergekit_config.yml as an export has it, or of random masks, with which none has, as it would be."""
    template = open_checkpoint(recipe["sources"][recipe["files_from"]]["path"])
    found = text(recipe, template)
    assert (found is None) == METHODS[recipe["method"]].random
    return found or yaml.safe_dump(configuration(recipe, template))


SHARES = ((0.3, 0.7), (0.1, 0.9), (0.5, 0.5), (1.0, 0.0), (0.123457, 0.876543))
SHARES_3 = ((0.2, 0.3, 0.5), (0.333333, 0.333333, 0.333334), (0.0, 0.15, 0.85), (0.7, 0.2, 0.1))
FREE = (*SHARES, (0.8, 0.6), (1.2, 0.4))  # task vectors may be added by more than one in all
DENSITY, GAMMA, LAMBDA = (0.2, 0.5, 0.1, 0.05, 1.0, 0.75), (0.01, 0.05, 0.1, 0.0), (1.0, 0.7, 1.5)
# No density so low that int(density n) is 0 in the smallest tensor, of 8 elements: there breadcrumbs of mergekit keeps
# nothing at all, ours one element, as both do with TIES.
BREADCRUMBS = {"density": (0.9, 0.5, 0.8, 0.2), "gamma": GAMMA, "lambda": LAMBDA}
EXACT = [
    *(
        Case(models, "linear", weights)
        for models in ("tied", "untied", "large")
        for weights in (SHARES, SHARES_3)
    ),
    *(
        Case(models, "task_arithmetic", weights, {"lambda": LAMBDA})
        for models in ("tied", "untied", "large")
        for weights in (FREE, SHARES_3)
    ),
]
SLERP = [Case(models, "slerp", SHARES) for models in ("tied", "untied", "large")]
THRESHOLDS = [
    *(
        Case(models, "ties", weights, {"density": DENSITY, "lambda": LAMBDA})
        for models in ("tied", "untied")
        for weights in (FREE, SHARES_3)
    ),
    *(
        Case(models, method, weights, BREADCRUMBS)
        for method in ("breadcrumbs", "breadcrumbs_ties")
        for models, weights in (("tied", FREE), ("untied", SHARES_3))
    ),
    Case("large", "ties", SHARES, {"density": DENSITY, "lambda": LAMBDA}),
    Case("large", "breadcrumbs", SHARES, BREADCRUMBS),
]


def random_case(method: str, density: float, weights: tuple[float, ...], rescale: str = "l1") -> Case:
    parameters = {"density": (density,), "lambda": (1.0,)}
    if "epsilon" in METHODS[method].parameters:
        parameters["epsilon"] = (EPSILON,)
    options = {"seed": SEED, **({"rescale": "l1"} if rescale == "l1" else {})}
    return Case("random", method, (weights,), parameters, options)


RANDOM = ("dare_linear", "dare_ties", "della", "della_linear")
DENSITIES, EPSILON = (0.3, 0.7), 0.2
# One task vector alone, then two of which some elements have different signs.
ALONE = [random_case(method, density, (1.0, 0.0)) for method in RANDOM for density in DENSITIES]
TOGETHER = [random_case(method, 0.5, (0.6, 0.5)) for method in RANDOM]


@pytest.fixture(scope="session")
def peers(models: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """mergekit's merged models, by the id of the recipe."""
    folder = tmp_path_factory.mktemp("peers")
    merged = {}
    for number, cases in enumerate(([*EXACT, *SLERP, *THRESHOLDS], [*ALONE, *TOGETHER])):
        paths = []
        for case in cases:
            recipe = case.recipe(models)
            merged[recipe["id"]] = folder / recipe["id"]
            config = folder / f"{recipe['id']}.yml"
            config.write_text(peer_config(recipe))
            paths += [config, merged[recipe["id"]]]
        command = [PYTHON, PEER, "--seed", str(SEED + number), *paths]
        subprocess.run(
            [str(part) for part in command], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
    return merged


def ours_and_theirs(
    case: Case, models: Path, peers: dict[str, Path], output: Path
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    recipe = case.recipe(models)
    merge(recipe, output, chunk_bytes=1 << 10)  # several pieces a tensor
    ours, theirs = load(output), load(peers[recipe["id"]])
    assert ours.keys() == theirs.keys()
    assert ("lm_head.weight" in ours) == (case.models in ("untied", "random"))
    return ours, theirs


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.view(torch.int16)


by_name = functools.partial(pytest.mark.parametrize, ids=str)


# ---------------------------------------------------------------------------------------------- deterministic


@by_name("case", EXACT)
def test_every_bit_is_mergekits(case: Case, models: Path, peers: dict[str, Path], tmp_path: Path) -> None:
    ours, theirs = ours_and_theirs(case, models, peers, tmp_path / "merged")
    for name, tensor in ours.items():
        assert torch.equal(bits(tensor), bits(theirs[name])), name


@by_name("case", SLERP)
def test_spherical_interpolation_is_mergekits_within_a_bf16_step(
    case: Case, models: Path, peers: dict[str, Path], tmp_path: Path
) -> None:
    """mergekit sums norms and the angle's cosine in float32, ours in float64: coefficients differ in their last bits.

    Of the 1,280,000 elements of the large embeddings, 6 of ours and 3,504 of mergekit's are not as float64 has them.
    Where the two terms cancel, that is more than a step of what is left, though as little beside the terms.
    """
    ours, theirs = ours_and_theirs(case, models, peers, tmp_path / "merged")
    sources = [load(models / case.models / name) for name in case.names]
    differing = 0
    for name, tensor in ours.items():
        steps = (bits(tensor).int() - bits(theirs[name]).int()).abs()
        terms = sum(source[name].float().abs() for source in sources)
        difference = (tensor.float() - theirs[name].float()).abs()
        assert ((steps <= 1) | (difference <= 1e-5 * terms)).all(), name
        differing += int((steps > 0).sum())
    assert differing <= 0.01 * sum(tensor.numel() for tensor in ours.values())


def undecided(delta: torch.Tensor, method: str, density: float, gamma: float) -> torch.Tensor:
    """Where a threshold divides elements of one magnitude: mergekit keeps some, as its sort has them, ours all."""
    magnitudes, n = delta.abs(), delta.numel()
    if method == "ties":
        kept = max(1, int(density * n))
        low, high = n - kept, n
    else:
        kept = int(density * n)
        low = max(0, n - kept - int(gamma * n))
        high = low + kept
    ordered = magnitudes.flatten().sort().values
    divided = torch.zeros_like(magnitudes, dtype=torch.bool)
    for cut in (low, high):
        if 0 < cut < n and kept and ordered[cut - 1] == ordered[cut]:
            divided |= magnitudes == ordered[cut]
    return divided


@by_name("case", THRESHOLDS)
def test_all_is_mergekits_but_elements_at_a_threshold(
    case: Case, models: Path, peers: dict[str, Path], tmp_path: Path
) -> None:
    ours, theirs = ours_and_theirs(case, models, peers, tmp_path / "merged")
    recipe = case.recipe(models)
    base, *sources = (load(models / case.models / name) for name in ("base", *case.names))
    members = groups(open_checkpoint(models / case.models / "base"))
    left_out = 0
    for group, names in members.items():
        values = {name: own[group] for name, own in recipe["parameters"].items()}
        for name in names:
            excepted = torch.zeros(base[name].shape, dtype=torch.bool)
            for source in sources:
                delta = source[name].float() - base[name].float()
                if values["density"] < 1:
                    excepted |= undecided(delta, case.method, values["density"], values.get("gamma", 0.0))
            assert torch.equal(bits(ours[name])[~excepted], bits(theirs[name])[~excepted]), name
            left_out += int(excepted.sum())
    assert 0 < left_out < 0.25 * sum(tensor.numel() for tensor in base.values())


# ----------------------------------------------------------------------------------------------------- random


def near(values: torch.Tensor, expected: float | torch.Tensor, what: str) -> None:
    """The mean of independent values is as expected, within 5 standard errors."""
    error = values.double().std() / values.numel() ** 0.5
    assert abs(values.double().mean() - torch.as_tensor(expected).double().mean()) <= 5 * error, what


def task_vector(models: Path, name: str = "thinking") -> torch.Tensor:
    return load(models / "random" / name)[MATRIX]


def chances(delta: torch.Tensor, case: Case) -> torch.Tensor:
    """Every element's probability to be kept: by the rank of its magnitude in its row, from the smallest."""
    assert case.parameters is not None
    density = torch.full(delta.shape, case.parameters["density"][0])
    if "epsilon" not in case.parameters:
        return density
    ranks = delta.abs().argsort(dim=1).argsort(dim=1)
    return density - EPSILON + 2 * EPSILON * ranks / (delta.shape[1] - 1)


@by_name("case", ALONE)
def test_masks_of_one_task_vector_are_distributed_as_mergekits(
    case: Case, models: Path, peers: dict[str, Path], tmp_path: Path
) -> None:
    delta = task_vector(models)
    chance = chances(delta, case)
    order = delta.abs().argsort(dim=1)
    for who, merged in zip(
        ("ours", "mergekit"), ours_and_theirs(case, models, peers, tmp_path / "a"), strict=True
    ):
        result = merged[MATRIX]
        kept = result != 0
        # Columns of rising rank in the row, eight bands of them: the rate rises with the rank, or does not.
        bands = zip(kept.gather(1, order).chunk(8, 1), chance.gather(1, order).chunk(8, 1), strict=True)
        for band, (mask, probability) in enumerate(bands):
            near(mask.float() - probability, 0.0, f"{who}: rate of band {band}")
        near(delta.abs()[kept], (chance * delta.abs()).sum() / chance.sum(), f"{who}: kept magnitudes")
        norm = (
            delta.abs().sum() / (delta.abs() * kept).sum()
        )  # mergekit's factor keeps the L1 norm of the tensor
        torch.testing.assert_close(
            result[kept] / delta[kept], norm.expand(int(kept.sum())), rtol=1e-5, atol=0
        )


@by_name("case", TOGETHER)
def test_masked_task_vectors_come_together_as_mergekits(
    case: Case, models: Path, peers: dict[str, Path], tmp_path: Path
) -> None:
    """Rate of zeros, size and direction of what two masked vectors make; their masks do not depend on each other."""
    first, second = task_vector(models), task_vector(models, "instruct")
    ours, theirs = (merged[MATRIX] for merged in ours_and_theirs(case, models, peers, tmp_path / "merged"))
    both_dropped = (1 - chances(first, case)) * (1 - chances(second, case))
    for who, result in (("ours", ours), ("mergekit", theirs)):
        near((result == 0).float() - both_dropped, 0.0, f"{who}: both dropped")
    n = ours.numel()
    for what, a, b in (
        ("magnitude", ours.abs(), theirs.abs()),
        ("square", ours**2, theirs**2),
        ("along the first", ours * first.sign(), theirs * first.sign()),
        ("along the second", ours * second.sign(), theirs * second.sign()),
    ):
        assert abs(a.mean() - b.mean()) <= 5 * ((a.var() + b.var()) / n) ** 0.5, what


@by_name("method", RANDOM)
def test_the_papers_rescaling_divides_by_probabilities(method: str, models: Path, tmp_path: Path) -> None:
    """Without `rescale: l1`: what mergekit does not have, since every element keeps its expectation."""
    case = random_case(method, 0.5, (1.0, 0.0), rescale="papers")
    merge(case.recipe(models), tmp_path / "merged")
    result, delta = load(tmp_path / "merged")[MATRIX], task_vector(models)
    kept = result != 0
    factor = 1 / chances(delta, case)
    torch.testing.assert_close(result[kept] / delta[kept], factor[kept], rtol=1e-5, atol=0)
    near(result.abs() - delta.abs(), 0.0, "expected magnitude")


def test_the_peer_says_what_it_cost(models: Path, tmp_path: Path) -> None:
    recipe = Case("tied", "linear", ((0.5, 0.5),)).recipe(models)
    (tmp_path / "config.yml").write_text(peer_config(recipe))
    command = [str(PYTHON), str(PEER), str(tmp_path / "config.yml"), str(tmp_path / "merged")]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    cost = json.loads(output)
    assert 0 < cost["cpu"] < cost["process_cpu"]
    assert cost["wall"] > 0
    assert cost["memory"] > 10
