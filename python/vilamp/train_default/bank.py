"""Stage "bank": short clips that went through H.264 and the towers' resize.

Four frames of each clip are kept, as a viewer at one frame a second would meet them: one before the
flash, one during it, one after it and one more of the quiet ones. They are encoded and decoded as a
video.
"""

import io
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image
from safetensors.numpy import save_file
from safetensors.torch import load_file
from torch import Tensor

from ..drawn import clip_frame, patch_labels, sample_clip, write_video
from .progress import Progress
from .sizes import GRID, IMAGE, SEED

TRAIN_CLIPS, TEST_CLIPS, SHARD = 16_000, 1_000, 500
FRAMES = 4
FLASH = 1


@dataclass
class Bank:
    """Clips as arrays, n of them.

    frames: uint8 [n, 4, 3, 64, 64]; frame 1 is the flash.
    roles: uint8 [n, 4, 8, 8], class numbers of `drawn.scene.ROLES`.
    anchors: int64 [n, 3]: place, colour, shape.
    sides: int64 [n, 2, 4]: colours, shapes.
    glyphs: int64 [n].
    """

    frames: Tensor
    roles: Tensor
    anchors: Tensor
    sides: Tensor
    glyphs: Tensor

    def __len__(self) -> int:
        return len(self.glyphs)

    def first(self, count: int) -> "Bank":
        """The first clips alone."""
        return Bank(*(getattr(self, field.name)[:count] for field in fields(self)))


def _shard(job: tuple[Path, str, int]) -> None:
    path, split, number = job
    rng = np.random.default_rng([SEED, split == "test", number])
    clips = [sample_clip(rng, split) for _ in range(SHARD)]
    times = np.array([_times(clip, rng) for clip in clips])
    buffer = io.BytesIO()
    drawn = (clip_frame(clip, t) for clip, row in zip(clips, times, strict=True) for t in row)
    write_video(buffer, drawn, fps=1, crf=int(rng.integers(20, 29)))
    buffer.seek(0)
    frames = np.empty((SHARD * FRAMES, 3, IMAGE, IMAGE), np.uint8)
    with av.open(buffer) as container:
        for i, frame in enumerate(container.decode(video=0)):
            picture = frame.to_image().resize((IMAGE, IMAGE), Image.Resampling.BICUBIC)
            frames[i] = np.asarray(picture).transpose(2, 0, 1)
    roles = [patch_labels(c, t, GRID) for c, row in zip(clips, times, strict=True) for t in row]
    arrays = {
        "frames": frames.reshape(SHARD, FRAMES, 3, IMAGE, IMAGE),
        "roles": np.array(roles, np.uint8).reshape(SHARD, FRAMES, GRID, GRID),
        "anchors": np.array([c.anchor for c in clips]),
        "sides": np.array([(c.side_colours, c.side_shapes) for c in clips]),
        "glyphs": np.array([c.glyph for c in clips]),
    }
    part = path.with_suffix(".part")
    save_file(arrays, part)
    part.replace(path)


def _times(clip, rng) -> list[float]:
    before = rng.uniform(0, clip.flash_start)
    after = rng.uniform(clip.flash_end, clip.seconds)
    quiet = before if rng.random() < 0.5 else after
    again = (
        rng.uniform(0, clip.flash_start)
        if quiet is before
        else rng.uniform(clip.flash_end, clip.seconds)
    )
    return [before, rng.uniform(clip.flash_start, clip.flash_end), after, again]


def _jobs(folder: Path, train: int = TRAIN_CLIPS) -> list[tuple[Path, str, int]]:
    sizes = (("train", train), ("test", TEST_CLIPS))
    return [
        (folder / f"{split}-{number:03d}.safetensors", split, number)
        for split, clips in sizes
        for number in range(clips // SHARD)
    ]


def draw_bank(folder: Path, workers: int = 2, train: int = TRAIN_CLIPS) -> None:
    """Draw every shard that is not there yet, in `<folder>/bank`; `train` clips for training, a
    multiple of `SHARD`."""
    folder = folder / "bank"
    folder.mkdir(parents=True, exist_ok=True)
    jobs = _jobs(folder, train)
    missing = [job for job in jobs if not job[0].exists()]
    progress = Progress("bank", len(jobs), done=len(jobs) - len(missing))
    with ProcessPoolExecutor(workers) as pool:
        for _ in pool.map(_shard, missing):
            progress.step()


def load_bank(folder: Path, split: str, train: int = TRAIN_CLIPS) -> Bank:
    """Read all shards of a split, as `draw_bank` left them; about 50 KB of memory per clip."""
    parts: dict[str, list[Tensor]] = {}
    for path, name, _ in _jobs(folder / "bank", train):
        if name == split:
            for key, tensor in load_file(path).items():
                parts.setdefault(key, []).append(tensor)
    return Bank(**{key: torch.cat(tensors) for key, tensors in parts.items()})


def patch_classes(bank: Bank, clips: Tensor, frames: Tensor) -> dict[str, Tensor]:
    """What each patch of some frames shows, as class numbers of the groups in `codes.GROUPS`.

    Args:
        bank: the clips.
        clips, frames: int64 [n]: which clip, and which of its four frames.
    Returns:
        Group -> int64 [n, 64]; 0 means "nothing" in the groups of a single patch.
    """
    role = bank.roles[clips, frames].long().flatten(1)
    shape = role.shape
    place, colour, form = (bank.anchors[clips, i, None].expand(shape) for i in range(3))
    # Table per clip from role to own class: nothing, anchor, four sides, flash.
    nothing = torch.zeros_like(bank.glyphs[clips])[:, None]
    anchors, sides = bank.anchors[clips], bank.sides[clips]
    colours = torch.cat([nothing, anchors[:, 1:2] + 1, sides[:, 0] + 1, nothing], 1)
    forms = torch.cat([nothing, anchors[:, 2:3] + 1, sides[:, 1] + 1, nothing], 1)
    glyphs = torch.where(role == 6, bank.glyphs[clips, None] + 1, 0)
    return {
        "place": place,
        "anchor colour": colour,
        "anchor shape": form,
        "role": role,
        "own colour": colours.gather(1, role),
        "own shape": forms.gather(1, role),
        "own glyph": glyphs,
    }
