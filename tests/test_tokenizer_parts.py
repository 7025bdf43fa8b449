"""Which parts of a tokenizer.json are accepted, and that the others are one line at once."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import vilamp
from model_files import write_json
from vilamp.errors import CheckpointError
from vilamp.tokenizers import clip_tokenizer, language_tokenizer

DEFAULT_MODEL = Path(vilamp.__file__).parent / "default_model"
QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CLIP_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False}


def split(regex, behavior="Isolated", invert=False):
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": behavior, "invert": invert}


def replace(text, content):
    return {"type": "Replace", "pattern": {"String": text}, "content": content}


def added(number, content, **flags):
    names = ("single_word", "lstrip", "rstrip", "normalized", "special")
    return {"id": number, "content": content, **dict.fromkeys(names, False), **flags}


WORDS = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [added(1, "<|im_end|>", special=True)],
    "normalizer": {"type": "Lowercase"},
    "pre_tokenizer": {"type": "Whitespace"},
    "post_processor": None,
    "decoder": None,
    "model": {
        "type": "WordLevel",
        "vocab": {"?": 0, "<|im_end|>": 1, "red": 2},
        "unk_token": "?",
    },
}
# As the published files have it, but for the number of tokens.
QWEN2 = {
    **WORDS,
    "added_tokens": [added(4, "<|endoftext|>", special=True)],
    "normalizer": {"type": "NFC"},
    "pre_tokenizer": {
        "type": "Sequence",
        "pretokenizers": [split(QWEN2_WORDS), {**BYTE_LEVEL, "use_regex": False}],
    },
    "post_processor": {**BYTE_LEVEL, "use_regex": False},
    "decoder": {**BYTE_LEVEL, "use_regex": False},
    "model": {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": "",
        "end_of_word_suffix": "",
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": {"r": 0, "e": 1, "d": 2, "re": 3},
        "merges": ["r e"],
    },
}
CLIP = {
    **WORDS,
    "added_tokens": [added(3, "<|endoftext|>", normalized=True, special=True)],
    "normalizer": {
        "type": "Sequence",
        "normalizers": [
            {"type": "NFC"},
            {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
            {"type": "Lowercase"},
        ],
    },
    "pre_tokenizer": {
        "type": "Sequence",
        "pretokenizers": [
            split(CLIP_WORDS, "Removed", True),
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True},
        ],
    },
    "post_processor": {
        "type": "RobertaProcessing",
        "sep": ["<|endoftext|>", 3],
        "cls": ["<|endoftext|>", 3],
        "trim_offsets": False,
        "add_prefix_space": False,
    },
    "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True},
    "model": {
        "dropout": None,
        "unk_token": "<|endoftext|>",
        "continuing_subword_prefix": "",
        "end_of_word_suffix": "</w>",
        "fuse_unk": False,
        "vocab": {"e": 0, "d</w>": 1, "ed</w>": 2, "<|endoftext|>": 3},
        "merges": [["e", "d</w>"]],
    },
}


@pytest.fixture
def ids(tmp_path):
    """`ids(fields, text)`: of a folder with this tokenizer.json."""

    def tokenize(fields, text="Red", of=language_tokenizer):
        write_json(tmp_path / "tokenizer.json", fields)
        return of(tmp_path)(text)["input_ids"]

    return tokenize


@pytest.mark.parametrize(
    ("fields", "text", "wanted"),
    [(WORDS, "Red<|im_end|>", [2, 1]), (QWEN2, "red", [3, 2]), (CLIP, "ED", [3, 2, 3])],
    ids=["words", "qwen2", "clip"],
)
def test_supported(ids, fields, text, wanted):
    assert ids(fields, text) == wanted


@pytest.mark.parametrize("folder", ["", "clip-drawn-patch8-64"])
def test_those_of_the_embedded_model(folder):
    language_tokenizer(DEFAULT_MODEL / folder)


def test_those_that_are_written_by_transformers(tmp_path):
    made = clip_tokenizer(None, 77)
    made.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    text = "A photo of 2 cats' \n heads!"
    assert clip_tokenizer(tmp_path, 77)(text)["input_ids"] == made(text)["input_ids"]


def test_cutting_and_filling_up_are_not_taken_from_the_file(ids):
    fields = {
        **WORDS,
        "truncation": {"direction": "Right", "max_length": 1, "strategy": "LongestFirst"},
        "padding": {"strategy": {"Fixed": 10**12}, "direction": "Right", "pad_id": 0},
    }
    assert ids(fields, "red red red") == [2, 2, 2]


def nested(count):
    """Each makes ten of one: 10^count characters."""
    return {"type": "Sequence", "normalizers": [replace("e", "e" * 10)] * count}


def deep(count):
    part = {"type": "Lowercase"}
    for _ in range(count):
        part = {"type": "Sequence", "normalizers": [part]}
    return part


TEMPLATE = {
    "type": "TemplateProcessing",
    "single": [{"Sequence": {"id": "A", "type_id": 0}}] * 9,
    "pair": [],
    "special_tokens": {},
}
TWICE = {**TEMPLATE, "single": [{"Sequence": {"id": "A", "type_id": 0}}] * 2}
# The library ends the process that meets one.
UNKNOWN_MARK = {**TEMPLATE, "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}]}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("normalizer", nested(8)),
        ("normalizer", replace(" ", "x" * 10**6)),
        ("normalizer", {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": " "}),
        ("normalizer", {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": "aa"}),
        ("normalizer", {"type": "Prepend", "prepend": "x" * 10**6}),
        ("normalizer", {"type": "Sequence", "normalizers": [{"type": "NFC"}] * 5}),
        ("normalizer", deep(3)),
        ("normalizer", deep(300)),
        ("normalizer", {"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
        ("normalizer", [1]),
        ("normalizer", {"type": ["NFC"]}),
        ("normalizer", {"type": "NFC", "more": 1}),
        ("pre_tokenizer", split("(a|aa)+$")),
        ("pre_tokenizer", split(r"\s+", "MergedWithNext")),
        ("pre_tokenizer", {"type": "Metaspace", "replacement": "_", "prepend_scheme": "always"}),
        ("pre_tokenizer", {"type": "Digits", "individual_digits": True}),
        ("post_processor", TEMPLATE),
        ("post_processor", TWICE),
        ("post_processor", UNKNOWN_MARK),
        ("post_processor", {"type": "Sequence", "processors": [BYTE_LEVEL]}),
        ("decoder", replace("e", "e" * 1000)),
        ("decoder", {"type": "Sequence", "decoders": [replace("e", "e" * 1000)]}),
        ("decoder", {"type": "WordPiece", "prefix": "##", "cleanup": True}),
        ("model", {"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 0}),
        ("model", {"type": "WordPiece", "vocab": {"a": 0}, "unk_token": "a"}),
        ("model", None),
        ("model", {**QWEN2["model"], "dropout": 0.5}),
        ("model", {**QWEN2["model"], "continuing_subword_prefix": "x" * 10**6}),
        ("model", {**QWEN2["model"], "byte_fallback": True}),
        ("model", {**WORDS["model"], "vocab": {"?": -1}}),
        ("model", {**WORDS["model"], "vocab": {"?": 2**40}}),
        ("model", {**WORDS["model"], "vocab": {"?": 0, "red": 0}}),
        ("model", {**WORDS["model"], "vocab": {"?": 0.5}}),
        ("model", {**WORDS["model"], "vocab": {"?": 0, "x" * 10**6: 1}}),
        ("model", {**WORDS["model"], "vocab": ["?"]}),
        ("added_tokens", [added(1, "x" * 10**6)]),
        ("added_tokens", [added(1, "")]),
        ("added_tokens", [added(-1, "<a>")]),
        ("added_tokens", [added(float("inf"), "<a>")]),
        ("added_tokens", [added(True, "<a>")]),
        ("added_tokens", [added(3, "\ud800")]),
        ("added_tokens", [added(n + 3, f"<{n}>") for n in range(10_001)]),
        ("added_tokens", {"a": 1}),
        ("surprise", 1),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_others_are_one_line(ids, field, value):
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: not a tokenizer") as caught:
        ids({**WORDS, field: value})
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_an_id_that_an_added_token_does_not_get(ids):
    """The library numbers them as it comes to them."""
    with pytest.raises(CheckpointError, match="should have id 77, gets 3"):
        ids({**WORDS, "added_tokens": [added(77, "<a>")]})


def test_a_file_of_absurd_size(ids, tmp_path):
    fields = copy.deepcopy(WORDS)
    fields["model"]["vocab"] |= {f"{n}{'x' * 1000}": n + 3 for n in range(17_000)}
    with pytest.raises(CheckpointError, match="wanted at most 16,777,216 bytes"):
        ids(fields)


class TestBesideTheVocabulary:
    @pytest.mark.parametrize(
        "number", ["1e400", "1.5", "NaN", "-1", "true", "null", "[3]", str(10**400)]
    )
    def test_ids_of_an_older_folder(self, ids, tmp_path, number):
        (tmp_path / "added_tokens.json").write_text(f'{{"<a>": {number}}}')
        with pytest.raises(CheckpointError, match="added tokens not as texts and ids"):
            ids(WORDS)

    @pytest.mark.parametrize("number", ["1e400", "-1", "x", "", str(10**400), "9" * 5000])
    def test_ids_of_the_settings(self, ids, tmp_path, number):
        write_json(
            tmp_path / "tokenizer_config.json", {"added_tokens_decoder": {number: {"content": "a"}}}
        )
        with pytest.raises(CheckpointError, match="added tokens not as texts and ids") as caught:
            ids(WORDS)
        assert len(str(caught.value)) < 400

    @pytest.mark.parametrize("token", ["", "x" * 300, "\ud800", 5, ["a"], {"content": None}])
    def test_tokens(self, ids, tmp_path, token):
        for settings in ({"added_tokens_decoder": {"3": token}}, {"eos_token": token}):
            write_json(tmp_path / "tokenizer_config.json", settings)
            with pytest.raises(CheckpointError, match=r"no token of 1\.\.256 characters"):
                ids(WORDS)

    def test_many_are_added_at_once(self, ids, tmp_path):
        write_json(
            tmp_path / "tokenizer_config.json",
            {"added_tokens_decoder": {str(n + 3): {"content": f"<{n}>"} for n in range(3000)}},
        )
        assert ids(WORDS, "<2999>") == [3002]

    def test_a_role_that_no_token_has(self, ids, tmp_path):
        write_json(tmp_path / "tokenizer_config.json", {"eos_token": "</s>"})
        with pytest.raises(CheckpointError, match="eos_token '</s>' is not in the vocabulary"):
            ids(WORDS)

    def test_code_and_templates_are_never_run(self, ids, tmp_path):
        write_json(
            tmp_path / "tokenizer_config.json",
            {
                "auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]},
                "tokenizer_class": "EvilTokenizer",
                "chat_template": "{{ ''.__class__.__mro__[1].__subclasses__() }}" * 10,
                "eos_token": "<|im_end|>",
            },
        )
        (tmp_path / "evil.py").write_text("raise SystemExit(3)")
        assert ids(WORDS) == [2]


@pytest.mark.parametrize("text", ['{"a": -1}', '{"a": 0, "b": 0}', '{"a": 1e400}'])
def test_ids_of_a_vocab_json(tmp_path, text):
    (tmp_path / "vocab.json").write_text(text)
    (tmp_path / "merges.txt").write_text("")
    for of in (language_tokenizer, lambda folder: clip_tokenizer(folder, 77)):
        with pytest.raises(CheckpointError, match=r"vocab\.json: no byte-pair vocabulary"):
            of(tmp_path)


def test_a_tokenizer_file_is_read_by_one_reader_only(tmp_path):
    """Two settings of one name: the one that was checked is the one that counts."""
    text = json.dumps(WORDS)[:-1]
    (tmp_path / "tokenizer.json").write_text(
        f'{text[:1]}"normalizer": {json.dumps(nested(8))}, {text[1:]}}}'
    )
    assert language_tokenizer(tmp_path)("Red")["input_ids"] == [2]
