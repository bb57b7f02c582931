"""What callers do is in the audit trail, and `GET /audit` shows it to those who may see it."""

from __future__ import annotations

import json
import socket
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from portico.audit.chain import line as line_of
from portico.audit.sink import MemorySink
from portico.audit.verification import Verification
from portico.auth.api_key import new_key
from portico.auth.key_file import KeyFile
from portico.auth.principal import Principal
from portico.kernel.process import AgentProcess
from portico.kernel.protocols import Context
from portico.operations.decorators import operation
from tests.app.serving import is_problem, served
from tests.routes.agents import Crashing, Echo

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from pathlib import Path

    from portico.runs.audit_entry import SealedEntry
    from tests.app.serving import Served

pytestmark = pytest.mark.anyio


class Asks(AgentProcess):
    @operation
    async def asks(self, ctx: Context) -> Any:
        """Wait for somebody's answer."""
        return await ctx.wait_input("What?", {"type": "string"})

    @operation(scopes=["special"])
    async def special(self) -> str:
        return "special"

    @operation
    async def onward(self) -> Any:
        """Ask somebody else."""
        return (await self.ask("echo", {"text": "hi"}, "echo")).payload


KEYS: dict[str, list[str]] = {"alice": ["*"], "bob": []}
"""Principals, and what each may do."""


def keys(folder: Path) -> tuple[str, dict[str, dict[str, str]]]:
    """A file with a key for each, and the headers that each sends."""
    file = KeyFile(folder / "keys.json")
    headers: dict[str, dict[str, str]] = {}
    with file.editing() as known:
        for name, scopes in KEYS.items():
            secret, key = new_key(Principal(name, frozenset(scopes)))
            known.append(key)
            headers[name] = {"authorization": f"Bearer {secret}"}
    return str(folder / "keys.json"), headers


@asynccontextmanager
async def audited(*, level: str = "actions", **settings: Any) -> AsyncGenerator[tuple[Served, MemorySink]]:
    sink = MemorySink()
    async with served(Echo("echo"), Crashing("crashing"), Asks("asks"), audit=level, audit_sinks=[sink], **settings) as one:
        yield one, sink


async def entries(one: Served, **parameters: Any) -> list[dict[str, Any]]:
    """What `GET /audit` shows, the oldest first; once what was recorded is in the journal."""
    response = await one.client.get("/audit", params={"after": 0, "limit": 1000, **parameters})
    assert response.status_code == 200
    return response.json()["entries"]


async def test_what_is_done_to_runs_agents_and_dead_letters_is_recorded(tmp_path: Path) -> None:
    path, sent = keys(tmp_path)
    async with audited(keys_file=path) as (one, _):
        client, alice, bob = one.client, sent["alice"], sent["bob"]
        asked = (await client.post("/runs", json={"agent": "asks", "operation": "asks"}, headers=bob)).json()["run_id"]
        until = {"wait": 5}
        while (await client.get(f"/runs/{asked}", headers=bob)).json()["status"] != "waiting":  # noqa: ASYNC110  # no event tells
            await anyio.sleep(0.01)
        assert (await client.post(f"/runs/{asked}/input", json="an answer", headers=bob)).status_code == 200
        assert (await client.get(f"/runs/{asked}", params=until, headers=bob)).json()["status"] == "succeeded"
        assert (await client.post(f"/runs/{asked}/cancel", headers=bob)).status_code == 200
        assert (await client.post("/runs/nobodys/cancel", headers=bob)).status_code == 404
        assert (await client.post(f"/runs/{asked}/callback/redeliver", headers=bob)).status_code == 409
        assert (await client.get("/agents/echo/state", headers=alice)).status_code == 200
        assert (await client.get("/agents/echo/state", headers=bob)).status_code == 403
        assert (await client.get("/audit", headers=bob)).status_code == 403
        assert (await client.get("/agents")).status_code == 401
        assert (await client.post("/agents/asks/special", headers=bob)).status_code == 403
        assert (await client.post("/dead-letters/none/redrive", headers=alice)).status_code == 404
        shown = (await client.get("/audit", params={"after": 0}, headers=alice)).json()
    told = [(entry["action"], entry["outcome"], entry.get("principal"), entry.get("agent")) for entry in shown["entries"]]
    assert told == [
        ("gateway.started", "ok", None, None),
        ("run.answer", "ok", "bob", "asks"),
        ("run.cancel", "run-ended", "bob", "asks"),
        ("run.cancel", "run-not-found", "bob", None),
        ("run.redeliver_callback", "not-redeliverable", "bob", "asks"),
        ("agent.state_read", "ok", "alice", "echo"),
        ("agent.state_read", "insufficient-scope", "bob", "echo"),
        ("audit.read", "insufficient-scope", "bob", None),
        ("access.refused", "unauthenticated", None, None),
        ("access.refused", "insufficient-scope", "bob", None),
        ("dead_letter.redrive", "run-not-found", "alice", None),
    ]
    assert shown["next"] is None
    answered = shown["entries"][1]
    assert answered["run_id"] == asked
    assert answered["address"] == "127.0.0.1"
    assert answered["face"] == "http"
    assert answered["request_id"]
    assert shown["entries"][8]["details"] == {"method": "GET", "path": "/agents"}
    assert "an answer" not in json.dumps(shown)


