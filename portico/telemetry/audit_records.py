"""OtlpAuditSink: the audit trail as OpenTelemetry's log records, to wherever its logs go.

Above: the app, where the trail's settings name `otlp`. It implements the port `AuditSink`; the chain begins anew with
each program. A batch that the endpoint has not taken comes again: unlike other log records, none of these is dropped in silence.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from portico.audit.chain import shown
from portico.errors import ConfigurationError, MissingExtra
from portico.runs.audit_entry import ACCEPTED, OK, ChainHead
from portico.runs.printing import ascii_json
from portico.telemetry import semconv
from portico.telemetry.otlp import exporter_of
from portico.telemetry.target import Signal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from portico.runs.audit_entry import SealedEntry
    from portico.telemetry.outlets import Outlets

TIMEOUT: Final = 10.0
"""Seconds that the endpoint may take for a batch."""


class OtlpAuditSink:
    """See `AuditSink`. `timeout`: seconds that the endpoint may take for a batch.

    Raises:
        ConfigurationError: the environment names no endpoint for logs.
        MissingExtra: `portico[otel]` (or `[otel-grpc]`) is not installed.
    """

    name = "otlp"

    def __init__(self, outlets: Outlets, timeout: float = TIMEOUT) -> None:
        target = outlets.target(Signal.LOGS)
        if target is None:
            raise ConfigurationError("The audit sink 'otlp' has no endpoint: set OTEL_EXPORTER_OTLP_ENDPOINT, or remove the sink.")
        self._outlets = outlets
        self._make = partial(exporter_of, target, timeout=timeout)
        self._exporter = self._make()
        try:
            from opentelemetry._logs import LogRecord, SeverityNumber  # noqa: PLC0415  # loads the SDK: only where it is wanted
            from opentelemetry.sdk._logs import ReadableLogRecord  # noqa: PLC0415
            from opentelemetry.sdk._logs.export import LogRecordExportResult  # noqa: PLC0415
            from opentelemetry.sdk.util.instrumentation import InstrumentationScope  # noqa: PLC0415
        except ImportError as error:
            raise MissingExtra("Sending the audit trail to an OTLP endpoint", "otel") from error
        self._record: Any = LogRecord
        self._readable: Any = ReadableLogRecord
        self._severities: Any = SeverityNumber
        self._success: Any = LogRecordExportResult.SUCCESS
        self._scope = InstrumentationScope(semconv.SCOPE, schema_url=semconv.SCHEMA_URL)
        self._hears = False
        self._ended = False

    async def open(self) -> ChainHead:
        """See `AuditSink.open`."""
        if not self._hears:
            self._outlets.complaints.hear()
            self._hears = True
        if self._ended:  # an application may live more than once, and what was shut down does not begin again
            self._exporter, self._ended = self._make(), False
        return ChainHead()

    async def write(self, entries: Sequence[SealedEntry]) -> None:
        """See `AuditSink.write`. Raises `ConnectionError`."""
        batch = [self._made(sealed) for sealed in entries]
        if await asyncio.to_thread(self._exporter.export, batch) is not self._success:
            raise ConnectionError("the OTLP endpoint did not take the entries")

    async def close(self) -> None:
        """See `AuditSink.close`."""
        if self._hears:
            self._outlets.complaints.stop()
            self._hears = False
        self._ended = True
        await asyncio.to_thread(self._exporter.shutdown)

    def _made(self, sealed: SealedEntry) -> Any:
        entry = shown(sealed)
        details = entry.pop("details", {})
        attributes = {f"{semconv.AUDIT_ATTRIBUTES}{name}": value for name, value in entry.items()}
        attributes |= {f"{semconv.AUDIT_DETAILS}{name}": value for name, value in details.items() if value is not None}
        fine = sealed.entry.outcome in (OK, ACCEPTED)
        trace = sealed.entry.trace_id
        record = self._record(
            timestamp=sealed.entry.at_us * 1000,
            observed_timestamp=sealed.entry.at_us * 1000,
            trace_id=int(trace, 16) if trace is not None and _is_hex(trace) else None,
            severity_text="INFO" if fine else "WARN",
            severity_number=self._severities.INFO if fine else self._severities.WARN,
            body=ascii_json(shown(sealed)),
            attributes=attributes,
            event_name=semconv.AUDIT_EVENT,
        )
        return self._readable(record, self._outlets.resource, self._scope)


def _is_hex(text: str) -> bool:
    return all(character in "0123456789abcdef" for character in text)
