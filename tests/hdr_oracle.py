"""The conversion of HDR pictures once more in fp64, as plainly as possible, sharing no code."""

from __future__ import annotations

import numpy as np

PQ, HLG = 16, 18
BT709, BT2020 = 1, 9
LIMITED, FULL = 1, 2
# ITU-R BT.2020 and BT.709: weights of red and blue in luma.
WEIGHTS = {BT709: (0.2126, 0.0722), BT2020: (0.2627, 0.0593)}


def rgb_of(codes, bits, matrix, colour_range):
    """YCbCr codes `[..., 3]` to R'G'B' of which 0..1 is shown (ITU-T H.273)."""
    codes = np.asarray(codes, np.float64) / 2 ** (bits - 8)
    luma, chroma = (codes[..., 0] - 16) / 219, (codes[..., 1:] - 128) / 224
    if colour_range == FULL:
        whole = 256 - 2.0 ** (8 - bits)
        luma, chroma = codes[..., 0] / whole, (codes[..., 1:] - 128) / whole
    wr, wb = WEIGHTS[matrix]
    r, b = luma + 2 * (1 - wr) * chroma[..., 1], luma + 2 * (1 - wb) * chroma[..., 0]
    g = (luma - wr * r - wb * b) / (1 - wr - wb)
    return np.stack([r, g, b], -1)


def codes_of(rgb, bits, matrix, colour_range):
    """The nearest YCbCr codes of R'G'B' in 0..1."""
    wr, wb = WEIGHTS[matrix]
    r, g, b = rgb
    luma = wr * r + (1 - wr - wb) * g + wb * b
    chroma = np.array([(b - luma) / (2 - 2 * wb), (r - luma) / (2 - 2 * wr)])
    if colour_range == FULL:
        whole, middle = 2**bits - 1, 2 ** (bits - 1)
        values = [luma * whole, *(middle + chroma * whole)]
    else:
        scale = 2 ** (bits - 8)
        values = [(16 + 219 * luma) * scale, *((128 + 224 * chroma) * scale)]
    return np.clip(np.round(values), 0, 2**bits - 1).astype(int)


def light_of(rgb, transfer):
    """R'G'B' `[..., 3]` in 0..1, BT.2020, to compressed light with BT.709 primaries, unclipped."""
    if transfer == PQ:
        # SMPTE ST 2084, in units of graphics white.
        root = rgb ** (32 / 2523)
        ratio = np.maximum(root - 107 / 128, 0) / (2413 / 128 - 2392 / 128 * root)
        light = 10000 / 203 * ratio ** (16384 / 2610)
    else:
        # ARIB STD-B67 and the system gamma of a display of 1000 cd/m2.
        high = (np.exp((rgb - 0.55991073) / 0.17883277) + 0.28466892) / 12
        light = np.where(rgb <= 0.5, rgb**2 / 3, high)
        luminance = light @ np.array([0.2627, 0.6780, 0.0593])
        light = light * 1000 / 203 * np.maximum(luminance, 1e-6)[..., None] ** 0.2
    # Mobius curve: knee 0.3, peak 1000 cd/m2.
    knee, peak = 0.3, 1000 / 203
    a = -(knee**2) * (peak - 1) / (knee**2 - 2 * knee + peak)
    b = (knee**2 - 2 * knee * peak + peak) / (peak - 1)
    top = np.maximum(light.max(-1, keepdims=True), 1e-9)
    curve = (b * b + 2 * b * knee + knee**2) / (b - a) * (top + a) / (top + b)
    light = light * np.where(top <= knee, 1, np.minimum(curve, 1) / top)
    # ITU-R BT.2087.
    to_bt709 = [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]
    return light @ np.array(to_bt709).T


def levels_of(light):
    """Light to levels of a display of gamma 2.2, not rounded."""
    return 255 * np.clip(light, 0, 1) ** (1 / 2.2)
