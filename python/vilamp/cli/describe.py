"""Results as JSON values and as lines of text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vilamp.clock import clock

if TYPE_CHECKING:
    from vilamp.memory import Plan
    from vilamp.model import ViLAMP
    from vilamp.session import Keyframe, SelectionResult
    from vilamp.video import FrameSource


def frames_as_dict(frames: FrameSource, selection: SelectionResult) -> dict[str, object]:
    """The video and the frames taken from it."""
    info = frames.info
    return {
        "path": info.path,
        "width": info.width,
        "height": info.height,
        "duration": info.duration,
        "codec": info.codec,
        "frame_rate": info.frame_rate,
        "sample_aspect_ratio": float(info.sample_aspect_ratio),
        "rotation": info.rotation,
        "frames": len(selection.times),
        "skipped": [place._asdict() for place in frames.skipped],
    }


def keyframes_as_dicts(keyframes: Sequence[Keyframe]) -> list[dict[str, object]]:
    """Each keyframe with its index among the frames, time, relevance and why it was chosen."""
    return [
        {
            "index": keyframe.index,
            "time": keyframe.time,
            "clock": clock(keyframe.time),
            "score": keyframe.score,
            "chosen": keyframe.chosen,
        }
        for keyframe in keyframes
    ]


def model_as_dict(name: str, model: ViLAMP) -> dict[str, object]:
    """Which model ran, by whose rules, where and how precisely."""
    return {
        "model": name,
        "compat": model.config.compat,
        "keyframes": model.config.keyframes,
        "device": str(model.device),
        "dtype": str(model.dtype).removeprefix("torch."),
    }


def memory_as_dict(plan: Plan, answered: bool = True) -> dict[str, object]:
    """How the work was divided, and the most memory that it was expected to take."""
    found: dict[str, object] = {"predicted_peak_bytes": plan.peak, "batch": plan.batch}
    if answered:
        found["prefill_chunk"] = plan.prefill_chunk
        found["release_towers"] = plan.release_towers
    return found


def keyframe_lines(keyframes: Sequence[Keyframe], columns: int = 80) -> str:
    """A heading, then times and scores side by side, as many as fit into `columns`."""
    cells = [
        f"{clock(k.time):>7} {k.score:6.3f}{'+' if k.chosen == 'fill' else ' '}" for k in keyframes
    ]
    per_line = max(1, columns // 18)
    filled = " (+ fills the budget)" if any(k.chosen == "fill" for k in keyframes) else ""
    rows = (cells[start : start + per_line] for start in range(0, len(cells), per_line))
    return "\n".join([f"Keyframes{filled}", *("  ".join(row).rstrip() for row in rows)])
