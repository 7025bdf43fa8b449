"""The two word-level tokenizers: every word of the drawn world and of the prompt is one token."""

import re
from functools import cache

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from ..drawn.palette import COLOUR_NAMES, GLYPHS, PLACES, SHAPES
from ..drawn.questions import SIDE_WORDS, TEMPLATES

SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
AFTER_QUESTION = "<|im_end|>\n<|im_start|>assistant\n"
UNKNOWN, START, END = "<unk>", "<|im_start|>", "<|im_end|>"
# Common words round the ones that matter, so that fewer words of a free question are unknown.
_FILLERS = (
    "a an at can could please something does for from how i is it its me say tell that this to "
    "video was you"
)


@cache
def words() -> tuple[str, ...]:
    """Every ordinary token, sorted."""
    found = {*COLOUR_NAMES, *SHAPES, *PLACES, *GLYPHS, *"?.,:!'", *_FILLERS.split()}
    texts = [t for split in TEMPLATES.values() for kind in split.values() for t in kind]
    texts += [phrase for phrases in SIDE_WORDS.values() for phrase in phrases]
    texts.append(re.sub(r"<\|\w+\|>", " ", SYSTEM + AFTER_QUESTION))
    for text in texts:
        found |= set(re.findall(r"[a-z0-9]+", re.sub(r"\{\w+\}", " ", text).lower()))
    return tuple(sorted(found))


def _tokenizer(tokens: list[str]) -> Tokenizer:
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split("\n", "isolated"),
            pre_tokenizers.Split(Regex(r"[^\S\n]+"), "removed"),
            pre_tokenizers.Punctuation(),
        ]
    )
    return tokenizer


@cache
def language_tokenizer() -> Tokenizer:
    """Tokenizer of the language model: ChatML marks, one token for a line break, the words."""
    tokenizer = _tokenizer([UNKNOWN, START, END, "\n", *words()])
    tokenizer.add_special_tokens([AddedToken(t, normalized=False) for t in (START, END)])
    return tokenizer


@cache
def clip_tokenizer() -> Tokenizer:
    """Tokenizer of the selector: adds start and end; the end has the largest number."""
    begin, end = "<|startoftext|>", "<|endoftext|>"
    tokenizer = _tokenizer([UNKNOWN, *words(), begin, end])
    tokenizer.add_special_tokens([AddedToken(t, normalized=False) for t in (begin, end)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}",
        special_tokens=[(t, tokenizer.token_to_id(t)) for t in (begin, end)],
    )
    return tokenizer


def prompt_ids(question: str) -> tuple[list[int], list[int]]:
    """Token numbers before and after the video, as the published ChatML prompt has them."""
    encode = language_tokenizer().encode
    return encode(SYSTEM).ids, encode(f"\n{question}{AFTER_QUESTION}").ids