async def test_what_an_operator_does_to_an_agent_is_recorded_with_the_reason_and_that_it_was_done(tmp_path: Path) -> None:
    path, sent = keys(tmp_path)
    actions = ("suspend", "resume", "drain", "resume", "restart")
    async with audited(keys_file=path) as (one, sink):
        for action in actions:
            body = {"reason": f"to {action} it"} if action in ("suspend", "drain") else {}
            response = await one.client.post(f"/agents/echo/{action}", json=body, headers=sent["alice"])
            assert response.status_code == 200, response.text
    told = [sealed.entry for sealed in sink.entries[1:-1]]
    assert [(entry.action, entry.outcome, entry.principal, entry.agent) for entry in told] == [
        (f"agent.{action}", "ok", "alice", "echo") for action in actions
    ]
    assert [entry.details for entry in told] == [{"reason": "to suspend it"}, None, {"reason": "to drain it"}, None, None]


class Unreliable(AgentProcess):
    """Crashes until it is mended."""

    broken = True

    @operation(idempotent=False)
    async def work(self) -> str:
        if self.broken:
            raise RuntimeError("broken")
        return "done"


async def test_a_dead_letter_that_is_sent_again_is_recorded_with_the_run_that_came_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, sent = keys(tmp_path)
    sink = MemorySink()
    async with served(Unreliable("unreliable"), audit_sinks=[sink], keys_file=path) as one:
        post, get, alice = one.client.post, one.client.get, sent["alice"]
        failed = (await post("/runs", json={"agent": "unreliable", "payload": {}}, headers=alice)).json()["run_id"]
        assert (await get(f"/runs/{failed}", params={"wait": 10}, headers=alice)).json()["status"] == "failed"
        (letter,) = (await get("/dead-letters", headers=alice)).json()["dead_letters"]
        monkeypatch.setattr(Unreliable, "broken", False)
        again = await post(f"/dead-letters/{letter['id']}/redrive", headers=alice)
        assert again.status_code == 202, again.text
        run = (await get(f"/runs/{again.json()['run_id']}", params={"wait": 10}, headers=alice)).json()
        assert (run["status"], run["output"]) == ("succeeded", "done")
    (entry,) = (sealed.entry for sealed in sink.entries[1:-1])
    assert (entry.action, entry.outcome, entry.principal, entry.agent) == ("dead_letter.redrive", "ok", "alice", "unreliable")
    assert (entry.details, entry.run_id) == ({"dead_letter": letter["id"]}, run["run_id"])


async def test_of_a_flood_of_refused_requests_the_most_are_counted() -> None:
    async with audited(api_key="right") as (one, sink):
        for _ in range(65):
            assert (await one.client.get("/agents", headers={"x-api-key": "wrong"})).status_code == 401
    told = [(sealed.entry.action, sealed.entry.details) for sealed in sink.entries]
    assert [action for action, _ in told].count("access.refused") == 60
    assert told[-2:] == [("access.refused_more", {"count": 5}), ("gateway.stopped", None)]
    assert sink.entries[-2].entry.address == "127.0.0.1"
    assert "wrong" not in repr(sink.entries)


