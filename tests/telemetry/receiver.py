"""A real OTLP/HTTP endpoint on this machine, that keeps what it is sent."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

if TYPE_CHECKING:
    from collections.abc import Generator


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


@dataclass(slots=True)
class Receiver:
    """What arrived at one address."""

    endpoint: str = ""
    paths: list[str] = field(default_factory=list[str])
    spans: list[Received] = field(default_factory=list[Received])

    def named(self, name: str) -> list[Received]:
        """The spans of one name, the earliest first."""
        return [span for span in self.spans if span.name == name]

    def only(self, name: str) -> Received:
        """The one span of that name."""
        (span,) = self.named(name)
        return span

    def take(self, path: str, body: bytes) -> None:
        """Keep one request."""
        self.paths.append(path)
        request: Any = ExportTraceServiceRequest.FromString(body)
        for group in request.resource_spans:
            service = values(group.resource.attributes).get("service.name", "")
            for scope in group.scope_spans:
                self.spans += [received(span, service) for span in scope.spans]


def received(span: Any, service: str) -> Received:
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
        service,
    )


def values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


@contextmanager
def receiving() -> Generator[Receiver]:
    """An endpoint that listens."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            receiver.take(self.path, self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

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
