"""The report page and the contact sheet, made from an invented answer."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from vilamp.clock import clock
from vilamp.report import Exchange, Report, contact_sheet, merged_frames, page
from vilamp.report.choose import preceding
from vilamp.report.overlay import concentration, overlay
from vilamp.report.sheet import MARGIN
from vilamp.report.timeline import COLUMNS, HOVERS
from vilamp.session import Answer, Illustration, Keyframe, SelectionResult
from vilamp.video import Frame

HOSTILE = '</h1><script>alert(\'x\')</script><img src=x onerror="alert(1)"> & "quoted"?'
VOID = {"meta", "img", "br", "path"}


class Outline(HTMLParser):
    """Elements with their attributes; fails on tags that are not closed in order."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, list[str]] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.text.setdefault(self.open[-1], []).append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def parsed(html: str) -> Outline:
    outline = Outline()
    outline.feed(html)
    outline.close()
    assert outline.open == []
    return outline


def frame(index: int, time: float) -> Frame:
    return Frame(index, time, np.full((36, 64, 3), 4 * index, dtype=np.uint8), pts=time)


def answered(
    question: str = "What is it?", text: str = "a star", frames: int = 60, step: float = 1.0
) -> Answer:
    """An answer over invented frames: keyframes 5, 20, 40, the last one a fill."""
    times = [step * n for n in range(frames)]
    scores = [0.2 + 0.1 * np.sin(n / 7).item() for n in range(frames)]
    keyframes = [
        Keyframe(index=n, time=times[n], score=scores[n], chosen=chosen)
        for n, chosen in ((5, "score"), (20, "score"), (40, "fill"))
    ]
    selection = SelectionResult(question, keyframes, scores, times)
    weights = np.full((4, 4), 0.01, dtype=np.float32)
    weights[1, 2] = 1 - 0.15
    shown = [(5, None), (12, weights), (20, None), (30, weights), (40, None)]
    return Answer(
        question=question,
        text=text,
        selection=selection,
        visual_tokens=70,
        prompt_tokens=90,
        new_tokens=2,
        timings={"embed": 1.5, "answer": 0.25},
        illustrations=[Illustration(frame(n, times[n]), weights) for n, weights in shown],
    )


def report(*exchanges: Exchange, **changes) -> Report:
    values = {
        "video": "clip.mp4",
        "facts": ["01:00", "h264"],
        "duration": 60.0,
        "exchanges": exchanges or (Exchange(answered()),),
        "settings": {"model": "default"},
    }
    return Report(**{**values, **changes})


def test_page_shows_the_question_the_answer_and_the_frames():
    outline = parsed(page(report()))
    assert outline.text["h1"] == ["What is it?"]
    assert "a star" in outline.text["p"]
    pictures = [image for image in outline.of("img") if image.get("class") != "heat"]
    assert [image["alt"] for image in pictures] == [
        "Keyframe at 00:05",
        "Keyframe at 00:20",
        "Keyframe at 00:40",
        "Frame at 00:12",
        "Frame at 00:30",
    ]
    dots = outline.of("a")
    assert [dot["href"] for dot in dots] == ["#q1-0", "#q1-1", "#q1-2"]
    assert [dot["class"] for dot in dots] == ["dot score", "dot score", "dot fill"]
    targets = {attributes.get("id") for _, attributes in outline.elements}
    assert {dot["href"][1:] for dot in dots} <= targets


def test_page_needs_nothing_from_outside():
    html = page(report())
    outline = parsed(html)
    assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in outline.elements}
    for _, attributes in outline.elements:
        assert (attributes.get("src") or "data:").startswith(
            "data:image/"
        ) or "src" not in attributes
        assert (attributes.get("href") or "#").startswith("#")
        assert not any(name.startswith("on") for name in attributes)
    policy = next(meta["content"] for meta in outline.of("meta") if "http-equiv" in meta)
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "url(" not in html
    assert "@import" not in html
    assert "://" not in html


def test_pictures_are_real_and_small():
    outline = parsed(page(report()))
    for image in outline.of("img"):
        kind, content = re.fullmatch(r"data:image/(\w+);base64,(.+)", image["src"]).groups()
        picture = Image.open(io.BytesIO(base64.b64decode(content)))
        assert picture.format.lower() == kind
        assert picture.size == ((4, 4) if image.get("class") == "heat" else (64, 36))


@pytest.mark.parametrize("field", ["question", "answer", "video", "fact", "truth", "setting"])
def test_hostile_text_stays_text(field: str):
    clean = parsed(page(report(Exchange(answered(), "a circle"))))
    exchange = Exchange(
        answered(
            HOSTILE if field == "question" else "What is it?",
            HOSTILE if field == "answer" else "a star",
        ),
        HOSTILE if field == "truth" else "a circle",
    )
    changes = {
        "video": {"video": HOSTILE},
        "fact": {"facts": [HOSTILE, "h264"]},
        "setting": {"settings": {HOSTILE: HOSTILE}},
    }.get(field, {})
    html = page(report(exchange, **changes))
    assert "<script" not in html
    outline = parsed(html)
    # The same elements as with harmless words: nothing was broken open.
    assert [tag for tag, _ in outline.elements] == [tag for tag, _ in clean.elements]
    assert any(HOSTILE in "".join(words) for words in outline.text.values())