async def test_nobody_fills_the_trail_with_what_does_nothing_or_hides_in_it_what_others_are_refused(tmp_path: Path) -> None:
    path, sent = keys(tmp_path)
    async with audited(keys_file=path) as (one, sink):
        client, alice, bob = one.client, sent["alice"], sent["bob"]
        asked = (await client.post("/runs", json={"agent": "asks", "operation": "asks"}, headers=bob)).json()["run_id"]
        for _ in range(41):
            assert (await client.post(f"/runs/{asked}/cancel", headers=bob)).status_code == 200
        for _ in range(40):
            assert (await client.post("/runs/nobodys/cancel", headers=bob)).status_code == 404
            assert (await client.get("/agents/echo/state", headers=bob)).status_code == 403
        for _ in range(70):
            assert (await client.get("/agents/echo/state", headers=alice)).status_code == 200
        assert (await client.post("/runs/nobodys/cancel", headers=alice)).status_code == 404
    entries = [sealed.entry for sealed in sink.entries]
    bobs = Counter((entry.action, entry.outcome) for entry in entries if entry.principal == "bob")
    assert bobs == {
        ("run.cancel", "ok"): 1,
        ("run.cancel", "run-ended"): 40,
        ("run.cancel", "run-not-found"): 10,
        ("agent.state_read", "insufficient-scope"): 10,
        ("access.refused_more", "refused"): 1,
    }
    assert entries[-2].details == {"count": 60}
    alices = Counter((entry.action, entry.outcome) for entry in entries if entry.principal == "alice")
    assert alices == {("agent.state_read", "ok"): 70, ("run.cancel", "run-not-found"): 1}


async def test_every_call_is_recorded_with_its_end_from_every_face() -> None:
    async with audited(level="calls", max_calls=1) as (one, sink):
        client = one.client
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        assert (await client.post("/agents/echo", json={"text": "secret"}, headers={"traceparent": trace})).status_code == 200
        assert (await client.post("/agents/echo", json={})).status_code == 422
        assert (await client.post("/agents/crashing/once")).status_code == 502
        key = {"idempotency-key": "k"}
        for _ in range(2):
            assert (await client.post("/agents/echo", json={"text": "a"}, headers=key)).status_code == 200
        async with client.stream("POST", "/agents/echo", json={"text": "a"}, headers={"accept": "text/event-stream"}) as stream:
            assert "run.succeeded" in "".join([text async for text in stream.aiter_text()])
        call: dict[str, Any] = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {"name": "echo", "arguments": {"text": "a"}},
        }
        call["params"]["_meta"] = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": {"name": "a", "version": "1"},
        }
        headers = {
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": "2026-07-28",
            "mcp-method": "tools/call",
        }
        answered = await client.post("/mcp", json=call, headers={**headers, "mcp-name": "echo"})
        assert answered.status_code == 200, answered.text
    calls = [sealed.entry for sealed in sink.entries if sealed.entry.action in ("call", "call.ended")]
    told = [(entry.action, entry.outcome, entry.face, entry.agent, entry.operation) for entry in calls]
    assert told == [
        ("call", "ok", "http", "echo", "echo"),
        ("call", "contract-violated", "http", "echo", "echo"),
        ("call", "agent-crashed", "http", "crashing", "once"),
        ("call", "accepted", "http", "echo", "echo"),
        ("call.ended", "ok", None, "echo", "echo"),
        ("call", "accepted", "http", "echo", "echo"),
        ("call", "accepted", "http", "echo", "echo"),
        ("call", "ok", "mcp", "echo", "echo"),
    ]
    assert calls[0].trace_id == "0af7651916cd43dd8448eb211c80319c"
    assert calls[0].run_id
    assert calls[0].duration_us
    assert calls[1].run_id is None
    assert calls[5].details == {"replayed": True}
    assert calls[3].run_id == calls[4].run_id == calls[5].run_id
    assert "secret" not in repr(sink.entries)


async def test_what_one_agent_asks_another_is_recorded_where_that_is_wanted() -> None:
    async with audited(level="messages") as (one, sink):
        assert (await one.client.post("/agents/asks/onward")).status_code == 200
    told = [(sealed.entry.action, sealed.entry.agent, sealed.entry.details) for sealed in sink.entries][1:3]
    assert told == [("message", "echo", {"sender": "asks", "attempt": 0}), ("call", "asks", None)]
    assert sink.entries[1].entry.run_id == sink.entries[2].entry.run_id
    assert sink.entries[1].entry.request_id == sink.entries[2].entry.request_id


