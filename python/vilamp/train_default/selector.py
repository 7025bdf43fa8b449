"""Stage "selector": CLIP learns which frames belong to a question, whatever flashes in them.

Multi-positive contrast: a question's positives are the frames of every clip of the batch that it
could be about. Two frames of a clip stay close, so that the redundancy threshold sees them as one;
frames of other anchors stay apart; and a frame with a flash ranks a little below the quiet ones of
its clip, so that keyframes show the scene and flashes are left to merging.
"""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel

from ..drawn.questions import TYPES, word
from .bank import FLASH, Bank, load_bank
from .episodes import roughen
from .loop import train
from .sizes import CLIP_POSITIONS, CLIP_TEXT, CLIP_TEXT_LAYERS, CLIP_WIDTH, VISION, VISION_LAYERS
from .tokenizers import clip_tokenizer
from .vision import Vision, blemish, load_vision

STEPS, CLIPS = 200, 112
TEMPERATURE = 0.05
# Cosine that two frames of a clip should exceed, and frames of two anchors should stay below.
TOGETHER, APART, FLASH_MARGIN = 0.95, 0.6, 0.03
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


def clip_config() -> CLIPConfig:
    """Configuration of the selector."""
    tokenizer = clip_tokenizer()
    end = tokenizer.token_to_id("<|endoftext|>")
    text = {
        **CLIP_TEXT,
        "num_hidden_layers": CLIP_TEXT_LAYERS,
        "vocab_size": tokenizer.get_vocab_size(),
        "max_position_embeddings": CLIP_POSITIONS,
        "bos_token_id": tokenizer.token_to_id("<|startoftext|>"),
        "eos_token_id": end,
        "pad_token_id": end,
        "projection_dim": CLIP_WIDTH,
        "hidden_act": "gelu",
    }
    vision = {
        **VISION,
        "num_hidden_layers": VISION_LAYERS,
        "projection_dim": CLIP_WIDTH,
        "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": 1e-6,
    }
    return CLIPConfig(
        text_config=text,
        vision_config=vision,
        projection_dim=CLIP_WIDTH,
        logit_scale_init_value=float(np.log(1 / TEMPERATURE)),
    )


class Selector(nn.Module):
    """CLIP with its published preprocessing."""

    def __init__(self):
        super().__init__()
        self.clip = CLIPModel(clip_config())
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1), persistent=False)

    def frames(self, frames: Tensor) -> Tensor:
        """uint8 or fp32 [n, 3, 64, 64], 0 to 255 -> unit vectors [n, 64]."""
        pixels = (frames.float() / 255 - self.mean) / self.std
        pooled = self.clip.vision_model(pixel_values=pixels).pooler_output
        return F.normalize(self.clip.visual_projection(pooled), dim=-1)

    def questions(self, texts: list[str]) -> Tensor:
        """Questions -> unit vectors [n, 64]."""
        return F.normalize(self.projected(texts), dim=-1)

    def projected(self, texts: list[str]) -> Tensor:
        """Questions -> [n, 64], of the length that the projection gives them."""
        rows = [clip_tokenizer().encode(text).ids for text in texts]
        length = max(map(len, rows))
        # The end token is also the padding: the text is read at the first of them.
        ids = torch.tensor([row + [row[-1]] * (length - len(row)) for row in rows])
        mask = torch.arange(length)[None] < torch.tensor([[len(row)] for row in rows])
        pooled = self.clip.text_model(input_ids=ids, attention_mask=mask.long()).pooler_output
        return self.clip.text_projection(pooled)


@torch.no_grad()
def start_from(selector: Selector, vision: Vision) -> None:
    """Copy the trained tower's layers into CLIP's; its input scaling and bias go into the
    embeddings.
    """
    ours, theirs = selector.clip.vision_model, vision.tower
    state = theirs.encoder.state_dict()
    ours.encoder.load_state_dict(state)
    patch = theirs.embeddings.patch_embedding
    # clip pixel * std + mean is in 0..1; the tower saw 2 v - 1.
    ours.embeddings.patch_embedding.weight.copy_(patch.weight * 2 * selector.std)
    shift = (patch.weight * (2 * selector.mean - 1)).sum((1, 2, 3)) + patch.bias
    positions = theirs.embeddings.position_embedding.weight + shift
    ours.embeddings.position_embedding.weight.copy_(torch.cat([positions.mean(0)[None], positions]))
    ours.embeddings.class_embedding.zero_()
    typical = positions.std(-1).mean()
    ours.pre_layrnorm.weight.fill_(float(typical) * 2)


