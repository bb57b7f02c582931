"""`GET /events`: what happens in the gateway, told to who watches, as it happens, and what is missing."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from portico.auth.api_key import new_key
from portico.auth.key_file import KeyFile
from portico.auth.principal import Principal
from portico.kernel.dynamic_supervisor import DynamicSupervisor
from portico.kernel.keyed import keyed
from portico.kernel.pool import pool
from portico.kernel.process import AgentProcess
from portico.kernel.protocols import Context
from portico.operations.decorators import operation
from portico.routes import gateway_stream, newsroom
from portico.runs.chronicle import Chronicle
from portico.telemetry.call_meter import CallMeter, Tally
from portico.telemetry.pulse import Pulse, latency_of
from portico.version import __version__
from tests.app.serving import is_problem, served
from tests.routes.agents import Crashing, Echo, Mirror, Slow
from tests.routes.watching import watching

if TYPE_CHECKING:
    from pathlib import Path

    from portico.kernel.messages import Message

pytestmark = pytest.mark.anyio
HELLO = {"text": "hello"}


class Asker(AgentProcess):
    @operation
    async def ask_somebody(self, ctx: Context) -> Any:
        return await ctx.wait_input("May I?")


async def test_a_watcher_is_greeted_and_told_of_a_crash_without_the_payload() -> None:
    async with served(Crashing("crashing"), Echo("echo")) as gateway, watching(gateway.client) as watcher:
        hello = await watcher.next()
        assert (hello.name, hello.data["version"]) == ("hello", __version__)
        life = hello.data["life"]
        assert hello.id.startswith(f"{life}-")
        began = time.monotonic()
        await gateway.client.post("/agents/crashing/once", json={"note": "nobody's business"})
        crashed = await watcher.until("process.crashed", name="crashing")
        assert time.monotonic() - began < 5
        assert crashed.data["error"] == {"type": "RuntimeError", "message": "the secret of the house"}
        assert (crashed.data["incarnation"], crashed.data["attempt"]) == (1, 1)
        report = await watcher.until("supervisor.report")
        assert (report.data["supervisor"], report.data["context"], report.data["offender"]) == (
            "root",
            "child_terminated",
            "crashing",
        )
        letter = await watcher.until("message.dead_letter")
        assert (letter.data["name"], letter.data["operation"]) == ("crashing", "once")
        await watcher.until("process.restarted", name="crashing")
        numbers = [int(told.id.removeprefix(f"{life}-")) for told in watcher.seen]
        assert numbers[1:] == list(range(numbers[1], numbers[-1] + 1))
        assert "nobody's business" not in json.dumps([told.data for told in watcher.seen])


async def test_stored_runs_are_told_from_their_acceptance_to_their_end_and_plain_asks_are_not() -> None:
    async with served(Asker("asker"), Echo("echo")) as gateway, watching(gateway.client, "run") as watcher:
        client = gateway.client
        await client.post("/agents/echo", json=HELLO)
        run_id = (await client.post("/runs", json={"agent": "asker"})).json()["run_id"]
        await watcher.until("run.waiting", run_id=run_id, agent="asker", operation="ask_somebody", status="waiting", principal=None)
        await client.post(f"/runs/{run_id}/input", json="yes")
        await watcher.until("run.succeeded", status="succeeded")
        other = (await client.post("/runs", json={"agent": "asker"})).json()["run_id"]
        await watcher.until("run.waiting", run_id=other)
        await client.post(f"/runs/{other}/cancel")
        await watcher.until("run.cancelled", run_id=other)
        names = [told.name for told in watcher.seen if told.data.get("run_id") == run_id]
        assert names == ["run.accepted", "run.started", "run.waiting", "run.resumed", "run.started", "run.succeeded"]
        assert {told.data.get("agent") for told in watcher.seen[1:]} == {"asker"}


async def test_figures_come_every_second_with_calls_latency_and_the_agents_that_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(newsroom, "EVERY", 0.1)
    async with served(slow := Slow("slow", expose=True), Echo("echo", expose=True), Mirror("idle", expose=True)) as gateway:
        client = gateway.client
        await client.post("/agents/echo", json=HELLO)  # before anybody watches
        async with asyncio.TaskGroup() as group, watching(client, "figures") as watcher:
            await watcher.until("hello")
            for _ in range(3):
                await client.post("/agents/echo", json=HELLO)
            await client.post("/agents/echo", json={})
            asked = group.create_task(client.post("/agents/slow/wait"))
            await slow.began.wait()
            while "slow" not in (figures := (await watcher.until("figures")).data)["agents"]:
                pass
            assert figures["agents"]["slow"] == {
                "depth": 0,
                "in_flight": 1,
                "restarts_per_minute": 0,
                "intake": "open",
                "status": "running",
            }
            slow.go_on.set()
            assert (await asked).status_code == 200
            while "slow" not in (figures := (await watcher.until("figures")).data)["agents"]:
                pass
            assert figures["agents"]["slow"]["in_flight"] == 0
            everything = [told.data for told in watcher.seen if told.name == "figures"]
            calls = [figures["calls"] for figures in everything]
            assert sum(one["admitted"] for one in calls) == 4
            assert sum(one["ok"] for one in calls) == 4
            assert sum(one["rejected"] for one in calls) == 1
            assert any(one["in_flight"] == 1 for one in calls)
            assert any(figures["latency_ms"] and figures["latency_ms"]["p50"] > 0 for figures in everything)
            assert all("idle" not in figures["agents"] for figures in everything)
            assert (everything[-1]["dead_letters"], everything[-1]["streams"]) == (0, 1)
            await client.post("/agents/idle/suspend")
            while "idle" not in (figures := (await watcher.until("figures")).data)["agents"]:
                pass
            assert (figures["agents"]["idle"]["status"], figures["agents"]["idle"]["intake"]) == ("suspended", "suspended")


async def test_a_watcher_that_comes_back_goes_on_where_it_was() -> None:
    async with served(Crashing("crashing")) as gateway:
        client = gateway.client
        async with watching(client, "process") as watcher:
            await watcher.until("hello")
            await client.post("/agents/crashing/once")
            seen = await watcher.until("process.crashed")
        await client.post("/agents/crashing/once")
        async with watching(client, "process", seen.id) as watcher:
            assert (await watcher.next()).name == "hello"
            following = await watcher.next()
            life, _, number = seen.id.rpartition("-")
            assert following.id == f"{life}-{int(number) + 1}"
            await watcher.until("process.crashed", incarnation=2)


@pytest.mark.parametrize("last", ["0123456789ab-7", "{life}-999", "{life}-0"])
async def test_what_cannot_be_told_any_more_is_a_gap(last: str) -> None:
    async with served(Crashing("crashing")) as gateway:
        chronicle = Chronicle("feedfacecafe", size=3)
        assert gateway.gateway.face.newsroom is not None
        gateway.gateway.face.newsroom.chronicle = chronicle
        async with watching(gateway.client, "process") as watcher:
            await watcher.until("hello")
            for _ in range(2):
                await gateway.client.post("/agents/crashing/once")
            await watcher.until("gap")  # more came at a time than is kept
        async with watching(gateway.client, "process", last.format(life="feedfacecafe")) as watcher:
            assert (await watcher.next()).name == "hello"
            gap = await watcher.next()
            assert gap.name == "gap"
            assert gap.data["from"] == (1 if last.endswith("-0") else None)
            assert gap.id == f"feedfacecafe-{gap.data['to']}"
            gateway.gateway.face.newsroom.tell("process", "process.noise", {})
            assert (await watcher.next()).name == "process.noise"


async def test_what_happened_while_nobody_watched_is_a_gap_and_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(newsroom, "LINGER", 0.0)
    async with served(Crashing("crashing")) as gateway:
        room = gateway.gateway.face.newsroom
        assert room is not None
        assert not room.listens
        async with watching(gateway.client) as watcher:
            hello = await watcher.next()
            assert room.listens
        with anyio.fail_after(5):
            while room.listens:  # noqa: ASYNC110  # a timer of the room, that tells nobody
                await asyncio.sleep(0)
        before = room.chronicle.last
        await gateway.client.post("/agents/crashing/once")
        assert room.chronicle.last == before
        async with watching(gateway.client, last=hello.id) as watcher:
            assert (await watcher.next()).name == "hello"
            assert (await watcher.next()).name == "gap"


async def test_a_watcher_that_falls_behind_is_told_of_a_gap_and_goes_on_with_what_is_new() -> None:
    async with served(Echo("echo")) as gateway:
        room = gateway.gateway.face.newsroom
        assert room is not None
        room.chronicle = Chronicle("feedfacecafe", size=100)
        async with watching(gateway.client, "process") as watcher:
            await watcher.until("hello")
            before = room.chronicle.last
            for number in range(101):  # one more than are kept
                room.tell("process", "process.noise", {"number": number})
            gap = await watcher.next()
            assert (gap.name, gap.data) == ("gap", {"from": before + 1, "to": before + 101})
            room.tell("process", "process.noise", {"number": "last"})
            await watcher.until("process.noise", number="last")


async def test_json_lines_are_told_where_they_are_wanted() -> None:
    async with (
        served(Crashing("crashing")) as gateway,
        gateway.client.stream("GET", "/events", headers={"accept": "application/jsonl"}) as response,
    ):
        assert response.headers["content-type"].startswith("application/jsonl")
        lines = response.aiter_lines()
        hello = json.loads(await anext(lines))
        assert (hello["type"], hello["id"].rpartition("-")[0]) == ("hello", hello["data"]["life"])
        await gateway.client.post("/agents/crashing/once")
        while (line := json.loads(await anext(lines)))["type"] != "process.crashed":
            pass
        assert line["data"]["name"] == "crashing"


class Kept(AgentProcess):
    async def handle(self, message: Message) -> Any:
        if message.payload.get("crash"):
            raise RuntimeError("on purpose")
        return message.payload


class Blunt(AgentProcess):
    """One per key: it crashes with its own name in the message."""

    async def handle(self, message: Message) -> Any:
        raise RuntimeError(f"{self.name!r} cannot")


async def test_keys_stand_neither_in_what_is_told_of_a_crash_nor_in_the_tree() -> None:
    async with served(keyed(Blunt, "carts", per_key="owner", backoff_base=0)) as gateway, watching(gateway.client) as watcher:
        await watcher.until("hello")
        await gateway.client.post("/agents/carts/cast", json={"owner": "s3cret"})
        assert "'carts' cannot" in json.dumps((await watcher.until("process.crashed")).data)
        node = (await gateway.client.get("/agents/carts")).json()
        assert node["last_crash"]["message"] == "'carts' cannot"
        assert "'carts' cannot" in node["last_crash"]["traceback"]
        assert "s3cret" not in json.dumps(node)
        assert "s3cret" not in (await gateway.client.get("/agents")).text


async def test_keys_are_never_told_and_pools_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(newsroom, "EVERY", 0.05)
    chats, crew = keyed(Kept, "chats", per_key="session", backoff_base=0), pool(Kept, "crew", size=2)
    async with served(chats, crew) as gateway, watching(gateway.client) as watcher:
        await watcher.until("hello")
        await gateway.client.post("/agents/chats", json={"session": "s3cret"})
        await gateway.client.post("/agents/chats/cast", json={"session": "s3cret", "crash": True})
        crashed = await watcher.until("process.crashed")
        assert (crashed.data["name"], crashed.data["attempt"]) == ("chats", 1)
        while (await watcher.until("figures")).data["agents"].get("chats", {}).get("keys") != 1:
            pass
        await gateway.client.post("/agents/crew/suspend")
        while "crew" not in (await watcher.until("figures")).data["agents"]:
            pass
        assert "s3cret" not in json.dumps([told.data for told in watcher.seen])


async def test_the_drain_ends_the_stream_and_says_where_it_was() -> None:
    async with served(Echo("echo")) as gateway, watching(gateway.client, "process") as watcher:
        hello = await watcher.next()
        gateway.gateway.face.drain()
        assert (await watcher.until("stream.draining")).data["last_event_id"] == hello.id
        assert [told async for told in watcher] == []


async def test_only_admins_watch_and_a_revoked_key_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_stream, "RENEW_EVERY", 0.0)
    monkeypatch.setattr(newsroom, "EVERY", 0.05)
    file, keys = KeyFile(tmp_path / "keys.json"), dict[str, str]()
    with file.editing() as records:
        for name, scopes in (("admin", {"admin"}), ("other", {"read"})):
            keys[name], record = new_key(Principal(name, frozenset(scopes)))
            records.append(record)
    async with served(Echo("echo"), keys_file=str(file.path)) as gateway:
        get = gateway.client.get
        is_problem(await get("/events"), 401, "unauthenticated")
        is_problem(await get("/events", headers={"authorization": f"Bearer {keys['other']}"}), 403, "insufficient-scope")
        async with watching(gateway.client, authorization=f"Bearer {keys['admin']}") as watcher:
            await watcher.until("figures")
            with file.editing() as records:
                records.clear()
            error = await watcher.until("error")
            assert error.data["type"] == "/problems/unauthenticated"
            assert [told async for told in watcher] == []


@pytest.mark.parametrize(
    ("query", "headers", "status", "slug"),
    [
        ("?topics=weather", {}, 422, "contract-violated"),
        ("", {"last-event-id": ""}, 400, "malformed-header"),
        ("", {"last-event-id": "7"}, 400, "malformed-header"),
        ("", {"last-event-id": "x-" + "9" * 30}, 400, "malformed-header"),
        ("", {"accept": "text/html"}, 406, "not-acceptable"),
    ],
)
async def test_what_cannot_be_watched_is_a_problem(query: str, headers: dict[str, str], status: int, slug: str) -> None:
    async with served(Echo("echo")) as gateway:
        is_problem(await gateway.client.get(f"/events{query}", headers=headers), status, slug)


async def test_one_more_than_may_watch_is_refused_and_finds_a_place_when_one_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(newsroom, "MOST", 1)
    async with served(Echo("echo")) as gateway:
        async with watching(gateway.client) as watcher:
            await watcher.next()
            refused = await gateway.client.get("/events")
            is_problem(refused, 503, "too-many-watchers")
            assert refused.headers["retry-after"] == "10"
        room = gateway.gateway.face.newsroom
        assert room is not None
        with anyio.fail_after(5):
            while len(room):  # noqa: ASYNC110  # the server notices that a client has left, and tells nobody
                await asyncio.sleep(0)
        async with watching(gateway.client) as watcher:
            await watcher.next()


async def test_events_are_on_the_wire_soon_after_they_happened_at_a_thousand_a_second() -> None:
    async with served(Echo("echo")) as gateway, watching(gateway.client, "process") as watcher:
        await watcher.until("hello")
        room = gateway.gateway.face.newsroom
        assert room is not None

        async def happen() -> None:
            for number in range(500):
                room.tell("process", "process.noise", {"number": number, "at": time.monotonic()})
                if number % 10 == 9:
                    await asyncio.sleep(0.01)

        async with asyncio.TaskGroup() as group:
            group.create_task(happen())
            late: list[float] = []
            while len(late) < 500:
                told = await watcher.until("process.noise")
                late.append(time.monotonic() - told.data["at"])
        assert sorted(late)[250] < 0.2


def test_quantiles_are_read_from_buckets() -> None:
    buckets = [0] * 18
    assert latency_of(buckets) is None
    buckets[0] = 100
    assert latency_of(buckets) == {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    buckets[17] = 100
    assert latency_of(buckets) == {"p50": 1.0, "p95": 1_800_000, "p99": 1_800_000}


async def test_audit_entries_are_told_to_who_asks_for_them() -> None:
    async with served(Echo("echo")) as gateway, watching(gateway.client, "audit") as watcher:
        await watcher.until("hello")
        await gateway.client.post("/agents/echo/suspend", json={"reason": "a look at it"})
        entry = await watcher.until("audit.entry", action="agent.suspend")
        assert (entry.data["agent"], entry.data["outcome"], entry.data["details"]) == ("echo", "ok", {"reason": "a look at it"})


async def test_processes_that_come_and_go_leave_nothing_behind_with_those_who_watch() -> None:
    async with served(DynamicSupervisor("crowd")) as gateway:
        dispatcher = gateway.gateway.face.dispatcher
        runtime, pulse = dispatcher.runtime, Pulse(dispatcher, None, None, lambda: 0)
        await runtime.spawn("crowd", Echo, "guest")
        await runtime.suspend("guest", "a look at it")
        pulse.touch("guest")
        assert pulse.beat()["agents"]["guest"]["status"] == "suspended"
        await runtime.despawn("crowd", "guest")
        pulse.touch("guest")
        assert pulse.beat()["agents"] == {}
        assert not pulse._told  # pyright: ignore[reportPrivateUsage]  # what is forgotten is not to be seen
        assert not pulse._touched  # pyright: ignore[reportPrivateUsage]


async def test_an_operation_that_comes_anew_is_counted_from_nothing() -> None:
    async with served(Echo("echo")) as gateway:
        meter = CallMeter()
        pulse = Pulse(gateway.gateway.face.dispatcher, meter, None, lambda: 0)
        key, formerly, now = ("guest", "message"), Tally(()), Tally(())
        for tally, calls, seconds in ((formerly, 3, 1000.0), (now, 1, 0.0001)):
            for _ in range(calls):
                tally.plain += 1
                tally.ended(None, seconds)
        meter.tallies[key] = formerly
        pulse.start()
        meter.tallies[key] = now
        beat = pulse.beat()
        assert beat["calls"] == {"admitted": 1, "ok": 1, "failed": 0, "rejected": 0, "in_flight": 0}
        assert beat["latency_ms"] == {"p50": 0.5, "p95": 0.95, "p99": 0.99}
        now.ended(None, 0.0)  # as long as nothing, but a call
        assert pulse.beat()["calls"]["ok"] == 1
        del meter.tallies[key]
        pulse.beat()
        assert key not in pulse._seen  # pyright: ignore[reportPrivateUsage]  # as above


def test_of_long_entries_only_as_many_are_kept_as_there_is_room_for() -> None:
    chronicle = Chronicle("feedfacecafe", room=10_000)
    for _ in range(100):
        chronicle.add("figures", "figures", {"agents": "x" * 1000})
    assert len(chronicle.after(91) or []) == 9
    assert chronicle.after(0) is None
    chronicle.add("figures", "figures", {"agents": "x" * 20_000})
    assert [entry.number for entry in chronicle.after(100) or []] == [101]
    chronicle.break_off()
    chronicle.add("figures", "figures", {"agents": "x" * 1000})
    chronicle.add("figures", "figures", {"agents": "x" * 1000})
    assert len(chronicle.after(102) or []) == 2


class Quoting(AgentProcess):
    """Ends for good with what it was sent in its exception."""

    async def handle(self, message: Message) -> Any:
        raise RuntimeError(f"cannot pay with {message.payload}")


async def test_why_an_agent_ended_for_good_quotes_nobodys_payload() -> None:
    async with served(Quoting("till", restart="temporary")) as gateway:
        await gateway.client.post("/agents/till", json={"card": "4111-1111"})
        later = await gateway.client.post("/agents/till", json={"card": "5500-0000"})
        nodes = await gateway.client.get("/agents/till")

    assert "RuntimeError" in is_problem(later, 503, "agent-failed")["detail"]
    assert "4111" not in later.text
    assert "4111" not in nodes.json().get("reason", "")
