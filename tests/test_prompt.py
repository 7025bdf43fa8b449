"""The prompt and both tokenizers, as lists of ids."""

from __future__ import annotations

import pytest
import torch
from model_files import CLIP_FOLDER, Sizes, write_checkpoint, write_json
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from vilamp.errors import CheckpointError, InputError
from vilamp.model import ViLAMP
from vilamp.prompt import build_prompt, prompt_text
from vilamp.tokenizers import clip_tokenizer, language_tokenizer, openai_vocabulary

# A byte-level vocabulary after Qwen2's pattern. A leading space is written as its own character.
LETTERS = [chr(c) for c in range(ord("!"), ord("~") + 1)] + ["Ġ", "Ċ", "Ã", "©"]
MERGES = [("u", "s"), ("us", "er"), ("e", "r"), ("Ġ", "c"), ("a", "t"), ("Ġc", "at")]
WORDS = LETTERS + ["".join(pair) for pair in MERGES]
END_OF_TEXT, START, END = len(WORDS), len(WORDS) + 1, len(WORDS) + 2
SPECIAL = {END_OF_TEXT: "<|endoftext|>", START: "<|im_start|>", END: "<|im_end|>"}


def ids_of(*words: str) -> list[int]:
    return [WORDS.index(word) for word in words]


def write_qwen_tokenizer(folder):
    """`vocab.json`, `merges.txt` and the special tokens, as published checkpoints have them."""
    write_json(folder / "vocab.json", {word: number for number, word in enumerate(WORDS)})
    # Rank decides: "us" is joined before "er", so "user" is one token.
    lines = ["#version: 0.2", "u s", "e r", "us er", "Ġ c", "a t", "Ġc at", ""]
    (folder / "merges.txt").write_text("\n".join(lines), encoding="utf-8")
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "Qwen2Tokenizer",
            "auto_map": {"AutoTokenizer": "someone/evil--code.Tokenizer"},
            "eos_token": {"content": "<|im_end|>"},
            "pad_token": "<|endoftext|>",
            "added_tokens_decoder": {
                str(number): {"content": text, "special": True} for number, text in SPECIAL.items()
            },
        },
    )


@pytest.fixture
def qwen(tmp_path):
    write_qwen_tokenizer(tmp_path)
    return tmp_path


def text_ids(text: str) -> list[int]:
    """Ids of a text in which no merge applies."""
    return ids_of(*text.replace(" ", "Ġ").replace("\n", "Ċ"))


BEFORE = [
    START,
    *text_ids("syst"),
    *text_ids("em\nYou"),
    *text_ids(" are"),
    *text_ids(" a"),
    *text_ids(" helpful"),
    *text_ids(" assist"),
    *text_ids("ant."),
    END,
    *text_ids("\n"),
    START,
    *ids_of("user"),
    *text_ids("\n"),
]
AFTER = [
    *text_ids("\nA"),
    *ids_of("Ġcat"),
    *text_ids("?"),
    END,
    *text_ids("\n"),
    START,
    *text_ids("assistant\n"),
]


class TestPrompt:
    def test_text(self):
        assert prompt_text("What {is} <image>?") == (
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n",
            "\nWhat {is} <image>?<|im_end|>\n<|im_start|>assistant\n",
        )

    def test_ids(self, qwen):
        prompt = build_prompt(language_tokenizer(qwen), clip_tokenizer(None, 77), "A cat?")
        assert prompt.input_ids.tolist() == [[*BEFORE, -200, *AFTER]]
        assert prompt.clip_input_ids.tolist() == [[49406, 320, 2368, 286, 49407]]
        assert prompt.clip_attention_mask.tolist() == [[1] * 5]
        assert prompt.input_ids.dtype == prompt.clip_input_ids.dtype == torch.int64

    def test_one_place_for_the_video(self, qwen):
        """A question that says `<image>` names no second video."""
        prompt = build_prompt(language_tokenizer(qwen), clip_tokenizer(None, 77), "<image>?")
        ids = prompt.input_ids[0].tolist()
        assert ids.count(-200) == 1
        assert ids[len(BEFORE) + 1 :][:9] == text_ids("\n<image>?")[:9]

    def test_query_of_its_own(self, qwen):
        """CLIP is given the bare question, the language model its options too."""
        lm, clip = language_tokenizer(qwen), clip_tokenizer(None, 77)
        prompt = build_prompt(lm, clip, "A cat?\nA. yes", query="A cat?")
        assert prompt.clip_input_ids.tolist() == [[49406, 320, 2368, 286, 49407]]
        assert len(prompt.input_ids[0]) > len(BEFORE) + 1 + len(AFTER)

    @pytest.mark.parametrize("question", ["", "  \n\t"])
    def test_empty(self, qwen, question):
        lm, clip = language_tokenizer(qwen), clip_tokenizer(None, 77)
        with pytest.raises(InputError, match="the question is empty"):
            build_prompt(lm, clip, question)
        with pytest.raises(InputError, match="the query is empty"):
            build_prompt(lm, clip, "A cat?", query=question)


