"""Stages "vision" and "sharp": SigLIP and the projector learn to name what a patch shows.

A patch's projected token approaches the sum of the codes (see `codes`) of its frame's place and
anchor and of its own role, colour, shape or glyph. The frame's part is in every patch: each token
knows its scene.
"""

import itertools
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import SiglipVisionConfig, SiglipVisionModel

from ..drawn.palette import GLYPHS
from ..drawn.shapes import glyph_masks
from .bank import FLASH, FRAMES, Bank, load_bank, patch_classes
from .codes import GROUPS, PATCH_GROUPS, group_codes, token_codes
from .loop import train, warm_cosine
from .sizes import GRID, IMAGE, LANGUAGE, PATCH, VISION, VISION_LAYERS

STEPS, SHARPEN_STEPS, BATCH = 3000, 3200, 32
# Places, colours and shapes come first; flashes, rarer and harder, count for more later.
FLASHES_FROM = 800


class Vision(nn.Module):
    """SigLIP layers without the last norm, as the published tower is cut, and the projector."""

    def __init__(self):
        super().__init__()
        config = SiglipVisionConfig(
            **VISION, num_hidden_layers=VISION_LAYERS, vision_use_head=False
        )
        self.tower = SiglipVisionModel(config)
        hidden = LANGUAGE["hidden_size"]
        self.projector = nn.Sequential(
            nn.Linear(VISION["hidden_size"], hidden), nn.GELU(), nn.Linear(hidden, hidden)
        )
        self._start()

    @torch.no_grad()
    def _start(self) -> None:
        """First weights that make neighbours attend to each other: shapes cross patches."""
        self.tower.embeddings.position_embedding.weight.copy_(plane_waves())
        for layer in self.tower.encoder.layers:
            attention = layer.self_attn
            attention.k_proj.weight.copy_(attention.q_proj.weight)

    def features(self, frames: Tensor) -> Tensor:
        """uint8 or fp32 [n, 3, 64, 64], 0 to 255 -> patch features [n, 64, 96]."""
        pixels = frames.float() / 127.5 - 1
        return self.tower.encoder(inputs_embeds=self.tower.embeddings(pixels)).last_hidden_state

    def forward(self, frames: Tensor) -> Tensor:
        """The same -> projected patches [n, 64, hidden]."""
        return self.projector(self.features(frames))


def plane_waves() -> Tensor:
    """Sines and cosines of a patch's row and column, [64, 96]: near patches have like vectors."""
    quarter = VISION["hidden_size"] // 4
    turns = 2 * torch.pi / (1.5 * GRID * 0.15 ** (torch.arange(quarter) / quarter))
    waves = torch.arange(GRID)[:, None] * turns
    waves = torch.cat([waves.sin(), waves.cos()], 1)
    rows = waves[:, None].expand(GRID, GRID, -1)
    return 0.5 * torch.cat([rows, rows.transpose(0, 1)], -1).flatten(0, 1)


def blemish(frames: Tensor, generator: torch.Generator) -> Tensor:
    """Random brightness, contrast, colour cast and noise: uint8 [n, 3, h, w] -> fp32, 0 to 255."""
    n = len(frames)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    picture = frames.float()
    contrast = 1 + 0.08 * normal(n, 1, 1, 1)
    shift = 6 * normal(n, 1, 1, 1) + 4 * normal(n, 3, 1, 1)
    noise = 5 * torch.rand(n, 1, 1, 1, generator=generator) * normal(*frames.shape)
    return ((picture - 128) * contrast + 128 + shift + noise).clamp(0, 255)


@cache
def glyph_stamps() -> Tensor:
    """Every glyph at the towers' size: fp32 [20, 4 half-pixel shifts, core or grown, h, w]."""
    stamps = []
    for glyph in GLYPHS:
        masks = torch.stack([torch.from_numpy(m) for m in glyph_masks(glyph, 35, 2)])
        height, width = masks.shape[1:]
        even = F.pad(masks, (0, 2 - width % 2, 0, 2 - height % 2))
        shifted = [even.roll((dy, dx), (1, 2)) for dy in (0, 1) for dx in (0, 1)]
        stamps.append(torch.stack([F.avg_pool2d(m, 2) for m in shifted]))
    return torch.stack(stamps)


def paste_glyphs(
    frames: Tensor, labels: dict[str, Tensor], generator: torch.Generator
) -> tuple[Tensor, dict[str, Tensor]]:
    """Stamp up to six glyphs over frames fp32 [n, 3, 64, 64]; labels [n, 64] follow."""
    frames, labels = frames.clone(), {name: value.clone() for name, value in labels.items()}
    stamps = glyph_stamps()
    height, width = stamps.shape[-2:]
    n = len(frames)
    numbers = torch.randint(len(GLYPHS), (n, 2, 3), generator=generator).tolist()
    shifts = torch.randint(4, (n, 2, 3), generator=generator).tolist()
    place = torch.rand(n, 2, 3, 2, generator=generator).tolist()
    keep = (torch.rand(n, 2, 3, generator=generator) < 0.7).tolist()
    for i, row, column in itertools.product(range(n), range(2), range(3)):
        if not keep[i][row][column]:
            continue
        glyph = numbers[i][row][column]
        core, grown = stamps[glyph, shifts[i][row][column]]
        top = 32 * row + int(place[i][row][column][0] * (33 - height))
        left = 21 * column + int(place[i][row][column][1] * (22 - width))
        part = frames[i, :, top : top + height, left : left + width]
        part *= 1 - grown
        part += (255 - part) * core
        cover = torch.zeros(1, IMAGE, IMAGE)
        cover[0, top : top + height, left : left + width] = grown
        covered = F.avg_pool2d(cover, PATCH).flatten() >= 1 / 6
        for name, value in (
            ("role", 6),
            ("own colour", 0),
            ("own shape", 0),
            ("own glyph", glyph + 1),
        ):
            labels[name][i, covered] = value
    return frames, labels


