"""Stage "reading": the language model goes on with real tokens, then with long videos.

Stage "review" asks more, and about look-alikes.

Everything before the language model is as at run time: the selector ranks the frames for the first
question of each video, keyframes are taken by the selection op, every other frame is merged by the
composer against the keyframe before it. Further questions share the video.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

import vilamp_kernels as vk

from ..drawn.questions import TYPES
from ..drawn.scene import ROLES
from .bank import FRAMES, Bank, load_bank
from .composer import Composer, load_composer
from .episodes import Episode, lay_out, sample_episode, sample_questions
from .features import CLIPS, Features, load_features
from .language import Batch, Language, answer_loss
from .lookup import QUESTIONS, encode, keyframe_shares, spread, where_to_look
from .loop import train
from .selector import Selector, load_selector
from .sizes import ALPHA, GRID, KEYFRAMES, TAU

STEPS, REVIEW_STEPS = 800, 1300
REVIEW_QUESTIONS = 10
_CHUNK = 512


@dataclass
class Towers:
    """All that comes before the language model, trained and frozen, with the bank's features."""

    bank: Bank
    features: Features
    selector: Selector
    composer: Composer


def load_towers(folder: Path) -> Towers:
    """Read what the earlier stages wrote."""
    bank = load_bank(folder, "train").first(CLIPS)
    return Towers(bank, load_features(folder), load_selector(folder), load_composer(folder))


@torch.no_grad()
def select(towers: Towers, episode: Episode, question: Tensor, keyframes: int) -> Tensor:
    """Keyframes of an episode for one question [D], int64 ascending."""
    clip, frame = torch.from_numpy(episode.clip), torch.from_numpy(episode.frame)
    embeds = towers.features.embeds[clip, frame][None]
    scores = vk.similarity(embeds, question[None, None])
    indices, count = vk.select_keyframes(embeds, scores, keyframes, tau=TAU)
    return indices[0, 0, : int(count[0, 0])]


@torch.no_grad()
def visual_tokens(
    towers: Towers, episode: Episode, question: Tensor, keyframes: Tensor
) -> tuple[Tensor, Tensor]:
    """Visual tokens [V, H] of an episode, and the share of each role in each token [V, 7]."""
    n = len(episode.clip)
    numbers, inverse = np.unique(episode.clip * FRAMES + episode.frame, return_inverse=True)
    numbers, inverse = torch.from_numpy(numbers), torch.from_numpy(inverse)
    patches = towers.features.patches.flatten(0, 1)[numbers].float()
    roles = towers.bank.roles.flatten(0, 1)[numbers]
    composer = towers.composer
    asked = composer.linear_q(question)
    relevance = F.cosine_similarity(asked, composer.linear_iq(patches), dim=-1, eps=1e-8)
    shown = F.normalize(composer.linear_ik(patches), dim=-1)
    keys = F.normalize(composer.linear_k(patches[inverse[keyframes]]), dim=-1)
    # Which keyframe comes before each frame, or is it; -1 before the first.
    before = torch.searchsorted(keyframes, torch.arange(n), right=True) - 1

    merged, share = [], []
    one_hot = F.one_hot(roles.flatten(1).long(), len(ROLES)).float()
    for start in range(0, n, _CHUNK):
        part = slice(start, start + _CHUNK)
        same = inverse[part]
        repeated = (shown[same] * keys[before[part].clamp(min=0)]).sum(-1)
        repeated = repeated * (before[part, None] >= 0)
        weights = ((relevance[same] - repeated) / ALPHA).softmax(-1)
        merged.append((weights[:, None] @ patches[same])[:, 0])
        share.append((weights[:, None] @ one_hot[same])[:, 0])

    layout = lay_out(n, keyframes.numpy())
    frame, cell = torch.from_numpy(layout.frame), torch.from_numpy(layout.cell)
    half = GRID // 2
    full = patches[inverse[keyframes]].unflatten(1, (half, 2, half, 2)).mean((2, 4)).flatten(1, 2)
    cells = keyframe_shares(roles[inverse[keyframes]])
    is_key = cell >= 0
    tokens, shares = torch.cat(merged)[frame], torch.cat(share)[frame]
    tokens[is_key], shares[is_key] = full.flatten(0, 1), cells.flatten(0, 1)
    return tokens, shares


@dataclass(frozen=True)
class Size:
    """A batch: videos, frames and keyframes of each, questions about each.

    With `focus`, half of the questions are about the clip that the keyframes were selected for and
    half about clips that came near it; without, about any clip. With `crowd` above 1, each merged
    token that no question is about counts as that many: the softmax of a video so much longer, at
    the price of this one.
    """

    videos: int
    frames: int
    keyframes: int
    questions: int
    crowd: float = 1.0
    focus: bool = False


