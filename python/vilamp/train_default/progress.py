"""One line of progress at a time, with the time that is left; no terminal needed."""

import time


class Progress:
    """Counts steps of a stage and prints a line every `every` seconds."""

    def __init__(self, stage: str, total: int, done: int = 0, every: float = 15.0):
        self.stage, self.total, self.done, self.every = stage, total, done, every
        self._first = done
        self._start = self._last = time.monotonic()

    def step(self, note: str = "") -> None:
        """Count one step; `note` is printed beside the count when a line is due."""
        self.done += 1
        now = time.monotonic()
        if now - self._last < self.every and self.done != self.total:
            return
        self._last = now
        each = (now - self._start) / (self.done - self._first)
        left = each * (self.total - self.done)
        print(
            f"{self.stage}: {self.done}/{self.total}, {now - self._start:.0f} s, "
            f"{left:.0f} s left {note}",
            flush=True,
        )
