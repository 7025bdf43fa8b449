"""The models that can be measured answer as they do on their own, from the frames they say."""

import logging
from importlib.util import find_spec

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from vilamp import CheckpointError, InputError, VideoError, ViLAMP
from vilamp.drawn import ask, clip_frame, sample_clip
from vilamp.evaluation.models import Question, ViLAMPVideoModel, weights_fingerprint
from vilamp.evaluation.transformers_model import TransformersVideoModel, evenly_spaced
from vilamp.video import open_video

TEMPLATE = (
    "{% for m in messages %}{% for c in m['content'] %}"
    "{% if c['type'] == 'text' %} {{ c['text'] }} {% else %}<{{ c['type'] }}>{% endif %}"
    "{% endfor %}{% endfor %} assistant"
)
WORDS = ["<unk>", "<pad>", "<image>", "<video>", "what", "where", "assistant", *"abcdefghij"]
WIDTH = 16


@pytest.fixture(scope="module")
def frames():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (11, 20, 28, 3)).astype(np.uint8)


def tokenizer():
    tok = Tokenizer(models.WordLevel({w: n for n, w in enumerate(WORDS)}, unk_token="<unk>"))
    tok.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tok,
        unk_token="<unk>",
        pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>", "video_token": "<video>"},
    )


def sizes():
    """Of a language model and a vision tower."""
    text = transformers.Qwen2Config(
        vocab_size=len(WORDS),
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=4096,
    )
    return text, {
        "hidden_size": WIDTH,
        "intermediate_size": WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 8,
    }


def save(folder, model, processor):
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = WORDS.index("<pad>")
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def llava(tmp_path_factory):
    """A random LLaVA: its processor takes images only."""
    text, vision = sizes()
    torch.manual_seed(0)
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**vision, projection_dim=WIDTH),
        text_config=text,
        image_token_index=WORDS.index("<image>"),
    )
    logging.getLogger("transformers").setLevel(logging.ERROR)
    images = transformers.CLIPImageProcessor(size=16, crop_size=16)
    processor = transformers.LlavaProcessor(
        images,
        tokenizer(),
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )
    model = transformers.LlavaForConditionalGeneration(config)
    return save(tmp_path_factory.mktemp("llava"), model, processor)


def recorded(model):
    """What the processor is called with."""
    calls, call = [], model.processor.__call__

    def record(**inputs):
        calls.append(inputs)
        return call(**inputs)

    class Recorded:
        def __getattr__(self, name):
            return getattr(processor, name)

        def __call__(self, **inputs):
            return record(**inputs)

    processor, model.processor = model.processor, Recorded()
    return calls


def test_frames_in_the_middle_of_equal_parts():
    assert evenly_spaced(11, 4) == [1, 4, 6, 9]
    assert evenly_spaced(3, 32) == [0, 1, 2]
    assert evenly_spaced(10_000, 2) == [2500, 7500]
    assert evenly_spaced(0, 4) == []


def test_images_one_by_one(llava, frames):
    model = TransformersVideoModel(llava, 4, device="cpu", max_new_tokens=3)
    calls = recorded(model)
    questions = [Question("what a b"), Question("where c d", query="not used")]
    replies = list(model.answers(open_video(frames), questions))
    assert [reply.frames for reply in replies] == [[1, 4, 6, 9]] * 2
    assert [call["text"] for call in calls] == [
        ["<image>" * 4 + " what a b  assistant"],
        ["<image>" * 4 + " where c d  assistant"],
    ]
    for image, number in zip(calls[0]["images"], (1, 4, 6, 9), strict=True):
        assert np.array_equal(image, frames[number])
    for reply, call in zip(replies, list(calls), strict=True):
        inputs = model.processor(**call)
        with torch.no_grad():
            ids = model.model.generate(**inputs, max_new_tokens=3, do_sample=False)
        new = ids[0, inputs["input_ids"].shape[1] :]
        assert len(new) == 3
        assert reply.text == model.processor.decode(new, skip_special_tokens=True).strip()


