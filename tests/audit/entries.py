"""What the tests of the audit trail share: entries, and chains of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from portico.audit.chain import head_of, seal
from portico.runs.audit_entry import AuditAction, AuditEntry, ChainHead

if TYPE_CHECKING:
    from portico.runs.audit_entry import SealedEntry

NOW_US: Final = 1_800_000_000_000_000


def an_entry(number: int = 1, **fields: Any) -> AuditEntry:
    """An entry of that second, with every field."""
    values: dict[str, Any] = {
        "action": AuditAction.RESTART,
        "outcome": "ok",
        "principal": "alice",
        "address": "192.0.2.7",
        "face": "http",
        "agent": "echo",
        "operation": "say",
        "run_id": f"run-{number}",
        "request_id": f"request-{number}",
        "trace_id": f"{number:032x}",
        "duration_us": number,
        "details": {"reason": "é\u2028\x7f", "count": number, "sure": True, "nothing": None},
        **fields,
    }
    return AuditEntry(at_us=NOW_US + number * 1_000_000, **values)


def a_chain(*entries: AuditEntry, head: ChainHead | None = None) -> list[SealedEntry]:
    """These entries, chained."""
    head, chain = head or ChainHead(), list[Any]()
    for entry in entries:
        chain.append(seal(entry, head))
        head = head_of(chain[-1])
    return chain
