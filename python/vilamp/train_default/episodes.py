"""Made-up videos for the language model: clips of the bank in a row, cut to one frame a second,
with questions.

An episode is a plan of which frames follow each other; which become keyframes and what their tokens
are is decided elsewhere (`lookup` for made-up tokens, `features` for those of the real towers).
"""

from dataclasses import dataclass

import numpy as np
import torch

from ..drawn.palette import DIGITS
from ..drawn.questions import TYPES, answer_of, word
from ..drawn.scene import ROLES
from .bank import FLASH, Bank
from .sizes import KEYFRAME_TOKENS

_SAME_PLACE = 0.4


@dataclass
class Question:
    """A question about one clip of an episode; `side` is the class number of the role asked about,
    or -1.
    """

    text: str
    answer: str
    type: str
    clip: int
    side: int


@dataclass
class Episode:
    """N frames. clip [N]: number in the bank; frame [N]: which of the clip's four; both int64."""

    clip: np.ndarray
    frame: np.ndarray
    clips: np.ndarray


@dataclass
class Layout:
    """Visual tokens in order: the frame of each, int64 [V], and its cell in a keyframe, -1 for
    merged.
    """

    frame: np.ndarray
    cell: np.ndarray


def sample_episode(bank: Bank, frames: int, rng: np.random.Generator) -> Episode:
    """A row of different clips, four in ten in one place, cut to exactly `frames` frames."""
    count = frames // 5 + 3
    pool = rng.integers(len(bank), size=count * 12)
    anchors = bank.anchors[torch.from_numpy(pool)].numpy()
    same = anchors[:, 0] == anchors[0, 0]
    order = np.concatenate([pool[same][: int(count * _SAME_PLACE) + 1], pool[~same]])
    triples = bank.anchors[torch.from_numpy(order)].numpy() @ np.array([10_000, 100, 1])
    first = np.sort(np.unique(triples, return_index=True)[1])
    chosen = rng.permutation(order[first][:count])

    clip, frame, used = [], [], 0
    while used < frames:
        number = chosen[len(clip)]
        quiet, flash, after = rng.integers(2, 5), rng.integers(1, 3), rng.integers(2, 4)
        kinds = [*rng.choice([0, 3], quiet), *[FLASH] * flash, *rng.choice([2, 3], after)]
        clip.append(np.full(len(kinds), number))
        frame.append(np.array(kinds))
        used += len(kinds)
    return Episode(
        np.concatenate(clip)[:frames], np.concatenate(frame)[:frames], chosen[: len(clip)]
    )


def lay_out(frames: int, keyframes: np.ndarray) -> Layout:
    """Order of the visual tokens: a block of 16 for each keyframe, one for every other frame."""
    counts = np.ones(frames, np.int64)
    counts[keyframes] = KEYFRAME_TOKENS
    frame = np.repeat(np.arange(frames), counts)
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    cell = np.where(np.isin(frame, keyframes), np.arange(len(frame)) - starts, -1)
    return Layout(frame, cell)


def sample_questions(
    bank: Bank,
    episode: Episode,
    count: int,
    rng: np.random.Generator,
    keyframes: np.ndarray | None = None,
    among: np.ndarray | None = None,
) -> list[Question]:
    """Questions that the episode answers without doubt.

    Args:
        keyframes: numbers of the keyframes; a detail question then needs one in its clip. None: any
            clip.
        among: numbers in the bank of the clips to ask about; any clip when None.
    """
    anchors = bank.anchors[torch.from_numpy(episode.clips)].numpy()
    shown = set(episode.clip[episode.frame == FLASH].tolist())
    keyed = None if keyframes is None else set(episode.clip[keyframes].tolist())
    questions: list[Question] = []
    kinds = list(TYPES)
    while len(questions) < count:
        kind = kinds[rng.integers(len(kinds))]
        i = int(rng.integers(len(anchors)))
        if among is not None:
            i = int(rng.choice(np.flatnonzero(np.isin(episode.clips, among))))
        elif keyed and TYPES[kind] == "detail":
            # Few clips have a keyframe: choose among them.
            i = int(rng.choice(np.flatnonzero(np.isin(episode.clips, list(keyed)))))
        number = int(episode.clips[i])
        glyph = int(bank.glyphs[number])
        if TYPES[kind] == "detail" and keyed is not None and number not in keyed:
            continue
        if kind in ("digit", "letter") and (
            (kind == "digit") != (glyph < len(DIGITS)) or number not in shown
        ):
            continue
        if kind == "place" and ((anchors[:, 1:] == anchors[i, 1:]).all(1)).sum() > 1:
            continue
        if kind == "anchor colour" and ((anchors[:, ::2] == anchors[i, ::2]).all(1)).sum() > 1:
            continue
        side = int(rng.integers(4)) if TYPES[kind] == "detail" else -1
        sides = bank.sides[number].tolist()
        answer = answer_of(kind, anchors[i], sides[0], sides[1], glyph, side)
        text = word(kind, "train", rng, anchors[i], side)
        role = side + ROLES.index("left") if side >= 0 else -1
        questions.append(Question(roughen(text, rng), answer, kind, number, role))
    return questions


_LOOSE = (
    *("the", "of", "in", "is", "do", "does", "see", "seen", "to", "on", "there", "what", "which"),
    *("?", ".", ",", ":", "big", "small", "large", "that"),
)


def roughen(text: str, rng: np.random.Generator) -> str:
    """Drop or replace words that carry nothing now and then, so that the wording matters less."""
    if rng.random() < 0.6:
        return text
    words = text.lower().replace("?", " ?").replace(",", " ,").replace(".", " .").split()
    kept = []
    for w in words:
        chance = rng.random()
        # "left of" and "right of" keep their side word; only loose words go.
        if w in _LOOSE and chance < 0.12:
            continue
        kept.append("something" if w in _LOOSE and chance < 0.2 else w)
        if chance > 0.96:
            kept.append("please")
    return " ".join(kept)
