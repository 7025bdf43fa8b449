"""The drawn videos: same seed, same video; splits that share nothing; questions that are true."""

import itertools
import re

import av
import numpy as np
import pytest
from vilamp.drawn import TYPES, clip_frame, draw_video, patch_labels, plan_video, sample_clip
from vilamp.drawn.palette import COLOUR_NAMES, COLOURS, GLYPHS, PLACES, SHAPES, SIDES
from vilamp.drawn.questions import TEMPLATES, answers_of
from vilamp.drawn.scene import ROLES, split_of_anchor


def clips(split, count=200, seed=0):
    rng = np.random.default_rng(seed)
    return [sample_clip(rng, split) for _ in range(count)]


def read_frames(path):
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_same_seed_same_video_other_seed_other_video(tmp_path):
    first = draw_video(tmp_path / "a.mp4", seconds=20, seed=5, needles=2)
    second = draw_video(tmp_path / "b.mp4", seconds=20, seed=5, needles=2)
    other = draw_video(tmp_path / "c.mp4", seconds=20, seed=6, needles=2)
    assert first == second != other
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_file_is_h264_of_the_asked_length(tmp_path):
    draw_video(tmp_path / "v.mp4", seconds=12, seed=1, fps=3, size=96)
    with av.open(str(tmp_path / "v.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert (stream.width, stream.height, stream.average_rate) == (96, 96, 3)
    assert len(read_frames(tmp_path / "v.mp4")) == 36


def test_splits_share_no_anchor_no_layout_and_no_sentence():
    train, test = clips("train", 400), clips("test", 400)
    assert not {c.anchor for c in train} & {c.anchor for c in test}
    assert not {c.layout for c in train} & {c.layout for c in test}
    for kind in TYPES:
        assert not set(TEMPLATES["train"][kind]) & set(TEMPLATES["test"][kind])


def test_training_sees_every_value_of_the_test_anchors():
    anchors = itertools.product(range(len(PLACES)), range(len(COLOUR_NAMES)), range(len(SHAPES)))
    by_split = {"train": [], "test": []}
    for anchor in anchors:
        by_split[split_of_anchor(*anchor)].append(anchor)
    for i, values in enumerate((PLACES, COLOUR_NAMES, SHAPES)):
        for anchors in by_split.values():
            assert {anchor[i] for anchor in anchors} == set(range(len(values)))


def test_words_of_test_sentences_occur_in_training():
    def words(split):
        text = " ".join(itertools.chain.from_iterable(TEMPLATES[split].values()))
        return set(re.findall(r"[a-z]+", re.sub(r"\{\w+\}", " ", text)))

    # Two words that carry nothing are new to the tests.
    assert words("test") - words("train") == {"a", "something"}


def test_chance_is_at_most_fifteen_percent():
    assert len(TYPES) >= 5
    assert all(len(set(answers_of(kind))) == len(answers_of(kind)) >= 7 for kind in TYPES)


@pytest.mark.parametrize("seed", range(12))
def test_answers_agree_with_what_is_drawn(seed):
    row, cases = plan_video(200, seed, needles=list(TYPES))
    for case in cases:
        [clip] = [clip for start, clip in row if start == case.start]
        assert case.end == pytest.approx(case.start + clip.seconds)
        assert 0 <= case.start < case.end <= 200
        said = case.question.lower()
        named = {
            "place": PLACES[clip.place],
            "anchor colour": COLOUR_NAMES[clip.colour],
            "shape": SHAPES[clip.shape],
        }
        for name, value in named.items():
            if name != case.type:
                assert value in said
        others = [c for _, c in row if c is not clip]
        if case.kind == "detail":
            [side] = [i for i, (word, _, _) in enumerate(SIDES) if f" {word}" in f" {said}"]
            values = {
                "side colour": COLOUR_NAMES[clip.side_colours[side]],
                "side shape": SHAPES[clip.side_shapes[side]],
            }
            assert case.answer == values[case.type]
        elif case.kind == "between":
            assert case.answer == GLYPHS[clip.glyph]
        # Nothing else in the video fits what the question names.
        if case.type == "place":
            assert all((c.colour, c.shape) != (clip.colour, clip.shape) for c in others)
        elif case.type == "anchor colour":
            assert all((c.place, c.shape) != (clip.place, clip.shape) for c in others)
        else:
            assert all(c.anchor != clip.anchor for c in others)


def test_haystack_has_the_needle_s_place():
    row, [case] = plan_video(300, 3, needles=["digit"])
    [needle] = [clip for start, clip in row if start == case.start]
    assert sum(clip.place == needle.place for _, clip in row) >= 8


def test_flash_is_seen_once_or_twice_at_one_frame_a_second():
    for clip in clips("train", 100):
        for offset in (0.0, 0.31, 0.77):
            times = np.arange(offset, clip.seconds, 1.0)
            assert 1 <= sum(clip.flashing(t) for t in times) <= 2
        assert not clip.flashing(0) and not clip.flashing(clip.seconds)


def test_patches_show_what_their_labels_say():
    for clip in clips("test", 20):
        frame = clip_frame(clip, 0.1, 128).reshape(8, 16, 8, 16, 3)
        role = patch_labels(clip, 0.1, 8)
        assert {ROLES[i] for i in np.unique(role)} == {"none", "anchor", *(s[0] for s in SIDES)}
        # The anchor's colour is found in the patches of the anchor.
        colour = np.array(COLOURS[COLOUR_NAMES[clip.colour]])
        pixels = frame.transpose(0, 2, 1, 3, 4)[role == ROLES.index("anchor")].reshape(-1, 3)
        assert (np.abs(pixels.astype(int) - colour).max(1) < 45).mean() > 0.1


def test_flash_fills_few_patches_and_is_gone_after_its_time():
    for clip in clips("test", 20):
        during, after = clip.flash_start + 0.01, clip.flash_end + 0.01
        flash = patch_labels(clip, during, 8) == ROLES.index("flash")
        assert 2 <= flash.sum() <= 12
        assert not (patch_labels(clip, after, 8) == ROLES.index("flash")).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seconds": 15, "needles": 2}, "10 s for each"),
        ({"seconds": 60, "needles": ["sound"]}, "sound"),
        ({"seconds": 60, "split": "all"}, "split"),
    ],
)
def test_bad_arguments_are_named(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        draw_video(tmp_path / "v.mp4", seed=0, **arguments)
