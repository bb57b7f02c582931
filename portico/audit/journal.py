"""JournalSink: the audit trail in the store of the runs, in whose next commit its entries are. The one that can be read back.

Below: the port `AuditStore`. What is too old, or too much, is removed, and an entry of the chain itself says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from portico.audit.chain import HASH, MICROSECONDS
from portico.runs.audit_entry import AuditAction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from portico.runs.audit_entry import ChainHead, Details, SealedEntry
    from portico.runs.audit_store import AuditStore


AT_ONCE: Final = 5000
"""How many entries are removed in one commit: what else is to be stored waits for it."""


class JournalSink:
    """See `AuditSink`. `keep`: seconds for which entries are kept; None for ever."""

    name = "journal"

    def __init__(self, store: AuditStore, keep: float | None = None) -> None:
        self._store = store
        self._keep = keep

    async def open(self) -> ChainHead:
        """See `AuditSink.open`."""
        return await self._store.audit_head()

    async def write(self, entries: Sequence[SealedEntry]) -> None:
        """See `AuditSink.write`. With the entry that says so, what is too old is removed, in the same commit."""
        through = [_through(sealed) for sealed in entries if sealed.entry.action == AuditAction.PRUNED]
        await self._store.append_audit(entries, max(through, default=0))

    @property
    def full(self) -> bool:
        """Whether the oldest are to be removed whatever their age."""
        return self._store.audit_full

    async def expired(self, now_us: int) -> Details | None:
        """What an entry is to say with which the oldest are removed; None where none is too old, or too many."""
        if self._keep is None and not self.full:
            return None
        than_us = now_us - int(self._keep * MICROSECONDS) if self._keep is not None else 0
        found = await self._store.audit_older(than_us, AT_ONCE)
        return None if found is None else {"through": found[0].seq, HASH: found[0].hash, "count": found[1]}

    async def close(self) -> None:
        """See `AuditSink.close`. The store is not its own."""


def _through(sealed: SealedEntry) -> int:
    """Up to which number an entry says that others were removed."""
    said = (sealed.entry.details or {}).get("through")
    return said if type(said) is int and said < sealed.seq else 0
