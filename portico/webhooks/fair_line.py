"""FairLine: who is next, among many hosts. Each has its turn, and few callbacks of one are under way at once.

So a receiver that is slow, or has thousands of callbacks to come, holds up nobody but itself.
"""

from __future__ import annotations

from collections import Counter, deque


class FairLine:
    """Plain data: it waits for nothing. An item that is in it already is not put in again."""

    def __init__(self, at_once: int, of_one_host: int) -> None:
        """How many may be taken and not yet be done: in all, and of one host."""
        self._at_once = at_once
        self._of_one_host = of_one_host
        self._waiting: dict[str, deque[str]] = {}
        """By host, in the order of the next turns."""
        self._known: set[str] = set()
        self._taken: Counter[str] = Counter()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._known)

    def put(self, host: str, item: str) -> None:
        """Stand in line."""
        if item not in self._known:
            self._known.add(item)
            self._waiting.setdefault(host, deque()).append(item)

    def take(self) -> tuple[str, str] | None:
        """The next one, and its host; None where nobody waits, or too many are under way."""
        if self._taken.total() >= self._at_once:
            return None
        for host in self._waiting:
            if self._taken[host] < self._of_one_host:
                return host, self._take(host)
        return None

    def done(self, host: str) -> None:
        """One that was taken of this host is under way no more."""
        self._taken[host] -= 1
        if not self._taken[host]:
            del self._taken[host]

    def _take(self, host: str) -> str:
        items = self._waiting.pop(host)
        item = items.popleft()
        if items:
            self._waiting[host] = items  # at the end: the others come first
        self._known.remove(item)
        self._taken[host] += 1
        return item
