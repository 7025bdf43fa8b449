"""Processors of `transformers` that are told a video's times, made without a download.

Each with a tokenizer of bytes, so that a prompt can be decoded and its times read.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

SPECIAL = {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "vision_start_token": "<|vision_start|>",
    "vision_end_token": "<|vision_end|>",
    "image_start_token": "<img>",
    "image_end_token": "</img>",
    "start_image_token": "<begin image>",
    "end_image_token": "<end image>",
    "context_image_token": "<context image>",
    "video_start_token": "<|vid_start|>",
    "video_end_token": "<|vid_end|>",
    "slice_start_token": "<slice>",
    "slice_end_token": "</slice>",
    "image_id_start_token": "<image_id>",
    "image_id_end_token": "</image_id>",
    "boi_token": "<boi>",
    "eoi_token": "<eoi>",
    "audio_token": "<audio>",
    "boa_token": "<boa>",
    "eoa_token": "<eoa>",
    "audio_bos_token": "<audio bos>",
    "audio_eos_token": "<audio eos>",
    "vision_bos_token": "<vision bos>",
    "vision_eos_token": "<vision eos>",
}


def byte_tokenizer(**special: str) -> Any:
    """One token for a byte, and `SPECIAL`, of which some may be others."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    found = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    found.decoder = decoders.ByteLevel()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=found,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        extra_special_tokens=SPECIAL | special,
    )


def seconds(found: tuple[str, ...]) -> float:
    """Of hours, minutes and seconds, or the last of them alone."""
    value = 0.0
    for part in found:
        value = 60 * value + float(part)
    return value


@dataclass(frozen=True)
class Family:
    """One processor, and how its prompt states times."""

    processor: str
    videos: str
    mark: str | None = None
    """Regular expression of a time; its groups are hours, minutes and seconds. None: no times."""
    step: float = 0.1
    """Seconds of the last digit that is written."""
    rounds: bool = True
    """Whether the last digit is rounded, not cut."""
    repeated: int = 1
    """How often each time stands in the prompt."""
    images: str = "Qwen2VLImageProcessor"
    options: dict[str, Any] = field(default_factory=dict)
    video_options: dict[str, Any] = field(default_factory=dict)
    hears: bool = False
    """Whether it also takes sound."""
    token: str | None = None
    """Placeholder of a video, where it must be this one."""
    adapt: Callable[[Any], None] | None = None

    def build(self) -> Any:
        """The processor. Raises AttributeError where this `transformers` lacks it."""
        videos = getattr(transformers, self.videos)(
            image_mean=[0.5] * 3, image_std=[0.5] * 3, **self.video_options
        )
        sound = {"feature_extractor": transformers.WhisperFeatureExtractor()} if self.hears else {}
        special = {"video_token": self.token} if self.token else {}
        processor = getattr(transformers, self.processor)(
            image_processor=getattr(transformers, self.images)(),
            tokenizer=byte_tokenizer(**special),
            video_processor=videos,
            **sound,
            **self.options,
        )
        processor.chat_template = (
            "{% for m in messages %}{% for c in m['content'] %}{% if c['type'] == 'video' %}"
            + processor.video_token
            + "{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endfor %}"
        )
        if self.adapt:
            self.adapt(processor)
        return processor

    def times(self, processor: Any, ids: torch.Tensor) -> list[float]:
        """Those that a prompt states, in order; ids `[1, L]`."""
        marks = re.finditer(self.mark, processor.tokenizer.decode(ids[0]))
        return [seconds(mark.groups()) for mark in marks][:: self.repeated]

    def wanted(self, times: list[float]) -> list[float]:
        """What it makes of the times in the digits that it has."""
        if self.rounds:
            return times
        return [np.floor(time / self.step + 1e-6) * self.step for time in times]


def levels(found: Any, count: int) -> list[list[float]]:
    """The grey levels that each of `count` frames has in what a processor made of grey frames.

    A group of neighbours that a model sees as one is a frame: more than one level means that it
    holds more than one picture.
    """
    pixels = (
        found["pixel_values_videos"] if "pixel_values_videos" in found else found["pixel_values"]
    )
    # LLaVA-OneVision, InternVL and SmolVLM have a dimension for the video.
    pixels = pixels.flatten(0, 1) if pixels.ndim == 5 else pixels
    frames = pixels.reshape(count, -1).float()
    if "video_position_ids" in found:
        # Gemma fills up with empty patches.
        empty = (found["video_position_ids"] == -1).all(-1).reshape(count, -1, 1)
        patches = frames.reshape(count, empty.shape[1], -1)
        frames = torch.where(empty, patches[:, :1], patches).flatten(1)
    return [(frame * 100).round().unique().tolist() for frame in frames]


def no_drawing(processor: Any) -> None:
    """Keeps what Ernie would draw into each picture, which needs a font file."""
    processor.drawn = []

    def draw(image: torch.Tensor, text: str, **_: Any) -> torch.Tensor:
        processor.drawn.append(text)
        return image

    processor.video_processor._render_image_with_timestamp = draw


ANGLED = r"<([\d.]+) seconds>"
QWEN3 = {"videos": "Qwen3VLVideoProcessor", "mark": ANGLED}
MINUTES = {"mark": r"(\d\d):(\d\d) ", "step": 1, "rounds": False, "hears": True}

