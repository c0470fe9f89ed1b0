r"""The final answer in a model's output, and whether it is the right one."""

import re


def answer_text(output: str, prompt: str, truncated: bool) -> str:
    """The part of `output` that may hold the answer: what follows the thinking.

    Empty where the token limit cut the output while it was still thinking: half a thought is no answer. Some chat
    templates open `<think>` in the prompt, so that only `</think>` appears in the output.
    """
    if "</think>" in output:
        return output.rpartition("</think>")[2]
    thinking = "<think>" in output or prompt.rstrip().endswith("<think>")
    return "" if thinking and truncated else output


def last_boxed(text: str) -> str | None:
    r"""What the last complete `\boxed{...}` holds, nested braces included; None if there is none."""
    for start in reversed([match.end() for match in re.finditer(r"\\boxed\s*\{", text)]):
        depth = 1
        for position in range(start, len(text)):
            depth += {"{": 1, "}": -1}.get(text[position], 0)
            if depth == 0:
                return text[start:position]
    return None


def is_correct(text: str, target: str) -> bool:
    r"""Whether the last `\boxed{...}` of `text` holds `target`.

    A letter counts with or without parentheses and with what follows it ("(C)", "\text{C}", "C. Mitosis"); an integer
    without leading zeros, thousands separators and dollar signs; everything else as it is written, spaces aside.
    """
    boxed = last_boxed(text)
    if boxed is None:
        return False
    return _normalise(boxed, target) == _normalise(target, target)


def _normalise(answer: str, target: str) -> str:
    answer = (
        re.sub(r"\\(?:text|textbf|mathrm|mathbf)\s*\{([^{}]*)\}", r"\1", answer).strip().strip("$").strip()
    )
    if re.fullmatch(r"\(?[A-Z]\)?", target.strip()):
        letter = re.match(r"\(?([A-Z])(?![A-Za-z0-9])", answer)
        return letter[1] if letter else ""
    number = re.fullmatch(r"([+-]?)(\d+(?:,\d{3})*)", answer)
    if number:
        return str(int(number[1] + number[2].replace(",", "")))
    return re.sub(r"\s+", "", answer)


def boxed_match(references: list[str], predictions: list[str]) -> float:
    """The same as a metric of lm-eval: 1 if the answer matches one of the references."""
    return float(any(is_correct(predictions[0], str(reference)) for reference in references))
