"""What is asked, and whether a reply is right."""

from __future__ import annotations

from ..evaluation.benchmarks.letters import chosen_letter, lettered, words
from ..evaluation.models import Question
from .cases import AskedQuestion

INSTRUCTION = "Answer with the option's letter from the given choices directly."


def prompt_of(question: AskedQuestion) -> Question:
    """The prompt; frames are ranked by the question without its options."""
    if not question.options:
        return Question(question.question)
    text = f"{question.question}\n{lettered(question.options)}\n{INSTRUCTION}"
    return Question(text, question.question)


def is_right(question: AskedQuestion, reply: str) -> bool:
    """Open answers: the same words, whatever their case and marks; else the letter, as
    `vilamp.evaluation.benchmarks.letters` reads it."""
    if not question.options:
        return words(reply) == words(question.answer)
    return chosen_letter(reply, question.options) == question.answer