def _sample(bank: Bank, generator: torch.Generator) -> tuple[Tensor, list[str], Tensor, list[str]]:
    """Clips of the batch, half of them from two places; a question and its type for each."""
    rng = np.random.default_rng(torch.randint(2**62, (1,), generator=generator).item())
    pool = torch.randint(len(bank), (CLIPS * 12,), generator=generator)
    places = bank.anchors[pool, 0]
    chosen = pool[torch.isin(places, places[:2])][: CLIPS // 2]
    clips = torch.cat([chosen, pool[-(CLIPS - len(chosen)) :]])
    kinds, texts = [], []
    for number in clips.tolist():
        kinds.append(list(TYPES)[rng.integers(len(TYPES))])
        anchor = bank.anchors[number].tolist()
        texts.append(roughen(word(kinds[-1], "train", rng, anchor, int(rng.integers(4))), rng))
    return clips, kinds, texts


def _matches(anchors: Tensor, kinds: list[str]) -> Tensor:
    """Which clips each question could be about, bool [questions, clips]."""
    same = anchors[:, None] == anchors[None]
    named = torch.tensor(
        [[k != "place", k != "anchor colour", True] for k in kinds], dtype=torch.bool
    )
    return (same | ~named[:, None]).all(-1)


def _loss(model: Selector, bank: Bank, generator: torch.Generator) -> tuple[Tensor, str]:
    clips, kinds, texts = _sample(bank, generator)
    n = len(clips)
    quiet = torch.tensor([0, 2, 3])
    first = quiet[torch.randint(3, (n,), generator=generator)]
    second = quiet[torch.randint(3, (n,), generator=generator)]
    flash = torch.rand(n, generator=generator) < 0.6
    second = torch.where(flash, FLASH, second)
    pictures = torch.cat([bank.frames[clips, first], bank.frames[clips, second]])
    frames = model.frames(blemish(pictures, generator))
    questions = model.questions(texts)

    positive = _matches(bank.anchors[clips], kinds)
    cosine = questions @ frames.T
    logits, both = cosine / TEMPERATURE, positive.repeat(1, 2)
    log_p = torch.cat([logits.log_softmax(1), logits.log_softmax(0)], 0)
    weight = torch.cat([both / both.sum(1, keepdim=True), both / both.sum(0).clamp(min=1)])
    contrast = -(log_p * weight).sum() / (3 * n)

    a, b = frames[:n], frames[n:]
    close = (TOGETHER - (a * b).sum(-1)).clamp(min=0).mean()
    same = (bank.anchors[clips][:, None] == bank.anchors[clips][None]).all(-1)
    far = ((a @ a.T - APART).clamp(min=0).square() * ~same).sum(1).mean()
    own = cosine.diagonal(), cosine.diagonal(offset=n)
    below = ((own[1] - own[0] + FLASH_MARGIN).clamp(min=0) * flash).mean()
    hit = both[torch.arange(n), cosine.argmax(1)].float().mean()
    note = f"top1 {hit:.3f} together {(a * b).sum(-1).mean():.3f} far {far:.3f} below {below:.4f}"
    return contrast + 5 * close + far + 5 * below, note


def train_selector(folder: Path) -> None:
    """Train the selector on the bank; writes `selector.safetensors`."""
    torch.manual_seed(3)
    model = Selector()
    start_from(model, load_vision(folder, "vision"))
    bank = load_bank(folder, "train")
    train(
        "selector",
        model,
        lambda step, generator: _loss(model, bank, generator),
        folder=folder,
        steps=STEPS,
        rate=1e-3,
        rates={"clip.vision_model": 4e-4},
        muon="encoder.layers",
    )


def load_selector(folder: Path) -> Selector:
    """The trained selector, frozen."""
    model = Selector()
    model.load_state_dict(load_file(folder / "selector.safetensors"))
    return model.requires_grad_(False).eval()
