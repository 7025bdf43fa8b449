"""Reading the configs of a model folder: each field checked, nothing followed out of the folder.

A published `config.json` carries the fields of the Qwen2 language model at its top level and names
the two vision towers by a hub name or by a path of its authors. Only known fields are taken over,
so no file can choose code, an attention implementation or a download.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from transformers import CLIPConfig, PreTrainedConfig, Qwen2Config, SiglipVisionConfig

from .errors import CheckpointError

COMPATS = ("released", "paper")
PUBLISHED_MODEL_TYPE = "llava_qwen"
JSON_BYTES = 64 * 2**20

# Configurations of the towers that published checkpoints name, by the last part of the name.
SIGLIP_SO400M = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "image_size": 384,
    "patch_size": 14,
}
KNOWN_VISION_TOWERS = {
    "siglip-so400m-patch14-384": SIGLIP_SO400M,
    "so400m-patch14-384": SIGLIP_SO400M,
}
# The class defaults of transformers' CLIPConfig are ViT-B/32.
KNOWN_CLIP_MODELS: dict[str, dict] = {"clip-vit-base-patch32": {}}

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

_LANGUAGE_SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
)
_LANGUAGE_OPTIONS = (
    "num_key_value_heads",
    "hidden_act",
    "max_position_embeddings",
    "rms_norm_eps",
    "initializer_range",
    "use_sliding_window",
    "sliding_window",
    "max_window_layers",
    "tie_word_embeddings",
)
_SIGLIP_FIELDS = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_channels",
    "image_size",
    "patch_size",
    "hidden_act",
    "layer_norm_eps",
)
_CLIP_TEXT_FIELDS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
    "hidden_act",
    "layer_norm_eps",
    "eos_token_id",
)
# A size beyond this is a damaged or hostile config; building such a model would not end.
_LARGEST_SIZE = 2**24
_MOST_LAYERS = 512
NO_LIMIT = int(1e30)
"""What `transformers` writes for the length of a text that has no limit."""


def read_json(path: Path) -> dict:
    """Read one JSON object of a model folder.

    Raises:
        CheckpointError: no such file, larger than 64 MiB, not JSON, or not an object.
    """
    if not path.is_file():
        raise CheckpointError(f"{path.parent} has no {path.name}: not a complete model folder")
    if path.stat().st_size > JSON_BYTES:
        raise CheckpointError(f"{path}: larger than {JSON_BYTES} bytes, no configuration is")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: wanted a JSON object, got {type(value).__name__}")
    return value


def tower_folder(folder: Path, name: str | None) -> Path | None:
    """The folder of a tower inside the model folder: by its path there, else by its last part.

    The name comes from a config, so it is never followed out of the model folder, and neither the
    working directory nor the hub is asked.
    """
    if name is None:
        return None
    path = PurePosixPath(name.replace("\\", "/"))
    inside = not path.is_absolute() and ".." not in path.parts and ":" not in name
    candidates = [folder / path] if inside and path.name else []
    if path.name not in ("", ".."):
        candidates.append(folder / path.name)
    return next((place for place in candidates if (place / "config.json").is_file()), None)


def tower_config(folder: Path, name: Any, kind: str) -> dict:
    """The configuration of a tower: from the model folder, else the published one of that name.

    Args:
        folder: model folder.
        name: `mm_vision_tower` or `clip_model_path` of its config; None for the published tower.
        kind: `"vision"` (SigLIP) or `"clip"`.
    Raises:
        CheckpointError: the folder has no such tower and the name is not a published one.
    """
    known = KNOWN_VISION_TOWERS if kind == "vision" else KNOWN_CLIP_MODELS
    field = "mm_vision_tower" if kind == "vision" else "clip_model_path"
    if name is None:
        return next(iter(known.values()))
    if not isinstance(name, str) or "\0" in name:
        raise CheckpointError(f"config.json: {field} must be a name, got {name!r}")
    place = tower_folder(folder, name)
    if place is not None:
        return read_json(place / "config.json")
    base = PurePosixPath(name.replace("\\", "/")).name
    if base in known:
        return known[base]
    raise CheckpointError(
        f"config.json: {field} names {name!r}, but {folder} has no {base}/config.json and only "
        f"{', '.join(known)} can do without"
    )


def require_vilamp(fields: Mapping) -> None:
    """Refuse what the published code would run another way, instead of running it wrongly."""
    model_type = fields.get("model_type")
    if model_type != PUBLISHED_MODEL_TYPE:
        raise CheckpointError(
            f"config.json: wanted model_type {PUBLISHED_MODEL_TYPE!r}, got {model_type!r}"
        )
    wanted = {
        "composer_type": "sig_pooling",
        "mm_projector_type": "mlp2x_gelu",
        "mm_spatial_pool_mode": "bilinear",
        "activate_frame_selector": True,
    }
    for field, value in wanted.items():
        if fields.get(field, value) != value:
            raise CheckpointError(f"config.json: wanted {field} {value!r}, got {fields[field]!r}")
    merge_type = fields.get("mm_patch_merge_type", "spatial_unpad")
    if "unpad" not in str(merge_type):
        raise CheckpointError(
            f"config.json: wanted an mm_patch_merge_type with 'unpad', got {merge_type!r}"
        )


def language_config(fields: Mapping) -> Qwen2Config:
    """The language model, from the top level of `config.json`."""
    sizes = {name: integer(fields, name) for name in _LANGUAGE_SIZES}
    options = {name: fields[name] for name in _LANGUAGE_OPTIONS if name in fields}
    _require_heads(sizes, integer(fields, "num_key_value_heads", sizes["num_attention_heads"]))
    # The published loader discards rope_scaling; the base is all that counts.
    rope = fields.get("rope_parameters")
    theta = rope.get("rope_theta") if isinstance(rope, Mapping) else None
    theta = real(fields, "rope_theta", theta or 10000.0)
    return _build(
        Qwen2Config,
        "config.json",
        **sizes,
        **options,
        rope_parameters={"rope_type": "default", "rope_theta": theta},
    )


def _require_heads(sizes: Mapping, key_value_heads: int) -> None:
    width, heads = sizes["hidden_size"], sizes["num_attention_heads"]
    # Rotary positions turn pairs of numbers, so a head has an even width.
    if width % heads or width // heads % 2 or heads % key_value_heads:
        raise CheckpointError(
            "config.json: wanted a hidden_size of num_attention_heads times an even number and "
            "num_attention_heads a multiple of num_key_value_heads, "
            f"got {width}, {heads} and {key_value_heads}"
        )


def siglip_config(fields: Mapping) -> SiglipVisionConfig:
    """The vision tower, from its own config; the layer that the published code drops counted."""
    # A folder may hold the config of the whole SigLIP; only its vision half is wanted.
    inner = fields.get("vision_config")
    chosen = _sizes(inner if isinstance(inner, Mapping) else fields, _SIGLIP_FIELDS, "SigLIP")
    config = _build(SiglipVisionConfig, "SigLIP config.json", **chosen, vision_use_head=False)
    _require_square(config, "SigLIP")
    if config.num_hidden_layers < 2:
        raise CheckpointError(
            "SigLIP config.json: wanted at least 2 layers (the last is not used), "
            f"got {config.num_hidden_layers}"
        )
    return config


def clip_config(fields: Mapping) -> CLIPConfig:
    """Both halves of CLIP, from its own config."""
    # Token ids other than the end of text are not used, and CLIP's own would exceed a small
    # vocabulary.
    unused = {"bos_token_id": None, "pad_token_id": None}
    text = _sizes(fields.get("text_config") or {}, _CLIP_TEXT_FIELDS, "CLIP text")
    vision = _sizes(fields.get("vision_config") or {}, _SIGLIP_FIELDS, "CLIP vision")
    config = _build(
        CLIPConfig,
        "CLIP config.json",
        text_config={**text, **unused},
        vision_config=vision,
        projection_dim=integer(fields, "projection_dim", 512),
    )
    _require_square(config.vision_config, "CLIP")
    return config


def clip_normalisation(folder: Path, name: str | None, clip: CLIPConfig) -> tuple:
    """Mean and standard deviation of CLIP's pixels: the folder's, else OpenAI's."""
    place = tower_folder(folder, name)
    if place is None or not (place / "preprocessor_config.json").is_file():
        return CLIP_MEAN, CLIP_STD
    fields = read_json(place / "preprocessor_config.json")
    for field, value in (("resample", 3), ("do_resize", True), ("do_center_crop", True)):
        if fields.get(field, value) != value:
            raise CheckpointError(
                f"{name}/preprocessor_config.json: wanted {field} {value}, got {fields[field]!r}"
            )
    size, crop = fields.get("size"), fields.get("crop_size")
    for field, value in (("size", size), ("crop_size", crop)):
        lengths = set(value.values()) if isinstance(value, Mapping) else {value}
        if value is not None and lengths != {clip.vision_config.image_size}:
            raise CheckpointError(
                f"{name}/preprocessor_config.json: {field} is {value}, "
                f"CLIP's image_size is {clip.vision_config.image_size}"
            )
    return (
        _three(fields, "image_mean", CLIP_MEAN),
        _three(fields, "image_std", CLIP_STD),
    )


