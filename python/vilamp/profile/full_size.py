"""The published 7B model's sizes, and models without weights."""

from __future__ import annotations

import torch
from torch import nn

from ..config import ViLAMPConfig
from ..config_files import SIGLIP_SO400M
from ..model import ViLAMP
from .meter import FAKES


def published_config() -> ViLAMPConfig:
    """Qwen2-7B, SigLIP-so400m/14-384 and CLIP ViT-B/32, with the published rules."""
    return ViLAMPConfig(
        text_config={
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "vocab_size": 152064,
            "max_position_embeddings": 32768,
            "tie_word_embeddings": False,
        },
        vision_config={**SIGLIP_SO400M, "vision_use_head": False},
    )


def without_weights(config: ViLAMPConfig, dtype: torch.dtype) -> ViLAMP:
    """A model whose weights have shapes, a dtype and bytes, but no numbers."""
    with torch.device("meta"):
        model = ViLAMP(config)
    model._restore_tables(torch.device("cpu"))
    with torch.device("cpu"), FAKES:
        made: dict[nn.Parameter, nn.Parameter] = {}
        for module in model.modules():
            for name, weight in list(module._parameters.items()):
                if weight is None:
                    continue
                if weight not in made:
                    # As the checkpoint reader has it: a weight without dimensions stays fp32.
                    kind = dtype if weight.ndim else torch.float32
                    empty = torch.empty(weight.shape, dtype=kind)
                    made[weight] = nn.Parameter(empty, requires_grad=False)
                module._parameters[name] = made[weight]
    return model.eval()
