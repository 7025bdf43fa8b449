"""Training of the small default model, from nothing but videos that the repository draws.

`python -m vilamp.train_default` runs the stages below, each of which writes one safetensors file
under `runs/default/` and is skipped when that file is there; a stage that was stopped goes on from
its last checkpoint.

bank      short clips, drawn, encoded and decoded as H.264, resized for the towers     bank.py
vision    SigLIP tower + projector: each patch names what it shows                     vision.py
sharp     the same with more glyphs, until they can be read                            vision.py
selector  CLIP: frames near the questions about them, whatever flashes                 selector.py
patches   what the tower and the projector make of the bank, stored                    features.py
embeds    what the selector makes of it, stored                                        features.py
composer  the learned maps of the merging: weight on what flashes                      composer.py
lookup    language model on made-up visual tokens (no pictures): look up and answer    lookup.py
reading   language model on the tokens of the real towers, then on long videos         reading.py
review    the same with more questions, on look-alikes that the selector brought up   reading.py

Then `export.py` writes the model folder in the published layout, and
`python -m vilamp.train_default.evaluate` says what each part of it is worth. Apart from the model,
`queries.py` trains the learned queries that `ablation.py` compares its merging with.
"""
