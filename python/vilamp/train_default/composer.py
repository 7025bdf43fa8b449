"""Stage "composer": the learned maps of the merging; a merged token must tell what flashes.

Loss: the weight that falls on the patches of the flash, and the glyph read off the merged token.
The softmax temperature alpha starts soft and hardens: at its final value from the start nothing
moves.
"""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from ..drawn.palette import GLYPHS
from ..drawn.questions import TYPES, word
from ..drawn.scene import ROLES
from .bank import FLASH, Bank, load_bank
from .codes import group_codes
from .episodes import roughen
from .features import CLIPS, load_patches
from .loop import train
from .selector import Selector, load_selector
from .sizes import ALPHA, CLIP_WIDTH, LANGUAGE

STEPS, BATCH = 450, 96
_SOFT, _HARD_FROM = 0.1, 0.6
FLASH_ROLE = ROLES.index("flash")


class Composer(nn.Module):
    """Maps of `composer_projector`: weights of a frame's patches from question and keyframe."""

    def __init__(self):
        super().__init__()
        hidden = LANGUAGE["hidden_size"]
        self.linear_iq = nn.Linear(hidden, hidden)
        self.linear_ik = nn.Linear(hidden, hidden)
        self.linear_q = nn.Linear(CLIP_WIDTH, hidden)
        self.linear_k = nn.Linear(hidden, hidden)
        self.register_buffer("tau", torch.tensor(ALPHA))
        with torch.no_grad():
            # Unchanged patches cancel from the start; relevance begins weak.
            self.linear_k.weight.copy_(self.linear_ik.weight)
            self.linear_k.bias.copy_(self.linear_ik.bias)
            self.linear_iq.weight.mul_(0.3)

    def weights(
        self, patches: Tensor, keys: Tensor, has_key: Tensor, question: Tensor, alpha: float
    ) -> Tensor:
        """Softmax weights of patches.

        Args:
            patches, keys: [n, M, H]; has_key: bool [n], False for frames before the first keyframe.
            question: [n, D] or [D].
        Returns:
            [n, M].
        """
        asked = self.linear_q(question).unsqueeze(-2)
        relevance = F.cosine_similarity(asked, self.linear_iq(patches), dim=-1, eps=1e-8)
        repeated = F.cosine_similarity(
            self.linear_k(keys), self.linear_ik(patches), dim=-1, eps=1e-8
        )
        return ((relevance - repeated * has_key[:, None]) / alpha).softmax(-1)


def sample_texts(bank: Bank, clips: Tensor, rng: np.random.Generator) -> list[str]:
    """A question of any type about each clip, worded as in training; clips: int64 [n]."""
    kinds = list(TYPES)
    return [
        roughen(
            word(kinds[rng.integers(len(kinds))], "train", rng, anchor, int(rng.integers(4))), rng
        )
        for anchor in bank.anchors[clips].tolist()
    ]


def _loss(
    model: Composer, bank: Bank, stored: Tensor, selector: Selector, step: int, generator
) -> tuple[Tensor, str]:
    rng = np.random.default_rng(torch.randint(2**62, (1,), generator=generator).item())
    clips = torch.randint(len(bank), (BATCH,), generator=generator)
    others = torch.randint(len(bank), (BATCH,), generator=generator)
    quiet = torch.tensor([0, 2, 3])[torch.randint(3, (BATCH,), generator=generator)]
    case = torch.rand(BATCH, generator=generator)
    key_clip = torch.where(case < 0.5, clips, others)
    # A question is mostly about another clip than the frame at hand.
    about = torch.where(torch.rand(BATCH, generator=generator) < 0.5, clips, others)
    question = selector.questions(sample_texts(bank, about, rng))
    patches = stored[clips, FLASH].float()
    keys = stored[key_clip, quiet].float()
    hardness = min(1.0, step / (STEPS * _HARD_FROM))
    alpha = _SOFT * (ALPHA / _SOFT) ** hardness
    weights = model.weights(patches, keys, case < 0.92, question, alpha)

    flash = bank.roles[clips, FLASH].flatten(1) == FLASH_ROLE
    on_flash = (weights * flash).sum(-1)
    tokens = (weights[:, None] @ patches)[:, 0]
    logits = 6 * tokens @ group_codes("own glyph")[1:].T
    truth = bank.glyphs[clips]
    loss = F.cross_entropy(logits, truth) - on_flash.clamp(min=1e-6).log().mean()
    right = (logits.argmax(-1) == truth).float().mean()
    return (
        loss,
        f"alpha {alpha:.3f} on flash {on_flash.mean():.3f} of {len(GLYPHS)} right {right:.3f}",
    )


def train_composer(folder: Path) -> None:
    """Train the maps on stored features; writes `composer.safetensors`."""
    torch.manual_seed(4)
    model = Composer()
    bank, stored = load_bank(folder, "train").first(CLIPS), load_patches(folder)
    selector = load_selector(folder)

    def loss(step, generator):
        return _loss(model, bank, stored, selector, step, generator)

    train("composer", model, loss, folder=folder, steps=STEPS, rate=2e-3)


def load_composer(folder: Path) -> Composer:
    """The trained maps, frozen."""
    model = Composer()
    model.load_state_dict(load_file(folder / "composer.safetensors"))
    return model.requires_grad_(False).eval()
