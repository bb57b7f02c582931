"""A gateway that has done a bit of everything, and what it then shows: for tests of whatever reads its metrics."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import anyio
from prometheus_client.openmetrics import parser as openmetrics_parser

from portico.app.factory import create_app
from portico.errors import ModelError
from portico.kernel.keyed import keyed
from portico.kernel.pool import pool
from portico.kernel.process import AgentProcess
from portico.kernel.protocols import ModelResponse
from portico.kernel.supervisor import Supervisor
from portico.llm.scripted import ScriptedModel
from portico.mcp_bridge.calling.wiring import build_upstreams
from portico.operations.decorators import operation
from portico.topology.runtime import Runtime
from tests.app.serving import ANY_PORT, listening
from tests.mcp_bridge.helpers import tool_server

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator
    from pathlib import Path

    from prometheus_client.metrics_core import Metric

    from tests.app.serving import Served
    from tests.telemetry.receiver import Measured, Receiver

OPENMETRICS = {"Accept": "application/openmetrics-text"}
TRACE, SPAN = "ab" * 16, "cd" * 8
TRACEPARENT = f"00-{TRACE}-{SPAN}-01"
families_of: Callable[[str], Iterator[Metric]] = cast("Any", openmetrics_parser).text_string_to_metric_families


class Worker(AgentProcess):
    """Does what it is told."""

    @operation
    async def work(self, name: str = "") -> str:
        return f"done {name}"

    @operation(idempotent=False)
    async def crash(self) -> str:
        raise RuntimeError("on purpose")

    @operation
    async def block(self) -> str:
        time.sleep(0.3)  # noqa: ASYNC251  # the watchdog is to notice it
        return "moving again"

    @operation
    async def think(self, model: str) -> str:
        return (await self.llm.chat(model, [{"role": "user", "content": "?"}])).content

    @operation
    async def add(self) -> Any:
        return await self.tools.get("mcp://tests/add").execute(a=1, b=2)


class BrokenSink:
    """Takes no usage."""

    def usage(self, row: object) -> None:
        raise OSError(f"no room for {row}")


class Session(AgentProcess):
    @operation
    async def say(self, session_id: str) -> str:
        return session_id


@asynccontextmanager
async def working(data: Path) -> AsyncGenerator[Served]:
    """The gateway, before it has done anything."""
    model = ScriptedModel(
        [
            ModelResponse("yes", "known", tokens_in=10, tokens_out=3, cost_usd=0.25),
            ModelResponse("no", "unknown", tokens_in=20),
            ModelError("scripted", "It is down."),
        ]
    )
    servers, tools = build_upstreams([tool_server()])
    agents = [servers, Worker("worker"), keyed(Session, "session", per_key="session_id"), pool(Worker, name="pool", size=2)]
    tree = Supervisor("root", children=agents, backoff_base=0.001)
    runtime = Runtime(tree, data=data, model_provider=model, tool_registry=tools, watchdog=0.1, sinks=[BrokenSink()])
    async with listening(create_app(runtime, ANY_PORT)) as gateway:
        yield gateway


async def do_everything(gateway: Served) -> None:
    """Have it do a bit of everything."""
    client = gateway.client
    (await client.post("/agents/worker/work", json={"name": "a"}, headers={"traceparent": TRACEPARENT})).raise_for_status()
    (await client.post("/agents/pool/work", json={})).raise_for_status()
    (await client.post("/agents/session", json={"session_id": "mine"})).raise_for_status()
    assert (await client.post("/agents/worker/work", json={"name": 7})).status_code == 422
    assert (await client.post("/agents/worker/crash")).status_code == 502
    assert (await client.get("/nowhere")).status_code == 404
    (await client.post("/agents/worker/block")).raise_for_status()
    for name, status in (("known", 200), ("unknown", 200), ("broken", 502)):
        assert (await client.post("/agents/worker/think", json={"model": name})).status_code == status
    (await client.post("/agents/worker/add")).raise_for_status()
    await _call_tool(gateway)
    for path, body in (("/agents/worker/work/cast", {}), ("/runs", {"agent": "worker", "operation": "work"})):
        run = (await client.post(path, json=body)).headers["location"]
        assert (await client.get(f"{run}?wait=10")).json()["status"] == "succeeded"
    run = (await client.post("/agents/worker/crash/cast")).headers["location"]
    assert (await client.get(f"{run}?wait=10")).json()["status"] == "failed"
    worker = gateway.gateway.runtime.router.registry.lookup("worker")
    while worker.restarts < worker.crashes:  # noqa: ASYNC110  # the run has failed before its agent is back
        await anyio.sleep(0.005)


async def _call_tool(gateway: Served) -> None:
    version = "2025-06-18"
    headers = {"accept": "application/json, text/event-stream", "mcp-protocol-version": version}
    about = {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "tests", "version": "1"}}
    opened = await gateway.client.post("/mcp", json=_rpc("initialize", about), headers=headers)
    headers["mcp-session-id"] = opened.headers["mcp-session-id"]
    await gateway.client.post("/mcp", json={"jsonrpc": "2.0", "method": "notifications/initialized"}, headers=headers)
    for message in (_rpc("tools/list", {}), _rpc("tools/call", {"name": "worker-work", "arguments": {"name": "b"}})):
        (await gateway.client.post("/mcp", json=message, headers=headers)).raise_for_status()
    failing = await gateway.client.post("/mcp", json=_rpc("tools/call", {"name": "worker-crash", "arguments": {}}), headers=headers)
    assert '"isError":true' in failing.text


def _rpc(method: str, params: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


@dataclass(frozen=True, slots=True)
class Shown:
    """What a gateway shows: one reading, in each form."""

    plain: str
    modern: str
    sent: list[Measured]
    """The same, as it was sent."""

    @property
    def samples(self) -> dict[str, frozenset[str]]:
        """The labels of each name of a sample."""
        found: dict[str, set[str]] = {}
        for family in families_of(self.modern):
            for sample in family.samples:
                found.setdefault(sample.name, set()).update(sample.labels)
        return {name: frozenset(labels) for name, labels in found.items()}


def everything_shown(data: Path, receiver: Receiver) -> Shown:
    """What a gateway shows that has done a bit of everything; the same reading was sent to a receiver, and then the last one."""

    async def main() -> Shown:
        with anyio.fail_after(50):
            async with working(data) as gateway:
                await do_everything(gateway)
                push, metrics = gateway.gateway.push, gateway.gateway.metrics
                assert push is not None
                assert metrics is not None
                readings = metrics.read()
                await asyncio.to_thread(push.send, readings)
                plain, modern = (metrics.text(readings, as_openmetrics=modern)[0].decode() for modern in (False, True))
                return Shown(plain, modern, list(receiver.metrics))

    return anyio.run(main)
