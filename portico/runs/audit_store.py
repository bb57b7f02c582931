"""AuditStore: the port under the audit trail: keeps sealed entries in order. Every `RunStore` is one too.

Above: the room `audit`, which seals them, and who reads them. Below: `MemoryRunStore` here, `SqliteStore` in `stores/`. It makes no
chain and checks none: that is what the chain is for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from portico.runs.audit_entry import ChainHead, SealedEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditQuery:
    """Which entries to list. Every condition that is given must hold."""

    after: int | None = None
    """Only those with a greater number, the oldest first; None for the newest first."""
    before: int | None = None
    """Only those with a smaller number."""
    agent: str | None = None
    principal: str | None = None
    action: str | None = None
    since_us: int | None = None
    """Only those of then and later: microseconds since the epoch."""
    until_us: int | None = None
    """Only earlier ones: microseconds since the epoch."""
    limit: int = 50


class EntryExists(Exception):
    """Another entry has the number of one that was to be stored: somebody else goes on with the chain, too."""


class AuditStore(Protocol):
    """See the module. All methods are called on the event loop, and none of them blocks it."""

    async def append_audit(self, entries: Sequence[SealedEntry], forget_through: int = 0) -> None:
        """Store entries, all or none, and remove those numbered up to `forget_through`. One that is there already stays.

        Raises:
            EntryExists: another entry has the number of one of them; nothing was stored, nor removed.
            StoreUnavailable: nothing was stored, nor removed.
        """
        ...

    async def audit_head(self) -> ChainHead:
        """Where the chain stands."""
        ...

    @property
    def audit_full(self) -> bool:
        """Whether it has more than it is to keep. It removes nothing by itself: the chain would say nothing of that."""
        ...

    async def audit(self, query: AuditQuery) -> list[SealedEntry]:
        """At most `limit` entries."""
        ...

    async def audit_older(self, than_us: int, limit: int) -> tuple[ChainHead, int] | None:
        """The last entry before which all, itself too, are older than this, and how many these are: `limit` at most.

        None where there are none. Where it is full, so many as have to go, whatever their age.
        """
        ...
