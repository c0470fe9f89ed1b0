"""Problems of the tiny models: chains of operations modulo 7, the answers that models learn, the benchmarks.

A chain starts from a digit and applies 1 to 8 labelled operations, `Start 3: a+2 b*5 c+1 = ?`. An answer is

    direct     \\boxed{5}
    thinking   <think> a:3+2=5 c5 Check a5 b4 c5</think>\\boxed{5}

A step of the thinking does 1 to 4 operations and states the value after the last, in full ("a:3+2=5", only
for one operation) or tersely ("c5"). The thinking may stop early, and a second pass, all terse, may follow
("Check"). A `Style` is a distribution over these choices.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from language import (
    BOX,
    CHECK,
    CLOSE_BOX,
    DIGITS,
    END_THINK,
    LABELS,
    LETTERS,
    MODULUS,
    OPERATIONS,
    PROMPT_HEAD,
    PROMPT_TAIL,
    THINK,
    TURN_END,
    question_tokens,
)

LONGEST_CHAIN = len(LABELS)
MULTIPLE_CHOICE_SHARE = 0.4
GPQA_LENGTHS = range(3, 8)
AIME_LENGTHS = range(3, 9)
GPQA_COLUMNS = [
    *("Record ID", "Question", "Correct Answer"),
    *("Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3"),
]
AIME_COLUMNS = ["problem", "answer", "id"]

# Weights of tokens in the loss: a choice of style, what is looked up or computed, the answer.
CHOICE_WEIGHT, FACT_WEIGHT, ANSWER_WEIGHT = 0.4, 1.0, 2.0

# Operations per step, placed between Instruct (0: stop thinking) and Thinking (1: one operation a step):
# interpolated weights pass through steps of 4, 3, 2 and 1 operations, which is what grades the merges.
JUMP_POSITIONS = {0: 0.0, 1: 1.0, 2: 0.70, 3: 0.45, 4: 0.30}


class Chain(NamedTuple):
    """A first digit and the operations applied to it, in order."""

    start: int
    operations: tuple[str, ...]

    def values(self) -> list[int]:
        """The first digit and the digit after each operation."""
        values = [self.start]
        for operation in self.operations:
            operand = int(operation[1])
            result = values[-1] + operand if operation[0] == "+" else values[-1] * operand
            values.append(result % MODULUS)
        return values


def draw_chain(random: Random, length: int) -> Chain:
    """A chain of so many operations, uniformly."""
    return Chain(random.randrange(MODULUS), tuple(random.choices(OPERATIONS, k=length)))


def draw_options(random: Random, answer: int) -> list[int]:
    """Four different digits in random order, the answer among them."""
    wrong = [digit for digit in range(MODULUS) if digit != answer]
    options = [answer, *random.sample(wrong, 3)]
    random.shuffle(options)
    return options


@dataclass(frozen=True)
class Style:
    """A distribution over answers: logits of thinking at all, of a step in full, of a second pass.

    jump_centre, jump_width: mean and standard deviation of a normal density at JUMP_POSITIONS.
    forced_thinking: share of examples that think whatever the logit says. In these the choice to think is out
    of the loss, so that a model that rarely thinks still learns how it would.
    """

    think_logit: Callable[[int], float]  # of the number of operations
    verbose_logit: Callable[[str], float]  # of the operation
    check_logit: Callable[[int], float]  # of the number of operations
    jump_centre: float
    jump_width: float
    forced_thinking: float = 0.0

    def jump_weight(self, jump: int) -> float:
        """Unnormalised probability of a jump over so many operations; 0 stops the thinking."""
        return math.exp(-((JUMP_POSITIONS[jump] - self.jump_centre) ** 2) / (2 * self.jump_width**2))


def base_style(progress: float) -> Style:
    """Base's style after a share of its training: steps in full first, then jumps and direct answers too."""
    breadth = min(1.0, max(0.0, (progress - 0.2) / 0.4))
    return Style(
        think_logit=lambda length: 2.5 - 1.5 * breadth,
        verbose_logit=lambda operation: 2.0 - 2.0 * breadth,
        check_logit=lambda length: -1.2,
        jump_centre=1 - 0.3 * breadth,
        jump_width=0.15 + 0.3 * breadth,
    )


THINKING = Style(
    think_logit=lambda length: 3.0 + 0.3 * (length - 2),
    verbose_logit=lambda operation: 2.0 if operation[0] == "*" else 1.0,
    check_logit=lambda length: 0.3 + 0.15 * (length - 2),
    jump_centre=1.0,
    jump_width=0.28,
    forced_thinking=0.3,
)

INSTRUCT = Style(
    think_logit=lambda length: -5.0 + 0.45 * (length - 2),
    verbose_logit=lambda operation: -3.0 if operation[0] == "*" else -6.0,
    check_logit=lambda length: -5.0,
    jump_centre=0.1,
    jump_width=0.28,
    forced_thinking=0.5,
)


def happens(random: Random, logit: float) -> bool:
    """Draw an event with the given logit."""
    return random.random() < 1 / (1 + math.exp(-logit))