def real_batch(towers: Towers, size: Size, generator: torch.Generator) -> Batch:
    """Videos of the bank's real tokens with questions, padded before the first token."""
    rng = np.random.default_rng(torch.randint(2**62, (1,), generator=generator).item())
    episodes = [sample_episode(towers.bank, size.frames, rng) for _ in range(size.videos)]
    firsts = [sample_questions(towers.bank, e, 1, rng)[0] for e in episodes]
    embeds = towers.selector.questions([q.text for q in firsts])
    rows = []
    for episode, first, embed in zip(episodes, firsts, embeds, strict=True):
        taken = select(towers, episode, embed, size.keyframes)
        tokens, shares = visual_tokens(towers, episode, embed, taken)
        layout = lay_out(size.frames, taken.numpy())
        seen = TYPES[first.type] != "detail" or first.clip in set(episode.clip[taken.numpy()])
        asked = [first] * seen
        rest, keyed = size.questions - seen, taken.numpy()
        if size.focus:
            near = np.unique(episode.clip[keyed])
            own = sample_questions(
                towers.bank, episode, rest // 2, rng, keyed, among=np.array([first.clip])
            )
            asked += own + sample_questions(
                towers.bank, episode, rest - len(own), rng, keyed, among=near
            )
        else:
            asked += sample_questions(towers.bank, episode, rest, rng, keyed)
        rows.append((tokens, spread(len(tokens), layout.cell, rng), asked, layout, shares, episode))
    longest = max(len(row[0]) for row in rows)
    visual = torch.zeros(size.videos, longest, rows[0][0].shape[1])
    positions = torch.zeros(size.videos, longest, dtype=torch.long)
    targets = torch.zeros(size.videos, size.questions, longest, dtype=torch.bool)
    crowd = torch.full((size.videos, longest), float("-inf"))
    for i, (tokens, places, asked, layout, shares, episode) in enumerate(rows):
        own = slice(longest - len(tokens), None)
        found = where_to_look(episode, layout, asked, shares.numpy())
        visual[i, own], positions[i, own] = tokens, torch.from_numpy(places)
        targets[i, :, own] = torch.from_numpy(found)
        asked_about = np.isin(episode.clip[layout.frame], [q.clip for q in asked])
        others = (layout.cell < 0) & ~asked_about
        crowd[i, own] = torch.from_numpy(np.where(others, np.log(size.crowd), 0.0)).float()
    ids, answer_at = encode([row[2] for row in rows])
    return Batch(visual, positions, ids, answer_at, targets, crowd)


def size_at(step: int, steps: int) -> Size:
    """The batch of a step: short videos first, then 300 frames, now and then thousands."""
    done = step / steps
    if done < 0.2:
        return Size(8, 60, 8, QUESTIONS)
    if done > 0.5 and step % 10 == 9:
        return Size(1, (1000, 2000, 3000, 4000)[step // 10 % 4], KEYFRAMES, 24)
    if done > 0.5 and step % 3 == 1:
        return Size(4, 300, KEYFRAMES, QUESTIONS, crowd=(4.0, 12.0, 36.0)[step // 3 % 3])
    return Size(4, 300, KEYFRAMES, QUESTIONS)


def review_size_at(step: int, steps: int) -> Size:
    """The same for the last stage: questions as at run time, now and then a longer video."""
    if step % 20 == 19:
        return Size(1, (1000, 2000, 4000)[step // 20 % 3], KEYFRAMES, 24, focus=True)
    if step % 5 == 1:
        crowd = (6.0, 24.0)[step // 5 % 2]
        return Size(4, 300, KEYFRAMES, REVIEW_QUESTIONS, crowd=crowd, focus=True)
    return Size(4, 300, KEYFRAMES, REVIEW_QUESTIONS, focus=True)


def train_reading(folder: Path) -> None:
    """Train on real tokens, starting from `lookup.safetensors`; writes `reading.safetensors`."""
    _train(folder, "lookup", "reading", STEPS, size_at, grounding=0.1)


def train_review(folder: Path) -> None:
    """Go on with the hardest questions, those about look-alikes; writes `review.safetensors`."""
    _train(folder, "reading", "review", REVIEW_STEPS, review_size_at, grounding=0.2)


def _train(
    folder: Path,
    start: str,
    stage: str,
    steps: int,
    sizes: Callable[[int, int], Size],
    grounding: float,
) -> None:
    model = Language()
    model.load_state_dict(load_file(folder / f"{start}.safetensors"))
    towers = load_towers(folder)
    recent: list[float] = []

    def loss(step, generator):
        batch = real_batch(towers, sizes(step, steps), generator)
        value, right = answer_loss(model, batch, grounding)
        recent.append(right.float().mean().item())
        del recent[:-50]
        return value, f"frames {batch.visual.shape[1]} right {np.mean(recent):.3f}"

    train(stage, model, loss, folder=folder, steps=steps, rate=8e-4, muon="layers")


def load_language(folder: Path) -> Language:
    """The trained language model."""
    model = Language()
    model.load_state_dict(load_file(folder / "review.safetensors"))
    return model.requires_grad_(False).eval()
