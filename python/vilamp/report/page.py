"""The page itself: one HTML file that needs no network, no script and no other file."""

from __future__ import annotations

import math
from html import escape

from vilamp.clock import clock
from vilamp.report.choose import preceding
from vilamp.report.data import Exchange, Report
from vilamp.report.overlay import concentration, overlay
from vilamp.report.pictures import jpeg_uri, png_uri
from vilamp.report.style import STYLE
from vilamp.report.timeline import timeline

# Even if a text slipped through unescaped, the browser would load and run nothing.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page(report: Report) -> str:
    """The report as one HTML document.

    Every text that came from a user, a file or a model is escaped.
    """
    title = report.exchanges[0].answer.question if report.exchanges else report.video
    facts = "".join(f"<span>{escape(fact)}</span>" for fact in report.facts)
    sections = "".join(
        _section(report, exchange, f"q{number}")
        for number, exchange in enumerate(report.exchanges, 1)
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>"
        f'<header><span class="name">{escape(report.video)}</span>'
        f'<span class="facts">{facts}</span></header>'
        f"{sections}{_settings(report)}"
        "<footer>Made by vilamp. This page is complete: it loads nothing.</footer>"
        "</main></body></html>\n"
    )


def _section(report: Report, exchange: Exchange, anchor: str) -> str:
    answer = exchange.answer
    return (
        f'<section id="{anchor}"><h1>{escape(answer.question)}</h1>'
        f'<p class="answer">{escape(answer.text.strip()) or "(no answer)"}</p>'
        f"{_truth(exchange)}"
        "<h2>Relevance over time</h2>"
        '<p class="quiet">Cosine between each frame and the question. '
        "A keyframe is read in full; any other frame becomes a single token.</p>"
        f"{timeline(answer.selection, report.duration, anchor)}{_key(exchange)}"
        f"{_keyframes(exchange, anchor)}{_merged(exchange)}{_work(exchange)}</section>"
    )


def _truth(exchange: Exchange) -> str:
    if exchange.expected is None:
        return ""
    right = exchange.answer.text.strip().casefold() == exchange.expected.strip().casefold()
    return (
        f'<p class="truth {"right" if right else "wrong"}">'
        f"Truth: <b>{escape(exchange.expected)} {'✓' if right else '✗'}</b></p>"
    )


def _key(exchange: Exchange) -> str:
    chosen = {keyframe.chosen for keyframe in exchange.answer.selection.keyframes}
    fill = (
        '<span><i class="dot fill"></i>keyframe that fills the budget</span>'
        if "fill" in chosen
        else ""
    )
    return (
        '<p class="key quiet"><span><i class="stroke"></i>relevance</span>'
        f'<span><i class="dot"></i>keyframe chosen for its relevance</span>{fill}</p>'
    )


def _keyframes(exchange: Exchange, anchor: str) -> str:
    selection = exchange.answer.selection
    images = {i.frame.index: i.frame.image for i in exchange.answer.illustrations}
    scores = [k.score for k in selection.keyframes if math.isfinite(k.score)]
    low, high = min(scores, default=0.0), max(scores, default=0.0)
    figures = []
    for number, keyframe in enumerate(selection.keyframes):
        if keyframe.index not in images:
            continue
        source, width, height = jpeg_uri(images[keyframe.index])
        level = (keyframe.score - low) / (high - low) if high > low else 1.0
        level = level if math.isfinite(level) else 0.0
        fill = " · fill" if keyframe.chosen == "fill" else ""
        figures.append(
            f'<figure id="{anchor}-{number}"><img src="{source}" width="{width}" '
            f'height="{height}" alt="Keyframe at {clock(keyframe.time)}">'
            f"<figcaption><b>{clock(keyframe.time)}</b>{keyframe.score:.3f}{fill}"
            f"{_meter(level, mark=level == 1)}</figcaption></figure>"
        )
    if not figures:
        return ""
    count = len(selection.keyframes)
    return (
        f"<h2>{count} keyframe{'s' if count != 1 else ''}</h2>"
        '<p class="quiet">In time order, with their relevance.</p>'
        f'<div class="frames">{"".join(figures)}</div>'
    )


def _meter(level: float, mark: bool = False) -> str:
    """A bar from 0 to 1, in the colour of keyframes if marked."""
    kind = "meter best" if mark else "meter"
    return f'<span class="{kind}"><i style="width:{max(level, 0.02):.0%}"></i></span>'


def _merged(exchange: Exchange) -> str:
    selection = exchange.answer.selection
    times = {keyframe.index: keyframe.time for keyframe in selection.keyframes}
    figures = []
    for illustration in exchange.answer.illustrations:
        if illustration.weights is None:
            continue
        frame = illustration.frame
        source, width, height = jpeg_uri(frame.image)
        before = preceding(list(times), frame.index)
        since = f" · after the keyframe at {clock(times[before])}" if before is not None else ""
        half, patches = concentration(illustration.weights)
        figures.append(
            f'<figure><div class="stack"><img src="{source}" width="{width}" height="{height}" '
            f'alt="Frame at {clock(frame.time)}"><img class="heat" alt="Weight of each patch" '
            f'src="{png_uri(overlay(illustration.weights))}"></div>'
            f"<figcaption><b>{clock(frame.time)}</b>{selection.scores[frame.index]:.3f}{since}"
            f"<br>Half of the weight lies on {half} of {patches} patches</figcaption></figure>"
        )
    if not figures:
        return ""
    return (
        "<h2>Merged frames</h2>"
        '<p class="quiet">Frames between keyframes, each squeezed into one token. Bright places '
        "went into it: they bear on the question and differ from the keyframe. Point at a frame to "
        "see it bare.</p>"
        f'<div class="frames wide">{"".join(figures)}</div>'
    )


def _work(exchange: Exchange) -> str:
    answer = exchange.answer
    longest = max(answer.timings.values(), default=0.0) or 1.0
    rows = "".join(
        f"<dt>{escape(phase)}</dt><dd>{seconds:.2f} s</dd><dd>{_meter(seconds / longest)}</dd>"
        for phase, seconds in answer.timings.items()
    )
    tokens = (
        ("frames", len(answer.selection.times)),
        ("video tokens", answer.visual_tokens),
        ("prompt tokens", answer.prompt_tokens),
        ("answer tokens", answer.new_tokens),
    )
    counts = "".join(f"<dt>{name}</dt><dd>{count:,}</dd>" for name, count in tokens)
    return (
        f'<div class="tables"><div><h2>Time</h2><dl class="times">{rows}</dl></div>'
        f"<div><h2>Size</h2><dl>{counts}</dl></div></div>"
    )


def _settings(report: Report) -> str:
    if not report.settings:
        return ""
    rows = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>"
        for name, value in report.settings.items()
    )
    return f"<section><h2>Settings</h2><dl>{rows}</dl></section>"
