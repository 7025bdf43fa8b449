"""The two tokenizers, built from plain files: no code of a model folder is ever run."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer
from transformers import CLIPTokenizer, PreTrainedTokenizerFast, Qwen2Tokenizer

from .config_fields import is_file, read_json, shown
from .errors import CheckpointError
from .text_files import read_text
from .tokenizer_parts import (
    MOST_ADDED,
    require_id,
    require_supported,
    require_token,
    require_vocabulary,
)

CLIP_VOCABULARY = Path(__file__).parent / "clip_tokenizer" / "bpe_simple_vocab_16e6.txt.gz"
CLIP_TOKENS = 49408
LARGEST_FILE = 16 << 20
"""Bytes; those of Qwen2 are 7 MB."""


def has_language_tokenizer(folder: Path) -> bool:
    """Whether a folder has a tokenizer of the language model, be it an incomplete one."""
    return any(is_file(folder / name) for name in ("tokenizer.json", "vocab.json"))


def language_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The language model's tokenizer: `tokenizer.json`, else `vocab.json` and `merges.txt`.

    Special tokens come from `tokenizer_config.json` (and `added_tokens.json` of older folders).

    Raises:
        CheckpointError: none of these files, they contradict each other, or they ask for something
            that no supported tokenizer has, see `vilamp.tokenizer_parts`.
    """
    settings = _optional_json(folder / "tokenizer_config.json")
    if is_file(folder / "tokenizer.json"):
        tokenizer = _from_tokenizer_json(folder / "tokenizer.json")
    elif is_file(folder / "vocab.json") and is_file(folder / "merges.txt"):
        # Special tokens left to the class would be numbered in its order, not in the folder's.
        none = dict.fromkeys(("unk_token", "bos_token", "eos_token", "pad_token"))
        tokenizer = _from_vocabulary(Qwen2Tokenizer, folder, **none)
    else:
        raise CheckpointError(
            f"{folder} has no tokenizer of the language model: wanted tokenizer.json, "
            "or vocab.json and merges.txt"
        )
    _add_tokens(tokenizer, folder, settings)
    for role in ("bos_token", "eos_token", "pad_token", "unk_token"):
        if settings.get(role) is not None:
            _set_role(tokenizer, role, settings[role])
    return tokenizer


def clip_tokenizer(folder: Path | None, context: int) -> PreTrainedTokenizerFast:
    """CLIP's tokenizer: of the CLIP folder, else OpenAI's, which comes with this package.

    Args:
        folder: CLIP's folder inside the model folder, or None.
        context: longest text in tokens, the two marks at its ends included (77 as published).
    Raises:
        CheckpointError: a file of the folder is not a tokenizer, or none that is supported.
    """
    if folder is not None and is_file(folder / "tokenizer.json"):
        tokenizer = _from_tokenizer_json(folder / "tokenizer.json")
    elif folder is not None and all(is_file(folder / n) for n in ("vocab.json", "merges.txt")):
        tokenizer = _from_vocabulary(CLIPTokenizer, folder)
    else:
        tokenizer = CLIPTokenizer(*openai_vocabulary())
    tokenizer.model_max_length = context
    return tokenizer


def openai_vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Token ids and merge rules of OpenAI's CLIP, in the order that defines its 49,408 ids.

    First the 256 bytes, each written as one printable character, then the same at the end of a
    word, then one token per merge, then the marks of the start and the end of a text.
    """
    with gzip.open(CLIP_VOCABULARY, "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")
    # The first line is a heading; the file goes on after the merges that CLIP uses.
    merges = [tuple(line.split()) for line in lines[1 : CLIP_TOKENS - 2 - 2 * 256 + 1]]
    alphabet = _byte_alphabet()
    words = alphabet + [f"{letter}</w>" for letter in alphabet] + ["".join(m) for m in merges]
    words += ["<|startoftext|>", "<|endoftext|>"]
    return {word: number for number, word in enumerate(words)}, merges


def _byte_alphabet() -> list[str]:
    """One printable character per byte: itself where it is printable, else the next from 256 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(byte) for byte in printable] + [chr(256 + n) for n in range(256 - len(printable))]


