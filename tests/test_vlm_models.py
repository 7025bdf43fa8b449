"""Small random Qwens, from a folder to an answer: which times their attention counts with."""

import re
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
import torch
import transformers
from video_processors import SPECIAL, STEPPED, TIMED
from vilamp.evaluation.models import Question
from vilamp.evaluation.transformers_model import TransformersVideoModel
from vilamp.video import open_video

pytestmark = [
    pytest.mark.vlm,
    pytest.mark.skipif(find_spec("torchvision") is None, reason="needs torchvision"),
]

STEP = 9.375
"""Seconds between eight frames in the middle of equal parts of 75 s."""


def config(kind, tokenizer):
    """Of a language model and a vision tower that take milliseconds."""
    token = lambda name: tokenizer.convert_tokens_to_ids(SPECIAL[name])  # noqa: E731
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
    vision = {
        "depth": 1,
        "hidden_size": 32,
        "out_hidden_size": 32,
        "intermediate_size": 32,
        "num_heads": 2,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
    }
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 4096,
    }
    if kind == "qwen3_vl":
        rope["mrope_interleaved"] = True
        vision |= {"patch_size": 16, "num_position_embeddings": 64, "deepstack_visual_indexes": [0]}
        cls = transformers.Qwen3VLConfig
    else:
        vision |= {"patch_size": 14, "tokens_per_second": 2, "fullatt_block_indexes": [0]}
        cls = transformers.Qwen2_5_VLConfig
    return cls(
        text_config=text | {"rope_parameters": rope},
        vision_config=vision,
        image_token_id=token("image_token"),
        video_token_id=token("video_token"),
        vision_start_token_id=token("vision_start_token"),
        vision_end_token_id=token("vision_end_token"),
    )


@pytest.fixture(scope="module", params=["qwen3_vl", "qwen2_5_vl"])
def folder(request, tmp_path_factory):
    family = (TIMED | STEPPED)[request.param]
    small = {"shortest_edge": 28 * 28, "longest_edge": 56 * 56 * 100}
    processor = replace(family, video_options={"size": small}).build()
    torch.manual_seed(0)
    model = transformers.AutoModelForImageTextToText.from_config(
        config(request.param, processor.tokenizer)
    )
    path = tmp_path_factory.mktemp(request.param)
    model.save_pretrained(path)
    processor.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def video():
    """Eight frames, in the middle of equal parts of 75 s."""
    rng = np.random.default_rng(0)
    source = open_video(rng.integers(0, 256, (8, 56, 56, 3)).astype(np.uint8))

    class Spread(type(source)):
        def __iter__(self):
            for frame in super().__iter__():
                yield replace(frame, time=STEP * (frame.index + 0.5))

    source.__class__ = Spread
    source.info = replace(source.info, duration=8 * STEP)
    return source


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_the_language_model_reads_each_frame_at_its_time(folder, video, dtype):
    model = TransformersVideoModel(folder, 8, device="cpu", dtype=dtype, max_new_tokens=2)
    prompts, positions = [], []
    model.model.register_forward_pre_hook(
        lambda module, args, given: prompts.append(given["input_ids"]), with_kwargs=True
    )
    model.model.get_decoder().register_forward_pre_hook(
        lambda module, args, given: positions.append(given["position_ids"]), with_kwargs=True
    )
    (reply,) = model.answers(video, [Question("What?")])
    assert reply.frames == list(range(8))
    text = model.processor.tokenizer.decode(prompts[0][0])
    if TIMED["qwen3_vl"].processor == type(model.processor).__name__:
        stated = [float(found) for found in re.findall(TIMED["qwen3_vl"].mark, text)]
        assert stated == pytest.approx([STEP * (n + 0.5) for n in range(8)], abs=0.05 + 1e-6)
        return
    # Rows of time, height and width, after one of text where there are four.
    time = positions[0][-3][0][prompts[0][0] == model.model.config.video_token_id]
    each = time.reshape(8, -1)
    assert (each == each[:, :1]).all()
    # Two positions for a second, whole ones.
    wanted = [int(2 * STEP * n) for n in range(8)]
    assert (each[:, 0] - each[0, 0]).tolist() == wanted
