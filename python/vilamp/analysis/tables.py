"""The figures of a study as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from .study import POINTS


def frames_csv(rows: Sequence[dict[str, Any]]) -> bytes:
    """One line per question and frame: where its attention went."""
    lines = (
        (row["id"], number, f"{time:.3f}", f"{share:.9g}")
        for row in rows
        for number, (time, share) in enumerate(zip(row["times"], row["shares"], strict=True))
    )
    return _csv(("id", "frame", "seconds", "share"), lines)


def layers_csv(rows: Sequence[dict[str, Any]]) -> bytes:
    """One line per question and layer."""
    lines = (
        (row["id"], number, f"{layer['on_video']:.9g}", f"{layer['frames_for_90_share']:.9g}")
        for row in rows
        for number, layer in enumerate(row["layers"])
    )
    return _csv(("id", "layer", "on_video", "frames_for_90_share"), lines)


def curves_csv(summary: dict[str, Any]) -> bytes:
    """One line per point: what the top share of frames, and of a frame's patches, hold."""
    frames, patches = summary["frame_curve"], summary["patch_curve"]
    lines = (
        (
            (i + 1) / POINTS,
            f"{frames[i]:.9g}" if frames else "",
            f"{patches[i]:.9g}" if patches else "",
        )
        for i in range(POINTS)
    )
    return _csv(("share", "held_by_frames", "held_by_patches"), lines)


def _csv(head: Sequence[str], lines: Any) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(lines)
    # A file's name may have bytes that are no text.
    return text.getvalue().encode("utf-8", "replace")