@pytest.mark.vlm
@pytest.mark.skipif(find_spec("torchvision") is None, reason="video processors need torchvision")
def test_one_video(tmp_path, frames):
    text, vision = sizes()
    torch.manual_seed(1)
    config = transformers.LlavaOnevisionConfig(
        vision_config=transformers.SiglipVisionConfig(**vision),
        text_config=text,
        image_token_index=WORDS.index("<image>"),
        video_token_index=WORDS.index("<video>"),
        image_grid_pinpoints=[[16, 16]],
    )
    square = {"height": 16, "width": 16}
    processor = transformers.LlavaOnevisionProcessor(
        transformers.LlavaOnevisionImageProcessor(size=square, image_grid_pinpoints=[[16, 16]]),
        tokenizer(),
        transformers.LlavaOnevisionVideoProcessor(size=square),
        num_image_tokens=4,
        vision_feature_select_strategy="full",
        chat_template=TEMPLATE,
    )
    save(tmp_path, transformers.LlavaOnevisionForConditionalGeneration(config), processor)
    model = TransformersVideoModel(tmp_path, 3, device="cpu", max_new_tokens=2)
    calls = recorded(model)
    (reply,) = model.answers(open_video(frames), [Question("what e")])
    assert reply.frames == [1, 5, 9]
    assert calls[0]["text"] == ["<video> what e  assistant"]
    assert np.array_equal(calls[0]["videos"][0], frames[[1, 5, 9]])
    inputs = model.processor(**calls[0] | {"return_metadata": False})
    assert inputs["pixel_values_videos"].shape[:2] == (1, 3)
    with torch.no_grad():
        ids = model.model.generate(**inputs, max_new_tokens=2, do_sample=False)
    assert reply.text == model.processor.decode(ids[0, -2:], skip_special_tokens=True).strip()


def test_settings_tell_models_apart(llava, frames):
    one, other = (TransformersVideoModel(llava, n, device="cpu") for n in (4, 5))
    assert one.settings() != other.settings() and one.name != other.name
    assert one.settings()["weights"] == other.settings()["weights"]
    with torch.no_grad():
        other.model.get_input_embeddings().weight[0] += 1
    assert one.settings()["weights"] != other.settings()["weights"]


def test_folders_that_hold_no_such_model(llava, tmp_path):
    with pytest.raises(CheckpointError, match="no such folder"):
        TransformersVideoModel(tmp_path / "none", device="cpu")
    with pytest.raises(CheckpointError, match="no model that can be loaded"):
        TransformersVideoModel(tmp_path, device="cpu")
    with pytest.raises(InputError, match="at least 1"):
        TransformersVideoModel(llava, 0, device="cpu")
    for path in llava.iterdir():
        if path.name != "chat_template.jinja":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(CheckpointError, match="no chat template"):
        TransformersVideoModel(tmp_path, device="cpu")
    # Weights in a pickle are as good as none.
    weights = tmp_path / "model.safetensors"
    torch.save({}, tmp_path / "pytorch_model.bin")
    weights.unlink()
    with pytest.raises(CheckpointError, match="no model that can be loaded"):
        TransformersVideoModel(tmp_path, device="cpu")


def test_a_video_that_ends_early(llava, frames):
    source = open_video(frames)

    class Short(type(source)):
        def __len__(self):
            return 20

    source.__class__ = Short
    model = TransformersVideoModel(llava, 4, device="cpu")
    with pytest.raises(VideoError, match="wanted 4 frames"):
        list(model.answers(source, [Question("what a")]))


def test_ours_answers_as_a_session_does():
    rng = np.random.default_rng(1)
    clips = [sample_clip(rng, "test") for _ in range(8)]
    frames = np.stack([clip_frame(clip, 1.0 + k) for clip in clips for k in range(3)])
    vilamp = ViLAMP.from_pretrained("default", device="cpu")
    model = ViLAMPVideoModel(vilamp, keyframes=3, max_new_tokens=4)
    texts = [ask(clip, "place", "test", rng)[0] for clip in clips[1:3]]
    queries = [None, ask(clips[6], "place", "test", rng)[0]]
    asked = [Question(t, q) for t, q in zip(texts, queries, strict=True)]
    replies = list(model.answers(open_video(frames), asked))
    session = vilamp.session(frames, keyframes=3)
    for reply, text, query in zip(replies, texts, queries, strict=True):
        keyframes = session.select(query or text).keyframes
        assert reply.frames == [k.index for k in keyframes] and len(reply.frames) <= 3
        (wanted,) = session.answers([text], queries=[query], max_new_tokens=4)
        assert reply.text == wanted.text
    assert session.select(texts[1]).keyframes != session.select(queries[1]).keyframes


def test_fingerprint_of_weights():
    torch.manual_seed(0)
    one = torch.nn.Linear(70, 50)
    found = weights_fingerprint(one)
    assert found == weights_fingerprint(one)
    assert found != weights_fingerprint(one.double())
    with torch.no_grad():
        one.weight += 1e-3
    assert found != weights_fingerprint(one)
