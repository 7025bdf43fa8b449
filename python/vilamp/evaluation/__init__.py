"""What a model is worth: what `vilamp niah` and `vilamp eval` share.

`models.py` has the one interface that a model needs to be measured, `runner.py` runs questions and
keeps every answer as soon as there is one, `results.py` is the file of answers, `intervals.py` says
how sure a share of right answers is. `benchmarks/` has the published benchmarks, and
`lmms_eval_plugin.py` this package's model for lmms-eval.
"""
