"""The audit trail of one door, as the settings say: `portico serve`, `portico mcp` and `portico ask` all open it here."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from portico.audit.settings import AuditLevel, AuditSettings
from portico.audit.sinks import sink_of
from portico.audit.trail import AuditTrail
from portico.runs.audit_entry import AuditAction

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

    from portico.app.settings import GatewayConfig
    from portico.audit.sink import AuditSink
    from portico.auth.api_key import ApiKey
    from portico.runs.dispatcher import Dispatcher
    from portico.telemetry.outlets import Outlets


def open_trail(dispatcher: Dispatcher, settings: GatewayConfig, outlets: Outlets, directory: Path | None = None) -> AuditTrail:
    """The trail of what comes through this door, which tells it from now on.

    Args:
        dispatcher: the door.
        settings: what is recorded, and where it goes.
        outlets: where OpenTelemetry's signals go.
        directory: from where relative paths go; None for the working directory.

    Raises:
        ConfigurationError: a sink that cannot be.
        MissingExtra: `otlp` without OpenTelemetry.
    """
    made = AuditSettings(
        level=AuditLevel[settings.audit.upper()],
        keep=settings.audit_keep,
        journal=settings.audit_journal,
        sinks=[sink_of(what, directory, lambda: _otlp(outlets)) for what in settings.audit_sinks],
    )

    def failed() -> None:
        if dispatcher.meter is not None:
            dispatcher.meter.failed("audit")

    trail = AuditTrail(made, dispatcher.book.store, failed=failed)
    dispatcher.audit = trail
    if trail.calls:
        dispatcher.book.on_end.append(trail.run_ended)
    return trail


def key_changes(trail: AuditTrail) -> Callable[[ApiKey, bool], object]:
    """Records that the keys in the file are others now. Who made or revoked them did so beside the gateway: nobody knows who."""

    def changed(key: ApiKey, is_new: bool) -> None:  # noqa: FBT001  # as `KeyRing` says it
        about = {"key": key.id, "principal": key.principal.name, "scopes": " ".join(sorted(key.principal.scopes))}
        trail.record(AuditAction.KEY_ADDED if is_new else AuditAction.KEY_REMOVED, details=about)

    return changed


@asynccontextmanager
async def auditing(trail: AuditTrail, dispatcher: Dispatcher) -> AsyncGenerator[None]:
    """Record, while the runtime runs. Enter it when that has started, leave it before it stops: it writes to the store."""
    observers = dispatcher.runtime.services.observers
    if trail.messages:
        observers.append(trail)
    try:
        async with trail.running():
            yield
    finally:
        if trail.messages:
            observers.remove(trail)


def _otlp(outlets: Outlets) -> AuditSink:
    from portico.telemetry.audit_records import OtlpAuditSink  # noqa: PLC0415  # only where it is wanted

    return OtlpAuditSink(outlets)
