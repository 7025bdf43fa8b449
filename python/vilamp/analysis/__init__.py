"""`vilamp analyze`: where a model's attention goes in a video (paper section 3.1).

The path of a study:

    question, video -> watched.py      which tokens are the question, which are which frame's
                    -> attention.py    attention of the question's rows, layer by layer
                    -> shares.py       share of each frame, and of patches within a frame
                    -> study.py        figures of one question, means over many
                    -> tables.py, plot.py
"""
