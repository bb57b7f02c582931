"""A real OTLP endpoint on this machine, over HTTP or gRPC, that keeps what it is sent: spans, metrics and log records."""

from __future__ import annotations

import gzip
import importlib
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest, ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

REQUESTS: dict[str, Any] = {
    "traces": ExportTraceServiceRequest,
    "metrics": ExportMetricsServiceRequest,
    "logs": ExportLogsServiceRequest,
}
RESPONSES: dict[str, Any] = {
    "traces": ExportTraceServiceResponse,
    "metrics": ExportMetricsServiceResponse,
    "logs": ExportLogsServiceResponse,
}
GRPC = {"traces": ("trace", "Trace"), "metrics": ("metrics", "Metrics"), "logs": ("logs", "Logs")}


@dataclass(frozen=True, slots=True)
class Received:
    """One span, as it was sent."""

    name: str
    trace: str
    id: str
    parent: str
    kind: int
    failed: bool
    attributes: dict[str, Any]
    events: list[tuple[str, dict[str, Any]]]
    links: list[str]
    service: str
    state: str = ""
    began: int = 0
    ended: int = 0
    linked: tuple[str, ...] = ()
    """The spans that it is linked to; `links` has their traces."""
    message: str = ""
    """What its status says."""
    instance: str = ""
    """The program's own, by `service.instance.id`."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One metric of one reading, as it was sent: `proto` has its points."""

    name: str
    unit: str
    proto: Any
    resource: dict[str, Any]
    scope: str


@dataclass(frozen=True, slots=True)
class Logged:
    """One log record, as it was sent."""

    body: Any
    severity: str
    trace: str
    span: str
    attributes: dict[str, Any]
    resource: dict[str, Any]
    proto: Any


@dataclass(slots=True)
class Receiver:
    """What arrived at one address."""

    endpoint: str = ""
    paths: list[str] = field(default_factory=list[str])
    """Of requests over HTTP."""
    headers: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    """Of requests over either, by lower-case names."""
    spans: list[Received] = field(default_factory=list[Received])
    lives: list[Received] = field(default_factory=list[Received])
    """The spans of processes that start and stop, which no call has made."""
    metrics: list[Measured] = field(default_factory=list[Measured])
    logs: list[Logged] = field(default_factory=list[Logged])
    schemas: set[str] = field(default_factory=set[str])
    """Of resources and scopes of spans."""
    changed: threading.Condition = field(default_factory=threading.Condition)

    def named(self, name: str) -> list[Received]:
        """The spans of one name, the earliest first."""
        return [span for span in self.spans if span.name == name]

    def only(self, name: str) -> Received:
        """The one span of that name."""
        (span,) = self.named(name)
        return span

    def children(self, span: Received) -> list[Received]:
        """The spans right below one."""
        return [one for one in self.spans if one.parent == span.id]

    def wait_for(self, there: Callable[[Receiver], Any], timeout: float = 20.0) -> None:
        """Block until something has arrived; fails after so many seconds."""
        with self.changed:
            assert self.changed.wait_for(lambda: there(self), timeout), "it never arrived"

    def take(self, path: str, body: bytes) -> bytes:
        """Keep one request over HTTP; returns the response."""
        self.paths.append(path)
        signal = "traces" if path.rpartition("/")[2] not in REQUESTS else path.rpartition("/")[2]
        self.keep(signal, REQUESTS[signal].FromString(body))
        return RESPONSES[signal]().SerializeToString()

    def keep(self, signal: str, request: Any) -> None:
        """Keep one request."""
        with self.changed:
            getattr(self, f"_{signal}")(request)
            self.changed.notify_all()

    def _traces(self, request: Any) -> None:
        for group in request.resource_spans:
            resource = values(group.resource.attributes)
            self.schemas.add(group.schema_url)
            for scope in group.scope_spans:
                self.schemas.add(scope.schema_url)
                for span in scope.spans:
                    one = received(span, resource)
                    (self.lives if one.name.startswith(("start ", "stop ")) else self.spans).append(one)

    def _metrics(self, request: Any) -> None:
        for group in request.resource_metrics:
            resource = values(group.resource.attributes)
            for scope in group.scope_metrics:
                self.metrics += [Measured(one.name, one.unit, one, resource, scope.scope.name) for one in scope.metrics]

    def _logs(self, request: Any) -> None:
        for group in request.resource_logs:
            resource = values(group.resource.attributes)
            for scope in group.scope_logs:
                self.logs += [logged(one, resource) for one in scope.log_records]


def received(span: Any, resource: dict[str, Any]) -> Received:
    return Received(
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.kind,
        span.status.code == 2,
        values(span.attributes),
        [(event.name, values(event.attributes)) for event in span.events],
        [link.trace_id.hex() for link in span.links],
        resource.get("service.name", ""),
        span.trace_state,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        tuple(link.span_id.hex() for link in span.links),
        span.status.message,
        resource.get("service.instance.id", ""),
    )


def logged(record: Any, resource: dict[str, Any]) -> Logged:
    return Logged(
        value(record.body),
        record.severity_text,
        record.trace_id.hex(),
        record.span_id.hex(),
        values(record.attributes),
        resource,
        record,
    )


def values(attributes: Any) -> dict[str, Any]:
    return {one.key: value(one.value) for one in attributes}


def value(any_value: Any) -> Any:
    """A value as Python has it; arrays become lists, and key-value lists mappings."""
    kind = any_value.WhichOneof("value")
    if kind == "array_value":
        return [value(one) for one in any_value.array_value.values]
    if kind == "kvlist_value":
        return values(any_value.kvlist_value.values)
    return None if kind is None else getattr(any_value, kind)


@contextmanager
def receiving() -> Generator[Receiver]:
    """An endpoint that listens over HTTP."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            receiver.headers.append({name.lower(): text for name, text in self.headers.items()})
            answer = receiver.take(self.path, body)
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def receiving_grpc() -> Generator[Receiver]:
    """An endpoint that listens over gRPC."""
    import grpc

    receiver, made = Receiver(), ThreadPoolExecutor(4)
    server: Any = grpc.server(made)
    for signal, (module, name) in GRPC.items():
        services: Any = importlib.import_module(f"opentelemetry.proto.collector.{module}.v1.{module}_service_pb2_grpc")
        getattr(services, f"add_{name}ServiceServicer_to_server")(_servicer(receiver, signal), server)
    receiver.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield receiver
    finally:
        server.stop(0.5).wait()
        made.shutdown()


def _servicer(receiver: Receiver, signal: str) -> Any:
    class Servicer:
        def Export(self, request: Any, context: Any) -> Any:  # noqa: N802  # the name in the service's definition
            receiver.headers.append({key: str(text) for key, text in context.invocation_metadata()})
            receiver.keep(signal, request)
            return RESPONSES[signal]()

    return Servicer()
