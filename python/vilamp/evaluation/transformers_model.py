"""A video-language model of `transformers` with evenly spaced frames: what others are compared to.

Any architecture that `AutoModelForImageTextToText` knows, from a local folder, safetensors only and
without any code of that folder. Frames go in as one video where the model's processor takes videos,
with their times, else as one image each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..arguments import whole
from ..errors import CheckpointError, InputError, VideoError
from ..finite import LOGITS, not_finite
from ..inputs import device_of, dtype_of
from ..precision import precision_name
from ..video import FrameSource
from ..video.fit import fit
from .models import Question, Reply, weights_fingerprint
from .video_input import METADATA, STEPS, mean_step, video_arguments

FRAMES = 32


class TransformersVideoModel:
    """Answers from `frames` frames, in the middle of as many equal parts of the video.

    Args:
        folder: of the model and its processor.
        frames: that the model sees; all of them in a shorter video.
        device, dtype: as in `ViLAMP.from_pretrained`; fp32 when None.
        max_new_tokens: longest answer.
        name: in tables and figures; the folder's own when None.
    Raises:
        CheckpointError: the folder holds no such model, or no processor.
        InputError: frames below 1, or no such device or dtype.
    """

    def __init__(
        self,
        folder: str | Path,
        frames: int = FRAMES,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | str | None = None,
        max_new_tokens: int = 64,
        name: str | None = None,
    ):
        frames = whole("frames", frames)
        folder = Path(folder)
        if not folder.is_dir():
            raise CheckpointError(f"{folder}: no such folder")
        self.frames, self.max_new_tokens = frames, max_new_tokens
        self.name = name or f"{folder.resolve().name}, {frames} uniform frames"
        self.model, self.processor = _load(folder, device_of(device), dtype_of(dtype, None))

    def settings(self) -> dict[str, Any]:
        return {
            "weights": weights_fingerprint(self.model),
            "dtype": precision_name(self.model.dtype, self.model.device),
            "frames": self.frames,
            # Answers to frames without times, or fused in pairs, are answers to something else.
            "input": "timed frames",
            "max_new_tokens": self.max_new_tokens,
        }

    @torch.no_grad()
    def answers(self, video: FrameSource, questions: Sequence[Question]) -> Iterator[Reply]:
        numbers = evenly_spaced(len(video), self.frames)
        pictures, times = pictures_at(video, numbers)
        for number, question in enumerate(questions):
            inputs = self.inputs(pictures, question.text, times, video.info.duration)
            ids = self.model.generate(
                **inputs,
                max_new_tokens=self.max_new_tokens,
                do_sample=False,
                logits_processor=[partial(self._require_finite, number)],
            )
            new = ids[:, inputs["input_ids"].shape[1] :]
            (text,) = self.processor.batch_decode(new, skip_special_tokens=True)
            yield Reply(text.strip(), numbers)

    def _require_finite(self, number: int, ids: Tensor, logits: Tensor) -> Tensor:
        """The logits `[1, V]` of the next token of a question, as they are.

        Raises:
            NotFiniteError: one is NaN or infinite. -inf among others is a token that is ruled out.
        """
        # NaN counts as the greatest.
        if not torch.isfinite(logits.max()):
            raise not_finite(LOGITS, self.model.dtype, number)
        return logits

    def inputs(
        self,
        pictures: np.ndarray,
        text: str,
        times: Sequence[float],
        duration: float | None = None,
    ) -> dict[str, Any]:
        """The model's arguments for a video and a question.

        Args:
            pictures: uint8 `[n, H, W, 3]`, frames of the video.
            text: the question.
            times: of the frames, n seconds, ascending.
            duration: of the whole video in seconds; the last time when None.
        Raises:
            InputError: the processor of this version of transformers refuses them.
        """
        videos = getattr(self.processor, "video_processor", None) is not None
        seen = [{"type": "video"}] if videos else [{"type": "image"}] * len(pictures)
        turn = {"role": "user", "content": [*seen, {"type": "text", "text": text}]}
        prompt = self.processor.apply_chat_template(
            [turn], add_generation_prompt=True, tokenize=False
        )
        frames = (
            video_arguments(self.processor, pictures, times, duration)
            if videos
            else {"images": list(pictures)}
        )
        try:
            found = self.processor(text=[prompt], return_tensors="pt", **frames)
        except (TypeError, ValueError) as error:
            # Video-LLaVA's takes no times in 5.0, and SmolVLM's takes frames for videos in 5.17.
            reason = str(error).strip().split("\n")[0]
            raise InputError(
                f"{type(self.processor).__name__} of transformers {transformers_version()} cannot "
                f"read these frames ({reason}); a newer transformers may"
            ) from error
        return {
            name: self._step(value, times) if name in STEPS else self._moved(value)
            for name, value in found.items()
            if name != METADATA
        }

    def _moved(self, value: Any) -> Any:
        """On the model's device, pixels in its dtype."""
        if not isinstance(value, torch.Tensor):
            return value
        dtype = self.model.dtype if value.is_floating_point() else None
        return value.to(self.model.device, dtype)

    def _step(self, value: Any, times: Sequence[float]) -> Tensor:
        """The seconds between frames, in fp32: bf16 has three digits."""
        # What the processor makes of the times is the duration over the number of frames.
        step = mean_step(times) if len(times) > 1 else float(value[0])
        return torch.full((len(value),), step, dtype=torch.float32, device=self.model.device)


def evenly_spaced(count: int, frames: int) -> list[int]:
    """Numbers of the frames in the middle of `frames` equal parts of `count`."""
    k = min(count, frames)
    return [int((i + 0.5) * count / k) for i in range(k)]


def pictures_at(video: FrameSource, numbers: Sequence[int]) -> tuple[np.ndarray, list[float]]:
    """uint8 `[n, H, W, 3]`, all of the size of the first, and their times in seconds.

    Raises:
        VideoError: the video has fewer frames than it had.
    """
    wanted, found, times = set(numbers), [], []
    for frame in video:
        if frame.index in wanted:
            height, width = (found[0] if found else frame.image).shape[:2]
            found.append(fit(frame.image, width, height))
            times.append(frame.time)
            if len(found) == len(wanted):
                break
    if len(found) < len(wanted):
        raise VideoError(
            f"{video.info.path or 'video'}: changed while it was read, wanted {len(wanted)} "
            f"frames, got {len(found)}"
        )
    return np.stack(found), times


def transformers_version() -> str:
    import transformers

    return transformers.__version__


def _load(folder: Path, device: torch.device, dtype: torch.dtype) -> tuple[Any, Any]:
    from transformers import AutoModelForImageTextToText, AutoProcessor
    from transformers.utils import logging

    # Bars are the caller's business.
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    local = {"local_files_only": True, "trust_remote_code": False}
    try:
        model = AutoModelForImageTextToText.from_pretrained(
            folder, use_safetensors=True, dtype=dtype, **local
        )
        processor = AutoProcessor.from_pretrained(folder, **local)
    except Exception as error:
        # Files of strangers, read by other libraries: any kind of error.
        reason = str(error).strip().split("\n")[0]
        raise CheckpointError(f"{folder}: no model that can be loaded ({reason})") from error
    finally:
        if shown:
            logging.enable_progress_bar()
    if getattr(processor, "chat_template", None) is None:
        raise CheckpointError(f"{folder}: its processor has no chat template")
    return model.to(device).eval(), processor
