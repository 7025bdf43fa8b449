"""The parts of a `tokenizer.json` that are accepted: those of the supported tokenizers.

The library that runs these files knows many more. Some of them multiply a text without limit, and
some patterns take exponential time, so a part, its settings and its patterns have to be known here.
Supported are byte-level BPE as Qwen2 and GPT-2 have it, CLIP's BPE, and word lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .config_fields import LARGEST_SIZE, shown
from .errors import CheckpointError

MOST_ADDED = 10_000
LONGEST_ADDED = 256
"""Characters of a token that is looked for in the text before it is split."""
LONGEST_TOKEN = 1024
"""Characters; an answer can be 65,536 times as long."""
MOST_PARTS = 4
"""Parts of a sequence; those that are accepted make a text a few times longer each."""

_FLAG = (True, False)
_QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_CLIP_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_SPLITS = (
    {"Regex": _QWEN2_WORDS},
    {"Regex": _CLIP_WORDS},
    {"Regex": r"<\|startoftext\|>|<\|endoftext\|>|" + _CLIP_WORDS},
    # Of the embedded model: lines, and words between spaces.
    {"String": "\n"},
    {"Regex": r"[^\S\n]+"},
)
_BYTE_LEVEL = {"add_prefix_space": _FLAG, "trim_offsets": _FLAG, "use_regex": _FLAG}

# Kind of part -> type -> setting -> accepted values.
_PARTS: dict[str, dict[str, dict[str, tuple]]] = {
    "normalizer": {
        "NFC": {},
        "NFKC": {},
        "Lowercase": {},
        "Replace": {"pattern": ({"Regex": r"\s+"},), "content": (" ",)},
    },
    "pre_tokenizer": {
        "ByteLevel": _BYTE_LEVEL,
        "Split": {"pattern": _SPLITS, "behavior": ("Isolated", "Removed"), "invert": _FLAG},
        "Punctuation": {"behavior": ("Isolated",)},
        "Whitespace": {},
        "WhitespaceSplit": {},
    },
    "post_processor": {"ByteLevel": _BYTE_LEVEL},
    "decoder": {"ByteLevel": _BYTE_LEVEL},
}
_SEQUENCES = {"normalizer": "normalizers", "pre_tokenizer": "pretokenizers"}
_BPE_SETTINGS = {
    # Any other drops merges at random.
    "dropout": (None, 0),
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, "", "</w>"),
    "fuse_unk": _FLAG,
    "byte_fallback": (False,),
    "ignore_merges": _FLAG,
}
_ADDED_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
_TOP = ("version", "truncation", "padding", "added_tokens", *_PARTS, "model")


def require_supported(path: Path, tokenizer: Mapping) -> None:
    """Check what was read from a `tokenizer.json`.

    Raises:
        CheckpointError: a part, a setting or a pattern that no supported tokenizer has, or tokens
            and ids that are none.
    """
    try:
        _require_keys("tokenizer", tokenizer, _TOP)
        for kind in _PARTS:
            _require_part(kind, tokenizer.get(kind))
        _require_model(tokenizer.get("model"))
        _require_added(tokenizer.get("added_tokens") or [])
    except _Unsupported as error:
        raise CheckpointError(
            f"{path}: not a tokenizer that is supported ({error}); wanted byte-level BPE as of "
            "Qwen2, BPE as of CLIP, or a word list"
        ) from error


def require_vocabulary(path: Path, vocabulary: Mapping) -> None:
    """Check the tokens and ids of a `vocab.json`.

    Raises:
        CheckpointError: ids that are none, twice the same, or a token of absurd length.
    """
    try:
        _require_vocabulary(vocabulary)
    except _Unsupported as error:
        raise CheckpointError(f"{path}: no byte-pair vocabulary ({error})") from error


def require_token(text: Any) -> str:
    """A text that may be a token beside the vocabulary.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(text, str) or not 0 < len(text) <= LONGEST_ADDED or not _is_unicode(text):
        raise _Unsupported(f"{shown(text)} is no token of 1..{LONGEST_ADDED} characters")
    return text


def require_id(number: Any) -> int:
    """A number that may be the id of a token.

    Raises:
        ValueError: it is none.
    """
    whole = isinstance(number, int) and not isinstance(number, bool)
    if not whole or not 0 <= number < LARGEST_SIZE:
        raise _Unsupported(f"id {shown(number)} is no integer in 0..{LARGEST_SIZE - 1}")
    return number


class _Unsupported(ValueError):
    """Says which part."""


def _require_part(kind: str, part: Any) -> None:
    if part is None:
        return
    name = _type_of(kind, part)
    inner = _SEQUENCES.get(kind)
    if inner is not None and name == "Sequence":
        _require_keys(kind, part, ("type", inner))
        parts = part.get(inner)
        if not isinstance(parts, list) or len(parts) > MOST_PARTS:
            raise _Unsupported(f"{kind}: wanted at most {MOST_PARTS} in a sequence")
        for one in parts:
            _require_simple(kind, one)
    elif kind == "post_processor" and name == "TemplateProcessing":
        _require_template(part)
    elif kind == "post_processor" and name == "RobertaProcessing":
        _require_marks(part)
    else:
        _require_simple(kind, part)


