"""Stage "lookup": the language model learns to look up and answer, without a picture.

A patch's token is the sum of the codes of what it shows (see `codes`), as the projector's output
will be. Keyframes pool 2 x 2 patches; other frames are a random mixture of their patches, with most
of the weight on the flash if there is one. Videos start with 15 frames and grow.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..drawn.scene import ROLES
from .bank import Bank, load_bank
from .codes import GROUPS, group_codes
from .episodes import Episode, Question, lay_out, sample_episode, sample_questions
from .language import Batch, Language, answer_loss
from .loop import train, warm_cosine
from .sizes import GRID, KEYFRAMES
from .tokenizers import language_tokenizer, prompt_ids

# The last part of the schedule is left to the next stage, which goes on from here.
STEPS, SCHEDULE = 1400, 2100
QUESTIONS = 6
FAR = 11_000
FLASH_ROLE = ROLES.index("flash")


def role_codes(bank: Bank, clips: Tensor) -> Tensor:
    """Token of each role in each clip: codes of the frame, of the role and its own. [n, 7, H]."""
    anchors, sides = bank.anchors[clips], bank.sides[clips]
    own_colour, own_shape = group_codes("own colour"), group_codes("own shape")
    nothing = torch.zeros(len(clips), 1, own_colour.shape[1])
    frame = sum(group_codes(name)[anchors[:, i]] for i, name in enumerate(list(GROUPS)[:3]))
    colour = own_colour[torch.cat([anchors[:, 1:2], sides[:, 0]], 1) + 1]
    shape = own_shape[torch.cat([anchors[:, 2:3], sides[:, 1]], 1) + 1]
    glyph = group_codes("own glyph")[bank.glyphs[clips] + 1][:, None]
    return frame[:, None] + group_codes("role") + torch.cat([nothing, colour + shape, glyph], 1)


def keyframe_shares(roles: Tensor) -> Tensor:
    """Share of each role in each of the 4 x 4 cells: uint8 [n, 8, 8] -> [n, 16, 7]."""
    half = GRID // 2
    one_hot = torch.nn.functional.one_hot(roles.long(), len(ROLES)).float()
    return one_hot.view(-1, half, 2, half, 2, len(ROLES)).mean((2, 4)).flatten(1, 2)


def merged_shares(roles: Tensor, generator: torch.Generator) -> Tensor:
    """Share of each role in a made-up merged token: random weights, drawn to the flash. [n, 7]."""
    flat = roles.flatten(1).long()
    logits = torch.randn(flat.shape, generator=generator) * 2.0
    pull = 2 + 5 * torch.rand(len(flat), 1, generator=generator)
    weights = (logits + pull * (flat == FLASH_ROLE)).softmax(-1)
    return torch.zeros(len(flat), len(ROLES)).scatter_add_(1, flat, weights)


def spread(count: int, cells: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Positions of visual tokens with gaps, as if frames in between were missing; blocks stay
    whole.
    """
    jump = np.zeros(count, np.int64)
    if rng.random() < 0.5:
        free = np.flatnonzero(cells <= 0)
        places = rng.choice(free, size=min(len(free), int(rng.integers(1, 60))))
        total = rng.integers(0, FAR - count)
        np.add.at(jump, places, rng.multinomial(total, rng.dirichlet(np.ones(len(places)))))
    return np.arange(count) + np.cumsum(jump)


def encode(questions: list[list[Question]]) -> tuple[Tensor, Tensor]:
    """Token numbers of prompts with answers [B, Q, L], padded with 0, and where each prompt ends
    [B, Q].
    """
    number = language_tokenizer().token_to_id
    rows = [[prompt_ids(q.text)[1] + [number(q.answer)] for q in row] for row in questions]
    length = max(len(ids) for row in rows for ids in row)
    padded = torch.tensor([[ids + [0] * (length - len(ids)) for ids in row] for row in rows])
    return padded, torch.tensor([[len(ids) - 2 for ids in row] for row in rows])