TIMED = {
    "qwen3_vl": Family("Qwen3VLProcessor", **QWEN3),
    "lfm3_vl": Family("Lfm3VlProcessor", **QWEN3),
    "cohere_compass": Family(
        "CohereCompassProcessor", "CohereCompassVideoProcessor", ANGLED, token="<|VIDEO_PAD|>"
    ),
    "cosmos3_edge": Family("Cosmos3EdgeProcessor", "Cosmos3EdgeVideoProcessor", ANGLED),
    "glm4v": Family(
        "Glm4vProcessor", "Glm4vVideoProcessor", r"<\|end_of_image\|>(\d+)", 1, rounds=False
    ),
    "glm46v": Family("Glm46VProcessor", "Glm46VVideoProcessor", r"([\d.]+) seconds"),
    "glm5_next": Family("Glm5NextProcessor", "Glm5NextVideoProcessor", r"([\d.]+) seconds"),
    "smolvlm": Family(
        "SmolVLMProcessor",
        "SmolVLMVideoProcessor",
        r"Frame from (\d\d):(\d\d):",
        1,
        rounds=False,
        images="SmolVLMImageProcessor",
        options={"image_seq_len": 4},
        token="<video>",
    ),
    "gemma4": Family("Gemma4Processor", "Gemma4VideoProcessor", **MINUTES),
    "gemma4_unified": Family("Gemma4UnifiedProcessor", "Gemma4UnifiedVideoProcessor", **MINUTES),
    "video_llama_3": Family(
        "VideoLlama3Processor", "VideoLlama3VideoProcessor", r"Time ([\d.]+)s:"
    ),
    "kimi_k25": Family(
        "Kimi_K25Processor",
        "Kimi_K25VideoProcessor",
        r"(\d\d):(\d\d):(\d\d\.\d\d\d)",
        0.001,
        # Its last digit is cut from a binary fraction: it can be one less.
        rounds=True,
    ),
    "minimax_m3_vl": Family(
        "MiniMaxM3VLProcessor", "MiniMaxM3VLVideoProcessor", r"\]<\]([\d.]+) seconds"
    ),
    "molmo2": Family("Molmo2Processor", "Molmo2VideoProcessor", r"([\d.]+) <frame_start>"),
    "nemotron_h_omni": Family(
        "NemotronH_Omni_Reasoning_V3Processor",
        "NemotronH_Omni_Reasoning_V3VideoProcessor",
        r"rame \d+ sampled at ([\d.]+) seconds",
        0.01,
        repeated=2,
        hears=True,
        video_options={"norm_mean": [0.5] * 3, "norm_std": [0.5] * 3},
    ),
    "muse_spark": Family(
        "MuseSparkProcessor", "MuseGlimmerVideoProcessor", r"Time: ([\d.]+)s", hears=True
    ),
    "muse_glimmer": Family("MuseGlimmerProcessor", "MuseGlimmerVideoProcessor", r"Time: ([\d.]+)s"),
    "ernie4_5_vl_moe": Family(
        "Ernie4_5_VLMoeProcessor",
        "Ernie4_5_VLMoeVideoProcessor",
        images="Ernie4_5_VLMoeImageProcessor",
        adapt=no_drawing,
    ),
}

STEPPED = {
    "qwen2_5_vl": Family("Qwen2_5_VLProcessor", "Qwen2VLVideoProcessor"),
    "qwen2_5_omni": Family("Qwen2_5OmniProcessor", "Qwen2VLVideoProcessor", hears=True),
    "qwen3_omni_moe": Family("Qwen3OmniMoeProcessor", "Qwen2VLVideoProcessor", hears=True),
}
"""Processors that know one step for all frames."""

SQUARE = {"size": {"height": 28, "width": 28}}
UNTIMED = {
    "qwen2_vl": Family("Qwen2VLProcessor", "Qwen2VLVideoProcessor"),
    "hyperclovax_vision_v2": Family("HyperCLOVAXVisionV2Processor", "Qwen2VLVideoProcessor"),
    "exaone4_5": Family("Exaone4_5_Processor", "Qwen2VLVideoProcessor"),
    "perception_lm": Family(
        "PerceptionLMProcessor",
        "PerceptionLMVideoProcessor",
        images="PerceptionLMImageProcessor",
        options={"patch_size": 14},
        video_options=SQUARE,
    ),
    "internvl": Family(
        "InternVLProcessor",
        "InternVLVideoProcessor",
        images="GotOcr2ImageProcessor",
        options={"image_seq_length": 4},
        video_options=SQUARE,
    ),
    "llava_onevision": Family(
        "LlavaOnevisionProcessor",
        "LlavaOnevisionVideoProcessor",
        images="LlavaOnevisionImageProcessor",
        options={"num_image_tokens": 4, "vision_feature_select_strategy": "full"},
        video_options=SQUARE,
    ),
    "llava_next_video": Family(
        "LlavaNextVideoProcessor",
        "LlavaNextVideoVideoProcessor",
        images="LlavaNextImageProcessor",
        options={"patch_size": 14, "vision_feature_select_strategy": "default"},
        video_options=SQUARE | {"crop_size": SQUARE["size"]},
    ),
    "video_llava": Family(
        "VideoLlavaProcessor",
        "VideoLlavaVideoProcessor",
        images="VideoLlavaImageProcessor",
        options={"patch_size": 14, "vision_feature_select_strategy": "default"},
        video_options=SQUARE | {"crop_size": SQUARE["size"]},
    ),
}
"""Processors whose prompts have no time of a frame."""
