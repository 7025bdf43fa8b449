"""From watched attention to figures: one question, and the mean over many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from .curves import cumulative, needed
from .similarity import likeness
from .watched import Watched

FRAMES_PART, PATCHES_PART = 0.9, 0.8
"""Parts of the attention that are asked for: by frames, and by the patches of a frame."""
TOP_PART = 0.5
"""Part of the attention that the frames hold whose likeness is looked at."""

POINTS = 200
"""Of a curve, so that videos of different lengths can be averaged."""


def findings(watched: Watched) -> dict[str, Any]:
    """What one question's attention to one video shows, as JSON values.

    Keys:
        frames, tokens: of the video.
        on_video: part of the question's attention that goes to the video, mean over heads.
        frames_for_90: how many frames hold 90% of that, mean attention over layers and heads.
        frames_for_90_share: the same as a share of all frames.
        frames_for_90_by_head: the same, where each head ranks frames for itself.
        patches_for_80_share: share of a frame's patches that hold 80% of what the frame gets; null
            where frames have one token each.
        likeness: cosines among the frames that hold half of it, and among as many random ones;
            null for a single frame.
        frame_curve, patch_curve: part held by the top share of frames or patches, at `POINTS`
            even shares from 1 / POINTS to 1.
        shares, times: attention and time in seconds of each frame.
        layers: one object per layer with `on_video`, `frames_for_90_share` (of the layer's mean).
    """
    shares = watched.shares
    by_frame = shares.frame_shares()
    count = len(by_frame)
    top = needed(cumulative(by_frame), FRAMES_PART)
    patches = shares.patch_curve()
    alike = likeness(watched.features, by_frame, needed(cumulative(by_frame), TOP_PART))
    return {
        "frames": count,
        "tokens": len(shares.vision.positions),
        "on_video": float(torch.cat(shares.on_video).mean()),
        "frames_for_90": top,
        "frames_for_90_share": top / count,
        "frames_for_90_by_head": needed(shares.frame_curve(), FRAMES_PART) / count,
        "patches_for_80_share": (
            None if patches is None else needed(patches, PATCHES_PART) / len(patches)
        ),
        "likeness": alike and vars(alike),
        "frame_curve": at_even_shares(shares.frame_curve()),
        "patch_curve": None if patches is None else at_even_shares(patches),
        # Six digits keep a line of 10,000 frames below 300 kB.
        "shares": [float(f"{share:.6g}") for share in by_frame.tolist()],
        "times": [round(time, 3) for time in watched.times],
        "layers": [
            {
                "on_video": float(on_video.mean()),
                "frames_for_90_share": needed(cumulative(layer.mean(0)), FRAMES_PART) / count,
            }
            for layer, on_video in zip(shares.frames, shares.on_video, strict=True)
        ],
    }


_NUMBERS = (int, float)
_KINDS: dict[str, type | tuple[type, ...]] = {
    "question": str,
    "on_video": _NUMBERS,
    "frames_for_90_share": _NUMBERS,
    "frames_for_90_by_head": _NUMBERS,
    "patches_for_80_share": (*_NUMBERS, type(None)),
    "likeness": (dict, type(None)),
    "frame_curve": list,
    "patch_curve": (list, type(None)),
    "shares": list,
    "times": list,
    "layers": list,
}


def require_findings(row: Mapping[str, Any], path: Path) -> None:
    """Tell a line of a file that `findings` cannot have made.

    Raises:
        InputError: a value is missing, or of another kind.
    """
    for name, kind in _KINDS.items():
        value = row.get(name, ...)
        if not isinstance(value, kind):
            shown = "missing" if value is ... else f"{value!r:.60}"
            raise InputError(f"{path}: answer {row['id']!r}: {name} cannot be {shown}")
    curves = [row["frame_curve"], row["patch_curve"]]
    whole = (
        all(curve is None or len(curve) == POINTS for curve in curves)
        and len(row["shares"]) == len(row["times"]) > 0
        and all({"on_video", "frames_for_90_share"} <= set(layer) for layer in row["layers"])
        and (row["likeness"] is None or {"top", "random"} <= row["likeness"].keys())
    )
    if not whole:
        raise InputError(f"{path}: answer {row['id']!r} is damaged")


def at_even_shares(curve: Tensor) -> list[float]:
    """A curve `[n]` read at `POINTS` even shares, straight between its points and from (0, 0)."""
    n = len(curve)
    at = np.arange(1, POINTS + 1) / POINTS
    known = np.concatenate([[0.0], curve.double().numpy()])
    return np.interp(at, np.arange(n + 1) / n, known).tolist()


MEANS = ("on_video", "frames_for_90_share", "frames_for_90_by_head", "patches_for_80_share")


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means over questions, each counting once; a value that a question has not is left out."""
    found: dict[str, Any] = {"questions": len(rows)}
    for name in MEANS:
        values = [row[name] for row in rows if row[name] is not None]
        found[name] = float(np.mean(values)) if values else None
    alike = [row["likeness"] for row in rows if row["likeness"]]
    found["likeness"] = (
        {name: float(np.mean([a[name] for a in alike])) for name in ("top", "random")}
        if alike
        else None
    )
    for name in ("frame_curve", "patch_curve"):
        curves = [row[name] for row in rows if row[name] is not None]
        found[name] = np.mean(curves, axis=0).tolist() if curves else None
    return found
