"""Parts of a long run, for several processes or machines."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from ..errors import InputError

T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """Part `number` of `count`, counted from 1.

    Raises:
        InputError: not 1 <= number <= count.
    """

    number: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise InputError(
                f"shard: wanted one of 1/{self.count} to {self.count}/{self.count}, "
                f"got {self.number}/{self.count}"
            )

    @classmethod
    def parse(cls, text: str) -> Shard:
        """From a text such as 2/8.

        Raises:
            InputError: it is none.
        """
        match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text.strip())
        if match is None:
            raise InputError(f"--shard: wanted a part such as 2/8, got {text!r}")
        return cls(*map(int, match.groups()))

    @classmethod
    def of_torchrun(cls) -> Shard | None:
        """This process's part when `torchrun` started it; None when it did not.

        Raises:
            InputError: RANK and WORLD_SIZE make no sense.
        """
        rank, world = os.environ.get("RANK"), os.environ.get("WORLD_SIZE")
        if rank is None or world is None:
            return None
        try:
            return cls(int(rank) + 1, int(world))
        except ValueError as error:
            raise InputError(f"RANK={rank!r} WORLD_SIZE={world!r}: no part of a run") from error

    def take(self, groups: Sequence[T]) -> list[T]:
        """This part: every `count`-th group, so that long and short ones are spread evenly."""
        return list(groups[self.number - 1 :: self.count])

    def __str__(self) -> str:
        return f"{self.number}-of-{self.count}"
