"""The configuration of a ViLAMP model, as this package uses it.

`vilamp.config_files` reads the files of a model folder, which have the published layout.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import CLIPConfig, PreTrainedConfig, Qwen2Config, SiglipVisionConfig

from . import config_files as files
from .config_fields import integer, read_json, real
from .config_files import CLIP_MEAN, CLIP_STD
from .errors import CheckpointError


class ViLAMPConfig(PreTrainedConfig):
    """Sizes and rules of one ViLAMP model; `ViLAMPConfig.from_folder` reads a published one.

    Args:
        text_config: Qwen2 language model.
        vision_config: SigLIP tower as configured; as published, its last layer is not built.
        clip_config: CLIP, which ranks frames for the question.
        vilamp_compat: `"released"` (rules of the published code) or `"paper"`.
        max_frame_num: keyframe budget K; also `config.keyframes`.
        f2f_thrd: a frame more similar than this to a keyframe is no keyframe; also `config.tau`.
        f2t_thrd: lowest relevance of a keyframe, `released` only; also `config.min_score`.
        composer_proj_dim: width D of the CLIP embeddings that steer the merging.
        tokenizer_model_max_length: tokens that the language model is given at most, or None.
        clip_model_path: name of CLIP's folder inside the model folder.
        clip_mean, clip_std: normalisation of CLIP's pixels, one number per channel.
        stop_token_ids: ids that end an answer.
        unapplied_rope_scaling: what the published config says of scaled positions, for a note: the
            published code does not apply it either. None if it says nothing.

    The defaults are those of the released configuration class. The class has a model type of its
    own and is not registered with `AutoConfig`: `llava_qwen` keeps its meaning for other software.
    """

    model_type = "vilamp"
    sub_configs = {  # noqa: RUF012  (declared without an annotation by transformers)
        "text_config": Qwen2Config,
        "vision_config": SiglipVisionConfig,
        "clip_config": CLIPConfig,
    }
    attribute_map = {  # noqa: RUF012
        "compat": "vilamp_compat",
        "keyframes": "max_frame_num",
        "tau": "f2f_thrd",
        "min_score": "f2t_thrd",
    }

    def __init__(
        self,
        text_config: Qwen2Config | Mapping | None = None,
        vision_config: SiglipVisionConfig | Mapping | None = None,
        clip_config: CLIPConfig | Mapping | None = None,
        *,
        vilamp_compat: str = "released",
        max_frame_num: int = 32,
        f2f_thrd: float = 0.85,
        f2t_thrd: float = 0.2,
        composer_proj_dim: int = 512,
        tokenizer_model_max_length: int | None = None,
        clip_model_path: str | None = None,
        clip_mean: tuple[float, ...] = CLIP_MEAN,
        clip_std: tuple[float, ...] = CLIP_STD,
        stop_token_ids: tuple[int, ...] = (),
        unapplied_rope_scaling: str | None = None,
        **options: Any,
    ):
        self.text_config = _as_config(Qwen2Config, text_config)
        self.vision_config = _as_config(SiglipVisionConfig, vision_config)
        self.clip_config = _as_config(CLIPConfig, clip_config)
        self.vilamp_compat = vilamp_compat
        self.max_frame_num = max_frame_num
        self.f2f_thrd = f2f_thrd
        self.f2t_thrd = f2t_thrd
        self.composer_proj_dim = composer_proj_dim
        self.tokenizer_model_max_length = tokenizer_model_max_length
        self.clip_model_path = clip_model_path
        self.clip_mean = tuple(clip_mean)
        self.clip_std = tuple(clip_std)
        self.stop_token_ids = tuple(stop_token_ids)
        self.unapplied_rope_scaling = unapplied_rope_scaling
        super().__init__(**options)

    @property
    def grid(self) -> tuple[int, int]:
        """Patches of a frame, (rows, columns); (27, 27) in the published model."""
        side = self.vision_config.image_size // self.vision_config.patch_size
        return side, side

    @property
    def keyframe_grid(self) -> tuple[int, int]:
        """Tokens of a keyframe, (rows, columns): the patch grid halved, rounded up; (14, 14)."""
        rows, columns = self.grid
        return math.ceil(rows / 2), math.ceil(columns / 2)

    @classmethod
    def from_folder(cls, folder: str | Path, compat: str | None = None) -> ViLAMPConfig:
        """Read `config.json` and what it names from a model folder.

        Args:
            folder: a model in the published layout.
            compat: overrides the folder's `vilamp_compat`, with a warning when they differ.
        Raises:
            CheckpointError: a file or field is missing, of the wrong kind, or asks for something
                that is not ViLAMP.
        """
        folder = Path(folder)
        fields = read_json(folder / "config.json")
        files.require_vilamp(fields)
        vision = files.siglip_config(
            files.tower_config(folder, fields.get("mm_vision_tower"), "vision")
        )
        clip = files.clip_config(files.tower_config(folder, fields.get("clip_model_path"), "clip"))
        mean, std = files.clip_normalisation(folder, fields.get("clip_model_path"), clip)
        config = cls(
            text_config=files.language_config(fields),
            vision_config=vision,
            clip_config=clip,
            vilamp_compat=files.choose_compat(fields.get("vilamp_compat"), compat),
            max_frame_num=integer(fields, "max_frame_num", 32),
            f2f_thrd=real(fields, "f2f_thrd", 0.85),
            f2t_thrd=real(fields, "f2t_thrd", 0.2),
            composer_proj_dim=integer(fields, "composer_proj_dim", 512),
            tokenizer_model_max_length=integer(
                fields, "tokenizer_model_max_length", None, most=files.NO_LIMIT
            ),
            clip_model_path=fields.get("clip_model_path"),
            clip_mean=mean,
            clip_std=std,
            stop_token_ids=files.stop_token_ids(folder, fields),
            unapplied_rope_scaling=files.unapplied_rope_scaling(fields),
            dtype=files.dtype_name(fields),
        )
        _require_agreement(config, fields)
        return config


def _as_config(kind: type[PreTrainedConfig], value: Any) -> PreTrainedConfig:
    config = value if isinstance(value, kind) else kind(**(value or {}))
    # Named here so that no config file can choose an implementation, which might be downloaded.
    config._attn_implementation = "sdpa"
    return config


def _require_agreement(config: ViLAMPConfig, fields: Mapping) -> None:
    """The widths at which the parts meet are stated twice in a published config."""
    width = integer(fields, "mm_hidden_size", config.vision_config.hidden_size)
    pairs = (
        ("mm_hidden_size", width, "the vision tower's", config.vision_config.hidden_size),
        (
            "composer_proj_dim",
            config.composer_proj_dim,
            "CLIP's projection_dim",
            config.clip_config.projection_dim,
        ),
    )
    for field, got, other, wanted in pairs:
        if got != wanted:
            raise CheckpointError(f"config.json: {field} is {got}, {other} is {wanted}")
