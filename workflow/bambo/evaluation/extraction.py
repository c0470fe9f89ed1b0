r"""The final answer in a model's output, and whether it is the right one.

Two kinds of answers are understood: the letter of an option, and a number; any other is compared as it is written. What
stands in the last `\boxed{}` is the answer, right or wrong. Only where there is no box is the answer looked for in what
the text says it is ("The answer is C."), then in how its last line ends; where that leaves a choice, there is none.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any

# An option at the beginning of a text: enclosed, alone, or with its text behind it ("C. Mitosis"); neither the article
# "A" nor the B of "B cell" and "B-DNA".
OPTION = re.compile(
    r"[*_\s]*(?i:(?:the\s+)?(?:correct\s+)?(?:option|choice|answer|letter)\s*(?:is\b|:)?\s*)?[*_]*"
    r"(?:\(([A-Z])\)|([A-Z])(?=[*_]*(?:$|\)|[.:,;!?]+(?:[\s*_]|$)|\s+(?:$|[(–—-]|[A-Z][a-z]|(?:because|since)\b))))"
)
ANOTHER_OPTION = re.compile(r"[).*_]*\s*(?:,|/|&|(?i:or|and)\b)\s*(?i:(?:or|and)\s+)?\(?[A-Z]\)?(?![A-Za-z])")
# A line of a list of options, or of remarks on them.
LISTED_OPTION = re.compile(r"[*_]*(?:\(([A-Z])\)|([A-Z])[*_]*[).:])", re.MULTILINE)

NUMBER = r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?"
UNIT = r"(?!(?:or|and|to|pi|times)\b)(?:[A-Za-z]{2,}|[mgsh])\b"
# A number, with degrees, per cent or a unit.
QUANTITY = (
    rf"({NUMBER})\s*(?:%|°|\^\s*\{{?\s*\\circ\s*\}}?)?(?:\s+{UNIT}(?:[ /]{UNIT})*(?:\s*\^\s*\{{?\d\}}?)?)?"
)
LONE_NUMBER = re.compile(rf"(?<![\w.,^/*{{}}+-])(?<![-+*/^]\s){NUMBER}(?![\w^/*{{}}]|[.,]\d|\s*[-+*/^=<>])")

# What introduces an answer; the answer is the rest of the line, or the next line that says something.
STATEMENT = re.compile(
    r"\b(?:answer|(?:correct|right|best)\s+(?:option|choice))\b[*_ ]*(?:choice\b|option\b|letter\b)?[*_ ]*"
    r"(?:(?:is|would be|must be|should be)\b(?!\s+not\b)"
    r"(?:\s+(?:therefore|thus|then|indeed|clearly|definitely|likely)\b)?|[:=])[*_:\s]*(?P<answer>[^\n]*)",
    re.IGNORECASE,
)
HEADING = re.compile(
    r"^[#*_\s]*(?:final\s+)?answer[*_\s]*\n+(?P<answer>[^\n]+)", re.IGNORECASE | re.MULTILINE
)
RETRACTION = re.compile(r"\b(?:wait|actually|hmm|however|correction)\b|\b(?:instead|no),", re.IGNORECASE)
NEGATION = re.compile(r"\b(?:not|wrong|incorrect|false|except|neither)\b|n't\b", re.IGNORECASE)
# "C is correct", "(C) is the right answer"; of statements, several may be.
VERDICT = re.compile(
    r"(?<![Ss]tatement )(?<![A-Za-z0-9])\(?([A-Z])\)?[*_]*\s+(?:is|must be)\s+(?:therefore |thus )?"
    r"(?:the\s+)?(?:only\s+|most\s+|best\s+)?(?:correct|right|answer)\b"
)
# The end of a text: "so I choose C", "this matches option (C)", "hence C".
CHOICE = re.compile(
    r"\b(?i:choose|pick|select|go(?:ing)? with|matches|corresponds to|is|so|thus|hence|therefore),?\s+"
    r"(?i:it(?:'s| is)\s+)?(?i:option\s+|choice\s+|answer\s+)?(?:\(([A-Z])\)|([A-Z]))$"
)
CONCLUSION = re.compile(r"(?:so|thus|hence|therefore|in total|in conclusion)\b", re.IGNORECASE)
BOLD = re.compile(r"\*\*(.+?)\*\*")


class Cut(str):
    """A text that the token limit cut: what it says last may be half of what was meant."""


def answer_text(output: str, prompt: str, truncated: bool) -> str:
    """The part of `output` that may hold the answer: what follows the thinking; `Cut` where it was truncated.

    Empty where the token limit cut the output while it was still thinking: half a thought is no answer. Some chat
    templates open `<think>` in the prompt, so that only `</think>` appears in the output.
    """
    if "</think>" in output:
        text = output.rpartition("</think>")[2]
    elif truncated and ("<think>" in output or prompt.rstrip().endswith("<think>")):
        text = ""
    else:
        text = output
    return Cut(text) if truncated else text


def before(text: str, stops: Sequence[str]) -> str:
    """`text` up to the first of the stop strings; all of it where there is none."""
    places = [place for stop in stops if stop and (place := text.find(stop)) >= 0]
    return text[: min(places)] if places else text


def is_correct(text: str, target: str) -> bool:
    r"""Whether the final answer of `text` is `target`: "(C)" or "C" for an option, else a number or a text.

    Letters count with or without parentheses and with the option's text behind them ("C. Mitosis"); numbers without
    leading zeros, thousands separators, units and what they are set equal to ("x = 70"). A `Cut` text counts by its
    last complete box alone.
    """
    target = target.strip()
    if letter := re.fullmatch(r"\(?([A-Z])\)?", target):
        return _answer(text, _letter, _said_letters) == letter[1]
    if (number := _number(_bare(target))) is not None:
        return _answer(text, _number, _said_numbers) == number
    return _answer(text, _plain, _said_texts) == _plain(_bare(target))


def boxed_match(references: list[str], predictions: list[str]) -> float:
    """The same as a metric of lm-eval: 1 if the answer matches one of the references."""
    return float(any(is_correct(predictions[0], str(reference)) for reference in references))


def last_boxed(text: str) -> str | None:
    r"""What the last complete `\boxed{...}` or `\fbox{...}` holds, nested braces included; None if there is none.

    Empty boxes are passed over: they are quoted from the prompt.
    """
    for start in reversed([match.end() for match in re.finditer(r"\\(?:boxed|fbox)\s*\{", text)]):
        depth = 1
        for position in range(start, len(text)):
            depth += {"{": 1, "}": -1}.get(text[position], 0)
            if depth == 0:
                break
        if depth == 0 and text[start:position].strip():
            return text[start:position]
    return None


def _answer(text: str, boxed: Callable[[str], Any], said: Callable[[str], Iterator[Any]]) -> Any:
    """What `boxed` makes of the last box, or, without one, the first answer that is `said`; None if there is none."""
    if (box := last_boxed(text)) is not None:
        return boxed(_bare(box))
    if isinstance(text, Cut):
        return None
    return next((answer for answer in said(_bare(text)) if answer is not None), None)


def _bare(text: str) -> str:
    """A text without LaTeX's spacing, fonts and delimiters."""
    text = text.replace("−", "-").replace("\\!", "").replace("{,}", ",").replace("\\%", "%")
    text = re.sub(r"(?<=\d)\\,(?=\d{3}(?!\d))", "", text)  # a thousands separator
    text = re.sub(r"\\[,;: ]|~|\\q?quad\b", " ", text)
    for _ in range(2):  # one font in another
        text = re.sub(r"\\(?:text\w*|math\w+|mbox|operatorname)\s*\{([^{}]*)\}", r" \1 ", text)
    text = re.sub(r"\\(?:left|right)(?![A-Za-z])", "", text)
    return re.sub(r"\\[()\[\]]|\\?\$", " ", text)


