"""Setup: whether there is telemetry at all. Without an OTLP endpoint, nothing of OpenTelemetry's SDK is imported or sent.

Above: the app, which hands in the environment. What is not decided here (headers, timeout, sampler, limits) the SDK reads from the
`OTEL_*` variables of the process itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from portico.errors import ConfigurationError, MissingExtra

if TYPE_CHECKING:
    from collections.abc import Mapping

    from portico.telemetry.exporting import Telemetry

ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACES_ENDPOINT: Final = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
PROTOCOL: Final = "http/protobuf"


def configure(environ: Mapping[str, str], service_name: str = "portico") -> Telemetry | None:
    """Telemetry as the environment asks for it; None where it names no OTLP endpoint, or says that there shall be none.

    Args:
        environ: the environment: OpenTelemetry's own variables.
        service_name: how the service is called unless the environment says so.

    Raises:
        ConfigurationError: an endpoint that is no HTTP address, or a protocol other than `http/protobuf`.
        MissingExtra: an endpoint is named, but `portico[otel]` is not installed.
    """
    endpoint = _endpoint(environ)
    if endpoint is None:
        return None
    try:
        from portico.telemetry.exporting import export  # noqa: PLC0415  # loads the SDK: only where it is wanted
    except ImportError as error:
        raise MissingExtra("Sending traces to an OTLP endpoint", "otel") from error
    excluded = environ.get("OTEL_PYTHON_FASTAPI_EXCLUDED_URLS") or environ.get("OTEL_PYTHON_EXCLUDED_URLS", "")
    return export(endpoint, _service_name(environ, service_name), excluded)


def _endpoint(environ: Mapping[str, str]) -> str | None:
    """Where to send traces (OpenTelemetry specification, "OpenTelemetry Protocol Exporter")."""
    variable = TRACES_ENDPOINT if environ.get(TRACES_ENDPOINT) else ENDPOINT
    address = environ.get(variable, "")
    if not address or environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    exporters = [name.strip() for name in (environ.get("OTEL_TRACES_EXPORTER") or "otlp").split(",")]
    if "otlp" not in exporters:
        return None
    _check(environ, variable, address)
    return address if variable == TRACES_ENDPOINT else f"{address.rstrip('/')}/v1/traces"


def _check(environ: Mapping[str, str], variable: str, address: str) -> None:
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(f"{variable} is {address!r}: it must be an address that begins with http:// or https://.")
    for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        protocol = environ.get(name)
        if protocol:
            if protocol != PROTOCOL:
                raise ConfigurationError(f"{name} is {protocol!r}: Portico sends {PROTOCOL} only, by default to port 4318.")
            return


def _service_name(environ: Mapping[str, str], default: str) -> str | None:
    """What to call the service; None where the SDK finds it among the resource attributes."""
    if environ.get("OTEL_SERVICE_NAME"):
        return environ["OTEL_SERVICE_NAME"]
    named = any(part.strip().startswith("service.name=") for part in environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","))
    return None if named else default