class _Built(PreTrainedTokenizerFast):
    """A tokenizer of the Rust library, taken as it is: given as an option it would be copied."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        super().__init__(clean_up_tokenization_spaces=False)


def _from_tokenizer_json(path: Path) -> PreTrainedTokenizerFast:
    fields = read_json(path, LARGEST_FILE)
    require_supported(path, fields)
    # Each text is cut and never filled up, whatever the file says of that.
    fields |= {"truncation": None, "padding": None}
    try:
        # From what was checked, not from the file: two readers may take it differently.
        tokenizer = Tokenizer.from_str(json.dumps(fields))
        for token in fields.get("added_tokens") or []:
            _require_own_id(path, tokenizer, token["content"], token["id"])
        return _Built(tokenizer)
    except CheckpointError:
        raise
    except Exception as error:
        # The Rust library raises a bare Exception for a file it cannot read.
        raise CheckpointError(f"{path}: not a tokenizer ({_reason(error)})") from error


def _from_vocabulary(kind: type, folder: Path, **options: Any) -> PreTrainedTokenizerFast:
    """A tokenizer from `vocab.json` and `merges.txt`."""
    vocabulary = read_json(folder / "vocab.json", LARGEST_FILE)
    require_vocabulary(folder / "vocab.json", vocabulary)
    try:
        lines = read_text(folder / "merges.txt", LARGEST_FILE).split("\n")
        if lines[0].startswith("#version"):
            lines = lines[1:]
        return kind(vocabulary, [tuple(line.split()) for line in lines if line.strip()], **options)
    except Exception as error:
        # The Rust library raises a bare Exception for a rule whose tokens are not there.
        raise CheckpointError(
            f"{folder}: vocab.json and merges.txt are no byte-pair vocabulary ({_reason(error)})"
        ) from error


def _add_tokens(tokenizer: PreTrainedTokenizerFast, folder: Path, settings: Mapping) -> None:
    """Add the tokens that the folder names beside the vocabulary, each with the id it states."""
    try:
        stated = _stated_tokens(folder, settings)
    except (TypeError, ValueError, AttributeError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{folder}: added tokens not as texts and ids ({error})") from error
    # Together: each call builds the search for all of them anew.
    tokenizer.add_tokens([stated[number] for number in sorted(stated)])
    for number, token in stated.items():
        _require_own_id(folder, tokenizer.backend_tokenizer, token.content, number)


def _require_own_id(place: Path, tokenizer: Tokenizer, text: str, number: int) -> None:
    given = tokenizer.token_to_id(text)
    if given != number:
        raise CheckpointError(f"{place}: token {text!r} should have id {number}, gets {given}")


def _stated_tokens(folder: Path, settings: Mapping) -> dict[int, AddedToken]:
    """Id -> token, from both places where folders list them."""
    stated: dict[int, AddedToken] = {}
    for text, number in _optional_json(folder / "added_tokens.json").items():
        stated[require_id(number)] = AddedToken(require_token(text), special=True)
    for number, entry in (settings.get("added_tokens_decoder") or {}).items():
        text = _text_of(entry)
        flags = {
            name: bool(entry[name])
            for name in ("lstrip", "normalized", "rstrip", "single_word", "special")
            if isinstance(entry, Mapping) and name in entry
        }
        stated[require_id(int(number))] = AddedToken(text, **flags)
    if len(stated) > MOST_ADDED:
        raise ValueError(f"wanted at most {MOST_ADDED}, got {len(stated)}")
    return stated


def _set_role(tokenizer: PreTrainedTokenizerFast, role: str, token: Any) -> None:
    try:
        text = _text_of(token)
    except ValueError as error:
        raise CheckpointError(f"tokenizer_config.json: {role}: {error}") from error
    if tokenizer.backend_tokenizer.token_to_id(text) is None:
        raise CheckpointError(f"tokenizer_config.json: {role} {text!r} is not in the vocabulary")
    setattr(tokenizer, role, text)


def _optional_json(path: Path) -> dict:
    return read_json(path) if is_file(path) else {}


def _text_of(token: Any) -> str:
    return require_token(token.get("content") if isinstance(token, Mapping) else token)


def _reason(error: Exception) -> str:
    return shown(" ".join(str(error).split()))[1:-1]
