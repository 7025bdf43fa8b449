"""What the paper reports, to be shown beside a measurement, and never as one."""

from __future__ import annotations

SOURCE = "ViLAMP 7B, reported by its paper (arXiv:2504.02438)"

REPORTED = {
    ("video-mme", False): 67.5,
    ("video-mme", True): 73.5,
    ("mlvu", False): 72.6,
    ("longvideobench", False): 61.2,
    ("egoschema", False): 70.2,
    ("lvbench", False): 45.2,
}
"""Percent, by benchmark and whether with subtitles."""


def reported(benchmark: str, subtitles: bool) -> float | None:
    """Percent that the paper reports; None when it reports none."""
    return REPORTED.get((benchmark, subtitles))