def _require_simple(kind: str, part: Any) -> None:
    name = _type_of(kind, part)
    settings = _PARTS[kind].get(name)
    if settings is None:
        raise _Unsupported(f"{kind} {shown(name)}")
    _require_settings(f"{kind} {name}", part, settings)


def _require_settings(
    what: str, part: Mapping, settings: Mapping[str, tuple], more: tuple[str, ...] = ("type",)
) -> None:
    _require_keys(what, part, (*more, *settings))
    for name, accepted in settings.items():
        if name in part and part[name] not in accepted:
            raise _Unsupported(f"{what}: {name} {shown(part[name])}")


def _require_template(part: Mapping) -> None:
    """Marks before and after a text, which stands there once."""
    _require_keys("post_processor", part, ("type", "single", "pair", "special_tokens"))
    marks = part.get("special_tokens") or {}
    if not isinstance(marks, Mapping) or len(marks) > 8:
        raise _Unsupported(f"post_processor: special_tokens {shown(marks)}")
    for name, texts in (("single", ["A"]), ("pair", ["A", "B"])):
        pieces = part.get(name) or []
        if not isinstance(pieces, list) or len(pieces) > 8:
            raise _Unsupported(f"post_processor: {name} {shown(pieces)}")
        found = []
        for piece in pieces:
            ((kind, place),) = piece.items() if _is_pair(piece) else (("", {}),)
            if kind not in ("Sequence", "SpecialToken") or not isinstance(place, Mapping):
                raise _Unsupported(f"post_processor: {name} {shown(piece)}")
            _require_keys("post_processor", place, ("id", "type_id"))
            if kind == "SpecialToken" and place.get("id") not in list(marks):
                raise _Unsupported(
                    f"post_processor: {name} {shown(piece)} is not in special_tokens"
                )
            found += [place.get("id")] if kind == "Sequence" else []
        if any(found.count(text) > 1 for text in texts) or any(t not in texts for t in found):
            raise _Unsupported(f"post_processor: {name} has a text more than once")
    for mark in marks.values():
        ids = mark.get("ids") if isinstance(mark, Mapping) else None
        if not isinstance(ids, list) or len(ids) > 8:
            raise _Unsupported(f"post_processor: special_tokens {shown(mark)}")
        for number in ids:
            require_id(number)


def _is_pair(piece: Any) -> bool:
    return isinstance(piece, Mapping) and len(piece) == 1


def _require_marks(part: Mapping) -> None:
    flags = {"trim_offsets": _FLAG, "add_prefix_space": _FLAG}
    _require_settings("post_processor", part, flags, more=("type", "sep", "cls"))
    for name in ("sep", "cls"):
        mark = part.get(name)
        if not isinstance(mark, list) or len(mark) != 2:
            raise _Unsupported(f"post_processor: {name} {shown(mark)}")
        require_token(mark[0])
        require_id(mark[1])


def _require_model(model: Any) -> None:
    if not isinstance(model, Mapping):
        raise _Unsupported(f"model {shown(model)}")
    # Older files of BPE do not name it.
    kind = model.get("type", "BPE")
    if kind == "BPE":
        _require_settings(
            "model BPE", model, _BPE_SETTINGS, more=("type", "unk_token", "vocab", "merges")
        )
        if not isinstance(model.get("merges"), list):
            raise _Unsupported("model BPE: no merges")
    elif kind == "WordLevel":
        _require_keys("model WordLevel", model, ("type", "vocab", "unk_token"))
    else:
        raise _Unsupported(f"model {shown(kind)}")
    if model.get("unk_token") is not None:
        require_token(model["unk_token"])
    _require_vocabulary(model.get("vocab"))


def _require_vocabulary(vocabulary: Any) -> None:
    if not isinstance(vocabulary, Mapping):
        raise _Unsupported(f"vocab {shown(vocabulary)}")
    for token, number in vocabulary.items():
        require_id(number)
        if len(token) > LONGEST_TOKEN:
            raise _Unsupported(f"a token of {len(token):,} characters")
    if len(set(vocabulary.values())) < len(vocabulary):
        raise _Unsupported("two tokens with one id")


def _require_added(tokens: Any) -> None:
    if not isinstance(tokens, list) or len(tokens) > MOST_ADDED:
        raise _Unsupported(f"added_tokens: wanted a list of at most {MOST_ADDED}")
    for token in tokens:
        if not isinstance(token, Mapping):
            raise _Unsupported(f"added token {shown(token)}")
        flags = dict.fromkeys(_ADDED_FLAGS, _FLAG)
        _require_settings("added token", token, flags, more=("id", "content"))
        require_id(token.get("id"))
        require_token(token.get("content"))


def _type_of(kind: str, part: Any) -> Any:
    if not isinstance(part, Mapping):
        raise _Unsupported(f"{kind} {shown(part)}")
    name = part.get("type")
    if not isinstance(name, str):
        raise _Unsupported(f"{kind} of type {shown(name)}")
    return name


def _require_keys(what: str, part: Mapping, known: tuple[str, ...]) -> None:
    for name in part:
        if name not in known:
            raise _Unsupported(f"{what}: unknown {shown(name)}")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
