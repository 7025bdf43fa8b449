"""Frames by presentation time from video files, folders of images, PIL images and arrays.

`open_video` is the door; docs/video.md says what it decides where videos leave room.
"""

from .opening import open_video
from .source import FrameSource
from .types import Frame, Skipped, VideoInfo

__all__ = ["Frame", "FrameSource", "Skipped", "VideoInfo", "open_video"]