def thinking_pass(random: Random, chain: Chain, style: Style, terse: bool) -> tuple[list[str], list[float]]:
    """One walk along the chain: tokens and their weights in the loss."""
    values = chain.values()
    length = len(chain.operations)
    tokens: list[str] = []
    weights: list[float] = []
    done = 0
    while done < length:
        jumps = [jump for jump in JUMP_POSITIONS if jump <= length - done]
        jump = random.choices(jumps, [style.jump_weight(jump) for jump in jumps])[0]
        if jump == 0:
            break
        tokens.append(LABELS[done + jump - 1])
        weights.append(CHOICE_WEIGHT)
        if jump == 1 and not terse and happens(random, style.verbose_logit(chain.operations[done])):
            tokens += [":", str(values[done]), chain.operations[done], "="]
            weights += [CHOICE_WEIGHT, FACT_WEIGHT, FACT_WEIGHT, CHOICE_WEIGHT]
        done += jump
        tokens.append(str(values[done]))
        weights.append(FACT_WEIGHT)
    return tokens, weights


def draw_response(random: Random, chain: Chain, answer: str, style: Style) -> tuple[list[str], list[float]]:
    """An answer in a style: its tokens, up to the end of the turn, and their weights in the loss."""
    length = len(chain.operations)
    tokens: list[str] = []
    weights: list[float] = []
    forced = random.random() < style.forced_thinking
    if forced or happens(random, style.think_logit(length)):
        tokens.append(THINK)
        weights.append(0.0 if forced else CHOICE_WEIGHT)
        passes = [thinking_pass(random, chain, style, terse=False)]
        if happens(random, style.check_logit(length)):
            passes += [([CHECK], [CHOICE_WEIGHT]), thinking_pass(random, chain, style, terse=True)]
        for pass_tokens, pass_weights in passes:
            tokens += pass_tokens
            weights += pass_weights
        tokens.append(END_THINK)
        weights.append(CHOICE_WEIGHT)
    tokens += [BOX, answer, CLOSE_BOX, TURN_END]
    weights += [CHOICE_WEIGHT, ANSWER_WEIGHT, CHOICE_WEIGHT, CHOICE_WEIGHT]
    return tokens, weights


def draw_example(
    random: Random, shortest: int, longest: int, style: Style, held_out: set[Chain]
) -> tuple[list[str], list[float]]:
    """A training example: tokens of prompt and answer, and their weights in the loss (0 for the prompt)."""
    chain = draw_chain(random, random.randint(shortest, longest))
    while chain in held_out:
        chain = draw_chain(random, random.randint(shortest, longest))
    result = chain.values()[-1]
    options: list[int] = []
    answer = DIGITS[result]
    if random.random() < MULTIPLE_CHOICE_SHARE:
        options = draw_options(random, result)
        answer = LETTERS[options.index(result)]
    prompt = [*PROMPT_HEAD, *question_tokens(*chain, options), *PROMPT_TAIL]
    tokens, weights = draw_response(random, chain, answer, style)
    return prompt + tokens, [0.0] * len(prompt) + weights


def draw_new_chains(random: Random, count: int, lengths: range, used: set[Chain]) -> list[Chain]:
    """Chains that are not in `used`, their lengths in turn from `lengths`; adds them to `used`."""
    chains: list[Chain] = []
    while len(chains) < count:
        chain = draw_chain(random, lengths[len(chains) % len(lengths)])
        if chain not in used:
            used.add(chain)
            chains.append(chain)
    return chains


def gpqa_rows(random: Random, name: str, chains: list[Chain]) -> list[dict[str, str]]:
    """Rows in the columns of GPQA (Idavidrein/gpqa); whoever renders the question orders the options."""
    rows = []
    for number, chain in enumerate(chains):
        answer = chain.values()[-1]
        wrong = random.sample([digit for digit in range(MODULUS) if digit != answer], 3)
        cells = [f"{name}-{number:04d}", "".join(question_tokens(*chain)), str(answer), *map(str, wrong)]
        rows.append(dict(zip(GPQA_COLUMNS, cells, strict=True)))
    return rows


def aime_rows(name: str, chains: list[Chain]) -> list[dict[str, str]]:
    """Rows in the columns of AIME 2025 (math-ai/aime25)."""
    rows = []
    for number, chain in enumerate(chains):
        cells = ["".join(question_tokens(*chain)), str(chain.values()[-1]), f"{name}-{number:04d}"]
        rows.append(dict(zip(AIME_COLUMNS, cells, strict=True)))
    return rows


def draw_benchmarks(random: Random) -> tuple[dict[str, list[dict[str, str]]], set[Chain]]:
    """Rows of each benchmark by name, and all their chains, no two of which are equal."""
    used: set[Chain] = set()
    benchmarks = {}
    for suffix, count in (("", 150), ("_fresh", 1000)):
        gpqa, aime = f"tiny_gpqa{suffix}", f"tiny_aime{suffix}"
        benchmarks[gpqa] = gpqa_rows(random, gpqa, draw_new_chains(random, count, GPQA_LENGTHS, used))
        benchmarks[aime] = aime_rows(aime, draw_new_chains(random, count, AIME_LENGTHS, used))
    return benchmarks, used
