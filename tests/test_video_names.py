"""Names of images in a folder, in any script: read in natural order."""

import os
import unicodedata
from pathlib import Path

import pytest
from PIL import Image
from video_files import number_of, numbered
from vilamp.video import open_video
from vilamp.video.names import natural_key


@pytest.mark.parametrize(
    "names",
    [
        ["①1.png", "①2.png", "①10.png", "②1.png"],
        ["x9.png", "x10²3.png", "x10³1.png", "x11.png"],
        ["f¹.png", "f².png", "f³.png", "f⁴.png"],
        ["⑨.png", "⑩.png", "⑳.png"],
        ["p٢.png", "p٩.png", "p١٠.png"],
        ["p2.png", "p9.png", "p10.png"],
        # Equal numbers: by the name itself, so the order is the same on every file system.
        ["f01.png", "f1.png", "f002.png", "f2.png"],
        ["½.png", "Ⅳ.png", "Ⅴ.png"],
        ["a½2.png", "a½10.png"],
        ["𝟙.png", "𝟚.png", "𝟙𝟘.png"],
    ],
    ids=ascii,
)
def test_natural_order_in_any_script(tmp_path, names):
    for number, name in enumerate(names):
        Image.fromarray(numbered(number)).save(tmp_path / name)
    frames = list(open_video(tmp_path))
    assert [number_of(f.image) for f in frames] == list(range(len(names)))


def test_bytes_that_are_no_text(tmp_path):
    folder = os.fsencode(tmp_path)
    for number, name in enumerate([b"\xff2.png", b"\xff10.png"]):
        try:
            Image.fromarray(numbered(number)).save(os.fsdecode(folder + b"/" + name))
        except OSError:
            pytest.skip("this file system takes text only")
    assert [number_of(f.image) for f in open_video(tmp_path)] == [0, 1]


def test_long_runs_of_digits():
    names = ["9" * 5000, "1" + "0" * 5000, "1" + "0" * 4999 + "1"]
    assert sorted(reversed(names), key=lambda name: natural_key(Path(name))) == names


def test_every_kind_of_number_has_a_place():
    numbers = [c for c in map(chr, range(0x20000)) if unicodedata.category(c)[0] == "N"]
    names = [Path(f"a{c}1") for c in numbers]
    keys = sorted(map(natural_key, names))
    assert len({name for _, name in keys}) == len(names) > 1000
