"""Made-up videos for the language model: clips of the bank in a row, cut to one frame a second,
with questions.

An episode is a plan of which frames follow each other; which become keyframes and what their tokens
are is decided elsewhere (`lookup` for made-up tokens, `features` for those of the real towers).
"""

from dataclasses import dataclass

import numpy as np
import torch

from ..drawn.palette import COLOUR_NAMES, DIGITS, SHAPES
from ..drawn.questions import TYPES, answer_of, word
from ..drawn.scene import ROLES
from .bank import FLASH, Bank
from .sizes import KEYFRAME_TOKENS

_SAME_PLACE = 0.4
# Share of the episodes whose clips of that place are look-alikes, and of the questions about them.
_LOOK_ALIKES, _ASKED_THERE = 0.7, 0.6
# Share of the shapes that such a place shows in one colour only, so that the colour can be asked.
_SINGLE = 0.4


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
    """N frames.

    clip [N]: number in the bank; frame [N]: which of the clip's four; clips [n]: the numbers of
    all clips; all int64. place: class number of the place that four clips in ten are set in.
    """

    clip: np.ndarray
    frame: np.ndarray
    clips: np.ndarray
    place: int


@dataclass
class Layout:
    """Visual tokens in order: the frame of each, int64 [V], and its cell in a keyframe, -1 for
    merged.
    """

    frame: np.ndarray
    cell: np.ndarray


def sample_episode(bank: Bank, frames: int, rng: np.random.Generator) -> Episode:
    """A row of different clips, four in ten in one place, cut to exactly `frames` frames.

    A test video shows in the place of its needle nearly all of the few anchors that are kept for
    testing there, so that a clip of the same place and colour, another shape, is nearly always in
    the haystack. Of the many anchors of training a random choice would seldom hold one: those of
    the common place are mostly drawn from few colours and shapes.
    """
    count = frames // 5 + 3
    alike = int(count * _SAME_PLACE) + 1
    pool = rng.integers(len(bank), size=count * 12)
    anchors = bank.anchors.numpy()
    place = int(anchors[pool[0], 0])
    there = rng.permutation(np.flatnonzero(anchors[:, 0] == place))
    if rng.random() < _LOOK_ALIKES:
        wanted = _look_alikes(alike, rng)[anchors[there, 1], anchors[there, 2]]
        there = np.concatenate([there[wanted], there[~wanted]])
    rest = pool[anchors[pool, 0] != place]
    chosen = rng.permutation(
        np.concatenate([_different(anchors, there)[:alike], _different(anchors, rest)])[:count]
    )

    clip, frame, used = [], [], 0
    while used < frames:
        number = chosen[len(clip)]
        quiet, flash, after = rng.integers(2, 5), rng.integers(1, 3), rng.integers(2, 4)
        kinds = [*rng.choice([0, 3], quiet), *[FLASH] * flash, *rng.choice([2, 3], after)]
        clip.append(np.full(len(kinds), number))
        frame.append(np.array(kinds))
        used += len(kinds)
    return Episode(
        np.concatenate(clip)[:frames], np.concatenate(frame)[:frames], chosen[: len(clip)], place
    )


def _different(anchors: np.ndarray, clips: np.ndarray) -> np.ndarray:
    """The first clip of each anchor, in their order."""
    triples = anchors[clips] @ np.array([10_000, 100, 1])
    return clips[np.sort(np.unique(triples, return_index=True)[1])]


def _look_alikes(count: int, rng: np.random.Generator) -> np.ndarray:
    """Colours and shapes that some `count` look-alikes may have: bool [colours, shapes]."""
    colours, shapes = len(COLOUR_NAMES), len(SHAPES)
    # One in five is kept for testing and some shapes have one colour only: allow for more.
    room = 2 * count
    few = int(rng.integers(min(-(-room // shapes), colours), min(count, colours) + 1))
    many = min(shapes, -(-room // few))
    allowed = np.zeros((colours, shapes), bool)
    allowed[np.ix_(rng.permutation(colours)[:few], rng.permutation(shapes)[:many])] = True
    for shape in np.flatnonzero(allowed.any(0) & (rng.random(shapes) < _SINGLE)):
        only = rng.choice(np.flatnonzero(allowed[:, shape]))
        allowed[:, shape] = np.arange(colours) == only
    return allowed


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
        among: numbers in the bank of the clips to ask about; any clip when None, or when none of
            them can be asked about.
    """
    anchors = bank.anchors[torch.from_numpy(episode.clips)].numpy()
    possible = _possible(bank, episode, anchors, keyframes)
    wanted = np.ones(len(anchors), bool) if among is None else np.isin(episode.clips, among)
    if not any((own & wanted).any() for own in possible.values()):
        wanted[:] = True
    questions: list[Question] = []
    kinds = list(TYPES)
    while len(questions) < count:
        kind = kinds[rng.integers(len(kinds))]
        able = possible[kind] & wanted
        there = able & (anchors[:, 0] == episode.place)
        if there.any() and rng.random() < _ASKED_THERE:
            able = there
        if not able.any():
            continue
        i = int(rng.choice(np.flatnonzero(able)))
        number = int(episode.clips[i])
        glyph = int(bank.glyphs[number])
        side = int(rng.integers(4)) if TYPES[kind] == "detail" else -1
        sides = bank.sides[number].tolist()
        answer = answer_of(kind, anchors[i], sides[0], sides[1], glyph, side)
        text = word(kind, "train", rng, anchors[i], side)
        role = side + ROLES.index("left") if side >= 0 else -1
        questions.append(Question(roughen(text, rng), answer, kind, number, role))
    return questions


def _possible(
    bank: Bank, episode: Episode, anchors: np.ndarray, keyframes: np.ndarray | None
) -> dict[str, np.ndarray]:
    """Type -> which clips of the episode it can be asked about, bool [n]."""
    glyphs = bank.glyphs[torch.from_numpy(episode.clips)].numpy()
    shown = np.isin(episode.clips, episode.clip[episode.frame == FLASH])
    keyed = np.ones(len(anchors), bool)
    if keyframes is not None:
        keyed = np.isin(episode.clips, episode.clip[keyframes])
    possible = {kind: keyed for kind in TYPES if TYPES[kind] == "detail"}
    possible["digit"] = shown & (glyphs < len(DIGITS))
    possible["letter"] = shown & (glyphs >= len(DIGITS))
    possible["place"] = _single(anchors[:, 1] * 100 + anchors[:, 2])
    possible["anchor colour"] = _single(anchors[:, 0] * 100 + anchors[:, 2])
    return possible


def _single(keys: np.ndarray) -> np.ndarray:
    """Which keys occur once."""
    _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
    return counts[inverse] == 1


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
