"""What is asked, and whether a reply is right."""

from __future__ import annotations

import re
import string

from ..evaluation.models import Question
from .cases import AskedQuestion

LETTERS = string.ascii_uppercase
INSTRUCTION = "Answer with the option's letter from the given choices directly."
_LETTER_FIRST = re.compile(r"\W*([A-Z])(?:\W|$)")
_LETTER_LAST = re.compile(r"\b(?:answer|option)\b\W*(?:is\b)?\W*([A-Z])(?:\W|$)", re.IGNORECASE)


def prompt_of(question: AskedQuestion) -> Question:
    """The prompt; frames are ranked by the question without its options."""
    if not question.options:
        return Question(question.question)
    options = (f"{letter}. {text}" for letter, text in zip(LETTERS, question.options, strict=False))
    text = "\n".join([question.question, *options, INSTRUCTION])
    return Question(text, question.question)


def is_right(question: AskedQuestion, reply: str) -> bool:
    """Open answers: the same words, whatever their case and marks. With options: the right letter,
    alone, at the start or after "answer is", or else the text of that option alone."""
    if not question.options:
        return _words(reply) == _words(question.answer)
    return chosen_letter(question, reply) == question.answer


def chosen_letter(question: AskedQuestion, reply: str) -> str | None:
    """The letter that a reply names, None for none."""
    options = LETTERS[: len(question.options)]
    for letter, text in zip(options, question.options, strict=True):
        # First of all: "A box" may be an option, not the letter A. One word may be a letter.
        if len(_words(reply)) > 1 and _words(text) == _words(reply):
            return letter
    for pattern in (_LETTER_FIRST.match, _LETTER_LAST.search):
        found = pattern(reply)
        if found and found[1].upper() in options:
            return found[1].upper()
    for letter, text in zip(options, question.options, strict=True):
        if _words(text) == _words(reply):
            return letter
    return None


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())
