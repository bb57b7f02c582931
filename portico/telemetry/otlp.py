"""OTLP: the exporters of OpenTelemetry for one target, and the resource that all signals of one gateway name.

Above: `exporting.py` for spans, and whoever sends metrics and logs. Here alone the exporters' packages are imported, each when it
is wanted: `portico[otel]` over HTTP, `portico[otel-grpc]` over gRPC.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from portico.errors import MissingExtra
from portico.telemetry import semconv
from portico.telemetry.target import GRPC, HTTP, Signal
from portico.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.sdk.resources import Resource

    from portico.telemetry.target import Target

_EXPORTERS: Final[Mapping[tuple[str, str], str]] = {
    (HTTP, Signal.TRACES): "opentelemetry.exporter.otlp.proto.http.trace_exporter:OTLPSpanExporter",
    (HTTP, Signal.METRICS): "opentelemetry.exporter.otlp.proto.http.metric_exporter:OTLPMetricExporter",
    (HTTP, Signal.LOGS): "opentelemetry.exporter.otlp.proto.http._log_exporter:OTLPLogExporter",
    (GRPC, Signal.TRACES): "opentelemetry.exporter.otlp.proto.grpc.trace_exporter:OTLPSpanExporter",
    (GRPC, Signal.METRICS): "opentelemetry.exporter.otlp.proto.grpc.metric_exporter:OTLPMetricExporter",
    (GRPC, Signal.LOGS): "opentelemetry.exporter.otlp.proto.grpc._log_exporter:OTLPLogExporter",
}
"""Where each exporter is, by protocol and signal."""
_EXTRAS: Final = {HTTP: "otel", GRPC: "otel-grpc"}


def exporter_of(target: Target, **options: Any) -> Any:
    """The exporter to a target; `options` are its constructor's. What they do not say it reads from the process's environment.

    Raises:
        MissingExtra: its package is not installed.
    """
    module, _, name = _EXPORTERS[target.protocol, target.signal].partition(":")
    try:
        made: Any = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise MissingExtra(f"Sending {target.signal} over {target.protocol}", _EXTRAS[target.protocol]) from error
    return made(endpoint=target.endpoint, **options)


def resource_of(environ: Mapping[str, str], service_name: str = "portico") -> Resource:
    """What every signal of one gateway says of it: one for all of them, so that they belong together.

    The SDK would call all gateways of a program the same instance: their counters would be one and the same series.

    Args:
        environ: the environment; the SDK reads the resource's attributes from the process's own.
        service_name: how the service is called unless the environment says so.

    Raises:
        MissingExtra: `portico[otel]` is not installed.
    """
    try:
        # Loads the SDK: only where it is wanted.
        from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION, Resource  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtra("Sending telemetry to an OTLP endpoint", "otel") from error
    said = {part.partition("=")[0].strip() for part in environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(",")}
    attributes = {SERVICE_VERSION: __version__}
    if environ.get("OTEL_SERVICE_NAME"):
        attributes[SERVICE_NAME] = environ["OTEL_SERVICE_NAME"]
    elif SERVICE_NAME not in said:
        attributes[SERVICE_NAME] = service_name
    if SERVICE_INSTANCE_ID not in said:
        attributes[SERVICE_INSTANCE_ID] = str(uuid4())
    return Resource.create(attributes, semconv.SCHEMA_URL)
