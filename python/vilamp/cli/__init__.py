"""The command line: one file per command, and what they share.

`app.py` puts the commands together, `options.py` holds the options they have in common, `errors.py`
turns a bad input into one line and an exit status, `loading.py` opens the video and the model,
`progress.py` draws the bars and `output.py` writes results. PyTorch is imported inside the commands
only, so that `vilamp --help` answers at once.
"""
