"""`python -m vilamp.train_default.queries`: learned queries for a trained default model.

They are not part of the model: `vilamp ask --merging queries` and the ablations compare with them.
They learn from what the maps of the differential merging learn from (`composer`): frames with a
flash, a question about the same clip or another, the weight that falls on the flash, and the glyph
read off the merged token. What they lack is the keyframe to compare with.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..mergings.learned_queries import FILE, LearnedQueries
from ..model import ViLAMP
from .bank import FLASH, Bank, draw_bank, load_bank
from .codes import group_codes
from .composer import FLASH_ROLE, sample_texts
from .loop import save, train
from .sizes import MODEL_FOLDER, RUNS, SEED

CLIPS, STEPS, BATCH, WIDTH = 4_000, 1_500, 96, 32
_AT_ONCE = 64


@dataclass
class Examples:
    """Frames with a flash, n of them.

    patches: fp32 [n, M, H] from `ViLAMP.patches`; questions: fp32 [n, D], one about each clip;
    flash: bool [n, M], the patches that flash; glyphs: int64 [n].
    """

    patches: Tensor
    questions: Tensor
    flash: Tensor
    glyphs: Tensor

    @classmethod
    @torch.inference_mode()
    def of(cls, model: ViLAMP, bank: Bank) -> "Examples":
        """What the towers of a model make of a bank."""
        frames = bank.frames[:, FLASH].permute(0, 2, 3, 1)
        texts = sample_texts(bank, torch.arange(len(bank)), np.random.default_rng(SEED))
        return cls(
            torch.cat([model.patches(part) for part in frames.split(_AT_ONCE)]),
            torch.cat([model.embed_query(text) for text in texts]),
            bank.roles[:, FLASH].flatten(1) == FLASH_ROLE,
            bank.glyphs,
        )


def merged_loss(
    queries: LearnedQueries, output: nn.Linear, examples: Examples, rows: Tensor, asked: Tensor
) -> tuple[Tensor, str]:
    """The composer's loss for frames `rows` and the questions of clips `asked`, int64 [n] both.

    Args:
        output: the projector's last layer.
    Returns:
        The loss, and a note with the mean weight on the flash and the share of glyphs read right.
    """
    patches = examples.patches[rows]
    weights = queries.weights_of_pairs(patches, examples.questions[asked])
    on_flash = (weights * examples.flash[rows]).sum(-1)
    tokens = output((weights[:, None] @ patches)[:, 0])
    logits = 6 * tokens @ group_codes("own glyph")[1:].T
    truth = examples.glyphs[rows]
    loss = F.cross_entropy(logits, truth) - on_flash.clamp(min=1e-6).log().mean()
    right = (logits.argmax(-1) == truth).float().mean()
    return loss, f"on flash {on_flash.mean():.3f} right {right:.3f}"


def train_queries(
    folder: Path, model: ViLAMP, clips: int = CLIPS, steps: int = STEPS
) -> LearnedQueries:
    """Train queries for a model on the first clips of the bank, which is drawn where it is missing.

    Progress and the result, `queries.safetensors`, are kept in `folder`.
    """
    draw_bank(folder, train=clips)
    examples = Examples.of(model, load_bank(folder, "train", clips))
    torch.manual_seed(5)
    queries = LearnedQueries(examples.patches.shape[-1], examples.questions.shape[-1], WIDTH)
    output = model.projector[2].requires_grad_(False)

    def loss(step, generator):
        rows, others = torch.randint(len(examples.glyphs), (2, BATCH), generator=generator)
        # A question is mostly about another clip than the frame at hand.
        own = torch.rand(BATCH, generator=generator) < 0.5
        return merged_loss(queries, output, examples, rows, torch.where(own, rows, others))

    train("queries", queries, loss, folder=folder, steps=steps, rate=2e-3)
    test = Examples.of(model, load_bank(folder, "test"))
    every = torch.arange(len(test.glyphs))
    with torch.inference_mode():
        _, note = merged_loss(queries, output, test, every, every.roll(1))
    print(f"queries: clips that training never saw: {note}")
    return queries


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m vilamp.train_default.queries",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--folder", type=Path, default=RUNS, help="checkpoints and drawn clips")
    parser.add_argument("--model", type=Path, default=MODEL_FOLDER, help="folder to add them to")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = ViLAMP.from_pretrained(options.model, device="cpu")
    trained = train_queries(options.folder, model)
    halves = {name: tensor.half() for name, tensor in trained.state_dict().items()}
    save(options.model / FILE, halves)
    print(f"wrote {options.model / FILE}")


if __name__ == "__main__":
    main()
