"""Spans of requests, calls and handlings, as a real OTLP endpoint receives them."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import SpanKind

from portico.app.factory import NATIVE_TELEMETRY
from portico.operations.catalogue import endpoints_of
from portico.runs.call import Call
from portico.telemetry.server_spans import ServerSpans
from portico.telemetry.spans import Spans
from portico.telemetry.tracing import Tracing
from tests.openapi.serving import served
from tests.telemetry.receiver import Receiver, receiving
from tests.telemetry.sample import Back, environ_of, gateway

SERVER = 2
INTERNAL = 1


def post(address: str, path: str, payload: Any, **headers: str) -> httpx.Response:
    return httpx.post(address + path, json=payload, headers=headers, timeout=10)


def traced(path: str, payload: Any, **headers: str) -> tuple[httpx.Response, Receiver]:
    """One request to a new gateway, and what was received of it once that has stopped."""
    with receiving() as receiver:
        with served(gateway(environ_of(receiver.endpoint))) as address:
            response = post(address, path, payload, **headers)
        return response, receiver


# --- from request to handling -----------------------------------------------------------------------------------------


def test_a_call_is_one_trace_of_request_dispatch_and_handle(capfd: pytest.CaptureFixture[str]) -> None:
    response, received = traced("/back/message", {"marker": "m"})

    request, dispatch, handle = (
        received.only("POST /{agent}/{name}"),
        received.only("dispatch back.message"),
        received.only("handle back.message"),
    )
    assert response.status_code == 200
    assert len(received.spans) == 3
    assert (request.parent, dispatch.parent, handle.parent) == ("", request.id, dispatch.id)
    assert request.trace == dispatch.trace == handle.trace
    assert (request.kind, dispatch.kind, handle.kind) == (SERVER, INTERNAL, INTERNAL)
    assert dispatch.attributes["portico.agent"] == handle.attributes["portico.agent"] == "back"
    assert dispatch.attributes["portico.run_id"] == handle.attributes["portico.run_id"]
    assert (handle.attributes["portico.attempt"], handle.attributes["portico.incarnation"]) == (0, 1)
    assert not any(span.failed for span in received.spans)
    assert capfd.readouterr().out == ""


def test_the_clients_trace_goes_on() -> None:
    _, received = traced("/back/message", {"marker": "m"}, traceparent="00-" + "ab" * 16 + "-" + "cd" * 8 + "-01")

    assert {span.trace for span in received.spans} == {"ab" * 16}
    assert received.only("POST /{agent}/{name}").parent == "cd" * 8
    assert received.only("dispatch back.message").parent == received.only("POST /{agent}/{name}").id


def test_a_client_that_does_not_sample_is_obeyed() -> None:
    response, received = traced("/back/message", {"marker": "m"}, traceparent="00-" + "ab" * 16 + "-" + "cd" * 8 + "-00")

    assert response.json()["traceparent"].startswith("00-" + "ab" * 16)
    assert received.spans == []


def test_a_malformed_traceparent_begins_a_new_trace() -> None:
    response, received = traced("/back/message", {"marker": "m"}, traceparent="nonsense")

    assert response.status_code == 200
    assert len({span.trace for span in received.spans}) == 1
    assert received.only("dispatch back.message").parent == received.only("POST /{agent}/{name}").id


def test_a_nested_ask_is_inside_the_handling_that_asked() -> None:
    response, received = traced("/front/relay", {"marker": "m"})

    outer, inner = received.only("handle front.relay"), received.only("handle back.message")
    assert inner.parent == outer.id
    assert inner.attributes["portico.sender"] == "front"
    assert inner.attributes["portico.run_id"] == outer.attributes["portico.run_id"]
    assert response.json()["traceparent"].startswith(f"00-{outer.trace}-{outer.id}-")


def test_a_send_is_handled_inside_the_trace_of_its_acceptance() -> None:
    _, received = traced("/back/message?send=1", {"marker": "m"})

    dispatch, handle = received.only("dispatch back.message"), received.only("handle back.message")
    assert dispatch.attributes["portico.one_way"] is True
    assert handle.parent == dispatch.id


def test_a_hundred_calls_at_once_do_not_mix() -> None:
    with receiving() as receiver, served(gateway(environ_of(receiver.endpoint))) as address:
        replies = all_at_once(address, 100)
    for number, reply in enumerate(replies):
        spans = {span.name: span for span in receiver.spans if span.trace == f"{number + 1:032x}"}
        assert reply["marker"] == str(number)
        assert len(spans) == 4
        assert spans["handle back.message"].parent == spans["handle front.relay"].id
        assert spans["handle front.relay"].parent == spans["dispatch front.relay"].id
        assert spans["dispatch front.relay"].parent == spans["POST /{agent}/{name}"].id
        assert spans["POST /{agent}/{name}"].parent == f"{number + 1:016x}"
        assert reply["traceparent"].split("-")[2] == spans["handle front.relay"].id
    assert len(receiver.spans) == 400


def all_at_once(address: str, count: int) -> list[dict[str, Any]]:
    import anyio

    replies: list[dict[str, Any]] = [{}] * count

    async def ask(client: httpx.AsyncClient, number: int) -> None:
        headers = {"traceparent": f"00-{number + 1:032x}-{number + 1:016x}-01"}
        replies[number] = (await client.post("/front/relay", json={"marker": str(number)}, headers=headers)).json()

    async def main() -> None:
        async with httpx.AsyncClient(base_url=address, timeout=30) as client, anyio.create_task_group() as group:
            for number in range(count):
                group.start_soon(ask, client, number)

    anyio.run(main)
    return replies


# --- one server span --------------------------------------------------------------------------------------------------


def test_a_request_has_one_server_span_even_where_fastapi_would_make_its_own() -> None:
    native = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(native))
    with receiving() as received:
        app = gateway(environ_of(received.endpoint), telemetry={"tracer_provider": provider, **NATIVE_TELEMETRY})
        with served(app) as address:
            post(address, "/back/message", {"marker": "m"})

    assert [span.name for span in received.spans if span.kind == SERVER] == ["POST /{agent}/{name}"]
    assert native.get_finished_spans() == ()


def test_a_request_that_the_agent_table_answers_is_named_after_its_route() -> None:
    _, received = traced("/table/echo", {})

    (span,) = received.spans
    assert span.name == "POST /table/{agent}"
    assert span.attributes["http.route"] == "/table/{agent}"
    assert span.kind == SERVER


@pytest.mark.parametrize(
    ("method", "path", "status", "name"),
    [
        ("GET", "/runs/7", 200, "GET /runs/{run_id}"),
        ("DELETE", "/runs/all", 500, "DELETE"),
        ("GET", "/nowhere/at/all", 404, "GET"),
        ("PROPFIND", "/nowhere", 404, "HTTP"),
    ],
)
def test_every_request_has_one_span_with_a_name_of_few_kinds(method: str, path: str, status: int, name: str) -> None:
    with receiving() as received:
        app = gateway(environ_of(received.endpoint))
        with served(app) as address:
            response = httpx.request(method, address + path)

    assert response.status_code == status
    (span,) = received.spans
    assert span.name == name
    assert span.failed == (status >= 500)


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_a_crash_is_on_its_handling_and_on_the_call_that_went_on_to_succeed() -> None:
    response, received = traced("/flaky/work", {})

    first, second = sorted(received.named("handle flaky.work"), key=lambda span: span.attributes["portico.attempt"])
    dispatch = received.only("dispatch flaky.work")
    assert response.json() == "done"
    assert first.failed
    assert first.attributes["error.type"] == "ValueError"
    assert [name for name, _ in first.events] == ["portico.agent.crashed", "exception"]
    assert (second.failed, second.attributes["portico.incarnation"]) == (False, 2)
    assert not dispatch.failed
    assert [name for name, _ in dispatch.events] == ["portico.agent.crashed"]
    assert dispatch.events[0][1]["portico.incarnation"] == 1
    assert first.parent == second.parent == dispatch.id


def test_a_call_that_is_given_up_fails_with_its_dead_letter() -> None:
    _, received = traced("/flaky/once", {})

    dispatch = received.only("dispatch flaky.once")
    assert dispatch.failed
    assert dispatch.attributes["error.type"] == "agent-crashed"
    assert [name for name, _ in dispatch.events] == ["portico.agent.crashed", "portico.message.dead_letter"]


@pytest.mark.parametrize(
    ("path", "payload", "slug"),
    [("/flaky/buy", {"item": "pen"}, "sold-out"), ("/flaky/buy", {"items": 7}, "contract-violated")],
)
def test_what_is_the_callers_business_is_told_but_is_no_failure(path: str, payload: Any, slug: str) -> None:
    _, received = traced(path, payload)

    dispatch = received.only("dispatch flaky.buy")
    assert dispatch.attributes["error.type"] == slug
    assert not dispatch.failed


# --- what is sampled --------------------------------------------------------------------------------------------------


class NoRequests(Sampler):
    """Takes everything but requests."""

    def should_sample(self, parent_context: Any, trace_id: int, name: str, kind: Any = None, *_: Any, **__: Any) -> SamplingResult:
        return SamplingResult(Decision.DROP if kind is SpanKind.SERVER else Decision.RECORD_AND_SAMPLE)

    def get_description(self) -> str:
        return "no requests"


def test_frames_of_a_websocket_do_not_share_the_luck_of_its_handshake() -> None:
    spans = Spans(TracerProvider(sampler=ParentBased(NoRequests()), shutdown_on_exit=False))
    (endpoint,) = endpoints_of(Back("back"))
    found: list[bool] = []

    async def app(_: Any, __: Any, send: Any) -> None:
        found.append(Tracing(spans).dispatching(Call(endpoint)) is not None)
        await send({"type": "websocket.accept"})
        found.append(Tracing(spans).dispatching(Call(endpoint)) is not None)

    async def ignore(*_: Any) -> Any: ...

    scope: dict[str, Any] = {"type": "websocket", "path": "/agents/back/ws", "headers": []}
    asyncio.run(cast("Any", ServerSpans(app, spans, lambda _: None)(scope, ignore, ignore)))

    assert found == [False, True]


def test_every_tracestate_header_counts() -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    async def nothing(*_: Any) -> Any: ...

    headers = [(b"traceparent", f"00-{'ab' * 16}-{'cd' * 8}-01".encode()), (b"tracestate", b"a=1"), (b"tracestate", b"b=2")]
    scope = {"type": "http", "method": "GET", "path": "/", "headers": headers}
    asyncio.run(cast("Any", ServerSpans(nothing, Spans(provider), lambda _: None)(scope, nothing, nothing)))

    (span,) = exporter.get_finished_spans()
    assert span.context is not None
    assert dict(span.context.trace_state) == {"a": "1", "b": "2"}


# --- where a call comes from ------------------------------------------------------------------------------------------


def test_a_call_of_another_trace_than_the_request_is_linked_to_it() -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    (endpoint,) = endpoints_of(Back("back"))

    call = Call(endpoint, traceparent="00-" + "ab" * 16 + "-" + "cd" * 8 + "-01")

    with tracer.start_as_current_span("request") as request:
        around = Tracing(Spans(provider)).dispatching(call)
        assert around is not None
        with around as traceparent:
            pass
        assert traceparent is not None
        assert traceparent.startswith("00-" + "ab" * 16)

    dispatch = exporter.get_finished_spans()[0]
    assert dispatch.parent is not None
    assert dispatch.parent.span_id == 0xCDCDCDCDCDCDCDCD
    assert [link.context for link in dispatch.links] == [request.get_span_context()]


def test_a_handling_that_nobody_outside_caused_is_a_trace_of_its_own() -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")

    from portico.kernel.messages import Message

    with tracer.start_as_current_span("whoever started the process"), Tracing(Spans(provider)).handling(Message(recipient="back")):
        pass

    assert exporter.get_finished_spans()[0].parent is None
