"""A needle in hours of video: a short clip with questions, hidden in a haystack of other videos.

The task is that of Cheng et al. 2025 (arXiv:2504.02438, "VideoNIAH"). Their data was never
released; the cases here are made from videos that this package draws, or from one's own.

    drawn.py, own.py, video_mme.py   haystack videos, needle clips with questions
    planning.py                      lengths x depths x needles -> cases
    cases.py                         a case, and the file of cases
    playlist.py, render.py           segments of files as one source of frames; a real file of them
    features.py, feature_model.py    what the towers make of a source, kept; the model on it
    running.py, scoring.py           a model on all cases, resumable; right or wrong
    tables.py, plot.py, odds.py      accuracy per cell and kind, heat maps; uniform frames by chance
"""