class TestLanguageTokenizer:
    def test_bytes_and_merges(self, qwen):
        tokenizer = language_tokenizer(qwen)
        assert tokenizer("user us cat")["input_ids"] == [
            *ids_of("user", "Ġ", "us", "Ġcat"),
        ]
        assert tokenizer("é")["input_ids"] == ids_of("Ã", "©")
        # Qwen2 writes each digit as a token of its own.
        assert tokenizer("12")["input_ids"] == ids_of("1", "2")

    def test_special_tokens(self, qwen):
        tokenizer = language_tokenizer(qwen)
        assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (END, END_OF_TEXT)
        assert tokenizer("a<|im_end|>")["input_ids"] == [*ids_of("a"), END]
        ids = [START, *ids_of("user", "Ġcat"), END]
        assert tokenizer.decode(ids, skip_special_tokens=True) == "user cat"
        assert tokenizer.decode(ids) == "<|im_start|>user cat<|im_end|>"

    def test_tokenizer_json_gives_the_same(self, qwen, tmp_path):
        whole = tmp_path / "whole"
        whole.mkdir()
        language_tokenizer(qwen).backend_tokenizer.save(str(whole / "tokenizer.json"))
        (whole / "tokenizer_config.json").write_text((qwen / "tokenizer_config.json").read_text())
        both = [language_tokenizer(folder) for folder in (qwen, whole)]
        text = "<|im_start|>user\nA cat, is it 12?<|im_end|>"
        first, second = ([t(text)["input_ids"], t.eos_token_id, len(t)] for t in both)
        assert first == second

    def test_older_added_tokens(self, qwen):
        (qwen / "tokenizer_config.json").unlink()
        write_json(qwen / "added_tokens.json", {text: n for n, text in SPECIAL.items()})
        assert language_tokenizer(qwen)("<|im_end|>")["input_ids"] == [END]

    def test_contradicting_id(self, qwen):
        (qwen / "tokenizer_config.json").unlink()
        write_json(qwen / "added_tokens.json", {"<|im_end|>": END + 5})
        with pytest.raises(CheckpointError, match=f"should have id {END + 5}, gets {END_OF_TEXT}"):
            language_tokenizer(qwen)

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("added_tokens.json", {"<|im_end|>": "x"}),
            ("added_tokens.json", {"<|im_end|>": None}),
            ("tokenizer_config.json", {"added_tokens_decoder": {"x": {"content": "a"}}}),
            ("tokenizer_config.json", {"added_tokens_decoder": {"1": 5}}),
            ("tokenizer_config.json", {"added_tokens_decoder": ["a"]}),
        ],
    )
    def test_added_tokens_that_are_none(self, qwen, name, content):
        write_json(qwen / name, content)
        with pytest.raises(CheckpointError, match="added tokens not as texts and ids"):
            language_tokenizer(qwen)

    def test_absent(self, tmp_path):
        with pytest.raises(CheckpointError, match="has no tokenizer of the language model"):
            language_tokenizer(tmp_path)

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("tokenizer.json", '{"a": "b"}'),
            ("vocab.json", '{"a": "b"}'),
            ("merges.txt", "u s\nz z"),
            ("merges.txt", "u s e"),
        ],
        ids=["tokenizer", "ids", "unknown-merge", "three-parts"],
    )
    def test_broken(self, qwen, name, text):
        (qwen / name).write_text(text)
        with pytest.raises(CheckpointError, match=r"not a tokenizer|no byte-pair vocabulary"):
            language_tokenizer(qwen)


