"""Target: where one signal goes, by OpenTelemetry's own variables: nowhere, unless an endpoint is named.

Above: `setup.py`, and whoever sends metrics and logs. It imports nothing of OpenTelemetry: headers, certificates, compression and
timeouts the exporters read from the process's environment themselves. `otlp.py` makes the exporters.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from portico.errors import ConfigurationError, did_you_mean, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
OTLP: Final = "otlp"
CONSOLE: Final = "console"
HTTP: Final = "http/protobuf"
GRPC: Final = "grpc"
_ELSEWHERE: Final = frozenset({"none", "prometheus"})
"""Exporters that are nothing of ours to do: what is scraped is always there."""


class Signal(StrEnum):
    """What there is to send."""

    TRACES = "traces"
    """Spans."""
    METRICS = "metrics"
    """Figures."""
    LOGS = "logs"
    """Log records."""


@dataclass(frozen=True, slots=True)
class Target:
    """An endpoint for one signal."""

    signal: Signal
    """What it takes."""
    protocol: str
    """`http/protobuf` or `grpc`."""
    endpoint: str
    """The whole address; over gRPC it may be `host:port`."""


def otlp_target(environ: Mapping[str, str], signal: Signal) -> Target | None:
    """Where a signal is sent; None where the environment names no endpoint for it, or says that it shall not be sent.

    Raises:
        ConfigurationError: an unknown exporter or protocol, or an endpoint that is no address.
    """
    if OTLP not in _exporters(environ, signal):
        return None
    own = f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT"
    variable = own if environ.get(own) else ENDPOINT
    address = environ.get(variable, "").strip()
    if not address:
        return None
    protocol = _protocol(environ, signal)
    _check(variable, address, protocol)
    whole = variable == own or protocol == GRPC
    return Target(signal, protocol, address if whole else f"{address.rstrip('/')}/v1/{signal}")


def wants_console(environ: Mapping[str, str], signal: Signal) -> bool:
    """Whether a signal is to be printed: `console` among `OTEL_TRACES_EXPORTER` and the like. Raises `ConfigurationError`."""
    return CONSOLE in _exporters(environ, signal)


def _exporters(environ: Mapping[str, str], signal: Signal) -> list[str]:
    """Which exporters are named: by default OTLP, which then still needs an endpoint."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return []
    variable = f"OTEL_{signal.upper()}_EXPORTER"
    names = [name for part in (environ.get(variable) or OTLP).split(",") if (name := part.strip().lower())]
    known = {OTLP, CONSOLE, *_ELSEWHERE}
    for name in names:
        if name not in known:
            raise ConfigurationError(
                f"{variable} is {name!r}. Known: {', '.join(sorted(known))}.{did_you_mean(nearest(name, known))}"
            )
    return names


def _protocol(environ: Mapping[str, str], signal: Signal) -> str:
    for name in (f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        protocol = environ.get(name, "").strip()
        if protocol:
            if protocol not in (HTTP, GRPC):
                raise ConfigurationError(
                    f"{name} is {protocol!r}: Portico sends {HTTP} (by default to port 4318) or {GRPC} (4317)."
                )
            return protocol
    return HTTP


def _check(variable: str, address: str, protocol: str) -> None:
    parts = urlsplit(address if "://" in address or protocol == HTTP else f"http://{address}")
    if parts.scheme not in ("http", "https") or not _names_host(parts.netloc):
        raise ConfigurationError(f"{variable} is {address!r}: it must be an address that begins with http:// or https://.")


def _names_host(netloc: str) -> bool:
    try:
        parts = urlsplit(f"//{netloc}")
        _ = parts.port  # one that is no number is seen here
    except ValueError:
        return False
    return bool(parts.hostname)