def _statement(text: str) -> str | None:
    """The last thing that is said to be the answer; None where there is none, or something takes it back."""
    found = [match for pattern in (STATEMENT, HEADING) for match in pattern.finditer(text)]
    last = max(found, key=lambda match: match.start("answer"), default=None)
    return None if last is None or RETRACTION.search(text, last.start("answer")) else last["answer"]


def _last_line(text: str) -> str:
    """The last line that says something."""
    return next((line.strip(" #>-") for line in reversed(text.splitlines()) if re.search(r"\w", line)), "")


def _last_bold(text: str) -> str | None:
    """What the last line sets in bold, if it is one thing."""
    bold = BOLD.findall(_last_line(text))
    return bold[0] if len(bold) == 1 else None


def _letter(text: str) -> str | None:
    """The letter of the option that `text` begins with; None where it is none, or one of several."""
    if alone := re.fullmatch(r"[*_\s(]*([A-Za-z])[*_\s).]*", text):
        return alone[1].upper()
    found = OPTION.match(text)
    if found is None or ANOTHER_OPTION.match(text, found.end()):
        return None
    return found[1] or found[2]


def _said_letters(text: str) -> Iterator[str | None]:
    if (statement := _statement(text)) is not None:
        yield _letter(statement)
    if len(verdicts := set(VERDICT.findall(text))) == 1:
        yield verdicts.pop()
    end = _last_line(text)
    listed = {
        match[1] or match[2] for line in text.splitlines() if (match := LISTED_OPTION.match(line.strip()))
    }
    if (
        NEGATION.search(end)
        or RETRACTION.search(end)
        or len(listed) > 1
        or len(set(re.findall(r"\(([A-Z])\)", end))) > 1
    ):
        return
    if (bold := _last_bold(text)) is not None:
        yield _letter(bold)
    # "(A) is too small" is no answer, as "(C) Mitosis" is.
    if not re.match(r"[*_]*(?:(?i:option)\s+)?\(?[A-Z]\)?[*_]*[,:]?\s+[a-z]", end):
        yield _letter(end)
    if choice := CHOICE.search(end.rstrip(" *_.!")):
        yield choice[1] or choice[2]


