"""One server span for every request, on every path and over every face, whoever instruments the program besides."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest
import yaml
from fastapi import FastAPI
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from websockets.asyncio.client import connect

from portico.app.factory import create_app
from portico.app.settings import GatewayConfig
from tests.app.serving import ANY_PORT
from tests.mcp_bridge.helpers import RAW_SERVER
from tests.openapi.serving import served
from tests.telemetry.documented import undocumented
from tests.telemetry.receiver import Received, Receiver, receiving
from tests.telemetry.test_traces import CALLER, SERVER, TRACE, clever, gateway, lineage, topology
from tests.webhooks.receivers import SECRET, answered
from tests.webhooks.receivers import receiving as receiving_callbacks

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Iterator
pytestmark = pytest.mark.anyio


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Whatever a test looks at: all that it has received is documented."""
    with receiving() as one:
        yield one
    assert undocumented(one) == {}


def servers(receiver: Receiver, trace: str = TRACE) -> list[Received]:
    return [span for span in receiver.spans if span.kind == SERVER and span.trace == trace]


async def test_every_path_of_the_gateway_has_one_server_span(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = count(1)
    sent: dict[str, str] = {}

    async def send(client: httpx.AsyncClient, method: str, path: str, **more: Any) -> None:
        trace = f"{next(numbers):032x}"
        sent[trace] = f"{method} {path}"
        headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01", **more.pop("headers", {})}
        async with client.stream(method, path, headers=headers, **more) as answer:
            assert answer.status_code

    settings = GatewayConfig(port=0, api_key="secret")
    async with gateway(receiver, monkeypatch, topology("Front", "Back"), settings=settings) as face:
        client = face.client
        paths = (await client.get("/openapi.json", headers={"authorization": "Bearer secret"})).json()["paths"]
        assert len(paths) > 20
        extra = {
            "/docs": {"get"},
            "/openapi.json": {"get"},
            "/mcp": {"post", "delete"},
            "/nowhere": {"get"},
            "/agents/front/": {"post"},
        }
        for path, methods in {**paths, **extra}.items():
            filled = re.sub(r"\{\w+\}", "front", path)
            for method in {*methods, "head", "put", "purge"}:
                await send(client, method.upper(), filled, headers={"authorization": "Bearer secret"})
        await send(client, "GET", "/agents")
        await send(client, "POST", "/agents/front", headers={"host": "elsewhere.example"})
        await send(client, "OPTIONS", "/agents/front", headers={"origin": "http://elsewhere.example"})
        await send(client, "POST", "/agents/front", content=b"{", headers={"authorization": "Bearer secret"})

    found = {trace: len(servers(receiver, trace)) for trace in sent}
    assert {sent[trace]: number for trace, number in found.items() if number != 1} == {}
    routes = {span.attributes.get("http.route") for span in receiver.spans if span.kind == SERVER}
    assert {"/agents/front", "/runs/{run_id}", "/mcp", "/livez"} <= routes
    assert all("?" not in span.name for span in receiver.spans)


async def test_a_websocket_has_one_server_span_and_each_frame_a_call(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    async with gateway(receiver, monkeypatch, topology("Front", "Back")) as face:
        address = f"ws://127.0.0.1:{face.port}/agents/front/ws"
        async with connect(address, additional_headers={"traceparent": CALLER}) as socket:
            for number in range(3):
                await socket.send(json.dumps({"id": number, "type": "ask", "payload": {"marker": "m"}}))
            own = {"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01", "payload": {"marker": "m"}}
            await socket.send(json.dumps({"id": "own", "type": "ask", **own}))
            for _ in range(4):
                assert json.loads(await socket.recv())["type"] == "result"

    (handshake,) = servers(receiver)
    assert handshake.name == "GET /agents/{name}/ws"
    assert handshake.attributes["http.response.status_code"] == 101
    dispatched = receiver.named("dispatch front.relay")
    assert len([span for span in dispatched if span.trace == TRACE]) == 3
    assert [span.parent for span in dispatched if span.trace == "ab" * 16] == ["cd" * 8]


@pytest.mark.parametrize("mode", ["2026-07-28", "legacy"])
async def test_mcp_over_http_has_one_server_span_for_each_request(
    mode: Any, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway(receiver, monkeypatch, topology("Front", "Back")) as face:
        meta: Any = {"traceparent": CALLER}
        async with Client(f"http://127.0.0.1:{face.port}/mcp", mode=mode) as client:
            await client.list_tools()
            for _ in range(2):
                assert not (await client.call_tool("front", {"marker": "m"}, meta=meta)).is_error
            with pytest.raises(Exception, match="nobody"):
                await client.call_tool("nobody", {}, meta=meta)

    called = servers(receiver)
    assert [span.attributes["mcp.method.name"] for span in called] == ["tools/call"] * 3
    assert [span.attributes["gen_ai.tool.name"] for span in called] == ["front", "front", "nobody"]
    assert {span.attributes["mcp.protocol.version"] for span in called} == {"2026-07-28" if mode != "legacy" else "2025-11-25"}
    assert all(span.name == "POST /mcp" for span in called)
    assert all(("mcp.session.id" in span.attributes) == (mode == "legacy") for span in called)
    assert called[2].attributes["error.type"] == "-32602"
    dispatched = receiver.named("dispatch front.relay")
    assert [lineage(receiver, span)[1:2] for span in dispatched] == [["POST /mcp"]] * 2
    listed = [span for span in receiver.spans if span.attributes.get("mcp.method.name") == "tools/list"]
    assert [span.kind for span in listed] == [SERVER]
    posts = [span for span in receiver.spans if span.name == "POST /mcp"]
    assert len({span.id for span in posts}) == len(posts)
    assert not [span for span in receiver.spans if span.kind == SERVER and not re.match(r"(GET|POST|DELETE) /mcp", span.name)]


@pytest.mark.parametrize("mode", ["2026-07-28", "legacy"])
async def test_mcp_over_stdio_has_one_server_span_for_each_request(mode: Any, receiver: Receiver, tmp_path: Path) -> None:
    file = write(tmp_path, topology("Front", "Back"))
    server = StdioServerParameters(command=sys.executable, args=["-m", "portico", "mcp", str(file)], env=environ(receiver))
    meta: Any = {"traceparent": CALLER, "tracestate": "us=1"}
    with anyio.fail_after(50):
        async with Client(stdio_client(server), mode=mode) as client:
            await client.list_tools()
            assert not (await client.call_tool("front", {"marker": "m"}, meta=meta)).is_error

    (call,) = servers(receiver)
    assert call.name == "tools/call front"
    assert call.attributes["network.transport"] == "pipe"
    assert call.attributes["gen_ai.operation.name"] == "execute_tool"
    assert call.state == "us=1"
    (behind,) = receiver.named("handle back.message")
    assert lineage(receiver, behind) == ["handle back.message", "handle front.relay", "dispatch front.relay", "tools/call front"]
    assert [span.kind for span in receiver.named("tools/list")] == [SERVER]


def test_portico_ask_sends_its_trace(receiver: Receiver, tmp_path: Path) -> None:
    file = write(tmp_path, topology("Front", "Back"))
    command = [sys.executable, "-m", "portico", "ask", "front", '{"marker": "m"}', "-t", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50, env=environ(receiver))
    assert done.returncode == 0, done.stderr

    (behind,) = receiver.named("handle back.message")
    assert lineage(receiver, behind) == ["handle back.message", "handle front.relay", "dispatch front.relay"]
    assert {"start front", "stop front", "start back", "stop back"} <= {span.name for span in receiver.lives}


async def test_what_tells_of_a_runs_end_belongs_to_its_trace(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = GatewayConfig(port=0, callback_secret=SECRET, callback_allowed_hosts=["127.0.0.1"])
    async with (
        receiving_callbacks(answered(200)) as told,
        gateway(receiver, monkeypatch, topology("Back"), settings=settings) as face,
    ):
        body = {"agent": "back", "payload": {"marker": "m"}, "callback_url": told.url()}
        answer = await face.client.post("/runs", json=body, headers={"traceparent": CALLER})
        assert answer.status_code == 202, answer.text
        with anyio.fail_after(20):
            heard = await told.has(1)

    post = receiver.only("POST")
    assert post.trace == TRACE
    assert post.attributes["http.response.status_code"] == 200
    assert heard.headers["traceparent"] == f"00-{TRACE}-{post.id}-01"


# --- who instruments the program besides ------------------------------------------------------------------------------


def test_where_a_host_has_made_the_server_span_there_is_no_other(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
    inner = create_app(topology("Front", "Back"), ANY_PORT)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        async with inner.router.lifespan_context(inner):
            yield

    host = FastAPI(lifespan=lifespan)
    host.mount("/gateway", inner)
    FastAPIInstrumentor.instrument_app(host, tracer_provider=provider, exclude_spans=["send", "receive"])
    with served(host) as address:
        answer = httpx.post(f"{address}/gateway/agents/front", json={"marker": "m"})
        assert answer.status_code == 200, answer.text

    (theirs,) = exporter.get_finished_spans()
    (dispatch,) = receiver.named("dispatch front.relay")
    assert theirs.context is not None
    assert dispatch.parent == f"{theirs.context.span_id:016x}"
    assert servers(receiver, dispatch.trace) == []
    assert theirs.attributes is not None
    assert theirs.attributes["http.route"] == "/gateway/agents/front"


@contextmanager
def instrumented(receiver: Receiver, file: Path) -> Generator[str]:
    """The address of a gateway that was started by `opentelemetry-instrument`; its spans have arrived when this ends."""
    command = [str(_beside("opentelemetry-instrument")), str(_beside("portico")), "serve", str(file), "--port", "0"]
    more = {"OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
    with subprocess.Popen(
        command, env={**environ(receiver), **more}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            assert process.stdout is not None
            said = ""
            for line in process.stdout:
                said += line
                if (found := re.search(r"http://127\.0\.0\.1:\d+", line)) is not None:
                    break
            else:
                pytest.fail(said)
            yield found[0]
        finally:
            process.terminate()
            process.wait(20)


@pytest.mark.timeout(90)
def test_a_gateway_started_by_opentelemetry_instrument_has_one_server_span(receiver: Receiver, tmp_path: Path) -> None:
    with instrumented(receiver, write(tmp_path, topology("Front", "Back"))) as address:
        for path in ("/agents/front", "/livez", "/nowhere"):
            httpx.post(f"{address}{path}", json={"marker": "m"}, headers={"traceparent": CALLER})

    receiver.wait_for(lambda one: len(servers(one)) >= 3)
    assert sorted(span.name for span in servers(receiver)) == ["POST", "POST /agents/front", "POST /livez"]
    assert len(receiver.named("handle back.message")) == 1


@pytest.mark.timeout(90)
async def test_mcp_of_a_gateway_started_by_opentelemetry_instrument_has_one_server_span_for_each_request(
    receiver: Receiver, tmp_path: Path
) -> None:
    server = {"name": "raw", "command": sys.executable, "args": [str(RAW_SERVER)]}
    made = clever(("mcp://raw/tell", {}), tools=("mcp://raw/*",), mcp={"servers": [server]})
    modes: dict[str, Any] = {f"{number:032x}": mode for number, mode in enumerate(("2026-07-28", "legacy"), 1)}
    with anyio.fail_after(60), instrumented(receiver, write(tmp_path, made)) as address:
        for trace, mode in modes.items():
            meta: Any = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
            async with Client(f"{address}/mcp", mode=mode) as client:
                await client.list_tools()
                assert not (await client.call_tool("clever", {"message": "go"}, meta=meta)).is_error

    for trace in modes:
        (called,) = servers(receiver, trace)
        assert (called.name, called.attributes["mcp.method.name"]) == ("POST /mcp", "tools/call")
        (ours,) = [span for span in receiver.named("tools/call tell") if span.trace == trace]
        assert lineage(receiver, ours)[1:] == ["handle clever.message", "dispatch clever.message", "POST /mcp"]
        (sdks,) = [span for span in receiver.named("MCP send tools/call tell") if span.trace == trace]
        assert sdks.parent == ours.id  # the SDK's client has no switch for its own spans; what is sent names this one
    every = [span for span in receiver.spans if span.kind == SERVER]
    assert {span.name for span in every} <= {"POST /mcp", "GET /mcp", "DELETE /mcp"}
    methods = [span.attributes.get("mcp.method.name") for span in every]
    assert [methods.count(method) for method in ("initialize", "tools/list", "tools/call")] == [1, 2, 2]


def _beside(program: str) -> Path:
    return Path(sys.executable).parent / program


def write(folder: Path, made: Any) -> Path:
    file = folder / "topology.yaml"
    file.write_text(yaml.safe_dump(made))
    return file


def environ(receiver: Receiver) -> dict[str, str]:
    path = os.pathsep.join([str(Path.cwd()), *sys.path])
    return {**os.environ, "PYTHONPATH": path, "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "200"}
