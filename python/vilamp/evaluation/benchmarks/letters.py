"""Options of a question, and the letter that a reply names."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Sequence

LETTERS = string.ascii_uppercase

_OPTION = re.compile(r"^\s*\(?([A-Z])[.):]\s*")
# A letter and marks only: B, (b), **B**, "B.".
_ALONE = re.compile(r"[\W_]*([A-Za-z])[\W_]*")
# Before the text of the option: B. text, (B) text, B: text, B) text. Not "A man": a word follows;
# nor "A, B": more than one is named.
_FIRST = re.compile(
    r"[\W_]*([A-Z])(?!,\s*[A-Z](?:,|\s+(?:and|or)\b|\W*$))[\W_]*[.):,][\W_]*(?:\s|\w)"
)
_NAMED = re.compile(
    r"(?i:\b(?:answer|option|choice)s?\b(?:\s+(?:is|would\s+be|must\s+be))?)[\W_]*([A-Z])(?![\w'])"
)
_ANY_CASE_NAMED = re.compile(r"\banswer\s*(?:is)?\s*[:(]\W*([a-z])\b(?!\s*\w)", re.IGNORECASE)
_IN_BRACKETS = re.compile(r"\(([A-Z])\)")


def without_letter(option: str) -> str:
    """The text of an option that is written with its letter, such as "A. a chair"."""
    return _OPTION.sub("", option, count=1).strip()


def lettered(options: Iterable[str], form: str = "{}. {}") -> str:
    """Options one below the other, each after its letter."""
    # Not str.format on the option: it may contain braces.
    return "\n".join(
        form.format(letter, "\0").replace("\0", text)
        for letter, text in zip(LETTERS, options, strict=False)
    )


def chosen_letter(reply: str, options: Sequence[str]) -> str | None:
    """The letter that a reply names, None for none: that is then a wrong answer.

    Read in this order: a letter alone; a letter before the text of the option, as in "B. a chair"
    or "(B) a chair"; a letter alone on the first line, whatever the explanation below it names; the
    letter after the last "answer", "option" or "choice"; the only letter in brackets; a letter
    alone on the last line; the only option whose text the reply is, or contains.

    Args:
        reply: of a model.
        options: texts of A, B, C, ...; other letters are no answer.
    """
    reply = reply.strip()
    known = LETTERS[: len(options)]

    def of(letter: str | None) -> str | None:
        return letter.upper() if letter and letter.upper() in known else None

    lines = [line for line in reply.splitlines() if line.strip()]
    if not lines:
        return None
    found = _match(_ALONE.fullmatch(reply)) or _match(_FIRST.match(reply))
    found = of(found) or of(_match(_ALONE.fullmatch(lines[0])))
    if found:
        return found
    for pattern in (_NAMED, _ANY_CASE_NAMED):
        named = [letter for letter in map(of, pattern.findall(reply)) if letter]
        if named:
            return named[-1]
    bracketed = {letter for letter in map(of, _IN_BRACKETS.findall(reply)) if letter}
    if len(bracketed) == 1:
        return bracketed.pop()
    return of(_match(_ALONE.fullmatch(lines[-1]))) or _by_text(reply, options)


def _match(match: re.Match[str] | None) -> str | None:
    return match[1] if match else None


def _by_text(reply: str, options: Sequence[str]) -> str | None:
    said = words(reply)
    texts = [words(option) for option in options]
    for number, text in enumerate(texts):
        if text and text == said and texts.count(text) == 1:
            return LETTERS[number]
    inside = [n for n, text in enumerate(texts) if text and _contains(said, text)]
    return LETTERS[inside[0]] if len(inside) == 1 else None


def _contains(words_of_reply: Sequence[str], text: Sequence[str]) -> bool:
    last = len(words_of_reply) - len(text)
    return any(words_of_reply[i : i + len(text)] == text for i in range(last + 1))


def words(text: str) -> list[str]:
    """Words of a text, whatever their case and marks."""
    return re.findall(r"\w+", text.casefold())