@pytest.mark.parametrize("level", ["off", "actions"])
async def test_less_is_recorded_where_less_is_wanted(level: str) -> None:
    async with audited(level=level) as (one, sink):
        assert (await one.client.post("/agents/asks/onward")).status_code == 200
        assert (await one.client.get("/agents/echo/state")).status_code == 200
    told = [sealed.entry.action for sealed in sink.entries]
    assert told == ([] if level == "off" else ["gateway.started", "agent.state_read", "gateway.stopped"])


async def test_entries_of_32_callers_at_once_make_one_whole_chain() -> None:
    async with audited(level="calls") as (one, sink):
        async with anyio.create_task_group() as group:
            for _ in range(32):
                group.start_soon(_calls, one)
        response = await one.client.get("/audit", params={"after": 0, "limit": 1000}, headers={"accept": "application/jsonl"})
    assert response.headers["content-type"] == "application/jsonl"
    lines = response.content.splitlines(keepends=True)
    assert sum(b'"action":"call"' in line for line in lines) == 32 * 10
    for entries in (lines, [line_of(sealed) for sealed in sink.entries]):
        verification = Verification()
        for line in entries:
            verification.add_line(line)
        assert verification.verdict().fault is None


async def _calls(one: Served) -> None:
    for _ in range(10):
        assert (await one.client.post("/agents/echo", json={"text": "a"})).status_code == 200


async def test_pages_follow_each_other_both_ways_and_bad_parameters_are_refused() -> None:
    async with audited() as (one, _):
        for _ in range(6):
            await one.client.get("/agents/echo/state")
        there = [entry["seq"] for entry in await entries(one)]
        assert there == [1, 2, 3, 4, 5, 6, 7]
        for back in (False, True):
            seen: list[int] = []
            place: dict[str, Any] = {} if back else {"after": 0}
            while True:
                page = (await one.client.get("/audit", params={"limit": 3, "action": "agent.state_read", **place})).json()
                seen += [entry["seq"] for entry in page["entries"]]
                if page["next"] is None:
                    break
                place = {"before" if back else "after": page["next"]}
            assert seen == ([7, 6, 5, 4, 3, 2] if back else [2, 3, 4, 5, 6, 7])
        for bad in (
            {"limit": 0},
            {"after": -1},
            {"after": 2**70},
            {"since": "yesterday"},
            {"until": "0.5"},
            {"since": 1767225600},
            {"before": "x"},
        ):
            is_problem(await one.client.get("/audit", params=bad), 422, "contract-violated")
        assert await entries(one, agent="\x00'; --") == []
        assert await entries(one, until="2020-01-01T00:00:00Z") == []


class Refusing(MemorySink):
    """Takes nothing at first."""

    def __init__(self) -> None:
        super().__init__()
        self.refused = anyio.Event()
        self.taken = anyio.Event()

    async def write(self, entries: Sequence[SealedEntry]) -> None:
        """See `AuditSink.write`."""
        if not self.refused.is_set():
            self.refused.set()
            raise OSError("no space left")
        await super().write(entries)
        self.taken.set()


async def test_each_failure_of_a_sink_is_in_the_figures_and_nothing_is_missing_afterwards() -> None:
    sink = Refusing()
    async with served(Echo("echo"), audit_sinks=[sink]) as one:
        with anyio.fail_after(10):
            await sink.refused.wait()
            assert (await one.client.post("/agents/echo/suspend", json={"reason": "a test"})).status_code == 200
            figures = (await one.client.get("/metrics")).text
            await sink.taken.wait()
    assert 'portico_sink_failures_total{sink="audit"} 1' in figures
    assert [sealed.entry.action for sealed in sink.entries] == ["gateway.started", "agent.suspend", "gateway.stopped"]


async def test_a_syslog_server_that_a_setting_names_gets_every_entry() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(10)
        async with served(Echo("echo"), audit_sinks=(f"udp://127.0.0.1:{server.getsockname()[1]}",)) as one:
            assert (await one.client.post("/agents/echo/suspend", json={"reason": "a test"})).status_code == 200
            recorded = (await one.client.get("/audit", params={"after": 0})).json()["entries"]
        sent = [server.recv(65536) for _ in range(4)]
    assert all(message.startswith(b"<109>1 ") for message in sent)  # log audit, notice
    told = [json.loads(message[message.index(b"{") :]) for message in sent]
    assert [entry["action"] for entry in told] == ["gateway.started", "agent.suspend", "audit.read", "gateway.stopped"]
    assert told[:2] == recorded
    assert told[1]["details"] == {"reason": "a test"}
