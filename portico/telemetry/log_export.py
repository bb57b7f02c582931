"""LogExport: log records to an OTLP endpoint, while a gateway runs: every logger's, with what the lines have beside.

Above: the app, where the environment names an endpoint for logs. The handler only puts records into the SDK's bounded
queue: an endpoint that is down, slow or mad costs nobody more than that. What the SDK itself logs is not sent.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from portico.errors import MissingExtra
from portico.telemetry import semconv
from portico.telemetry.log_context import log_context
from portico.telemetry.log_lines import JsonLines
from portico.telemetry.otlp import exporter_of
from portico.telemetry.target import Signal

if TYPE_CHECKING:
    from portico.telemetry.outlets import Outlets
    from portico.telemetry.redaction import Redaction

OWN: Final = ("opentelemetry", "urllib3", "requests", "grpc")
"""Loggers whose records tell of sending records: to send these would never end."""
PATIENCE: Final = 3.0
"""Seconds that the endpoint gets at the end for what waits."""
SEVERITIES: Final = {logging.DEBUG: 5, logging.INFO: 9, logging.WARNING: 13, logging.ERROR: 17, logging.CRITICAL: 21}
"""By level: those of OpenTelemetry's log data model."""


class LogExport(logging.Handler):
    """Add it with `start`, take it away with `stop`. Where several gateways of one program send to one place, one sends for all.

    Args:
        outlets: where signals go; it has a target for logs.
        redaction: takes secrets out.

    Raises:
        MissingExtra: `portico[otel]` (or `[otel-grpc]`) is not installed.
    """

    def __init__(self, outlets: Outlets, redaction: Redaction) -> None:
        super().__init__()
        target = outlets.target(Signal.LOGS)
        assert target is not None  # noqa: S101  # the caller has looked
        try:
            from opentelemetry._logs import LogRecord, SeverityNumber  # noqa: PLC0415  # loads the SDK: only where it is wanted
        except ImportError as error:
            raise MissingExtra("Sending logs to an OTLP endpoint", "otel") from error
        self._outlets = outlets
        self.target = target
        """Where they go."""
        self.redaction = redaction
        """What takes secrets out."""
        self._lines = JsonLines(redaction)
        self._record: Any = LogRecord
        self._severity: Any = SeverityNumber
        self._ended = False
        self._open()

    def _open(self) -> None:
        from opentelemetry.sdk._logs import LoggerProvider  # noqa: PLC0415  # as above
        from opentelemetry.sdk._logs.export import BatchLogRecordProcessor  # noqa: PLC0415

        self._exporter = exporter_of(self.target)
        self._provider = LoggerProvider(resource=self._outlets.resource, shutdown_on_exit=False)
        self._provider.add_log_record_processor(BatchLogRecordProcessor(self._exporter))

    def start(self) -> None:
        """From now on, what reaches the root logger is sent."""
        if self._ended:  # an application may live more than once, and what was shut down does not begin again
            self._open()
            self._ended = False
        self._outlets.complaints.hear()
        logging.getLogger().addHandler(self)

    def stop(self) -> None:
        """Send what waits, and no more. Blocks for a few seconds at most; what is not sent by then is lost."""
        logging.getLogger().removeHandler(self)
        self._ended = True
        ending = threading.Thread(target=self._provider.shutdown, name="portico-logs-shutdown", daemon=True)
        ending.start()
        ending.join(PATIENCE)
        if ending.is_alive():
            with suppress(Exception):
                self._exporter.shutdown()
            ending.join(1.0)
        self._outlets.complaints.stop()

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        if record.name.partition(".")[0] in OWN:
            return
        everybody = [one for one in logging.getLogger().handlers if isinstance(one, LogExport)]
        if next((one for one in everybody if one.target == self.target), self) is not self:
            return  # another gateway of this program sends it to the same place
        try:
            self._provider.get_logger(record.name, schema_url=semconv.SCHEMA_URL).emit(
                self._made(record, [one.redaction for one in everybody if one is not self])
            )
        except Exception:  # noqa: BLE001  # the border: a line that cannot be sent is no fault of who writes it
            self.handleError(record)

    def _made(self, record: logging.LogRecord, others: list[Redaction]) -> Any:
        """`others`: those of the other gateways, whose lines come here too."""
        message, texts, given = self._lines.parts(record)
        for redaction in others:
            message, texts, given = redaction(message), redaction.plain(texts), redaction.plain(given)
        known = log_context()
        attributes: dict[str, Any] = {
            f"{name}": value for name, value in given.items() if isinstance(value, str | bool | int | float)
        }
        attributes |= {
            name: value
            for name, value in {
                semconv.REQUEST_ID: known.request_id,
                semconv.RUN_ID: known.run_id,
                semconv.AGENT: known.agent,
                semconv.USER_ID: known.principal,
                semconv.EXCEPTION_TRACE: texts.get("exception"),
                semconv.CODE_STACKTRACE: texts.get("stack"),
            }.items()
            if value is not None
        }
        if record.exc_info and record.exc_info[0] is not None:
            attributes[semconv.EXCEPTION_TYPE] = record.exc_info[0].__qualname__
        level = max((one for one in SEVERITIES if one <= record.levelno), default=logging.DEBUG)
        return self._record(
            timestamp=int(record.created * 1e9),
            observed_timestamp=time.time_ns(),
            trace_id=int(known.trace_id, 16) if known.trace_id is not None else None,
            span_id=int(known.span_id, 16) if known.span_id is not None else None,
            severity_text=record.levelname,
            severity_number=self._severity(SEVERITIES[level]),
            body=message,
            attributes=attributes,
        )
