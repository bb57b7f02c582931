"""One trace per call: through agents, models and tools, into MCP servers and back, as an endpoint receives it."""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from portico.app.factory import create_app
from tests.app.serving import ANY_PORT, Served, listening
from tests.mcp_bridge.helpers import RAW_SERVER
from tests.telemetry.documented import undocumented
from tests.telemetry.receiver import Received, Receiver, receiving

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Mapping

    import httpx

    from portico.app.settings import GatewayConfig

pytestmark = pytest.mark.anyio

INTERNAL, SERVER, CLIENT = 1, 2, 3
TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = f"00-{TRACE}-b7ad6b7169203331-01"
CONTENT = ("gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.system_instructions")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Whatever a test looks at: all that it has received is documented."""
    with receiving() as one:
        yield one
    assert undocumented(one) == {}


@asynccontextmanager
async def gateway(
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    topology: Mapping[str, Any],
    name: str = "near",
    settings: GatewayConfig = ANY_PORT,
    **environ: str,
) -> AsyncGenerator[Served]:
    """A gateway whose spans have arrived when this ends."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
    monkeypatch.setenv("OTEL_SERVICE_NAME", name)
    for variable, value in environ.items():
        monkeypatch.setenv(variable, value)
    async with asyncio.timeout(40), listening(create_app(topology, settings), settings) as served:
        yield served


def topology(*agents: str, **more: Any) -> dict[str, Any]:
    """Agents of `traced_agents.py` by the names of their classes."""
    children = [{"type": f"tests.telemetry.traced_agents.{one}", "name": one.lower()} for one in agents]
    return {"supervision": {"strategy": "ONE_FOR_ONE", "backoff_base": 0.001, "children": children}, **more}


