"""A fixed code for everything a patch can show, shared by the projector and the language model.

A visual token is trained to be the sum of the codes of what it shows: the place, the colour and
shape of the frame's anchor, the patch's role (left, flash, ...), and its own colour, shape or
glyph. The codes are orthonormal, so a sum can be read back. Codes of the frame and of the role are
also the first word vectors of the same words, so that a question's "red" starts out near the
frames it is about.
"""

from functools import cache

import torch
from torch import Tensor

from ..drawn.palette import COLOUR_NAMES, GLYPHS, PLACES, SHAPES
from ..drawn.scene import ROLES
from .sizes import LANGUAGE, SEED

# Group -> words; class 0 of the patch groups means "nothing" and has the zero code.
GROUPS = {
    "place": PLACES,
    "anchor colour": COLOUR_NAMES,
    "anchor shape": SHAPES,
    "role": ROLES[1:],
    "own colour": COLOUR_NAMES,
    "own shape": SHAPES,
    "own glyph": GLYPHS,
}
PATCH_GROUPS = ("role", "own colour", "own shape", "own glyph")


@cache
def code_table() -> Tensor:
    """Codes of all groups in order, orthonormal rows, fp32 [sum of group sizes, hidden]."""
    count = sum(len(words) for words in GROUPS.values())
    generator = torch.Generator().manual_seed(SEED)
    square = torch.randn(LANGUAGE["hidden_size"], LANGUAGE["hidden_size"], generator=generator)
    return torch.linalg.qr(square)[0][:count].contiguous()


@cache
def group_codes(group: str) -> Tensor:
    """Codes of one group, [classes, hidden]; patch groups begin with a zero row for "nothing"."""
    start = 0
    for name, words in GROUPS.items():
        if name == group:
            rows = code_table()[start : start + len(words)]
            return (
                torch.cat([rows.new_zeros(1, rows.shape[1]), rows])
                if group in PATCH_GROUPS
                else rows
            )
        start += len(words)
    raise KeyError(group)


def token_codes(labels: dict[str, Tensor]) -> Tensor:
    """Sum of the codes of what patches show.

    Args:
        labels: group -> class numbers, all of one shape; see `bank.patch_classes`.
    Returns:
        [..., hidden] fp32.
    """
    return sum(group_codes(name)[labels[name].long()] for name in GROUPS)