def stop_token_ids(folder: Path, fields: Mapping) -> tuple[int, ...]:
    """Ids that end an answer: of `generation_config.json`, else of `config.json`."""
    path = folder / "generation_config.json"
    value = read_json(path).get("eos_token_id") if path.is_file() else None
    value = fields.get("eos_token_id") if value is None else value
    ids = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(item, int) and not isinstance(item, bool) for item in ids):
        raise CheckpointError(f"config.json: eos_token_id must be ids, got {value!r}")
    return tuple(ids)


def choose_compat(declared: Any, asked: str | None) -> str:
    """A published checkpoint declares nothing and was trained with the released rules."""
    for value in (declared, asked):
        if value is not None and value not in COMPATS:
            raise CheckpointError(f"compat must be one of {', '.join(COMPATS)}, got {value!r}")
    trained = declared or "released"
    if asked is not None and asked != trained:
        warnings.warn(
            f"compat={asked!r} overrides {trained!r}, which this checkpoint was trained with",
            stacklevel=4,
        )
    return asked or trained


def dtype_name(fields: Mapping) -> str | None:
    """The dtype of the checkpoint, a name of torch, or None."""
    name = fields.get("torch_dtype") or fields.get("dtype")
    if name is None:
        return None
    name = str(name).removeprefix("torch.")
    if not isinstance(getattr(torch, name, None), torch.dtype):
        raise CheckpointError(f"config.json: torch_dtype {name!r} is no dtype of torch")
    return name


