"""Training of the small default model, from nothing but videos that the repository draws.

`python -m vilamp.train_default` runs the stages below, each of which writes one safetensors file
under `runs/default/` and is skipped when that file is there; a stage that was stopped goes on from
its last checkpoint.

bank        short clips, drawn, encoded and decoded as H.264, resized for the towers    bank.py
vision      SigLIP tower + projector: each patch names what it shows                    vision.py
selector    CLIP: frames near the questions about them, whatever flashes                selector.py
composer    the learned maps of the merging: weight on what flashes                     composer.py
words       language model on made-up visual tokens (no pictures): look up and answer   language.py
language    language model on the tokens of the real towers, then on long videos        language.py
export      the model folder in the published layout                                    export.py
"""
