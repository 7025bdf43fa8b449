"""The embedded default model: small, whole, and able to answer questions about drawn videos."""

import numpy as np
import pytest
import torch
from vilamp import DEFAULT_MODEL
from vilamp.config import ViLAMPConfig
from vilamp.drawn import TYPES, draw_video, sample_clip
from vilamp.drawn.questions import TEMPLATES, ask
from vilamp.model import ViLAMP
from vilamp.train_default.evaluate import answer_all, read
from vilamp.train_default.sizes import KEYFRAMES, TAU
from vilamp.train_default.tokenizers import UNKNOWN, clip_tokenizer, language_tokenizer


@pytest.fixture(scope="module")
def model():
    return ViLAMP.from_pretrained("default", device="cpu")


@pytest.fixture(scope="module")
def answers(model, tmp_path_factory):
    """Rows of every policy for two short videos per type."""
    folder, rows = tmp_path_factory.mktemp("drawn"), []
    for i, kind in enumerate([*TYPES] * 2):
        cases = draw_video(folder / "v.mp4", seconds=60, seed=500 + i, needles=[kind])
        rows += answer_all(model, read(model, folder / "v.mp4"), cases)
    return rows


def share_right(rows, policy):
    own = [row["right"] for row in rows if row["policy"] == policy]
    return sum(own) / len(own)


def test_folder_is_small_and_holds_no_code():
    files = [path for path in DEFAULT_MODEL.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 8e6
    assert {path.suffix for path in files} == {".json", ".safetensors"}


def test_config_declares_paper_rules():
    config = ViLAMPConfig.from_folder(DEFAULT_MODEL)
    assert (config.compat, config.keyframes, config.tau) == ("paper", KEYFRAMES, TAU)
    assert config.grid == (8, 8) and config.keyframe_grid == (4, 4)


def test_weights_are_finite_and_in_full_precision(model):
    assert model.dtype == torch.float32
    assert all(p.isfinite().all() for p in model.parameters())


def test_short_videos_are_answered_far_above_chance(answers):
    assert share_right(answers, "a") >= 0.7
    assert share_right(answers, "e") <= 0.4


def test_answers_are_one_known_word(answers):
    words = set(language_tokenizer().get_vocab())
    assert all(row["answer"] in words for row in answers if row["policy"] == "a")


def test_case_and_punctuation_do_not_change_the_ids(model):
    plain = model.tokenize("what colour is the shape left of the red star in the forest ?")
    loud = model.tokenize("What COLOUR is the shape left of the  Red star, in the Forest?")
    comma = model.tokenizer.convert_tokens_to_ids(",")
    assert [i for i in loud.input_ids[0].tolist() if i != comma] == plain.input_ids[0].tolist()
    assert model.tokenizer.decode(plain.input_ids[0, -3:]).split() == ["<|im_start|>", "assistant"]


def test_unknown_words_become_one_token(model):
    ids = model.tokenize("where is the flabbergasted red star?").input_ids[0].tolist()
    unknown = model.tokenizer.convert_tokens_to_ids(UNKNOWN)
    assert ids.count(unknown) == 1


@pytest.mark.parametrize("tokenizer", [language_tokenizer, clip_tokenizer])
def test_every_question_is_made_of_known_words(tokenizer):
    rng = np.random.default_rng(0)
    tokens = tokenizer()
    unknown = tokens.token_to_id(UNKNOWN)
    for split, kinds in TEMPLATES.items():
        for kind in kinds:
            for _ in range(20):
                question, answer = ask(sample_clip(rng, split), kind, split, rng)
                assert unknown not in tokens.encode(question).ids
                assert language_tokenizer().token_to_id(answer) is not None


def test_clip_reads_a_question_at_its_end_mark(model):
    ids = model.tokenize("where is the red star?").clip_input_ids
    end = model.config.clip_config.text_config.eos_token_id
    assert ids[0, -1] == end == ids.max() and (ids == end).sum() == 1