def clever(*calls: Any, tools: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    """A model agent whose model calls these tools one after the other."""
    steps = [{"call": tool, "arguments": arguments} for tool, arguments in calls]
    rules = [{"steps": [*steps, {"say": "done"}]}]
    made = topology("Back", models={"scripted": {"rules": rules}}, **more)
    agent = {"type": "tests.telemetry.traced_agents.Clever", "name": "clever", "config": {"tools": list(tools)}}
    made["supervision"]["children"].insert(0, agent)
    return made


def lineage(receiver: Receiver, span: Received) -> list[str]:
    """The names from a span up to the root of its trace."""
    by_id = {one.id: one for one in receiver.spans}
    names = [span.name]
    while span.parent in by_id:
        span = by_id[span.parent]
        names.append(span.name)
    return names


async def test_a_call_is_one_trace_through_models_tools_and_other_agents(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = [("near", {"marker": "m"}), ("broken", {})]
    async with gateway(receiver, monkeypatch, clever(*calls)) as served:
        answer = await served.client.post("/agents/clever", json={"message": "go"}, headers={"traceparent": CALLER})
        assert answer.status_code == 200, answer.text

    asked = [span for span in receiver.spans if span.trace == TRACE]
    assert {span.trace for span in receiver.spans} == {TRACE}
    chats = [span for span in asked if span.name == "chat scripted"]
    assert len(chats) == 3
    assert all(
        lineage(receiver, span)[1:] == ["handle clever.message", "dispatch clever.message", "POST /agents/clever"] for span in chats
    )
    back = receiver.only("handle back.message")
    assert lineage(receiver, back)[:3] == ["handle back.message", "execute_tool near", "handle clever.message"]
    tool = receiver.only("execute_tool near")
    assert tool.kind == INTERNAL
    assert tool.attributes["gen_ai.operation.name"] == "execute_tool"
    assert tool.attributes["gen_ai.tool.name"] == "near"
    assert tool.attributes["gen_ai.tool.type"] == "function"
    assert tool.attributes["gen_ai.tool.call.id"].startswith("call_")
    broken = receiver.only("execute_tool broken")
    assert broken.failed
    assert broken.attributes["error.type"] == "tool-failed"


async def test_a_call_of_a_model_has_the_attributes_of_the_conventions_and_no_content(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway(receiver, monkeypatch, clever()) as served:
        await served.client.post("/agents/clever", json={"message": "go"})

    chat = receiver.only("chat scripted")
    assert chat.kind == CLIENT
    told = {key: value for key, value in chat.attributes.items() if key != "gen_ai.response.time_to_first_chunk"}
    assert told == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "scripted",
        "gen_ai.request.model": "scripted",
        "gen_ai.request.stream": True,
        "gen_ai.agent.name": "clever",
        "gen_ai.response.model": "scripted",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 1,
        "gen_ai.usage.output_tokens": 1,
    }
    handle = receiver.only("handle clever.message")
    assert (handle.attributes["gen_ai.operation.name"], handle.attributes["gen_ai.agent.name"]) == ("invoke_agent", "clever")


async def test_content_is_told_where_that_is_switched_on_but_never_a_secret(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = {"scripted": {"rules": [{"say": "{question}"}]}}
    made = topology("Confidential", models=model)
    async with gateway(receiver, monkeypatch, made, OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT="true") as served:
        answer = await served.client.post("/agents/confidential", json={"user": "ada", "password": "correct horse"})
        assert "correct horse" in answer.text

    chat = receiver.only("chat scripted")
    assert "I am ada, my password is **********" in chat.attributes["gen_ai.input.messages"]
    assert "Be discreet." in chat.attributes["gen_ai.system_instructions"]
    assert "correct horse" not in str(receiver.spans)


@pytest.mark.parametrize("operation", ["login", "refuse"])
async def test_what_errors_say_has_no_secrets_and_an_end(
    operation: str, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with gateway(receiver, monkeypatch, topology("Careless")) as served:
        answer = await served.client.post(f"/agents/careless/{operation}", json={"user": "ada", "password": "correct horse"})
        assert answer.status_code >= 500

    told = [str((span.message, span.attributes, span.events)) for span in receiver.spans]
    assert any(span.failed and span.message for span in receiver.named(f"handle careless.{operation}"))
    assert "correct horse" not in str(told)
    assert "abcdef.ghijkl" not in str(told)
    assert max(map(len, told)) < 30_000


async def test_what_a_models_tool_calls_secret_is_in_no_span(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    code = 'open "sesame"'
    rules = [{"steps": [{"call": "unlock", "arguments": {"code": code}}, {"say": "No."}]}]
    made = topology("Vault", models={"scripted": {"rules": rules}})
    async with gateway(receiver, monkeypatch, made, OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT="true") as served:
        await served.client.post("/agents/vault", json={"message": "go"})

    chats, (tool,) = receiver.named("chat scripted"), receiver.named("execute_tool unlock")
    assert all("unlock" in str(chat.attributes) for chat in chats)
    assert tool.failed
    assert "sesame" not in str(receiver.spans)


async def test_a_trace_goes_into_an_mcp_server_and_on_behind_it(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    async with gateway(receiver, monkeypatch, topology("Front", "Back"), "far") as far:
        server = {"name": "far", "transport": "streamable_http", "url": f"http://127.0.0.1:{far.port}/mcp"}
        near = clever(("mcp://far/front", {"marker": "m"}), tools=("mcp://far/*",), mcp={"servers": [server]})
        async with gateway(receiver, monkeypatch, near) as served:
            answer = await served.client.post(
                "/agents/clever", json={"message": "go"}, headers={"traceparent": CALLER, "tracestate": "us=1"}
            )
            assert answer.json()["tool_calls"][0]["error"] is None, answer.text

    client, behind = receiver.only("tools/call front"), receiver.only("handle back.message")
    assert (client.kind, client.trace, client.service) == (CLIENT, TRACE, "near")
    assert client.attributes["gen_ai.operation.name"] == "execute_tool"
    assert client.attributes["gen_ai.tool.name"] == "front"
    assert client.attributes["mcp.method.name"] == "tools/call"
    assert client.attributes["mcp.protocol.version"] == "2026-07-28"
    assert client.attributes["network.transport"] == "tcp"
    assert (client.attributes["server.address"], client.attributes["server.port"]) == ("127.0.0.1", far.port)
    assert client.attributes["jsonrpc.request.id"]
    way = lineage(receiver, behind)
    assert way[:5] == ["handle back.message", "handle front.relay", "dispatch front.relay", "POST /mcp", "tools/call front"]
    assert way[-1] == "POST /agents/clever"
    (far_server,) = [span for span in receiver.children(client) if span.kind == SERVER]
    assert far_server.attributes["mcp.method.name"] == "tools/call"
    assert far_server.attributes["gen_ai.tool.name"] == "front"
    assert far_server.attributes["jsonrpc.request.id"] == client.attributes["jsonrpc.request.id"]
    assert far_server.state == "us=1"


@pytest.mark.parametrize("era", [[], ["--new"]], ids=["2025", "2026"])
async def test_what_an_mcp_server_asks_the_model_is_below_the_call_of_its_tool(
    era: list[str], receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = {"name": "raw", "command": sys.executable, "args": [str(RAW_SERVER), *era], "sampling": True}
    made = clever(("mcp://raw/sample", {}), tools=("mcp://raw/*",), mcp={"servers": [server]})
    async with gateway(receiver, monkeypatch, made) as served:
        answer = await served.client.post("/agents/clever", json={"message": "go"}, headers={"traceparent": CALLER})
        assert answer.status_code == 200, answer.text

    assert {span.trace for span in receiver.spans} == {TRACE}
    assert len(receiver.named("chat scripted")) == 3
    (sampled,) = [span for span in receiver.children(receiver.only("tools/call sample")) if span.kind == CLIENT]
    assert sampled.name == "chat scripted"
    assert sampled.attributes["gen_ai.agent.name"] == "clever"


async def test_a_process_of_a_keyed_agent_starts_and_stops_under_the_agents_name(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = topology("Kept")
    made["supervision"]["children"][0]["per_key"] = "session"
    async with gateway(receiver, monkeypatch, made) as served:
        await served.client.post("/agents/kept", json={"session": "a-secret-session"})

    assert [(span.name, span.attributes["portico.agent"]) for span in receiver.lives] == [
        ("start kept", "kept"),
        ("stop kept", "kept"),
    ]
    assert "a-secret-session" not in str((receiver.lives, receiver.spans))


async def test_no_span_and_no_usage_tells_the_key_of_a_caller(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    made = topology("Greeter", "Back", models={"scripted": {"rules": [{"say": "Hi"}]}})
    made["supervision"]["children"][0]["per_key"] = "session"
    async with gateway(receiver, monkeypatch, made) as served:
        body = {"session": "a-secret-session"}
        assert (await served.client.post("/agents/greeter", json=body)).status_code == 200
        await served.runtime.ask("greeter/a-secret-session", body)  # as one that monitors it may do
        usage = (await served.client.get("/usage?by=agent")).json()

    assert "a-secret-session" not in str((receiver.lives, receiver.spans, usage))
    assert [row["agent"] for row in usage["rows"]] == ["greeter"]
    assert {span.attributes["gen_ai.agent.name"] for span in receiver.named("chat scripted")} == {"greeter"}
    assert {span.attributes["portico.sender"] for span in receiver.named("handle back.message")} == {"greeter"}
    assert len(receiver.named("handle greeter.message")) == 2


async def test_every_attempt_has_a_span_of_its_own_beside_the_others(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    async with gateway(receiver, monkeypatch, topology("Flaky")) as served:
        assert (await served.client.post("/agents/flaky", json={})).status_code == 200

    first, second = receiver.named("handle flaky.message")
    assert [first.attributes["portico.attempt"], second.attributes["portico.attempt"]] == [0, 1]
    assert first.parent == second.parent == receiver.only("dispatch flaky.message").id
    assert first.failed
    assert not second.failed
    assert second.attributes["portico.incarnation"] == 2


async def test_a_wait_and_a_restart_of_the_program_do_not_break_the_trace(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    made = topology("Waiting", store={"type": "sqlite", "path": str(tmp_path)})
    with anyio.fail_after(40):
        async with gateway(receiver, monkeypatch, made) as served:
            body: dict[str, Any] = {"agent": "waiting", "payload": {}}
            run = (await served.client.post("/runs", json=body, headers={"traceparent": CALLER})).json()["run_id"]
            await waits(served.client, run)
        async with gateway(receiver, monkeypatch, made) as served:
            await waits(served.client, run)
            assert (await served.client.post(f"/runs/{run}/input", json="hello")).status_code < 300
            ended = await served.client.get(f"/runs/{run}", params={"wait": 20})
            assert ended.json()["output"] == "You said hello"

    first, *more = receiver.named("handle waiting.message")
    assert more
    dispatch = receiver.only("dispatch waiting.message")
    assert {span.trace for span in [first, *more, dispatch]} == {TRACE}
    assert {span.parent for span in [first, *more]} == {dispatch.id}
    assert not any(span.failed or "error.type" in span.attributes for span in [first, *more])
    whose = {(span.attributes["portico.attempt"], span.attributes["portico.incarnation"], span.instance) for span in [first, *more]}
    assert len(whose) == len([first, *more])
    assert len({instance for *_, instance in whose}) == 2


async def test_who_lets_another_agent_go_on_has_not_failed_and_no_span_has_what_it_handed_on(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "a matter of confidence"
    rules = [{"steps": [{"call": "passed", "arguments": {"marker": secret}}, {"say": "done"}]}]
    made = topology("Passing", "Back", models={"scripted": {"rules": rules}})
    async with gateway(receiver, monkeypatch, made) as served:
        for path, body in (("onward", {"marker": secret}), ("message", {"message": "go"})):
            answer = await served.client.post(f"/agents/passing/{path}", json=body)
            assert answer.json()["marker"] == secret, answer.text

    assert secret not in str(receiver.spans)
    (tool,) = receiver.named("execute_tool passed")
    handled = [
        *receiver.named("handle passing.onward"),
        *receiver.named("handle passing.message"),
        *receiver.named("handle back.message"),
    ]
    assert len(handled) == 4
    assert not any(span.failed or "error.type" in span.attributes for span in [tool, *handled])


async def waits(client: httpx.AsyncClient, run: str) -> None:
    async with client.stream("GET", f"/runs/{run}/events") as events:
        async for line in events.aiter_lines():
            if "waiting" in line:
                return


async def test_a_hundred_calls_at_once_to_agents_of_equal_names_keep_their_traces_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    made = topology("Front", "Back")
    made["supervision"]["children"][1]["pool"] = 4
    with receiving() as one, receiving() as other:
        async with gateway(one, monkeypatch, made, "one") as first, gateway(other, monkeypatch, made, "other") as second:
            bodies = [(served, f"{served.port:08x}{index:024x}") for index in range(50) for served in (first, second)]

            async def call(served: Served, trace: str) -> None:
                header = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
                answer = await served.client.post("/agents/front", json={"marker": trace}, headers=header)
                reply = answer.json()
                assert reply["marker"] == trace
                assert reply["traceparent"][3:35] == trace

            async with asyncio.TaskGroup() as group:
                for served, trace in bodies:
                    group.create_task(call(served, trace))

    for receiver, served in ((one, first), (other, second)):
        spans = receiver.spans
        assert {span.trace for span in spans} == {trace for where, trace in bodies if where is served}
        by_trace: dict[str, list[Received]] = {}
        for span in spans:
            by_trace.setdefault(span.trace, []).append(span)
        for found in by_trace.values():
            assert sorted(span.name for span in found) == [
                "POST /agents/front",
                "dispatch front.relay",
                "handle back.message",
                "handle front.relay",
            ]
            ids = {span.id for span in found}
            assert sum(span.parent in ids for span in found) == 3
