"""Reading the configs of a model folder: each field checked, nothing followed out of the folder.

A published `config.json` carries the fields of the Qwen2 language model at its top level and names
the two vision towers by a hub name or by a path of its authors. Only known fields are taken over,
so no file can choose code, an attention implementation or a download.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from transformers import CLIPConfig, PreTrainedConfig, Qwen2Config, SiglipVisionConfig

from .config_fields import (
    chosen,
    flag,
    integer,
    is_file,
    is_number,
    name,
    read_json,
    real,
    shown,
)
from .errors import CheckpointError

COMPATS = ("released", "paper")
PUBLISHED_MODEL_TYPE = "llava_qwen"
DTYPES = ("float64", "float32", "float16", "bfloat16")

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

# Rows and columns of a tower's patches; the published one has 27. Attention goes by their square.
_MOST_PATCHES = 128
_LARGEST_THETA = 1e30
_layers = partial(integer, most=512)
_epsilon = partial(real, least=0, most=1)

_LANGUAGE_SIZES = {
    "vocab_size": integer,
    "hidden_size": integer,
    "intermediate_size": integer,
    "num_hidden_layers": _layers,
    "num_attention_heads": integer,
}
_LANGUAGE_OPTIONS = {
    "num_key_value_heads": integer,
    "hidden_act": name,
    "max_position_embeddings": integer,
    "rms_norm_eps": _epsilon,
    "initializer_range": _epsilon,
    "use_sliding_window": flag,
    "sliding_window": integer,
    "max_window_layers": partial(integer, least=0),
    "tie_word_embeddings": flag,
}
_SHARED_FIELDS = {
    "hidden_size": integer,
    "intermediate_size": integer,
    "num_hidden_layers": _layers,
    "num_attention_heads": integer,
    "hidden_act": name,
    "layer_norm_eps": _epsilon,
}
_VISION_FIELDS = {
    **_SHARED_FIELDS,
    # Frames are RGB.
    "num_channels": partial(integer, least=3, most=3),
    "image_size": integer,
    "patch_size": integer,
}
_CLIP_TEXT_FIELDS = {
    **_SHARED_FIELDS,
    "vocab_size": integer,
    # The marks of both ends, and a word.
    "max_position_embeddings": partial(integer, least=3),
    "eos_token_id": partial(integer, least=0),
}
NO_LIMIT = int(1e30)
"""What `transformers` writes for the length of a text that has no limit."""


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
    return next((place for place in candidates if is_file(place / "config.json")), None)


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
        raise CheckpointError(f"config.json: {field} must be a name, got {shown(name)}")
    place = tower_folder(folder, name)
    if place is not None:
        return read_json(place / "config.json")
    base = PurePosixPath(name.replace("\\", "/")).name
    if base in known:
        return known[base]
    raise CheckpointError(
        f"config.json: {field} names {shown(name)}, but {folder} has no {shown(base)[1:-1]}"
        f"/config.json and only {', '.join(known)} can do without"
    )


def require_vilamp(fields: Mapping) -> None:
    """Refuse what the published code would run another way, instead of running it wrongly."""
    model_type = fields.get("model_type")
    if model_type != PUBLISHED_MODEL_TYPE:
        raise CheckpointError(
            f"config.json: wanted model_type {PUBLISHED_MODEL_TYPE!r}, got {shown(model_type)}"
        )
    wanted = {
        "composer_type": "sig_pooling",
        "mm_projector_type": "mlp2x_gelu",
        "mm_spatial_pool_mode": "bilinear",
        "activate_frame_selector": True,
    }
    for field, value in wanted.items():
        if fields.get(field, value) != value:
            raise CheckpointError(
                f"config.json: wanted {field} {value!r}, got {shown(fields[field])}"
            )
    merge_type = fields.get("mm_patch_merge_type", "spatial_unpad")
    if not isinstance(merge_type, str) or "unpad" not in merge_type:
        raise CheckpointError(
            f"config.json: wanted an mm_patch_merge_type with 'unpad', got {shown(merge_type)}"
        )


def language_config(fields: Mapping) -> Qwen2Config:
    """The language model, from the top level of `config.json`."""
    sizes = chosen(fields, _LANGUAGE_SIZES, "config.json", required=_LANGUAGE_SIZES)
    options = chosen(fields, _LANGUAGE_OPTIONS, "config.json")
    options.setdefault("num_key_value_heads", sizes["num_attention_heads"])
    if "sliding_window" in fields:
        # Null is no window; a field that is not there is the class's.
        options.setdefault("sliding_window", None)
    _require_heads(sizes, options["num_key_value_heads"])
    # The published loader discards rope_scaling; the base is all that counts.
    named = fields if fields.get("rope_theta") is not None else _rope_parameters(fields)
    theta = real(named, "rope_theta", 10000.0, least=1, most=_LARGEST_THETA)
    return _build(
        Qwen2Config,
        "config.json",
        **sizes,
        **options,
        rope_parameters={"rope_type": "default", "rope_theta": theta},
    )


def unapplied_rope_scaling(fields: Mapping) -> str | None:
    """What the config says of scaled positions, which the published loader discards; None if it
    says nothing."""
    for value in (fields.get("rope_scaling"), _rope_parameters(fields)):
        kind = value.get("rope_type", value.get("type")) if isinstance(value, Mapping) else value
        if kind not in (None, "default"):
            return shown(value)
    return None


def _rope_parameters(fields: Mapping) -> Mapping:
    value = fields.get("rope_parameters")
    return value if isinstance(value, Mapping) else {}


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
    sizes = chosen(
        inner if isinstance(inner, Mapping) else fields, _VISION_FIELDS, "SigLIP config.json"
    )
    config = _build(SiglipVisionConfig, "SigLIP config.json", **sizes, vision_use_head=False)
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
    halves = {
        name: chosen({} if fields.get(name) is None else fields[name], readers, f"CLIP's {name}")
        for name, readers in (("text_config", _CLIP_TEXT_FIELDS), ("vision_config", _VISION_FIELDS))
    }
    config = _build(
        CLIPConfig,
        "CLIP config.json",
        text_config={**halves["text_config"], **unused},
        vision_config=halves["vision_config"],
        projection_dim=integer(fields, "projection_dim", 512, source="CLIP config.json"),
    )
    _require_square(config.vision_config, "CLIP")
    end, tokens = config.text_config.eos_token_id, config.text_config.vocab_size
    if end >= tokens:
        raise CheckpointError(
            f"CLIP's text_config: wanted eos_token_id below vocab_size {tokens}, got {end}"
        )
    return config


def clip_normalisation(folder: Path, name: str | None, clip: CLIPConfig) -> tuple:
    """Mean and standard deviation of CLIP's pixels: the folder's, else OpenAI's."""
    place = tower_folder(folder, name)
    path = place / "preprocessor_config.json" if place is not None else None
    if path is None or not is_file(path):
        return CLIP_MEAN, CLIP_STD
    fields = read_json(path)
    for field, value in (("resample", 3), ("do_resize", True), ("do_center_crop", True)):
        if fields.get(field, value) != value:
            raise CheckpointError(f"{path}: wanted {field} {value}, got {shown(fields[field])}")
    side = clip.vision_config.image_size
    for field in ("size", "crop_size"):
        value = fields.get(field)
        lengths = list(value.values()) if isinstance(value, Mapping) else [value]
        if value is not None and (not lengths or any(length != side for length in lengths)):
            raise CheckpointError(f"{path}: {field} is {shown(value)}, CLIP's image_size is {side}")
    return (
        _three(path, fields, "image_mean", CLIP_MEAN, least=-1e3),
        _three(path, fields, "image_std", CLIP_STD, least=1e-3),
    )