def _build(kind: type[PreTrainedConfig], source: str, **fields: Any) -> Any:
    try:
        return kind(**fields)
    except Exception as error:
        # transformers checks fields by rules of its own, with several kinds of error.
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{source}: {reason}") from error


def _sizes(fields: Any, names: tuple[str, ...], source: str) -> dict:
    if not isinstance(fields, Mapping):
        raise CheckpointError(f"{source} config: wanted an object, got {type(fields).__name__}")
    chosen = {name: fields[name] for name in names if fields.get(name) is not None}
    for name, value in chosen.items():
        if isinstance(value, int) and name != "eos_token_id":
            integer(chosen, name)
    return chosen


def integer(fields: Mapping, name: str, default: Any = ..., most: int = _LARGEST_SIZE) -> Any:
    """A size or budget, 1..most; without a default it must be there."""
    value = fields.get(name)
    if value is None and default is not ...:
        return default
    if name == "num_hidden_layers":
        most = _MOST_LAYERS
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        given = "nothing" if value is None else repr(value)
        raise CheckpointError(f"config: {name} must be an integer in 1..{most}, got {given}")
    return value


def real(fields: Mapping, name: str, default: float) -> float:
    """A finite number."""
    value = fields.get(name)
    value = default if value is None else value
    if isinstance(value, bool) or not _is_finite(value):
        raise CheckpointError(f"config: {name} must be a finite number, got {value!r}")
    return float(value)


def _is_finite(value: Any) -> bool:
    # Compared, not converted: an integer of JSON can be larger than any float.
    return isinstance(value, int | float) and abs(value) <= sys.float_info.max


def _three(fields: Mapping, name: str, default: tuple) -> tuple[float, ...]:
    value = fields.get(name, default)
    numbers = [x for x in value if _is_finite(x)] if hasattr(value, "__iter__") else []
    if len(numbers) != 3 or (name == "image_std" and 0 in numbers):
        raise CheckpointError(f"preprocessor_config.json: {name} must be 3 numbers, got {value!r}")
    return tuple(float(x) for x in numbers)


def _require_square(config: Any, source: str) -> None:
    size, patch = config.image_size, config.patch_size
    if not (isinstance(size, int) and isinstance(patch, int) and 0 < patch <= size <= 4096):
        raise CheckpointError(
            f"{source} config: wanted image_size and patch_size as integers with "
            f"patch_size <= image_size <= 4096, got {size!r} and {patch!r}"
        )
