"""Questions about a clip and their one-word answers.

Training and testing use different sentences; the words that matter (colours, shapes, places, sides)
and the words that say what is asked for are shared.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .palette import COLOUR_NAMES, DIGITS, GLYPHS, LETTERS, PLACES, SHAPES, SIDES
from .scene import Clip

# Type -> kind: which part of the model the answer needs.
TYPES = {
    "place": "overall",
    "anchor colour": "overall",
    "side colour": "detail",
    "side shape": "detail",
    "digit": "between",
    "letter": "between",
}

_TRAIN = {
    "place": (
        "where is the {colour} {shape} ?",
        "where do you see the {colour} {shape} ?",
        "in which place is the big {colour} {shape} ?",
        "which place has the {colour} {shape} ?",
        "name the place of the {colour} {shape} .",
    ),
    "anchor colour": (
        "what colour is the big {shape} in the {place} ?",
        "which colour has the {shape} in the {place} ?",
        "in the {place} , what colour does the large {shape} have ?",
        "name the colour of the {shape} seen in the {place} .",
        "the {shape} in the {place} is of which colour ?",
    ),
    "side colour": (
        "what colour is the shape {side} the {colour} {shape} in the {place} ?",
        "which colour has the small shape {side} the {colour} {shape} in the {place} ?",
        "in the {place} , what colour is the thing {side} the {colour} {shape} ?",
        "name the colour of what is {side} the {colour} {shape} in the {place} .",
        "{side} the {colour} {shape} in the {place} , which colour do you see ?",
    ),
    "side shape": (
        "what is the shape {side} the {colour} {shape} in the {place} ?",
        "which shape is {side} the {colour} {shape} in the {place} ?",
        "in the {place} , which small shape is seen {side} the {colour} {shape} ?",
        "name the shape {side} the {colour} {shape} in the {place} .",
        "{side} the {colour} {shape} in the {place} , what shape is there ?",
    ),
    "digit": (
        "which digit flashes near the {colour} {shape} in the {place} ?",
        "what digit appears beside the {colour} {shape} in the {place} ?",
        "in the {place} , what is the digit that flashes beside the {colour} {shape} ?",
        "name the digit shown near the {colour} {shape} in the {place} .",
        "which number flashes next to the {colour} {shape} in the {place} ?",
    ),
    "letter": (
        "which letter flashes near the {colour} {shape} in the {place} ?",
        "what letter appears beside the {colour} {shape} in the {place} ?",
        "in the {place} , what is the letter that flashes beside the {colour} {shape} ?",
        "name the letter shown near the {colour} {shape} in the {place} .",
        "which letter of the alphabet flashes next to the {colour} {shape} in the {place} ?",
    ),
}
_TEST = {
    "place": (
        "in what place do you see the {colour} {shape} ?",
        "the {colour} {shape} is seen where ?",
        "what is the name of the place where the {colour} {shape} appears ?",
    ),
    "anchor colour": (
        "what is the colour of the {shape} in the {place} ?",
        "in the {place} there is a big {shape} : which colour is that ?",
        "which colour does the {shape} have that appears in the {place} ?",
    ),
    "side colour": (
        "what is the colour of the shape {side} the {colour} {shape} in the {place} ?",
        "in the {place} there is something {side} the {colour} {shape} : which colour is that ?",
        "which colour do you see {side} the {colour} {shape} in the {place} ?",
    ),
    "side shape": (
        "what shape do you see {side} the {colour} {shape} in the {place} ?",
        "in the {place} there is something {side} the {colour} {shape} : which shape is that ?",
        "what is the name of the shape {side} the {colour} {shape} in the {place} ?",
    ),
    "digit": (
        "what is the digit near the {colour} {shape} in the {place} ?",
        "in the {place} , which digit appears next to the {colour} {shape} ?",
        "what number is shown beside the {colour} {shape} in the {place} ?",
    ),
    "letter": (
        "what is the letter near the {colour} {shape} in the {place} ?",
        "in the {place} , which letter appears next to the {colour} {shape} ?",
        "what letter is shown beside the {colour} {shape} in the {place} ?",
    ),
}
TEMPLATES = {"train": _TRAIN, "test": _TEST}

SIDE_WORDS = {
    "left": ("left of", "to the left of", "on the left of"),
    "right": ("right of", "to the right of", "on the right of"),
    "above": ("above", "just above", "directly above"),
    "below": ("below", "just below", "directly below"),
}


@dataclass(frozen=True)
class Case:
    """A question about a video, its true one-word answer, and where in the video it can be seen.

    `start` and `end` are seconds from the start of the video; `type` is a key of `TYPES`.
    """

    question: str
    answer: str
    type: str
    start: float
    end: float

    @property
    def kind(self) -> str:
        """overall, detail or between."""
        return TYPES[self.type]


def types_of(clip: Clip) -> list[str]:
    """The question types that can be asked of a clip: a digit or a letter flashes, not both."""
    absent = "letter" if GLYPHS[clip.glyph] in DIGITS else "digit"
    return [name for name in TYPES if name != absent]


def answers_of(kind: str) -> tuple[str, ...]:
    """All answers that a question type can have; each is equally likely up to sampling."""
    return {
        "place": PLACES,
        "anchor colour": COLOUR_NAMES,
        "side colour": COLOUR_NAMES,
        "side shape": SHAPES,
        "digit": DIGITS,
        "letter": LETTERS,
    }[kind]


def ask(clip: Clip, kind: str, split: str, rng: np.random.Generator) -> tuple[str, str]:
    """Word one question about a clip.

    Args:
        clip: what is asked about.
        kind: a key of `TYPES`.
        split: whose sentences to use, "train" or "test".
        rng: chooses the sentence and, for the detail types, the side.
    Returns:
        The question and its answer.
    """
    side = int(rng.integers(4)) if TYPES[kind] == "detail" else -1
    answer = answer_of(kind, clip.anchor, clip.side_colours, clip.side_shapes, clip.glyph, side)
    return word(kind, split, rng, clip.anchor, side), answer


def answer_of(
    kind: str,
    anchor: Sequence[int],
    side_colours: Sequence[int],
    side_shapes: Sequence[int],
    glyph: int,
    side: int,
) -> str:
    """The true answer, from class numbers: anchor is (place, colour, shape), side 0 to 3 or -1."""
    if TYPES[kind] == "between":
        return GLYPHS[glyph]
    return {
        "place": PLACES[anchor[0]],
        "anchor colour": COLOUR_NAMES[anchor[1]],
        "side colour": COLOUR_NAMES[side_colours[side]],
        "side shape": SHAPES[side_shapes[side]],
    }[kind]


def word(
    kind: str, split: str, rng: np.random.Generator, anchor: Sequence[int], side: int = -1
) -> str:
    """One sentence of a split: asks `kind` about an anchor (place, colour, shape) and a side."""
    templates = TEMPLATES[split][kind]
    phrases = SIDE_WORDS[SIDES[side][0]]
    text = templates[rng.integers(len(templates))].format(
        place=PLACES[anchor[0]],
        colour=COLOUR_NAMES[anchor[1]],
        shape=SHAPES[anchor[2]],
        side=phrases[rng.integers(len(phrases))],
    )
    for mark in "?.,:":
        text = text.replace(f" {mark}", mark)
    return text[0].upper() + text[1:]
