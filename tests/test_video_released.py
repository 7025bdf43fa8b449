"""The sampling of the published evaluation scripts, against what they chose."""

import json
from fractions import Fraction

import av
import numpy as np
import pytest
from video_files import number_of, write_video
from vilamp.errors import VideoError
from vilamp.video import open_video
from vilamp.video.sampling import plan_by_time, released_positions, thin


@pytest.fixture(scope="module")
def cases(golden_dir):
    path = golden_dir / "frame_sampling.json"
    if not path.exists():
        pytest.skip(f"no {path.name} in {golden_dir}")
    return json.loads(path.read_text())["cases"]


def test_positions_of_the_published_reader(cases):
    checked = refused = 0
    for case in cases:
        arguments = case["total_frames"], case["fps"], case["max_frame_num"]
        if case.get("error"):
            with pytest.raises(VideoError, match="released sampling wants a video of at least 1"):
                released_positions(*arguments)
            refused += 1
        else:
            assert released_positions(*arguments).tolist() == case["indices"], case
            checked += 1
    assert checked >= 10 and refused >= 2


def test_unknown_rate_is_named():
    with pytest.raises(VideoError, match="its rate is unknown"):
        released_positions(100, None, None)
    with pytest.raises(VideoError, match=r"its rate is 0\.5"):
        released_positions(100, 0.5, None)


def test_thinning_to_more_than_anyone_can_look_at():
    with pytest.raises(VideoError, match="wanted at most 1000000 sampled frames"):
        thin(10**12, 10**11)


def test_thinning_truncates():
    assert thin(10, 4).tolist() == [0, 3, 6, 9]
    assert thin(11, 4).tolist() == [0, 3, 6, 10]
    assert thin(5, 8).tolist() == [0, 1, 2, 3, 4]
    assert thin(0, 8).tolist() == []
    assert thin(9, 1).tolist() == [0]


def test_released_frames_of_a_file(tmp_path):
    path = write_video(tmp_path / "v.mp4", stamps=range(100), rate=12)
    frames = list(open_video(path, sampling="released"))
    assert [number_of(f.image) for f in frames] == list(range(0, 100, 12))
    assert [f.time for f in frames] == pytest.approx([k / 12 for k in range(0, 100, 12)], abs=1e-3)
    thinned = list(open_video(path, sampling="released", max_frames=4))
    assert [number_of(f.image) for f in thinned] == [0, 24, 60, 96]


def test_released_sampling_of_real_video(video_dir):
    source = open_video(video_dir / "nasa_13013_rotated.mp4", sampling="released", max_frames=600)
    with av.open(str(video_dir / "nasa_13013_rotated.mp4")) as container:
        total = sum(1 for _ in container.decode(video=0))
    assert source.info.frame_count == total == 17
    assert len(source) == len(released_positions(total, 30000 / 1001, 600)) == 1


def test_released_sampling_of_a_slow_video_is_refused(tmp_path):
    path = write_video(tmp_path / "slow.mp4", stamps=range(0, 20, 4), rate=1)
    with pytest.raises(VideoError, match="released sampling wants"):
        open_video(path, sampling="released")
    assert len(open_video(path)) >= 16


def test_time_plan_is_exact_far_from_zero():
    # three hours at 90 kHz from a start that floats cannot hold exactly together with 1 / 3
    start, tick = 2**40 + 7, Fraction(1, 90_000)
    plan = plan_by_time(start, start + 3 * 3600 * 90_000, tick, Fraction(1, 3), None)
    assert len(plan) == 3600
    assert ((plan.ticks - start) // 270_000 == np.arange(3600)).all()
    assert ((plan.ticks - start) % 270_000 <= 1).all()


def test_endless_video_is_refused():
    with pytest.raises(VideoError, match="wanted at most 1000000 sampled frames"):
        plan_by_time(0, 10**13, Fraction(1, 1000), Fraction(1), None)
    assert len(plan_by_time(0, 10**13, Fraction(1, 1000), Fraction(1), 600)) == 600
