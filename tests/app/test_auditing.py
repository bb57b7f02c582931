"""What the audit trail of a gateway is told by what stands around it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from portico.app.auditing import key_changes
from portico.audit.settings import AuditSettings
from portico.audit.trail import AuditTrail
from portico.auth.api_key import new_key
from portico.auth.key_file import KeyFile
from portico.auth.key_ring import KeyRing
from portico.auth.principal import Principal
from portico.runs.memory_store import MemoryRunStore

if TYPE_CHECKING:
    from pathlib import Path

    from portico.runs.audit_entry import AuditEntry


def test_keys_that_come_and_go_are_recorded_without_their_secrets(tmp_path: Path) -> None:
    file, told, now = KeyFile(tmp_path / "keys.json"), list[Any](), [0.0]
    secret, alice = new_key(Principal("alice", frozenset({"read"})))
    _, bob = new_key(Principal("bob", frozenset({"admin", "read"})))
    _, carol = new_key(Principal("carol", frozenset()))
    with file.editing() as keys:
        keys += [alice, carol]
    trail = AuditTrail(AuditSettings(), MemoryRunStore())
    trail.on_entry.append(told.append)
    ring = KeyRing(file, monotonic=lambda: now[0], changed=key_changes(trail))

    with file.editing() as keys:
        keys[:] = [replace(alice, principal=Principal("alice", frozenset({"admin"}))), bob, carol]
    now[0] += 2
    ring.principal(secret.encode(), alice.digest)

    assert [_shown(entry) for entry in told] == [
        ("key.removed", alice.id, "alice", "read"),
        ("key.added", alice.id, "alice", "admin"),
        ("key.added", bob.id, "bob", "admin read"),
    ]
    assert secret not in repr(told)


def _shown(entry: AuditEntry) -> tuple[Any, ...]:
    about = entry.details or {}
    return entry.action, about["key"], about["principal"], about["scopes"]
