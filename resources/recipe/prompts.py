"""Write prompts for comparing the embedded models' hidden states: questions as in the benchmarks, but other ones.

python resources/recipe/prompts.py [--output resources] [--seed 0]
"""

import argparse
import json
from pathlib import Path
from random import Random

from language import question_tokens
from problems import AIME_LENGTHS, draw_benchmarks, draw_new_chains, draw_options

PROMPTS = 64  # half of them with options to choose from


def draw_prompts(seed: int) -> list[str]:
    """Texts of questions whose chains are in no benchmark of this seed."""
    random = Random(f"{seed} prompts")
    _, used = draw_benchmarks(Random(f"{seed} benchmarks"))
    chains = draw_new_chains(random, PROMPTS, AIME_LENGTHS, used)
    options = [
        draw_options(random, chain.values()[-1]) if place % 2 else [] for place, chain in enumerate(chains)
    ]
    return ["".join(question_tokens(*chain, own)) for chain, own in zip(chains, options, strict=True)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description="Write prompts for comparing the embedded models' hidden states."
    )
    parser.add_argument("--output", type=Path, default=Path("resources"))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    folder = given.output / "prompts"
    folder.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps({"prompt": prompt}) + "\n" for prompt in draw_prompts(given.seed))
    (folder / "tiny.jsonl").write_text("".join(lines))
