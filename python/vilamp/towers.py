"""The two vision towers, on the backbones of `transformers`.

SigLIP describes the patches that the language model will see; CLIP ranks frames for a question.
"""

from __future__ import annotations

import copy

from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, SiglipVisionConfig
from transformers.models.siglip.modeling_siglip import (
    SiglipEncoder,
    SiglipPreTrainedModel,
    SiglipVisionEmbeddings,
)


class SiglipTower(SiglipPreTrainedModel):
    """SigLIP's vision half as the published code uses it.

    The last configured layer is not built, the pooling head neither, and the features are those
    before `post_layernorm`, whose weights are part of a checkpoint all the same.
    """

    config_class = SiglipVisionConfig

    def __init__(self, config: SiglipVisionConfig):
        config = copy.deepcopy(config)
        config.num_hidden_layers -= 1
        super().__init__(config)
        self.embeddings = SiglipVisionEmbeddings(config)
        self.encoder = SiglipEncoder(config)
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.post_init()

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels `[n, 3, h, w]` -> features `[n, M, hidden_size]` in the dtype of the weights."""
        hidden = self.embeddings(pixels)
        # What the encoder itself does, without holding its input to the end: 27 MB of 16 frames.
        for layer in self.encoder.layers:
            hidden = layer(hidden, attention_mask=None)
        return hidden


class ClipTower(CLIPModel):
    """CLIP as a scorer of frames: projected embeddings of both sides, not normalised, in fp32.

    Scores decide by comparison which frames are seen in full, so they leave here in fp32 whatever
    the dtype of the weights.
    """

    config_class = CLIPConfig

    def embed_images(self, pixels: Tensor) -> Tensor:
        """Pixels `[n, 3, h, w]` -> fp32 `[n, D]`."""
        return self.visual_projection(self.vision_model(pixels).pooler_output).float()

    def embed_texts(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Ids and mask int64 `[n, T]` -> fp32 `[n, D]`, read at the end-of-text token."""
        pooled = self.text_model(input_ids=input_ids, attention_mask=attention_mask).pooler_output
        return self.text_projection(pooled).float()


def mlp_projector(vision_width: int, language_width: int) -> nn.Sequential:
    """From the tower's width to the language model's: linear, exact GELU, linear.

    The last linear is linear in its input, so pooling and resizing may happen before it: what
    stands for a patch between the parts of this package is the hidden state after the GELU.
    """
    return nn.Sequential(
        nn.Linear(vision_width, language_width),
        nn.GELU(),
        nn.Linear(language_width, language_width),
    )
