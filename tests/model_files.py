"""Small checkpoints in the published layout, written from scratch for the tests.

Key names and shapes are spelled out here, not taken from the package: they are the other side of
what the loader is checked against.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from vilamp_kernels.testing import generator


@dataclass
class Tower:
    """Sizes of one transformer."""

    width: int
    layers: int
    heads: int
    inner: int


@dataclass
class Sizes:
    """A model unlike the recorded one in every number."""

    language: Tower = field(default_factory=lambda: Tower(48, 3, 6, 72))
    kv_heads: int = 3
    vocabulary: int = 210
    rope_theta: float = 5e5
    vision: Tower = field(default_factory=lambda: Tower(24, 4, 3, 40))
    vision_image: int = 56
    vision_patch: int = 8
    clip_text: Tower = field(default_factory=lambda: Tower(20, 3, 4, 36))
    clip_vision: Tower = field(default_factory=lambda: Tower(28, 2, 2, 44))
    clip_image: int = 48
    clip_patch: int = 16
    clip_vocabulary: int = 70
    clip_context: int = 16
    clip_eos: int = 61
    projection: int = 18
    keyframes: int = 3
    tau: float = 0.9
    min_score: float = 0.0
    alpha: float = 0.07


PUBLISHED_7B = Sizes(
    language=Tower(3584, 28, 28, 18944),
    kv_heads=4,
    vocabulary=152064,
    rope_theta=1e6,
    vision=Tower(1152, 27, 16, 4304),
    vision_image=384,
    vision_patch=14,
    clip_text=Tower(512, 12, 8, 2048),
    clip_vision=Tower(768, 12, 12, 3072),
    clip_image=224,
    clip_patch=32,
    clip_vocabulary=49408,
    clip_context=77,
    clip_eos=49407,
    projection=512,
    keyframes=32,
    tau=0.85,
    min_score=0.2,
)

VISION_FOLDER = "vendor/siglip-unusual"
CLIP_FOLDER = "clip-unusual"

INPUT_IDS = torch.tensor([[3, 77, 5, -200, 120, 9, 33]])
"""A prompt for `Sizes()`."""
CLIP_IDS = torch.tensor([[0, 5, 9, 33, 61]])
"""A question for the CLIP of `Sizes()`, with its end mark."""

_SCENES = (0, 0, 1, 1, 2, 2, 3, 0, 4, 4, 1)


def drawn_frames(n: int, seed: int = 1) -> torch.Tensor:
    """uint8 `[n, 60, 80, 3]`: scenes that come back, with noise."""
    draws = generator(seed)
    scenes = torch.rand(5, 3, 7, 7, generator=draws)
    scenes = torch.nn.functional.interpolate(scenes, size=(60, 80), mode="bilinear")
    noise = 0.08 * torch.randn(n, 3, 60, 80, generator=draws)
    chosen = scenes[[_SCENES[i % len(_SCENES)] for i in range(n)]]
    return ((chosen + noise).clamp(0, 1) * 255).to(torch.uint8).permute(0, 2, 3, 1)


def published_shapes(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """Every key of a published checkpoint of these sizes, with its shape."""
    s, lm = sizes, sizes.language
    head = lm.width // lm.heads
    shapes: dict[str, tuple[int, ...]] = {
        "model.image_newline": (lm.width,),
        "model.embed_tokens.weight": (s.vocabulary, lm.width),
        "model.norm.weight": (lm.width,),
        "lm_head.weight": (s.vocabulary, lm.width),
    }
    for layer in range(lm.layers):
        at = f"model.layers.{layer}."
        for name, rows in (("q", lm.heads), ("k", s.kv_heads), ("v", s.kv_heads)):
            shapes[f"{at}self_attn.{name}_proj.weight"] = (rows * head, lm.width)
            shapes[f"{at}self_attn.{name}_proj.bias"] = (rows * head,)
        shapes[f"{at}self_attn.o_proj.weight"] = (lm.width, lm.width)
        shapes[f"{at}mlp.gate_proj.weight"] = (lm.inner, lm.width)
        shapes[f"{at}mlp.up_proj.weight"] = (lm.inner, lm.width)
        shapes[f"{at}mlp.down_proj.weight"] = (lm.width, lm.inner)
        shapes[f"{at}input_layernorm.weight"] = (lm.width,)
        shapes[f"{at}post_attention_layernorm.weight"] = (lm.width,)

    tower = "model.vision_tower.vision_tower.vision_model."
    patches = (s.vision_image // s.vision_patch) ** 2
    shapes[f"{tower}embeddings.patch_embedding.weight"] = (
        s.vision.width,
        3,
        s.vision_patch,
        s.vision_patch,
    )
    shapes[f"{tower}embeddings.patch_embedding.bias"] = (s.vision.width,)
    shapes[f"{tower}embeddings.position_embedding.weight"] = (patches, s.vision.width)
    # The published code drops the last layer.
    shapes |= _encoder(tower, s.vision, s.vision.layers - 1)
    shapes |= _norm(f"{tower}post_layernorm", s.vision.width)
    for number, (rows, columns) in ((0, (lm.width, s.vision.width)), (2, (lm.width, lm.width))):
        shapes[f"model.mm_projector.{number}.weight"] = (rows, columns)
        shapes[f"model.mm_projector.{number}.bias"] = (rows,)

    clip = "model.frame_selector.model."
    shapes[f"{clip}logit_scale"] = ()
    text = f"{clip}text_model."
    shapes[f"{text}embeddings.token_embedding.weight"] = (s.clip_vocabulary, s.clip_text.width)
    shapes[f"{text}embeddings.position_embedding.weight"] = (s.clip_context, s.clip_text.width)
    shapes |= _encoder(text, s.clip_text, s.clip_text.layers)
    shapes |= _norm(f"{text}final_layer_norm", s.clip_text.width)
    vision = f"{clip}vision_model."
    shapes[f"{vision}embeddings.class_embedding"] = (s.clip_vision.width,)
    shapes[f"{vision}embeddings.patch_embedding.weight"] = (
        s.clip_vision.width,
        3,
        s.clip_patch,
        s.clip_patch,
    )
    shapes[f"{vision}embeddings.position_embedding.weight"] = (
        (s.clip_image // s.clip_patch) ** 2 + 1,
        s.clip_vision.width,
    )
    shapes |= _norm(f"{vision}pre_layrnorm", s.clip_vision.width)
    shapes |= _encoder(vision, s.clip_vision, s.clip_vision.layers)
    shapes |= _norm(f"{vision}post_layernorm", s.clip_vision.width)
    shapes[f"{clip}visual_projection.weight"] = (s.projection, s.clip_vision.width)
    shapes[f"{clip}text_projection.weight"] = (s.projection, s.clip_text.width)

    shapes["model.composer_projector.tau"] = ()
    for name, columns in (("iq", lm.width), ("ik", lm.width), ("q", s.projection), ("k", lm.width)):
        shapes[f"model.composer_projector.linear_{name}.weight"] = (lm.width, columns)
        shapes[f"model.composer_projector.linear_{name}.bias"] = (lm.width,)
    return shapes


def random_weights(sizes: Sizes, seed: int = 0) -> dict[str, Tensor]:
    """fp32 weights under which features, scores and logits differ visibly between inputs."""
    draws = generator(seed)
    weights = {}
    for key, shape in published_shapes(sizes).items():
        noise = torch.randn(shape, generator=draws)
        if "norm" in key and key.endswith("weight"):
            weights[key] = 1 + 0.2 * noise
        elif len(shape) >= 2 and "embed" not in key.split(".")[-2]:
            weights[key] = noise * 1.4 / math.sqrt(math.prod(shape[1:]))
        elif "patch_embedding.weight" in key:
            weights[key] = noise * 3 / math.sqrt(math.prod(shape[1:]))
        else:
            weights[key] = 0.4 * noise
    weights["model.composer_projector.tau"] = torch.tensor(sizes.alpha)
    return weights


def config_of(sizes: Sizes) -> dict:
    """The `config.json` of a published checkpoint of these sizes."""
    lm = sizes.language
    return {
        "architectures": ["LlavaQwenForCausalLM"],
        "model_type": "llava_qwen",
        "hidden_size": lm.width,
        "intermediate_size": lm.inner,
        "num_hidden_layers": lm.layers,
        "num_attention_heads": lm.heads,
        "num_key_value_heads": sizes.kv_heads,
        "vocab_size": sizes.vocabulary,
        "rope_theta": sizes.rope_theta,
        "rms_norm_eps": 1e-6,
        "hidden_act": "silu",
        "max_position_embeddings": 4096,
        "tie_word_embeddings": False,
        "use_sliding_window": False,
        "torch_dtype": "float32",
        "eos_token_id": sizes.vocabulary - 1,
        "tokenizer_model_max_length": 4096,
        "mm_hidden_size": sizes.vision.width,
        "mm_projector_type": "mlp2x_gelu",
        "mm_patch_merge_type": "spatial_unpad",
        "mm_spatial_pool_mode": "bilinear",
        "mm_vision_select_layer": -2,
        "mm_vision_tower": VISION_FOLDER,
        "clip_model_path": f"/data/models/{CLIP_FOLDER}",
        "activate_frame_selector": True,
        "composer_type": "sig_pooling",
        "composer_proj_dim": sizes.projection,
        "max_frame_num": sizes.keyframes,
        "f2f_thrd": sizes.tau,
        "f2t_thrd": sizes.min_score,
    }


def vision_config_of(sizes: Sizes) -> dict:
    return {
        "model_type": "siglip_vision_model",
        **_tower_config(sizes.vision),
        "image_size": sizes.vision_image,
        "patch_size": sizes.vision_patch,
        "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": 1e-6,
    }


def clip_config_of(sizes: Sizes) -> dict:
    return {
        "model_type": "clip",
        "projection_dim": sizes.projection,
        "text_config": {
            **_tower_config(sizes.clip_text),
            "vocab_size": sizes.clip_vocabulary,
            "max_position_embeddings": sizes.clip_context,
            "eos_token_id": sizes.clip_eos,
            "bos_token_id": 0,
        },
        "vision_config": {
            **_tower_config(sizes.clip_vision),
            "image_size": sizes.clip_image,
            "patch_size": sizes.clip_patch,
        },
    }


def write_configs(folder: Path, sizes: Sizes, **overrides: object) -> Path:
    """Everything but the weights; `overrides` go into the main config, None removes a field."""
    config = {**config_of(sizes), **overrides}
    config = {name: value for name, value in config.items() if value is not None}
    write_json(folder / "config.json", config)
    write_json(folder / VISION_FOLDER / "config.json", vision_config_of(sizes))
    write_json(folder / CLIP_FOLDER / "config.json", clip_config_of(sizes))
    return folder


def write_checkpoint(
    folder: Path, sizes: Sizes | None = None, seed: int = 0, **overrides: object
) -> Path:
    """A complete checkpoint without tokenizers."""
    sizes = sizes or Sizes()
    write_configs(folder, sizes, **overrides)
    save_file(random_weights(sizes, seed), folder / "model.safetensors")
    return folder


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def _tower_config(tower: Tower) -> dict:
    return {
        "hidden_size": tower.width,
        "num_hidden_layers": tower.layers,
        "num_attention_heads": tower.heads,
        "intermediate_size": tower.inner,
    }


def _encoder(at: str, tower: Tower, layers: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in range(layers):
        here = f"{at}encoder.layers.{layer}."
        for name in ("k_proj", "v_proj", "q_proj", "out_proj"):
            shapes[f"{here}self_attn.{name}.weight"] = (tower.width, tower.width)
            shapes[f"{here}self_attn.{name}.bias"] = (tower.width,)
        for name, rows, columns in (
            ("fc1", tower.inner, tower.width),
            ("fc2", tower.width, tower.inner),
        ):
            shapes[f"{here}mlp.{name}.weight"] = (rows, columns)
            shapes[f"{here}mlp.{name}.bias"] = (rows,)
        shapes |= _norm(f"{here}layer_norm1", tower.width)
        shapes |= _norm(f"{here}layer_norm2", tower.width)
    return shapes


def _norm(at: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{at}.weight": (width,), f"{at}.bias": (width,)}