class TestClipTokenizer:
    @pytest.mark.parametrize(
        ("text", "ids"),
        [
            ("a photo of a cat", [320, 1125, 539, 320, 2368]),
            ("A  Photo\nof a CAT", [320, 1125, 539, 320, 2368]),
            ("a photo of a dog", [320, 1125, 539, 320, 1929]),
            ("hello world!", [3306, 1002, 256]),
            ("12", [272, 273]),
        ],
    )
    def test_openai_ids(self, text, ids):
        assert clip_tokenizer(None, 77)(text)["input_ids"] == [49406, *ids, 49407]

    def test_vocabulary(self):
        vocabulary, merges = openai_vocabulary()
        assert len(vocabulary) == 49408 and len(merges) == 48894
        assert (vocabulary["!"], vocabulary["!</w>"], vocabulary["in"]) == (0, 256, 512)
        marks = (vocabulary["<|startoftext|>"], vocabulary["<|endoftext|>"])
        assert marks == (49406, 49407)

    def test_truncation_keeps_both_marks(self, qwen):
        prompt = build_prompt(language_tokenizer(qwen), clip_tokenizer(None, 77), "a " * 100)
        ids = prompt.clip_input_ids[0].tolist()
        assert ids == [49406, *[320] * 75, 49407]
        assert prompt.clip_attention_mask[0].tolist() == [1] * 77

    def test_of_the_folder(self, tmp_path):
        """A CLIP folder with a tokenizer of its own, whatever it is."""
        vocabulary = {"[": 0, "]": 1, "?": 2, "red": 3, "cat": 4}
        own = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
        own.pre_tokenizer = pre_tokenizers.Whitespace()
        own.post_processor = processors.TemplateProcessing("[ $A ]", None, [("[", 0), ("]", 1)])
        own.save(str(tmp_path / "tokenizer.json"))
        tokenizer = clip_tokenizer(tmp_path, 4)
        ids = tokenizer("red cat dog", truncation=True, max_length=tokenizer.model_max_length)
        assert ids["input_ids"] == [0, 3, 4, 1]


class TestModel:
    @pytest.fixture
    def folder(self, tmp_path):
        folder = write_checkpoint(tmp_path / "model")
        write_qwen_tokenizer(folder)
        own = Tokenizer(models.WordLevel({"?": 0, "cat": 4, "]": Sizes().clip_eos}, unk_token="?"))
        own.pre_tokenizer = pre_tokenizers.Whitespace()
        own.post_processor = processors.TemplateProcessing("$A ]", None, [("]", Sizes().clip_eos)])
        own.save(str(folder / CLIP_FOLDER / "tokenizer.json"))
        return folder

    def test_tokenize(self, folder):
        model = ViLAMP.from_pretrained(folder, device="cpu")
        prompt = model.tokenize("A cat?")
        assert prompt.input_ids.tolist() == [[*BEFORE, -200, *AFTER]]
        assert prompt.clip_input_ids.tolist() == [[0, 4, 0, Sizes().clip_eos]]
        embeds = model.embed_query("A cat?")
        wanted = model.embed_question(prompt.clip_input_ids, prompt.clip_attention_mask)
        assert torch.equal(embeds, wanted)

    def test_stop_ids(self, folder):
        """The checkpoint's own, and the end of a turn of the prompt."""
        model = ViLAMP.from_pretrained(folder, device="cpu")
        assert model.stop_ids == {Sizes().vocabulary - 1, END}

    def test_without_tokenizers(self, tmp_path):
        model = ViLAMP.from_pretrained(write_checkpoint(tmp_path), device="cpu")
        with pytest.raises(CheckpointError, match="has no tokenizer of the language model"):
            model.tokenize("A cat?")

    def test_tokenizer_of_another_model(self, tmp_path):
        """OpenAI's ids in a CLIP of 70 words."""
        model = ViLAMP.from_pretrained(write_checkpoint(tmp_path), device="cpu")
        with pytest.raises(InputError, match="vocabulary has 70; the tokenizer belongs to another"):
            model.embed_query("A cat?")
