"""Setup: whether there are traces at all. Without an endpoint for them, nothing of OpenTelemetry's SDK is imported or sent.

Above: the app, which hands in the environment. Below: `outlets.py`, which reads it. What is not decided here (headers, timeout,
sampler, limits) the SDK reads from the `OTEL_*` variables of the process itself.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from portico.errors import MissingExtra
from portico.telemetry.outlets import Outlets
from portico.telemetry.redaction import Redaction, secrets_in
from portico.telemetry.target import Signal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from portico.telemetry.exporting import Telemetry
    from portico.telemetry.log_export import LogExport

logger = logging.getLogger("portico.telemetry")

_SPOKEN: Final = frozenset({"tracecontext", "baggage"})
"""Propagators that need no remark: W3C Trace Context is what we speak, and baggage passes by unread."""
CAPTURE: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_CAPTURED: Final = frozenset({"true", "1", "span_only", "span_and_event"})


def configure(environ: Mapping[str, str], service_name: str = "portico") -> Telemetry | None:
    """Traces as the environment asks for them; None where it names no OTLP endpoint, or says that there shall be none.

    Args:
        environ: the environment: OpenTelemetry's own variables.
        service_name: how the service is called unless the environment says so.

    Raises:
        ConfigurationError: an exporter, a protocol, an endpoint or a limit that cannot be.
        MissingExtra: an endpoint is named, but `portico[otel]` (or `[otel-grpc]`) is not installed.
    """
    return traces(Outlets(environ, service_name))


def logs(outlets: Outlets, secrets: Iterable[str]) -> LogExport | None:
    """Log records to the endpoint that the environment names for them; None where it names none. `secrets` never come out.

    Raises:
        MissingExtra: an endpoint is named, but `portico[otel]` (or `[otel-grpc]`) is not installed.
    """
    if outlets.printed(Signal.LOGS):
        logger.warning("OTEL_LOGS_EXPORTER names console: log records are sent over OTLP only; the lines of the log say the same.")
    if outlets.target(Signal.LOGS) is None:
        return None
    from portico.telemetry.log_export import LogExport  # noqa: PLC0415  # only where it is wanted

    return LogExport(outlets, Redaction({*secrets, *secrets_in(outlets.variables)}))


def traces(outlets: Outlets, secrets: Iterable[str] = ()) -> Telemetry | None:
    """The same, where other signals share what the environment says. `secrets` never come out. Raises as `configure`."""
    target, printed, environ = outlets.target(Signal.TRACES), outlets.printed(Signal.TRACES), outlets.variables
    if target is None and not printed:
        return None
    try:
        from portico.telemetry.exporting import export  # noqa: PLC0415  # loads the SDK: only where it is wanted
    except ImportError as error:
        raise MissingExtra("Sending traces to an OTLP endpoint", "otel") from error
    foreign = {name for part in environ.get("OTEL_PROPAGATORS", "").split(",") if (name := part.strip())} - _SPOKEN
    if foreign:
        logger.warning("OTEL_PROPAGATORS names %s: traces are handed on by W3C Trace Context only.", ", ".join(sorted(foreign)))
    excluded = environ.get("OTEL_PYTHON_FASTAPI_EXCLUDED_URLS") or environ.get("OTEL_PYTHON_EXCLUDED_URLS", "")
    captured = environ.get(CAPTURE, "").strip().lower() in _CAPTURED
    redaction = Redaction({*secrets, *secrets_in(environ)})
    return export(outlets, target, printed=printed, excluded=excluded, captured=captured, redaction=redaction)
