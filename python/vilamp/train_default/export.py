"""Last stage: the trained parts as one model folder in the published checkpoint layout."""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from ..drawn import TYPES, ask, sample_clip
from .composer import load_composer
from .language import language_config
from .reading import load_language
from .selector import MEAN, STD, Selector, clip_config, load_selector
from .sizes import (
    ALPHA,
    CLIP_WIDTH,
    IMAGE,
    KEYFRAMES,
    LANGUAGE,
    SEED,
    TAU,
    VISION,
    VISION_LAYERS,
)
from .tokenizers import END, UNKNOWN, clip_tokenizer, language_tokenizer
from .vision import load_vision

VISION_NAME, CLIP_NAME = "siglip-drawn-patch8-64", "clip-drawn-patch8-64"


def model_config() -> dict:
    """`config.json` in the published fields."""
    language = language_config()
    sizes = {k: v for k, v in LANGUAGE.items() if k not in ("rms_norm_eps", "rope_theta")}
    end = language_tokenizer().token_to_id(END)
    return {
        "model_type": "llava_qwen",
        "architectures": ["LlavaQwenForCausalLM"],
        "vilamp_compat": "paper",
        **sizes,
        "rms_norm_eps": LANGUAGE["rms_norm_eps"],
        "rope_theta": LANGUAGE["rope_theta"],
        "rope_scaling": None,
        "hidden_act": language.hidden_act,
        "vocab_size": language.vocab_size,
        "tie_word_embeddings": False,
        "use_sliding_window": False,
        "eos_token_id": end,
        "tokenizer_model_max_length": LANGUAGE["max_position_embeddings"],
        "tokenizer_padding_side": "right",
        "torch_dtype": "float32",
        "activate_frame_selector": True,
        "frame_selector_type": "SeqFrameSelector",
        "clip_model_path": CLIP_NAME,
        "max_frame_num": KEYFRAMES,
        "f2f_thrd": TAU,
        "f2t_thrd": -1.0,
        "composer_type": "sig_pooling",
        "composer_proj_dim": CLIP_WIDTH,
        "mm_vision_tower": VISION_NAME,
        "mm_hidden_size": VISION["hidden_size"],
        "mm_projector_type": "mlp2x_gelu",
        "mm_patch_merge_type": "spatial_unpad",
        "mm_spatial_pool_mode": "bilinear",
        "mm_spatial_pool_stride": 2,
        "mm_use_im_patch_token": False,
        "mm_use_im_start_end": False,
        "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": -2,
    }


def published_tensors(folder: Path) -> dict[str, Tensor]:
    """Published key -> trained tensor."""
    vision, selector = load_vision(folder), load_selector(folder)
    composer, language = load_composer(folder), load_language(folder)
    parts = (
        ("", language.qwen.state_dict()),
        ("model.vision_tower.vision_tower.vision_model.", vision.tower.state_dict()),
        ("model.mm_projector.", vision.projector.state_dict()),
        ("model.frame_selector.model.", selector.clip.state_dict()),
        ("model.composer_projector.", composer.state_dict()),
    )
    tensors = {prefix + key: value for prefix, state in parts for key, value in state.items()}
    # The merging was trained with questions of length 1, but at run time it is given what CLIP's
    # projection gives: scale that to length 1 on average. Cosines, and so the selection, stay.
    key = "model.frame_selector.model.text_projection.weight"
    tensors[key] = tensors[key] / _question_length(selector)
    tensors["model.image_newline"] = language.newline.detach()
    tensors["model.composer_projector.tau"] = torch.tensor(ALPHA)
    return tensors


@torch.no_grad()
def _question_length(selector: Selector) -> Tensor:
    """Mean length of the projected embedding of training questions."""
    rng = np.random.default_rng(SEED)
    texts = [
        ask(clip, kind, "train", rng)[0]
        for kind in TYPES
        for clip in (sample_clip(rng, "train") for _ in range(40))
    ]
    return selector.projected(texts).norm(dim=-1).mean()


def export(folder: Path, out: Path) -> None:
    """Write the model folder: fp16 weights, configurations and both tokenizers."""
    (out / VISION_NAME).mkdir(parents=True, exist_ok=True)
    (out / CLIP_NAME).mkdir(exist_ok=True)
    _write(out / "config.json", model_config())
    vision = {
        "model_type": "siglip_vision_model",
        **VISION,
        # The published tower is cut by its last layer when it is loaded.
        "num_hidden_layers": VISION_LAYERS + 1,
        "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": 1e-6,
    }
    _write(out / VISION_NAME / "config.json", vision)
    _write(out / CLIP_NAME / "config.json", _clip_fields())
    _write(
        out / CLIP_NAME / "preprocessor_config.json",
        {
            "do_resize": True,
            "size": {"shortest_edge": IMAGE},
            "do_center_crop": True,
            "crop_size": {"height": IMAGE, "width": IMAGE},
            "resample": 3,
            "image_mean": list(MEAN),
            "image_std": list(STD),
        },
    )
    clip_tokenizer().save(str(out / CLIP_NAME / "tokenizer.json"))
    language_tokenizer().save(str(out / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END,
        "pad_token": END,
        "unk_token": UNKNOWN,
        "clean_up_tokenization_spaces": False,
        "model_max_length": LANGUAGE["max_position_embeddings"],
    }
    _write(out / "tokenizer_config.json", settings)
    tensors = published_tensors(folder)
    # Scalars are divided by, so they stay exact.
    halves = {k: t.half() if t.ndim else t.float() for k, t in tensors.items()}
    save_file({k: t.contiguous() for k, t in halves.items()}, out / "model.safetensors")


def _clip_fields() -> dict:
    config = clip_config()
    names = (
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "hidden_act",
        "layer_norm_eps",
    )
    text = ("vocab_size", "max_position_embeddings", "eos_token_id", "bos_token_id", "pad_token_id")
    vision = ("image_size", "patch_size", "num_channels")
    return {
        "model_type": "clip",
        "projection_dim": config.projection_dim,
        "text_config": {k: getattr(config.text_config, k) for k in (*names, *text)},
        "vision_config": {k: getattr(config.vision_config, k) for k in (*names, *vision)},
    }


def _write(path: Path, fields: dict) -> None:
    path.write_text(json.dumps(fields, indent=2) + "\n")