def test_truth_says_whether_the_answer_is_right():
    right = page(report(Exchange(answered(text=" A Star "), "a star")))
    wrong = page(report(Exchange(answered(), "a circle")))
    assert 'class="truth right"' in right
    assert 'class="truth wrong"' in wrong
    assert 'class="truth' not in page(report())


def test_several_questions_have_anchors_of_their_own():
    outline = parsed(page(report(Exchange(answered("One?")), Exchange(answered("Two?")))))
    assert outline.text["h1"] == ["One?", "Two?"]
    ids = [attributes["id"] for _, attributes in outline.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_long_video_stays_small_and_keeps_its_peak():
    answer = answered(frames=20_000, step=2.0)
    answer.selection.scores[12_345] = 0.9
    html = page(report(Exchange(answer), duration=40_000.0))
    outline = parsed(html)
    assert len(outline.of("rect")) <= HOVERS
    line = next(p for p in outline.of("path") if p["class"] == "line")
    heights = [float(y) for _, y in re.findall(r"([\d.]+) ([\d.]+)", line["d"])]
    assert len(heights) <= COLUMNS
    assert min(heights) < 0.5 * sorted(heights)[1]
    assert "6:51:30 · relevance 0.900" in "".join(outline.text["title"])
    assert len(html) < 150_000


@pytest.mark.parametrize(
    "scores", [[0.5], [0.5, 0.5], [float("nan"), 0.2], [float("nan")] * 2], ids=str
)
def test_flat_and_undefined_scores(scores: list[float]):
    times = [float(n) for n in range(len(scores))]
    keyframes = [Keyframe(0, 0.0, scores[0], "score")]
    answer = answered()
    answer = Answer(
        **{**vars(answer), "selection": SelectionResult("Q?", keyframes, scores, times)}
        | {"illustrations": answer.illustrations[:0]}
    )
    outline = parsed(page(report(Exchange(answer), duration=0.0)))
    numbers = [p["d"] for p in outline.of("path")] + [a["style"] for a in outline.of("a")]
    assert not any("nan" in number for number in numbers)


def test_merged_frames_are_the_best_of_their_gaps():
    selection = answered().selection
    chosen = merged_frames(selection, count=2)
    keyframes = [keyframe.index for keyframe in selection.keyframes]
    assert chosen == sorted(chosen)
    assert not set(chosen) & set(keyframes)
    assert len({preceding(keyframes, index) for index in chosen}) == 2
    best = max((s, n) for n, s in enumerate(selection.scores) if n not in keyframes)[1]
    assert best in chosen


def test_no_merged_frame_where_all_are_keyframes():
    keyframes = [Keyframe(n, float(n), 0.1, "score") for n in range(3)]
    assert merged_frames(SelectionResult("Q?", keyframes, [0.1] * 3, [0.0, 1.0, 2.0])) == []


def test_overlay_is_brightest_where_the_weight_is():
    weights = np.array([[0.0, 0.1], [0.6, 0.3]], dtype=np.float32)
    layer = np.asarray(overlay(weights)).astype(int)
    brightness = layer[..., :3].sum(-1)
    assert layer.shape == (2, 2, 4)
    assert np.argsort(brightness.ravel()).tolist() == [0, 1, 3, 2]
    assert overlay(np.zeros((2, 3))).size == (3, 2)


def test_concentration_counts_patches():
    assert concentration(np.full((3, 4), 1 / 12)) == (6, 12)
    assert concentration(np.array([[0.9, 0.1]])) == (1, 2)
    assert concentration(np.zeros((2, 2))) == (0, 4)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "00:00"), (75.9, "01:15"), (3599.99, "59:59"), (3600, "1:00:00"), (86399, "23:59:59")],
)
def test_clock(seconds: float, text: str):
    assert clock(seconds) == text


def test_contact_sheet_places_pictures_in_time_order():
    selection = answered().selection
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
    images = [Image.new("RGB", (160, 90), colour) for colour in colours]
    sheet = np.asarray(contact_sheet(selection, images, "clip.mp4")).astype(int)
    places = [
        np.argwhere((abs(sheet - colour) < 20).all(-1)).mean(0) for colour in np.array(colours)
    ]
    order = sorted(range(3), key=lambda n: (round(places[n][0]), places[n][1]))
    assert order == [0, 1, 2]


def test_contact_sheet_takes_any_number_and_shape():
    selection = answered(question="Long " * 200).selection
    images = [Image.new("RGB", size) for size in ((30, 320), (320, 7), (1, 1))]
    sheet = contact_sheet(selection, images)
    assert sheet.size[0] < 4000
    # The question is cut where the margin begins.
    margin = sheet.crop((sheet.width - MARGIN, 0, sheet.width, sheet.height))
    assert len(margin.getcolors()) == 1
    assert contact_sheet(SelectionResult("Q?", [], [], []), []).size[0] > 100
