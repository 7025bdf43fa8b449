"""Stage 2: the SigLIP tower and the projector, trained so that each patch names what it shows.

A patch's projected token approaches the sum of the codes (see `codes`) of its frame's place and
anchor and of its own role, colour, shape or glyph. The frame's part is in every patch: each token
knows its scene.
"""

import math
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import SiglipVisionConfig, SiglipVisionModel

from .bank import FLASH, FRAMES, Bank, load_bank, patch_classes
from .codes import GROUPS, PATCH_GROUPS, group_codes, token_codes
from .loop import train, warm_cosine
from .sizes import GRID, LANGUAGE, VISION, VISION_LAYERS

STEPS, BATCH = 5500, 32
# Places, colours and shapes come first; flashes, which are rarer and harder, count for more later.
FLASHES_FROM = 2901


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


def _loss(
    model: Vision, bank: Bank, generator: torch.Generator, flashes: bool
) -> tuple[Tensor, str]:
    clips = torch.randint(len(bank), (BATCH,), generator=generator)
    # Half of the frames have a flash, later three quarters.
    frames = torch.randint(3 * FRAMES if flashes else 2 * FRAMES - 2, (BATCH,), generator=generator)
    frames = torch.where(frames >= FRAMES, FLASH, frames)
    labels = patch_classes(bank, clips, frames)
    tokens = model(blemish(bank.frames[clips, frames], generator))
    error = (tokens - token_codes(labels)).square().sum(-1)
    # Patches that show something are one in four and carry all the detail.
    weight = torch.where(labels["role"] > 0, 3.0, 1.0)
    loss = (error * weight).sum() / weight.sum()
    for name in GROUPS:
        logits = 6 * tokens @ group_codes(name).T
        own = name in PATCH_GROUPS
        if own:
            # The zero code of "nothing" scores between absent (0) and present (1).
            logits = logits + F.pad(logits.new_full((1,), 3.0), (0, logits.shape[-1] - 1))
        share = F.cross_entropy(logits.flatten(0, 1), labels[name].flatten(), reduction="none")
        scale = weight if own else torch.ones_like(weight)
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
    model = Vision()
    bank, test = load_bank(folder, "train"), load_bank(folder, "test")

    def loss(step, generator):
        value, note = _loss(model, bank, generator, step >= FLASHES_FROM)
        if step % 250 == 249:
            note = " ".join(f"{k} {v:.3f}" for k, v in named_right(model, test, 400).items())
            print(f"vision step {step + 1}: {note}", flush=True)
        return value, note

    train("vision", model, loss, folder=folder, steps=STEPS, rate=1e-3, factor=_factor)


def _factor(step: int) -> float:
    """Share of the peak rate: half a wave, and a second one when the flashes come in."""
    if step < FLASHES_FROM:
        return warm_cosine(step, 5000)
    left = (step - FLASHES_FROM) / (STEPS - FLASHES_FROM)
    return 0.9 * (0.02 + 0.49 * (1 + math.cos(math.pi * left)))


def load_vision(folder: Path) -> Vision:
    """The trained tower and projector, frozen."""
    model = Vision()
    model.load_state_dict(load_file(folder / "vision.safetensors"))
    return model.requires_grad_(False).eval()
