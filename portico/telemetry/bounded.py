"""Bounded: a table of series that cannot grow without end. What comes after it is full is counted under `other`.

Labels are few by construction; but agents are spawned, models are named by callers, and routes come with agents.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

V = TypeVar("V")

LONGEST: Final = 128
"""Characters of a label that a stranger has made up."""

OTHER: Final = "other"
"""The label of what found no place of its own."""


class Bounded(dict[tuple[str, ...], V]):
    """By the labels of each series; one that is missing is made.

    Args:
        make: makes what is counted in.
        limit: how many have a place of their own. Twice as many may be there in all, and one more.
        overflow: the labels under which the others are counted; by default each is `other`.
    """

    def __init__(
        self, make: Callable[[], V], limit: int, overflow: Callable[[tuple[str, ...]], tuple[str, ...]] | None = None
    ) -> None:
        super().__init__()
        self._make = make
        self._limit = limit
        self._overflow = overflow

    def __missing__(self, labels: tuple[str, ...]) -> V:
        """The one for these labels: its own while there is room, else one that it shares."""
        if len(self) >= self._limit:
            fewer = self._overflow(labels) if self._overflow is not None else (OTHER,) * len(labels)
            if len(self) >= 2 * self._limit:
                fewer = (OTHER,) * len(labels)
            if fewer in self:
                return self[fewer]
            labels = fewer
        made = self[labels] = self._make()
        return made
