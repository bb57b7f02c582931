"""AuditSink: where entries go. The port; each of its technologies has a file of its own, and `MemorySink` here is its twin.

Above: `line.py`, which calls it from one task and never from two at once. What it raises harms nobody: the same entries come again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from portico.audit.chain import head_of
from portico.runs.audit_entry import ChainHead, SealedEntry

if TYPE_CHECKING:
    from collections.abc import Sequence


class AuditSink(Protocol):
    """Takes entries."""

    @property
    def name(self) -> str:
        """What it is called where somebody is told that it fails."""
        ...

    async def open(self) -> ChainHead:
        """Make it ready; again after it has raised. Returns where its chain goes on; a new `ChainHead` where it keeps none."""
        ...

    async def write(self, entries: Sequence[SealedEntry]) -> None:
        """Keep some entries, all or none. Those that it has already, by their numbers, it leaves as they are.

        Raises:
            EntryExists: another has the number of one of them; they come again, behind those that are there.
        """
        ...

    async def close(self) -> None:
        """Let go of what it holds. Also called where it could not be opened."""
        ...


class MemorySink:
    """An `AuditSink` that keeps what it gets as long as the program runs, for tests and for a program's own use."""

    name = "memory"

    def __init__(self) -> None:
        self.entries: list[SealedEntry] = []

    async def open(self) -> ChainHead:
        """See `AuditSink.open`."""
        return head_of(self.entries[-1]) if self.entries else ChainHead()

    async def write(self, entries: Sequence[SealedEntry]) -> None:
        """See `AuditSink.write`."""
        last = self.entries[-1].seq if self.entries else 0
        self.entries += [sealed for sealed in entries if sealed.seq > last]

    async def close(self) -> None:
        """See `AuditSink.close`."""
