"""Videos and questions drawn by the repository itself: they train and test the default model.

A video is a row of clips of 5 to 10 seconds. Each clip has a place (its background), an anchor (a
large shape with a white outline), one smaller shape on each side of the anchor, and a digit or
letter that flashes for one to two seconds beside it. Questions name the anchor and have one-word
answers:

* *overall* questions can be read off any frame of the clip (where is the red star?);
* *detail* questions need the places inside one frame (what colour is the shape left of it?);
* *between* questions ask for the flash, which is over before most frames of the clip are taken.
"""

from .questions import TYPES, Case, ask
from .scene import Clip, Layout, clip_frame, patch_labels, sample_clip, split_of_anchor
from .video import draw_video, plan_video, write_video

__all__ = [
    "TYPES",
    "Case",
    "Clip",
    "Layout",
    "ask",
    "clip_frame",
    "draw_video",
    "patch_labels",
    "plan_video",
    "sample_clip",
    "split_of_anchor",
    "write_video",
]
