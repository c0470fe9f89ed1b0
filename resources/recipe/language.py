"""The language of the tiny models: tokens, the text of a question, tokenizer, chat templates."""

from collections.abc import Sequence

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

MODULUS = 7
DIGITS = [str(digit) for digit in range(MODULUS)]
OPERATIONS = ["+1", "+2", "+3", "*2", "*3", "*5"]
LABELS = [f" {label}" for label in "abcdefgh"]
LETTERS = ["A", "B", "C", "D"]

END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
THINK, END_THINK = "<think>", "</think>"
START, QUESTION_END, CHECK, BOX, CLOSE_BOX = "Start ", " = ?", " Check", "\\boxed{", "}"

# A label with its operation (" b*5") and a letter with its option (" (A)4") are single tokens: finding an
# operation by its label, or a letter by its digit, then takes one step of attention: a tiny model learns it.
VOCABULARY = [
    *(END_OF_TEXT, TURN_START, TURN_END, THINK, END_THINK),
    *("user", "assistant", "system", START, QUESTION_END, CHECK, BOX),
    *LABELS,
    *OPERATIONS,
    *(label + operation for label in LABELS for operation in OPERATIONS),
    *(f" ({letter}){digit}" for letter in LETTERS for digit in DIGITS),
    *(chr(code) for code in range(32, 127)),
    "\n",
]
TOKEN_ID = {token: index for index, token in enumerate(VOCABULARY)}

TOKEN_PATTERN = "|".join(
    (
        r"\\boxed\{|Start | Check| = \?|user|assistant|system",
        r" \([A-D]\)[0-6]",
        r" [a-h](?:\+[123]|\*[235])",
        r" [a-h](?=[:0-9])",
        r"\+[123]|\*[235]",
        r"\n|.",
    )
)

# As with Qwen3-4B-Thinking-2507 and Qwen3-4B-Instruct-2507: Thinking's prompt opens the thinking, Instruct's
# leaves the choice to the model. Base has Instruct's.
INSTRUCT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
THINKING_TEMPLATE = INSTRUCT_TEMPLATE.replace("assistant\\n", "assistant\\n<think>")
CHAT_TEMPLATES = {"base": INSTRUCT_TEMPLATE, "thinking": THINKING_TEMPLATE, "instruct": INSTRUCT_TEMPLATE}

PROMPT_HEAD = [TURN_START, "user", "\n"]
PROMPT_TAIL = [TURN_END, "\n", TURN_START, "assistant", "\n"]


def question_tokens(start: int, operations: Sequence[str], options: Sequence[int] = ()) -> list[str]:
    """Tokens of a question: `Start 3: a+2 b*5 = ?`, with options ` (A)4 (B)5 (C)1 (D)0` after it.

    start: the first digit; operations: 1 to 8 of OPERATIONS; options: none, or the digits of A, B, C, D.
    """
    labelled = [label + operation for label, operation in zip(LABELS, operations, strict=False)]
    choices = [f" ({letter}){digit}" for letter, digit in zip(LETTERS, options, strict=False)]
    return [START, str(start), ":", *labelled, QUESTION_END, *choices]


def build_tokenizer(chat_template: str) -> PreTrainedTokenizerFast:
    """Tokenizer of VOCABULARY. The tags of thinking are no special tokens, so that decoding keeps them."""
    tokenizer = Tokenizer(models.WordLevel(TOKEN_ID, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(TOKEN_PATTERN), "isolated")
    tokenizer.decoder = decoders.Fuse()
    specials = [END_OF_TEXT, TURN_START, TURN_END]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in (THINK, END_THINK)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=TURN_END,
        pad_token=END_OF_TEXT,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=512,
        chat_template=chat_template,
    )
