"""What one life of a server leaves to the next: states, records, suspensions, what it had begun, and what is read of it."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

from portico.runs.store import Retention
from portico.stores.sqlite import SqliteStore
from tests.behaviours.lives import Life, life, until

if TYPE_CHECKING:
    from collections.abc import Mapping


# --- states -----------------------------------------------------------------------------------------------------------


def test_states_and_records_of_every_kind_of_agent_survive_a_kill(tmp_path: Path) -> None:
    with life(tmp_path) as one:
        plain = [one.ask("desk/take", what).json() for what in ("a", "b")]
        by_key = [one.ask("session/take", what).json() for what in ("red", "red", "blue")]
        team = [one.ask("team/take", what).json() for what in ("a", "b", "c", "d")]
        records = one.ask("desk/keep", "paper").json()
        one.kill()
    with life(tmp_path) as other:
        assert (plain, by_key, records) == ([1, 2], [1, 2, 1], ["desk/paper"])
        assert other.ask("desk/look").json() == ["a", "b"]
        assert other.ask("desk/kept").json() == {"desk/paper": {"what": "paper"}}
        assert [other.ask("session/look", what).json() for what in ("red", "blue", "green")] == [["red", "red"], ["blue"], []]
        seen = {tuple(other.ask("team/look").json()) for _ in range(20)}
        assert sorted(what for one_of_them in seen for what in one_of_them) == ["a", "b", "c", "d"], (team, seen)


def test_a_key_has_its_state_whether_its_process_slept_or_was_awake_at_a_kill(tmp_path: Path) -> None:
    with life(tmp_path) as one:
        one.ask("session/take", "asleep")
        until(lambda: "asleep" not in json.dumps(one.http.get("/agents").json()))
        one.ask("session/take", "awake")
        one.kill()
    with life(tmp_path) as other:
        assert other.ask("session/take", "asleep").json() == 2
        assert other.ask("session/take", "awake").json() == 2


def test_a_key_that_suspended_itself_is_suspended_after_a_kill_and_no_other(tmp_path: Path) -> None:
    with life(tmp_path) as one:
        assert one.ask("session/take", "red").json() == 1
        halted = one.ask("session/halt", "red").status_code
        before = one.ask("session/look", "red")
        one.kill()
    with life(tmp_path) as other:
        after = other.ask("session/look", "red", **{"request-timeout": "5"})

        assert (halted, before.status_code, before.json()["type"]) == (204, 409, "/problems/agent-suspended")
        assert (after.status_code, after.json().get("detail")) == (409, before.json()["detail"])
        assert other.ask("session/look", "blue").json() == []


# --- a stop -----------------------------------------------------------------------------------------------------------


def followed(server: Life, run: str, after: int) -> list[tuple[int, str]]:
    return server.events(run, after=after)


def test_a_stop_with_runs_in_every_state_is_quick_and_they_go_on_after_it(tmp_path: Path) -> None:
    with life(tmp_path, env={"PORTICO_DRAIN_TIMEOUT": "1"}) as one, ThreadPoolExecutor() as threads:
        waiting = one.run("till/approve", "question")
        one.events(waiting, until="run.waiting")
        running = one.run("desk/hold", "held")
        queued = one.run("desk/take", "queued")
        delayed = one.run("session/take", "delayed", delay=4.0)
        later = one.run("till/take", "later", delay=3600)
        one.events(running, until="inside")
        streams = {run: threads.submit(followed, one, run, 0) for run in (running, waiting, queued, later)}
        time.sleep(0.5)  # the streams are open: there is no event for that
        begun = time.monotonic()
        one.process.send_signal(signal.SIGTERM)
        _, stderr = one.process.communicate(timeout=20)
        took = time.monotonic() - begun
        before = {run: stream.result(5) for run, stream in streams.items()}

        assert one.process.returncode == 0
        assert took < 12
        assert "Traceback" not in stderr
        assert [events[-1][1] for events in before.values()] == ["stream.draining"] * 4
    (tmp_path / "open" / "held").touch()
    with life(tmp_path) as other:
        assert other.http.post(f"/runs/{waiting}/input", json={"yes": 1}).status_code == 200
        outputs = [other.ended(run)["output"] for run in (running, queued, waiting, delayed)]
        until_later = other.read(later)
        after = {run: followed(other, run, events[-1][0]) for run, events in before.items() if run != later}
        entire = {run: followed(other, run, 0) for run in after}

        assert outputs == ["held is done", 2, {"yes": 1}, 1]
        assert until_later["status"] == "queued"
        for run, events in after.items():
            assert before[run][:-1] + events == entire[run]
            assert [number for number, _ in entire[run]] == list(range(1, len(entire[run]) + 1))
            assert entire[run][-1][1] == "run.succeeded"


# --- what retention has removed ---------------------------------------------------------------------------------------


def pruned(data: Path, retention: Retention, now: float) -> None:
    """What a server does every few minutes."""

    async def prune() -> None:
        store = SqliteStore(data)
        await store.open()
        await store.prune(retention, now)
        await store.close()

    anyio.run(prune)


def test_a_stream_tells_of_the_events_that_retention_removed_and_a_run_that_it_removed_is_not_there(tmp_path: Path) -> None:
    with life(tmp_path) as one:
        old, stripped, live = (
            one.http.post("/runs", json={"agent": "teller", "payload": {"count": 5}}).json()["run_id"] for _ in range(3)
        )
        for run in (old, stripped, live):
            one.ended(run)
        whole = one.events(stripped)
        one.kill()
    with closing(sqlite3.connect(tmp_path / "data" / "portico.db")) as database:
        database.execute("UPDATE runs SET finished = finished - 5000 WHERE run_id = ?", (old,))
        database.execute("UPDATE runs SET finished = finished - 500 WHERE run_id = ?", (stripped,))
        database.commit()
    pruned(tmp_path / "data", Retention(runs_for=4000, payloads_for=400), time.time())
    with life(tmp_path) as other:
        gone = other.http.get(f"/runs/{old}")
        events = other.http.get(f"/runs/{old}/events")
        told = other.events(stripped)
        resumed = other.events(stripped, after=3)
        finished = other.events(stripped, after=7)

        assert (gone.status_code, gone.json()["type"], events.status_code) == (404, "/problems/run-not-found", 404)
        assert [kind for _, kind in whole] == ["run.started", *["number"] * 5, "run.succeeded"]
        assert told == [(1, "run.started"), (1, "gap"), (7, "run.succeeded")]
        assert resumed == [(3, "gap"), (7, "run.succeeded")]
        assert finished == []
        assert len(other.events(live)) == 7


# --- a reader that does not read --------------------------------------------------------------------------------------


def memory(life_: Life) -> int:
    """Bytes that it has in memory."""
    status = Path(f"/proc/{life_.process.pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))


def unread(server: Life, path: str) -> socket.socket:
    """A connection on which something was asked that nobody reads, with little room for it."""
    url = server.http.base_url
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect((url.host, url.port or 80))
    connection.sendall(f"GET {path} HTTP/1.1\r\nhost: {url.host}\r\naccept: text/event-stream\r\n\r\n".encode())
    return connection


def told(server: Life, count: int, run_id: str) -> Mapping[str, object]:
    return server.http.post("/runs", json={"agent": "teller", "payload": {"count": count}, "run_id": run_id}).json()


@pytest.mark.timeout(120)
@pytest.mark.slow
def test_a_reader_that_does_not_read_neither_slows_the_agent_nor_fills_the_memory(tmp_path: Path) -> None:
    with life(tmp_path) as one:
        told(one, 50_000, "alone")
        alone = one.read("alone", wait=60)
        before = memory(one)
        told(one, 1, "warm")
        connections: list[socket.socket] = []
        held = one.http.post("/runs", json={"agent": "teller", "payload": {"count": 50_000}, "run_id": "watched", "delay": 1.0})
        connections += [unread(one, "/runs/watched/events") for _ in range(5)]
        watched = one.read("watched", wait=60)
        after = memory(one)
        entire = one.events("watched")
        for connection in connections:
            connection.close()

    assert held.status_code == 202
    assert (alone["status"], watched["status"]) == ("succeeded", "succeeded")
    assert watched["output"] < 3 * alone["output"] + 1, (alone["output"], watched["output"])
    assert after - before < 100 * 2**20
    assert [number for number, _ in entire] == list(range(1, 50_003))