def _number(text: str) -> Decimal | None:
    """The number that `text` is, or is set equal to in the end."""
    text = text.strip(" *_\n").rstrip("*_. ")
    for part in (text, text.rpartition("=")[2]):
        if number := re.fullmatch(rf"\(?\s*{QUANTITY}\s*\)?\.?", part.strip(" *_")):
            return Decimal(number[1].replace(",", ""))
    return None


def _stated_number(sentence: str) -> Decimal | None:
    """The number that a sentence gives for the answer: what it begins with or ends in, else its only one."""
    if (number := _number(sentence)) is not None:
        return number
    if first := re.match(
        rf"[*_\s]*{QUANTITY}[*_\s]*(?:[;(]|,(?!\s*\d)|\b(?:since|because|as|which|where|for)\b)", sentence
    ):
        return Decimal(first[1].replace(",", ""))
    numbers = re.findall(NUMBER, sentence)
    lone = LONE_NUMBER.search(sentence)
    if len(numbers) == 1 and lone and "\\" not in sentence and not NEGATION.search(sentence):
        return Decimal(lone[0].replace(",", ""))
    return None


def _said_numbers(text: str) -> Iterator[Decimal | None]:
    if (statement := _statement(text)) is not None:
        yield _stated_number(_sentences(statement)[0])
        return
    if (bold := _last_bold(text)) is not None:
        yield _number(bold)
    end = _sentences(_last_line(text))[-1]
    yield _number(end)
    if CONCLUSION.match(end):
        yield _stated_number(end)


def _plain(text: str) -> str:
    return re.sub(r"\s+", "", text.strip(" *_.\n"))


def _said_texts(text: str) -> Iterator[str]:
    statement = _statement(text)
    yield _plain(_last_line(text) if statement is None else statement)


def _sentences(line: str) -> list[str]:
    return re.split(r"(?<=\w[.!?])\s+(?=[A-Z])|(?<=\*\*[.!?])\s+", line.strip()) or [""]
