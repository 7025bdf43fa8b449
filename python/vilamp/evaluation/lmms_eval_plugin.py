"""This package's model in lmms-eval, by its name `vilamp`.

lmms-eval (0.7 and later) asks the entry points of its group `lmms_eval.models` for manifests;
`pyproject.toml` names `manifest` there. The model itself is in `lmms_eval_model.py`, which is
imported when it is asked for: listing models stays quick.
"""

from __future__ import annotations

from typing import Any

MODEL_ID = "vilamp"
CLASS_PATH = "vilamp.evaluation.lmms_eval_model.ViLAMPForLmmsEval"


def manifest() -> Any:
    """The `ModelManifest` of the model; called by lmms-eval only."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id=MODEL_ID, simple_class_path=CLASS_PATH)
