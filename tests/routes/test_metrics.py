"""`/metrics` through a real socket, read by Prometheus' own parsers."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families as parsed

from portico.app.factory import create_app
from portico.errors import AgentError
from portico.kernel.keyed import keyed
from portico.kernel.pool import pool
from portico.kernel.process import AgentProcess
from portico.kernel.supervisor import Supervisor
from portico.operations.decorators import operation
from portico.topology.runtime import Runtime
from tests.app.serving import ANY_PORT, listening, served
from tests.routes.agents import Crashing, Echo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from prometheus_client.metrics_core import Metric

    from tests.app.serving import Served

pytestmark = pytest.mark.anyio

parsed_openmetrics: Callable[[str], Iterator[Metric]] = cast("Any", openmetrics_parser).text_string_to_metric_families
OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0, text/plain; q=0.5"}
HOSTILE = 'a"b\\c\nd="f" 7 \u2028é'


class Gate(AgentProcess):
    """Opens when it is told to."""

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(name, **options)
        self.open = asyncio.Event()

    @operation
    async def wait(self) -> str:
        await self.open.wait()
        return "through"


class Seller(AgentProcess):
    @operation(errors={"sold-out": 409})
    async def buy(self, what: str) -> str:
        raise AgentError(what, "Not today.")


class Session(AgentProcess):
    @operation
    async def say(self, session_id: str) -> str:
        return session_id

    @operation
    async def crash(self, session_id: str) -> str:
        raise RuntimeError("on purpose")


async def figures(gateway: Served, **headers: str) -> dict[str, float]:
    """Every sample, under its name and labels as they are written."""
    response = await gateway.client.get("/metrics", headers=headers)
    assert response.status_code == 200
    found: dict[str, float] = {}
    for family in parsed(response.text):
        for sample in family.samples:
            key = sample.name + labels(sample.labels)
            assert key not in found, f"{key} is there twice"
            found[key] = sample.value
    return found


def labels(values: Mapping[str, str]) -> str:
    return "{" + ",".join(f"{name}={values[name]}" for name in sorted(values) if name != "python") + "}"


async def until(gateway: Served, key: str, value: float) -> None:
    """Until a figure has a value."""
    with anyio.fail_after(10):
        while (await figures(gateway)).get(key) != value:
            pass  # each look is a request


async def test_calls_are_counted_with_their_duration_and_outcome() -> None:
    async with served(Echo("echo"), Seller("seller")) as gateway:
        for _ in range(3):
            await gateway.client.post("/agents/echo", json={"text": "a"})
        await gateway.client.post("/agents/seller", json={"what": "sold-out"})
        await gateway.client.post("/agents/seller", json={"what": "order-4711-is-lost"})
        await gateway.client.post("/agents/seller", json={"whatever": 1})
        found = await figures(gateway)

    count = "portico_call_duration_seconds_count"
    assert found[count + "{agent=echo,kind=ask,operation=echo,outcome=ok}"] == 3
    assert found["portico_call_duration_seconds_bucket{agent=echo,kind=ask,le=+Inf,operation=echo,outcome=ok}"] == 3
    assert 0 < found["portico_call_duration_seconds_sum{agent=echo,kind=ask,operation=echo,outcome=ok}"] < 30
    assert found[count + "{agent=seller,kind=ask,operation=buy,outcome=sold-out}"] == 1
    assert found[count + "{agent=seller,kind=ask,operation=buy,outcome=agent-error}"] == 1
    assert found["portico_calls_admitted_total{agent=seller,kind=ask,operation=buy}"] == 2
    assert found["portico_calls_rejected_total{agent=seller,operation=buy,reason=contract-violated}"] == 1
    assert not any("4711" in key for key in found)


async def test_what_is_in_flight_and_what_waits_is_seen_while_it_is() -> None:
    gate = Gate("gate", mailbox_size=1)
    async with asyncio.TaskGroup() as group, served(gate) as gateway:
        in_flight = "portico_calls_in_flight{agent=gate,operation=wait}"
        group.create_task(gateway.client.post("/agents/gate"))
        await until(gateway, in_flight, 1)
        group.create_task(gateway.client.post("/agents/gate"))
        await until(gateway, in_flight, 2)
        refused = await gateway.client.post("/agents/gate")
        found = await figures(gateway)
        gate.open.set()
        await until(gateway, in_flight, 0)
        calm = await figures(gateway)

    assert calm[in_flight] == 0
    assert refused.status_code == 503
    assert found["portico_mailbox_messages{agent=gate}"] == 1
    assert found["portico_mailbox_limit_messages{agent=gate}"] == 1
    assert found["portico_calls_rejected_total{agent=gate,operation=wait,reason=mailbox-full}"] == 1


async def test_sends_and_stored_runs_are_counted_when_they_end() -> None:
    gate = Gate("gate")
    async with served(gate, Echo("echo")) as gateway:
        await gateway.client.post("/runs", json={"agent": "gate"})
        await until(gateway, "portico_runs{status=running}", 1)
        assert (await figures(gateway))["portico_calls_in_flight{agent=gate,operation=wait}"] == 1
        gate.open.set()
        await until(gateway, "portico_call_duration_seconds_count{agent=gate,kind=run,operation=wait,outcome=ok}", 1)
        await gateway.client.post("/agents/echo/cast", json={"text": "a"})
        await until(gateway, "portico_call_duration_seconds_count{agent=echo,kind=send,operation=echo,outcome=ok}", 1)
        found = await figures(gateway)

    assert found["portico_calls_in_flight{agent=gate,operation=wait}"] == 0
    assert found["portico_calls_admitted_total{agent=echo,kind=send,operation=echo}"] == 1


async def test_open_streams_are_counted_while_they_are_open() -> None:
    gate = Gate("gate")
    async with served(gate) as gateway:
        async with gateway.client.stream("POST", "/agents/gate", headers={"Accept": "text/event-stream"}) as response:
            assert response.status_code == 200
            await until(gateway, "portico_streams_open{}", 1)
            gate.open.set()
            await response.aread()
        await until(gateway, "portico_streams_open{}", 0)


async def test_a_caller_who_leaves_is_counted_as_cancelled_and_is_in_flight_no_more() -> None:
    async with served(Gate("gate")) as gateway:
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(b"POST /agents/gate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
        await until(gateway, "portico_calls_in_flight{agent=gate,operation=wait}", 1)
        writer.close()
        await until(gateway, "portico_call_duration_seconds_count{agent=gate,kind=ask,operation=wait,outcome=cancelled}", 1)
        assert (await figures(gateway))["portico_calls_in_flight{agent=gate,operation=wait}"] == 0


async def test_counters_never_fall_when_agents_are_restarted() -> None:
    async with served(Crashing("crashing"), Echo("echo")) as gateway:
        before = await figures(gateway)
        for _ in range(2):
            await gateway.client.post("/agents/crashing/once")
            await gateway.client.post("/agents/echo", json={"text": "a"})
            after = await figures(gateway)
            falling = [key for key in before if re.search(r"_(total|count|sum|bucket)\{", key) and after[key] < before[key]]
            assert falling == []
            before = after
        await until(gateway, "portico_agent_restarts_total{agent=crashing}", 2)
        await until(gateway, "portico_agent_up{agent=crashing}", 1)


async def test_keys_and_members_count_as_the_one_agent_that_callers_know() -> None:
    async with served(keyed(Session, "session", per_key="session_id"), pool(Echo, name="pool", size=3)) as gateway:
        for number in range(5):
            await gateway.client.post("/agents/session/say", json={"session_id": f"secret-{number}"})
        await gateway.client.post("/agents/session/crash", json={"session_id": "secret-1"})
        await until(gateway, "portico_agent_processes{agent=pool}", 3)
        response = await gateway.client.get("/metrics")
        found = await figures(gateway)

    assert found["portico_call_duration_seconds_count{agent=session,kind=ask,operation=say,outcome=ok}"] == 5
    assert found["portico_agent_processes{agent=session}"] >= 4
    assert found["portico_agent_restarts_total{agent=session}"] >= 1
    assert found["portico_agent_up{agent=session}"] == found["portico_agent_up{agent=pool}"] == 1
    assert "secret" not in response.text
    assert set(re.findall(r'agent="([^"]+)"', response.text)) == {"session", "pool"}


async def test_a_suspended_agent_is_not_up() -> None:
    async with served(Echo("echo")) as gateway:
        gateway.runtime.router.suspend("echo", "to look at it")
        found = await figures(gateway)

    assert found["portico_agent_up{agent=echo}"] == 0


async def test_an_agent_of_a_hostile_name_breaks_no_line() -> None:
    async with served(Echo(HOSTILE), Echo("\ud800"), Echo("echo")) as gateway:
        text = (await gateway.client.get("/metrics")).text
        modern = (await gateway.client.get("/metrics", headers=OPENMETRICS)).text

    for families in (parsed(text), parsed_openmetrics(modern)):
        agents = {sample.labels["agent"] for family in families for sample in family.samples if sample.labels.get("agent")}
        assert agents == {HOSTILE, "?", "echo"}


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (None, "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/plain;version=nonsense", "text/plain; version=0.0.4; charset=utf-8"),
        (OPENMETRICS["Accept"], "application/openmetrics-text; version=1.0.0; charset=utf-8"),
        ("application/openmetrics-text;version=nonsense", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
    ],
)
async def test_the_format_is_the_one_that_the_client_names(accept: str | None, media_type: str) -> None:
    async with served(Echo("echo")) as gateway:
        headers = {"Accept": accept} if accept is not None else {}
        response = await gateway.client.get("/metrics", headers=headers)
        head = await gateway.client.head("/metrics", headers=headers)

    assert response.headers["content-type"] == head.headers["content-type"] == media_type
    assert response.text.endswith("# EOF\n") == media_type.startswith("application/openmetrics-text")
    assert head.content == b""


async def test_two_gateways_of_one_process_count_for_themselves() -> None:
    async with served(Echo("one")) as first, served(Echo("other")) as second:
        await first.client.post("/agents/one", json={"text": "a"})
        here, there = await figures(first), await figures(second)

    assert here["portico_calls_admitted_total{agent=one,kind=ask,operation=echo}"] == 1
    assert there["portico_calls_admitted_total{agent=other,kind=ask,operation=echo}"] == 0
    assert not any("agent=one," in key for key in there)


async def test_a_credential_is_needed_where_the_gateway_knows_one() -> None:
    async with served(Echo("echo"), api_key="secret") as gateway:
        without = await gateway.client.get("/metrics")
        with_it = await gateway.client.get("/metrics", headers={"Authorization": "Bearer secret"})

    assert (without.status_code, with_it.status_code) == (401, 200)


async def test_metrics_can_be_switched_off() -> None:
    async with served(Echo("echo"), metrics_enabled=False) as gateway:
        asked = await gateway.client.post("/agents/echo", json={"text": "a"})
        response = await gateway.client.get("/metrics")
        assert gateway.gateway.dispatcher.meter is None

    assert (asked.status_code, response.status_code) == (200, 404)


async def test_many_callers_at_once_are_counted_each_while_somebody_scrapes() -> None:
    async with served(Echo("echo", mailbox_size=1000)) as gateway:

        async def call() -> None:
            for _ in range(20):
                assert (await gateway.client.post("/agents/echo", json={"text": "a"})).status_code == 200

        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(call)
            for _ in range(5):
                await figures(gateway)
        found = await figures(gateway)

    assert found["portico_call_duration_seconds_count{agent=echo,kind=ask,operation=echo,outcome=ok}"] == 200
    assert found["portico_calls_in_flight{agent=echo,operation=echo}"] == 0


async def test_what_waits_for_the_disk_is_shown_with_its_age_until_it_is_stored(tmp_path: Path) -> None:
    app = create_app(Runtime(Supervisor("root", [Echo("echo")]), data=tmp_path), ANY_PORT)
    async with asyncio.timeout(20), listening(app, ANY_PORT) as gateway:
        with closing(sqlite3.connect(tmp_path / "portico.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            async with asyncio.TaskGroup() as group:
                started = group.create_task(gateway.client.post("/runs", json={"agent": "echo", "payload": {"text": "hi"}}))
                while (shown := await figures(gateway))["portico_journal_oldest_age_seconds{}"] < 0.05:
                    assert not started.done()
                other.execute("ROLLBACK")
        assert shown["portico_journal_waiting{}"] >= 1
        run = started.result().json()["run_id"]
        assert (await gateway.client.get(f"/runs/{run}", params={"wait": 10})).json()["status"] == "succeeded"
        while (shown := await figures(gateway))["portico_journal_waiting{}"]:
            pass
        assert shown["portico_journal_oldest_age_seconds{}"] == 0
