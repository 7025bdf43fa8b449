"""Every size of the default model and every path of its training, in one place."""

from pathlib import Path

IMAGE = 64
PATCH = 8
GRID = IMAGE // PATCH
KEYFRAME_GRID = (GRID + 1) // 2
KEYFRAME_TOKENS = KEYFRAME_GRID**2
KEYFRAMES = 16
TAU = 0.85
ALPHA = 0.02

VISION = {
    "hidden_size": 96,
    "intermediate_size": 192,
    "num_attention_heads": 4,
    "num_channels": 3,
    "image_size": IMAGE,
    "patch_size": PATCH,
}
VISION_LAYERS = 4
CLIP_TEXT = {"hidden_size": 96, "intermediate_size": 192, "num_attention_heads": 4}
CLIP_TEXT_LAYERS = 2
CLIP_POSITIONS = 64
CLIP_WIDTH = 64

LANGUAGE = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-6,
    # Large, so that half of each head's dimensions hardly turn within 11,000 positions: a question
    # finds its frame by content, however far back it is.
    "rope_theta": 1e10,
    "max_position_embeddings": 32768,
}

RUNS = Path("runs/default")
MODEL_FOLDER = Path(__file__).parent.parent / "default_model"
SEED = 20250204
