"""Open answers of a word or two: when two of them are the same."""

from __future__ import annotations

import re

ARTICLES = {"a", "an", "the"}
NUMBERS = {"zero": "0", "none": "0", "one": "1", "two": "2", "three": "3", "four": "4"} | {
    "five": "5",
    "six": "6",
    "seven": "7",
    "eight": "8",
    "nine": "9",
    "ten": "10",
}
_YES_NO = re.compile(r"\W*(yes|no)\b", re.IGNORECASE)


def normalised(answer: str) -> str:
    """The words of an answer in lower case, without marks and articles, numbers as digits.

    Source: the rules of VQA's evaluation (Antol et al. 2015), without its list of contractions.
    """
    # A mark within a word joins it, as in "t-shirt" and "o'clock"; elsewhere it parts words.
    text = re.sub(r"(?<=\w)['’-](?=\w)", "", answer.casefold())
    words = re.findall(r"\d+(?:\.\d+)?|\w+", text)
    return " ".join(NUMBERS.get(word, word) for word in words if word not in ARTICLES)


def said_yes_or_no(reply: str) -> str | None:
    """Whether a reply begins with yes or no; None when it does not."""
    match = _YES_NO.match(reply)
    return match[1].lower() if match else None