def _loss(
    model: Vision, bank: Bank, generator: torch.Generator, *, flashes: bool, pasted: bool
) -> tuple[Tensor, str]:
    clips = torch.randint(len(bank), (BATCH,), generator=generator)
    # Half of the frames have a flash, later three quarters.
    frames = torch.randint(3 * FRAMES if flashes else 2 * FRAMES - 2, (BATCH,), generator=generator)
    frames = torch.where(frames >= FRAMES, FLASH, frames)
    labels = patch_classes(bank, clips, frames)
    pictures = bank.frames[clips, frames]
    # Anchors may be hidden in frames with pasted glyphs: those teach what is in a patch, no more.
    intact = torch.ones(BATCH, 1)
    if pasted:
        # One flash in a frame is too few to learn twenty glyphs from.
        half = BATCH // 2
        covered, changed = paste_glyphs(
            pictures[:half].float(), {k: v[:half] for k, v in labels.items()}, generator
        )
        pictures = torch.cat([covered, pictures[half:].float()])
        labels = {k: torch.cat([changed[k], v[half:]]) for k, v in labels.items()}
        intact[:half] = 0.0
    tokens = model(blemish(pictures, generator))
    error = (tokens - token_codes(labels)).square().sum(-1)
    # Patches that show something are one in four and carry all the detail.
    weight = torch.where(labels["role"] > 0, 3.0, 1.0)
    loss = (error * weight * intact).sum() / (weight * intact).sum()
    for name in GROUPS:
        logits = 6 * tokens @ group_codes(name).T
        own = name in PATCH_GROUPS
        if own:
            # The zero code of "nothing" scores between absent (0) and present (1).
            logits = logits + F.pad(logits.new_full((1,), 3.0), (0, logits.shape[-1] - 1))
        share = F.cross_entropy(logits.flatten(0, 1), labels[name].flatten(), reduction="none")
        scale = weight if own else intact.expand_as(weight)
        if flashes and name == "own glyph":
            scale = torch.where(labels[name] > 0, 12.0, 0.5)
        loss = loss + 0.3 * (share.view_as(scale) * scale).sum() / scale.sum()
    return loss, ""


@torch.no_grad()
def named_right(model: Vision, bank: Bank, count: int = 1000) -> dict[str, float]:
    """Share of patches named right in each group, over patches that show something of it."""
    clips = torch.arange(count) % len(bank)
    frames = torch.arange(count) % FRAMES
    labels = patch_classes(bank, clips, frames)
    tokens = torch.cat([model(part) for part in bank.frames[clips, frames].split(100)])
    right = {}
    for name in GROUPS:
        scores = tokens @ group_codes(name).T
        own = name in PATCH_GROUPS
        if own:
            scores[..., 0] += 0.5
        shown = labels[name] > 0 if own else torch.ones_like(labels[name], dtype=torch.bool)
        right[name] = (scores.argmax(-1) == labels[name])[shown].float().mean().item()
    return right


def train_vision(folder: Path) -> None:
    """Train the tower and the projector on the bank; writes `vision.safetensors`."""
    torch.manual_seed(1)
    # The rate ends at half its peak: the next stage goes on.
    _train(folder, Vision(), "vision", STEPS, lambda step: warm_cosine(step, 2 * STEPS))


def sharpen_vision(folder: Path) -> None:
    """Go on with more glyphs, pasted into half of the pictures; writes `sharp.safetensors`."""
    model = load_vision(folder, "vision").requires_grad_(True).train()
    _train(folder, model, "sharp", SHARPEN_STEPS, None)


def _train(
    folder: Path,
    model: Vision,
    stage: str,
    steps: int,
    factor: Callable[[int], float] | None,
) -> None:
    bank, test = load_bank(folder, "train"), load_bank(folder, "test")
    sharp = stage == "sharp"

    def loss(step, generator):
        flashes = sharp or step >= FLASHES_FROM
        value, note = _loss(model, bank, generator, flashes=flashes, pasted=sharp)
        if step % 250 == 249:
            note = " ".join(f"{k} {v:.3f}" for k, v in named_right(model, test, 400).items())
            print(f"{stage} step {step + 1}: {note}", flush=True)
        return value, note

    train(
        stage,
        model,
        loss,
        folder=folder,
        steps=steps,
        rate=1.5e-3,
        factor=factor,
        muon="encoder.layers",
    )


def load_vision(folder: Path, stage: str = "sharp") -> Vision:
    """The tower and projector after a stage, frozen."""
    model = Vision()
    model.load_state_dict(load_file(folder / f"{stage}.safetensors"))
    return model.requires_grad_(False).eval()