def stop_token_ids(folder: Path, fields: Mapping) -> tuple[int, ...]:
    """Ids that end an answer: of `generation_config.json`, else of `config.json`."""
    path = folder / "generation_config.json"
    value = read_json(path).get("eos_token_id") if is_file(path) else None
    value = fields.get("eos_token_id") if value is None else value
    ids = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(item, int) and not isinstance(item, bool) for item in ids):
        raise CheckpointError(f"config.json: eos_token_id must be ids, got {shown(value)}")
    return tuple(ids)


def choose_compat(declared: Any, asked: str | None) -> str:
    """A published checkpoint declares nothing and was trained with the released rules."""
    for value in (declared, asked):
        if value is not None and value not in COMPATS:
            raise CheckpointError(f"compat must be one of {', '.join(COMPATS)}, got {shown(value)}")
    trained = declared or "released"
    if asked is not None and asked != trained:
        warnings.warn(
            f"compat={asked!r} overrides {trained!r}, which this checkpoint was trained with",
            stacklevel=4,
        )
    return asked or trained


def dtype_name(fields: Mapping) -> str | None:
    """The dtype of the checkpoint, a name of torch, or None."""
    value = fields.get("dtype") if fields.get("torch_dtype") is None else fields["torch_dtype"]
    if value is None:
        return None
    name = value.removeprefix("torch.") if isinstance(value, str) else value
    if name not in DTYPES:
        raise CheckpointError(
            f"config.json: torch_dtype {shown(name)} is no dtype that this model runs in: "
            f"wanted one of {', '.join(DTYPES)}"
        )
    return name


def _build(kind: type[PreTrainedConfig], source: str, **fields: Any) -> Any:
    try:
        return kind(**fields)
    except Exception as error:
        # transformers checks fields by rules of its own, with several kinds of error.
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{source}: {reason}") from error


def _three(path: Path, fields: Mapping, name: str, default: tuple, least: float) -> tuple:
    value = fields.get(name)
    if value is None:
        return default
    numbers = [x for x in value if is_number(x, least, 1e3)] if isinstance(value, list) else []
    if len(numbers) != 3 or len(value) != 3:
        raise CheckpointError(
            f"{path}: {name} must be 3 numbers in {least:g}..1000, got {shown(value)}"
        )
    return tuple(float(x) for x in numbers)


def _require_square(config: Any, source: str) -> None:
    size, patch = config.image_size, config.patch_size
    if not (patch <= size <= 4096 and size // patch <= _MOST_PATCHES):
        raise CheckpointError(
            f"{source} config: wanted patch_size <= image_size <= 4096 and at most "
            f"{_MOST_PATCHES} patches in a row, got image_size {size} and patch_size {patch}"
        )
