"""Types of PTX: widths, and how bits become numbers."""

from __future__ import annotations

import re

import numpy as np

U = {8: np.uint8, 16: np.uint16, 32: np.uint32, 64: np.uint64}
S = {8: np.int8, 16: np.int16, 32: np.int32, 64: np.int64}
F = {16: np.float16, 32: np.float32, 64: np.float64}

_WIDTHS = {"pred": 1, "bf16": 16, "bf16x2": 32, "f16x2": 32, "tf32": 32}

HEX_FLOAT = re.compile(r"0[fFdD]([0-9a-fA-F]{8}|[0-9a-fA-F]{16})")
DECIMAL = re.compile(r"-?\d+\.\d*([eE][+-]?\d+)?")


def width(t: str) -> int:
    """Bits of a type; 1 for predicates."""
    if t not in _WIDTHS:
        _WIDTHS[t] = int(re.sub(r"\D", "", t))
    return _WIDTHS[t]


def is_float(t: str) -> bool:
    return t in ("f16", "bf16", "f32", "f64")


def is_pair(t: str) -> bool:
    return t in ("bf16x2", "f16x2")


def dtype_of(t: str) -> type:
    """The numpy type in which values of a type are computed: halves in fp32."""
    if t == "pred":
        return np.bool_
    if t in ("f16", "bf16"):
        return np.float32
    return (F if is_float(t) else S if t[0] == "s" else U)[width(t)]


def bf16_to_f32(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def f32_to_bf16(values: np.ndarray) -> np.ndarray:
    """Round to the nearest, ties to even."""
    values = np.asarray(values, np.float32)
    bits = values.view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    rounded = (bits + np.uint32(0x7FFF) + odd) >> np.uint32(16)
    return np.where(np.isnan(values), np.uint32(0x7FFF), rounded).astype(np.uint16)


def halves(words: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Low and high half of 32-bit words, as fp32."""
    low, high = words.astype(np.uint16), (words >> np.uint32(16)).astype(np.uint16)
    if kind == "bf16":
        return bf16_to_f32(low), bf16_to_f32(high)
    return low.view(np.float16).astype(np.float32), high.view(np.float16).astype(np.float32)


def bits16(values: np.ndarray, kind: str) -> np.ndarray:
    """fp32 (or fp64) rounded to bf16 or fp16, as bits."""
    if kind == "bf16":
        return f32_to_bf16(values)
    return np.asarray(values).astype(np.float16).view(np.uint16)


def joined(low: np.ndarray, high: np.ndarray, kind: str) -> np.ndarray:
    """The inverse of `halves`."""
    low, high = bits16(low, kind), bits16(high, kind)
    return low.astype(np.uint32) | high.astype(np.uint32) << np.uint32(16)


def constant(text: str, t: str) -> np.generic:
    """A literal as a value of type `t`."""
    text = text.strip()
    dtype = dtype_of(t)
    if HEX_FLOAT.fullmatch(text):
        bits = int(text[2:], 16)
        value = U[32](bits).view(F[32]) if len(text) == 10 else U[64](bits).view(F[64])
        if is_float(t):
            return dtype(value)
        return U[width(t)](bits)
    if DECIMAL.fullmatch(text):
        return dtype(float(text))
    number = int(text.rstrip("U"), 0)
    if t == "pred":
        return np.bool_(number)
    w = width(t)
    bits = U[max(w, 8)](number & ((1 << w) - 1))
    if t == "bf16":
        return bf16_to_f32(np.array(bits))[()]
    if t == "f16":
        return np.float32(bits.view(np.float16))
    return bits.view(dtype)
