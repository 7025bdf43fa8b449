"""Token ids to text, a piece at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection


class TextStream:
    """Turns ids into text as they come, holding back what a later id may still change.

    Args:
        decode: ids -> text, of a tokenizer.
        stop_ids: ids that end the answer and are not part of it.
        on_text: called with each new piece.
    """

    def __init__(
        self,
        decode: Callable[..., str],
        stop_ids: Collection[int],
        on_text: Callable[[str], None] | None = None,
    ):
        self._decode = decode
        self._stop_ids = stop_ids
        self._on_text = on_text or (lambda piece: None)
        self._ids: list[int] = []
        self._sent = ""

    def push(self, token: int) -> None:
        """The next id."""
        if token in self._stop_ids:
            return
        self._ids.append(token)
        text = self._decode(self._ids, skip_special_tokens=True)
        # An unfinished UTF-8 sequence decodes to the replacement character.
        if not text.endswith("\ufffd"):
            self._send(text)

    def finish(self) -> str:
        """The whole text; sends what was held back."""
        text = self._decode(self._ids, skip_special_tokens=True)
        self._send(text)
        return text.strip()

    def _send(self, text: str) -> None:
        if len(text) > len(self._sent):
            self._on_text(text[len(self._sent) :])
            self._sent = text
