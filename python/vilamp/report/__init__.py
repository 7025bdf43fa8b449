"""A page that shows how an answer came about, and a contact sheet of keyframes.

`page.py` puts the page together from `timeline.py` (relevance over time), `pictures.py` and
`overlay.py` (where a merged frame's weight went); `style.py` is its look, `data.py` what it shows
and `choose.py` which merged frames are worth a place. `sheet.py` draws the contact sheet.
"""

from vilamp.report.choose import merged_frames
from vilamp.report.data import Exchange, Report, video_facts, video_name
from vilamp.report.page import page
from vilamp.report.pictures import thumbnails_at
from vilamp.report.sheet import CELL, contact_sheet

__all__ = [
    "CELL",
    "Exchange",
    "Report",
    "contact_sheet",
    "merged_frames",
    "page",
    "thumbnails_at",
    "video_facts",
    "video_name",
]
