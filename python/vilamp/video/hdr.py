"""High dynamic range (PQ, HLG) to ordinary 8-bit pictures."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

try:
    from ._tone_map import tone_map
except ImportError:  # it was not built
    tone_map = None

# AVColorTransferCharacteristic: SMPTE ST 2084 and ARIB STD-B67.
PQ, HLG = 16, 18

# Graphics white of HDR programmes in cd/m2, shown as full white of SDR (ITU-R BT.2408).
WHITE = 203.0
PEAK = 1000.0 / WHITE
# Brightness below which nothing is compressed.
KNEE = 0.3
# Above it: SCALE * (x + A) / (x + B), a hyperbola through (PEAK, 1) with slope 1 at the knee.
A = -KNEE * KNEE * (PEAK - 1) / (KNEE * KNEE - 2 * KNEE + PEAK)
B = (KNEE * KNEE - 2 * KNEE * PEAK + PEAK) / (PEAK - 1)
SCALE = (B + KNEE) ** 2 / (B - A)

# Linear light BT.2020 to BT.709 (ITU-R BT.2087).
TO_BT709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]],
    dtype=np.float32,
)
LUMINANCE = np.array([0.2627, 0.6780, 0.0593], dtype=np.float32)
# Luminance below which the system gamma of HLG stays as it is there.
DARKEST = 1e-6
ROWS = 128
STEPS = 16383


def is_hdr(transfer: int) -> bool:
    """Whether the transfer characteristic is PQ or HLG."""
    return transfer in (PQ, HLG)


def to_sdr(image: np.ndarray, transfer: int) -> np.ndarray:
    """uint16 `[H, W, 3]` RGB, BT.2020, PQ or HLG, to uint8 `[H, W, 3]`, BT.709 primaries.

    Light is decoded, the brightest component compressed smoothly from `KNEE` to the peak of
    1000 cd/m2 (hue kept), primaries converted, and the result encoded for a 2.2 display.
    """
    return planes_to_sdr(np.moveaxis(image, 2, 0), transfer)


def planes_to_sdr(planes: Sequence[np.ndarray], transfer: int) -> np.ndarray:
    """The same of red, green and blue apart, uint16 `[H, W]` each.

    The C++ module does it where there is one. NumPy gives the same to within one level, in the
    darkest parts four, but takes several times as long.
    """
    for plane in planes:
        if plane.dtype != np.uint16:
            raise ValueError(f"HDR: wanted uint16, given {plane.dtype}")
    if tone_map is None:
        return _by_numpy(planes, transfer)
    return tone_map(
        # A plane is copied only where its last stride is not that of one code.
        codes=[p if p.strides[-1] == p.itemsize else np.ascontiguousarray(p) for p in planes],
        light=_light_table(transfer),
        gain=_gain_table() if transfer == HLG else None,
        levels=_display_table(),
        luminance=LUMINANCE.tolist(),
        primaries=TO_BT709.ravel().tolist(),
        curve=(KNEE, SCALE, A, B),
    )


def _by_numpy(planes: Sequence[np.ndarray], transfer: int) -> np.ndarray:
    light = _light_table(transfer)
    encode = _display_table()
    out = np.empty((*planes[0].shape, 3), dtype=np.uint8)
    # Few rows at a time: the working copies are four times as large as the picture.
    for top in range(0, len(out), ROWS):
        linear = np.stack([light[plane[top : top + ROWS]] for plane in planes], axis=2)
        if transfer == HLG:
            linear *= _system_gamma(linear @ LUMINANCE)[..., None]
        brightest = np.maximum(linear.max(axis=2, keepdims=True), KNEE)
        linear *= np.minimum(SCALE * (brightest + A) / (brightest + B), 1) / brightest
        linear = np.clip(linear @ TO_BT709.T, 0, 1)
        out[top : top + ROWS] = encode[(linear * STEPS + 0.5).astype(np.int16)]
    return out


def _system_gamma(luminance: np.ndarray) -> np.ndarray:
    """What scene light is multiplied with: gamma 1.2 of a 1000 cd/m2 display (ITU-R BT.2100)."""
    return np.maximum(luminance, DARKEST) ** 0.2 * PEAK


@lru_cache(maxsize=2)
def _light_table(transfer: int) -> np.ndarray:
    """float32 `[65536]`: PQ in units of `WHITE`; HLG scene light in 0..1."""
    code = np.linspace(0, 1, 65536)
    if transfer == PQ:
        m1, m2 = 2610 / 16384, 2523 / 32
        c1, c2, c3 = 3424 / 4096, 2413 / 128, 2392 / 128
        root = code ** (1 / m2)
        light = (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)
        return (light * 10000 / WHITE).astype(np.float32)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    light = np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)
    return light.astype(np.float32)


@lru_cache(maxsize=1)
def _gain_table() -> np.ndarray:
    """float32 `[STEPS + 1]`: the root of HLG luminance 0..1 to `_system_gamma`."""
    return _system_gamma(np.linspace(0, 1, STEPS + 1) ** 2).astype(np.float32)


@lru_cache(maxsize=1)
def _display_table() -> np.ndarray:
    """uint8 `[STEPS + 1]`: linear light 0..1 to codes of a display of gamma 2.2."""
    return np.round(255 * np.linspace(0, 1, STEPS + 1) ** (1 / 2.2)).astype(np.uint8)