def where_to_look(
    episode: Episode, layout, questions: list[Question], role_share: np.ndarray
) -> np.ndarray:
    """Tokens that hold each answer, bool [Q, V].

    Args:
        role_share: share of each role in each token, [V, 7].
    """
    clip = episode.clip[layout.frame]
    found = np.zeros((len(questions), len(clip)), bool)
    for row, question in zip(found, questions, strict=True):
        row[:] = clip == question.clip
        if question.side >= 0:
            row &= (layout.cell >= 0) & (role_share[:, question.side] >= 0.25)
        elif question.type in ("digit", "letter"):
            row &= role_share[:, FLASH_ROLE] >= 0.25
    return found


def made_up_batch(
    bank: Bank, videos: int, frames: int, keyframes: int, generator: torch.Generator, noise: float
) -> Batch:
    """Videos of made-up tokens with questions."""
    rng = np.random.default_rng(torch.randint(2**62, (1,), generator=generator).item())
    visual, positions, asked, targets = [], [], [], []
    for _ in range(videos):
        episode = sample_episode(bank, frames, rng)
        keyed = choose_keyframes(episode, keyframes, rng)
        layout = lay_out(frames, keyed)
        questions = sample_questions(bank, episode, QUESTIONS, rng, keyed)
        roles = bank.roles[torch.from_numpy(episode.clip), torch.from_numpy(episode.frame)]
        cells, merged = keyframe_shares(roles), merged_shares(roles, generator)
        frame, cell = torch.from_numpy(layout.frame), torch.from_numpy(layout.cell)
        share = torch.where(cell[:, None] >= 0, cells[frame, cell.clamp(min=0)], merged[frame])
        numbers, inverse = np.unique(episode.clip, return_inverse=True)
        codes = role_codes(bank, torch.from_numpy(numbers))
        visual.append((share[:, None] @ codes[torch.from_numpy(inverse)[frame]])[:, 0])
        positions.append(torch.from_numpy(spread(len(layout.cell), layout.cell, rng)))
        asked.append(questions)
        targets.append(torch.from_numpy(where_to_look(episode, layout, questions, share.numpy())))
    tokens = torch.stack(visual)
    tokens = tokens + noise * torch.randn(tokens.shape, generator=generator)
    ids, answer_at = encode(asked)
    return Batch(
        tokens,
        torch.stack(positions),
        ids,
        answer_at,
        torch.stack(targets),
        tokens.new_zeros(tokens.shape[:2]),
    )


def choose_keyframes(episode: Episode, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` frames, of as many different clips as there are, in time order."""
    order = rng.permutation(len(episode.clip))
    _, first = np.unique(episode.clip[order], return_index=True)
    rest = np.setdiff1d(np.arange(len(order)), first)
    return np.sort(order[np.concatenate([rng.permutation(first), rest])[:count]])


def curriculum(step: int, steps: int) -> tuple[int, int, int]:
    """Videos in a batch, frames and keyframes at a step: from 15 frames and 3 keyframes to 300 and
    16.
    """
    done = step / steps
    if done < 0.36:
        return 16, 15, 3
    if done < 0.47:
        return 10, 40, 6
    if done < 0.85:
        return 5, 120, 12
    return 4, 300, KEYFRAMES


def train_lookup(folder: Path) -> None:
    """Train the language model on made-up tokens; writes `lookup.safetensors`."""
    torch.manual_seed(2)
    model = Language()
    bank = load_bank(folder, "train")
    recent: list[float] = []

    def loss(step, generator):
        videos, frames, keyframes = curriculum(step, SCHEDULE)
        batch = made_up_batch(bank, videos, frames, keyframes, generator, noise=0.04)
        value, right = answer_loss(model, batch, grounding=0.2 if step < SCHEDULE * 0.7 else 0.1)
        recent.append(right.float().mean().item())
        del recent[:-50]
        return value, f"frames {frames} right {np.mean(recent):.3f}"

    train(
        "lookup",
        model,
        loss,
        folder=folder,
        steps=STEPS,
        rate=1.5e-3,
        factor=lambda step: warm_cosine(step, SCHEDULE),
        muon="layers",
    )
