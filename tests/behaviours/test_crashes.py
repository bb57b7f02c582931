"""What survives a kill: `portico serve --data` as a process, killed at a chosen moment or at random ones, and started again."""

from __future__ import annotations

import json
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from portico.testing.soak import soak
from tests.cli.programs import environment, refused, serving

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Generator, Mapping
    from pathlib import Path

AGENTS = """
import asyncio
from pathlib import Path

from portico import AgentProcess, Context, operation


class Desk(AgentProcess):
    def note(self, what):
        self.state.setdefault("seen", []).append(what)

    async def stay(self, ctx, what):
        "For ever, where nobody has been here before."
        with Path("begun.txt").open("a") as file:
            print(what, file=file)
        ctx.emit("inside", {"what": what})
        if Path("begun.txt").read_text().split().count(what) == 1:
            await asyncio.Event().wait()

    @operation
    async def hold(self, what: str, ctx: Context) -> str:
        self.note(what)
        await self.stay(ctx, what)
        return f"{what} is done"

    @operation(idempotent=False)
    async def pay(self, what: str, ctx: Context) -> str:
        self.note(what)
        await self.stay(ctx, what)
        return f"{what} is paid"

    @operation
    async def take(self, what: str) -> int:
        self.note(what)
        return len(self.state["seen"])

    @operation
    async def approve(self, what: str, ctx: Context) -> dict:
        price = await ctx.step("price", self.price)
        await ctx.checkpoint({"priced": what})
        answer = await ctx.wait_input(f"{what} for {price}?", {"type": "object", "required": ["yes"]})
        self.note(what)
        return {"price": price, "answer": answer, "state": await ctx.get_state()}

    def price(self):
        with Path("begun.txt").open("a") as file:
            print("price", file=file)
        return 12

    @operation
    async def pass_on(self, what: str, ctx: Context) -> dict:
        self.note(what)
        await ctx.step("price", self.price)
        await self.call("till", {"what": what}, message_type="count")
        ctx.transfer("till", {"what": what}, operation="sell")

    @operation
    async def halt(self, why: str) -> None:
        await self.suspend(why)


class Till(Desk):
    @operation
    async def count(self, what: str) -> int:
        self.note(what)
        return len(self.state["seen"])

    @operation
    async def sell(self, what: str, ctx: Context) -> dict:
        await self.stay(ctx, what)
        return {"price": await ctx.step("price", lambda: 15), "before": len(self.state["seen"])}


class Clerk(AgentProcess):
    @operation
    async def forward(self, what: str, ctx: Context) -> None:
        await self.send("desk", {"what": what}, "take")
        ctx.emit("inside", {"what": what})
        while not Path(what).exists():
            await asyncio.sleep(0.01)

    @operation
    async def serve(self, what: str, ctx: Context) -> int:
        await self.send("desk", {"what": what}, "take")
        number = await self.call("till", {"what": what}, message_type="count")
        ctx.emit("inside", {"what": what})
        with Path("begun.txt").open("a") as file:
            print(what, file=file)
        if Path("begun.txt").read_text().split().count(what) == 1:
            await asyncio.Event().wait()
        return number
"""


class Life:
    """One life of the server."""

    def __init__(self, process: subprocess.Popen[str], http: httpx.Client) -> None:
        self.process = process
        self.http = http

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.process.kill()
        self.process.wait(5)

    def run(self, operation: str, what: str, *, agent: str = "desk", **options: Any) -> str:
        """Start a run. Returns its id."""
        body = {"agent": agent, "operation": operation, "payload": {"what": what}, **options}
        response = self.http.post("/runs", json=body)
        assert response.status_code == 202, response.text
        return response.json()["run_id"]

    def read(self, run: str) -> dict[str, Any]:
        """A run, as it is now."""
        return self.http.get(f"/runs/{run}").json()

    def ended(self, run: str) -> dict[str, Any]:
        """A run, when it has ended."""
        record = self.http.get(f"/runs/{run}?wait=45").json()
        assert record["finished_at"] is not None, record
        return record

    def events(self, run: str, *, until: str | None = None, after: int = 0) -> list[tuple[int, str]]:
        """The numbers and types of a run's events: all, or up to the first of a type."""
        found: list[tuple[int, str]] = []
        number = 0
        with self.http.stream("GET", f"/runs/{run}/events", headers={"last-event-id": str(after)}) as response:
            for line in response.iter_lines():
                if line.startswith("id: "):
                    number = int(line[4:])
                elif line.startswith("event: "):
                    found.append((number, line[7:]))
                    if found[-1][1] == until:
                        break
        return found

    def seen(self, agent: str = "desk") -> list[str]:
        """What an agent has committed."""
        return self.http.get(f"/agents/{agent}/state").json().get("seen", [])

    def dead_letters(self) -> list[dict[str, Any]]:
        """The dead letters."""
        return self.http.get("/dead-letters").json()["dead_letters"]


@contextmanager
def life(folder: Path, env: Mapping[str, str] | None = None) -> Generator[Life]:
    """A server on the data directory of this folder; killed at the end, where it still lives."""
    (folder / "agents.py").write_text(AGENTS)
    agents = [{"type": f"agents.{kind}", "name": kind.lower(), "shutdown_timeout": 0.2} for kind in ("Desk", "Till", "Clerk")]
    (folder / "topology.yaml").write_text(json.dumps({"supervision": {"name": "root", "children": agents}}))
    with (
        serving("topology.yaml", "--data", "data", folder=folder, env=env) as (process, url),
        httpx.Client(base_url=url, timeout=60, trust_env=False) as http,
    ):
        yield Life(process, http)


def until(condition: Callable[[], bool]) -> None:
    """Until that is so: the server has no event for it."""
    while not condition():
        time.sleep(0.01)


def begun(folder: Path) -> list[str]:
    """What was begun, in every life."""
    return (folder / "begun.txt").read_text().split()


def whole(events: list[tuple[int, str]]) -> bool:
    """Whether a stream has every number once, and one terminal event, its last."""
    ends = [kind for _, kind in events if kind in ("run.succeeded", "run.failed", "run.cancelled", "run.timed_out")]
    return [number for number, _ in events] == list(range(1, len(events) + 1)) and ends == [events[-1][1]]


def test_runs_that_wait_in_a_mailbox_at_a_kill_are_handled_after_the_restart_in_their_order(tmp_path: Path) -> None:
    with life(tmp_path) as one:
        held = one.run("hold", "first")
        waiting = [one.run("take", f"number-{number}") for number in range(5)]
        one.events(held, until="inside")
        one.kill()
    with life(tmp_path) as other:
        outputs = [other.ended(run)["output"] for run in [held, *waiting]]

        assert outputs == ["first is done", 2, 3, 4, 5, 6]
        assert other.seen() == ["first", *(f"number-{number}" for number in range(5))]


def test_a_run_that_is_handled_at_a_kill_is_handled_again_and_its_stream_goes_on(tmp_path: Path) -> None:
    with life(tmp_path) as one:
        run = one.run("hold", "it")
        before = one.events(run, until="inside")
        one.kill()
    with life(tmp_path) as other:
        record = other.ended(run)
        after = other.events(run, after=before[-1][0])

        assert (record["status"], record["output"], record["attempts"]) == ("succeeded", "it is done", 2)
        assert begun(tmp_path) == ["it", "it"]
        assert other.seen() == ["it"]
        assert other.events(run) == before + after == [(1, "run.started"), (2, "inside"), (3, "run.succeeded")]


def test_a_run_that_must_not_be_handled_twice_fails_after_a_kill_and_is_a_dead_letter_that_can_be_sent_again(
    tmp_path: Path,
) -> None:
    with life(tmp_path) as one:
        run = one.run("pay", "bill")
        before = one.events(run, until="inside")
        one.kill()
    with life(tmp_path) as other:
        record, letters = other.ended(run), other.dead_letters()
        after = other.events(run, after=before[-1][0])

        assert (record["status"], record["error"]["slug"], record["attempts"]) == ("failed", "interrupted", 1)
        assert "must not be handled twice" in record["error"]["detail"]
        assert [(letter["run_id"], letter["payload"]) for letter in letters] == [(run, {"what": "bill"})]
        assert "must not be handled twice" in letters[0]["reason"]
        assert begun(tmp_path) == ["bill"]
        assert other.seen() == []
        assert [kind for _, kind in before + after] == ["run.started", "inside", "run.failed"]
        assert other.events(run) == before + after
        assert whole(before + after)

        redriven = other.http.post(f"/dead-letters/{run}/redrive")

        assert redriven.status_code == 202
        assert other.ended(redriven.json()["run_id"])["output"] == "bill is paid"
        assert other.seen() == ["bill"]
        assert other.dead_letters() == []


def test_one_that_had_not_begun_is_handled_after_a_kill_though_it_must_not_be_handled_twice(tmp_path: Path) -> None:
    with life(tmp_path) as one:
        held = one.run("hold", "first")
        one.events(held, until="inside")
        with (tmp_path / "begun.txt").open("a") as file:
            file.write("bill\n")  # so that it does not stay
        run = one.run("pay", "bill")
        one.kill()
    with life(tmp_path) as other:
        assert other.ended(held)["status"] == "succeeded"
        assert (other.ended(run)["output"], other.ended(run)["attempts"]) == ("bill is paid", 1)


def test_an_ask_with_a_key_that_was_answered_before_a_kill_has_the_same_answer_after_it(tmp_path: Path) -> None:
    def ask(server: Life, what: str) -> httpx.Response:
        return server.http.post("/agents/desk/take", json={"what": what}, headers={"idempotency-key": "a-key"})

    with life(tmp_path) as one:
        first = ask(one, "it")
        one.kill()
    with life(tmp_path) as other:
        second, another = ask(other, "it"), ask(other, "something else")

        assert (first.status_code, first.json(), first.headers.get("idempotency-replayed")) == (200, 1, None)
        assert (second.status_code, second.json(), second.headers.get("idempotency-replayed")) == (200, 1, "true")
        assert (another.status_code, another.json()["type"]) == (422, "/problems/key-reused")
        assert other.seen() == ["it"]


def test_an_ask_that_is_repeated_has_its_answer_though_its_agent_takes_nothing_new(tmp_path: Path) -> None:
    with life(tmp_path) as one:
        headers = {"idempotency-key": "a-key"}
        first = one.http.post("/agents/desk/take", json={"what": "it"}, headers=headers)
        run = one.run("take", "something else", run_id="chosen")
        one.ended(run)
        one.http.post("/agents/desk/halt", json={"why": "somebody must look"})
        second = one.http.post("/agents/desk/take", json={"what": "it"}, headers=headers)

        assert (first.json(), second.status_code, second.json()) == (1, 200, 1)
        assert second.headers["idempotency-replayed"] == "true"
        assert one.run("take", "something else", run_id="chosen") == "chosen"


def test_an_ask_with_a_key_that_a_kill_cut_off_is_answered_when_it_is_repeated(tmp_path: Path) -> None:
    with life(tmp_path) as one:
        headers = {"idempotency-key": "a-key", "prefer": "respond-async"}
        run = one.http.post("/agents/desk/hold", json={"what": "it"}, headers=headers).json()["run_id"]
        one.events(run, until="inside")
        one.kill()
    with life(tmp_path) as other:
        response = other.http.post("/agents/desk/hold", json={"what": "it"}, headers={"idempotency-key": "a-key"})

        assert (response.status_code, response.json()) == (200, "it is done")
        assert response.headers["idempotency-replayed"] == "true"
        assert other.seen() == ["it"]


def test_a_run_that_waits_for_input_is_answered_after_a_kill_and_its_step_is_not_computed_again(tmp_path: Path) -> None:
    with life(tmp_path) as one:
        run = one.run("approve", "it")
        before = one.events(run, until="run.waiting")
        one.kill()
    with life(tmp_path) as other:
        waits = other.read(run)
        refusal = other.http.post(f"/runs/{run}/input", json={})
        answer = other.http.post(f"/runs/{run}/input", json={"yes": True})
        record = other.ended(run)

        assert (waits["status"], waits["waiting_for"]["prompt"]) == ("waiting", "it for 12?")
        assert (refusal.status_code, answer.status_code) == (422, 200)
        assert record["output"] == {"price": 12, "answer": {"yes": True}, "state": {"priced": "it"}}
        assert begun(tmp_path) == ["price"]
        assert other.seen() == ["it"]
        assert other.events(run)[: len(before)] == before
        assert whole(other.events(run))


def test_what_a_handler_had_asked_and_sent_when_it_was_cut_off_is_done_once(tmp_path: Path) -> None:
    with life(tmp_path) as one:
        run = one.run("serve", "it", agent="clerk")
        one.events(run, until="inside")
        one.kill()
    with life(tmp_path) as other:
        assert other.ended(run)["output"] == 1
        (sent,) = other.http.get(f"/runs?parent={run}").json()["runs"]
        assert other.ended(sent["run_id"])["status"] == "succeeded"
        assert (other.seen("till"), other.seen("desk")) == (["it"], ["it"])
        assert begun(tmp_path) == ["it", "it"]


def test_what_an_agent_sends_after_a_kill_comes_after_what_it_had_sent_before(tmp_path: Path) -> None:
    with life(tmp_path) as one:
        one.events(one.run("hold", "held"), until="inside")  # nothing else is handled there
        first, second = (one.run("forward", what, agent="clerk") for what in ("first", "second"))
        for number in range(20):  # the more there is to take up, the longer that takes
            one.events(one.run("approve", f"number-{number}", agent="till"), until="run.waiting")
        (tmp_path / "first").touch()
        one.ended(first)
        one.events(second, until="inside")
        one.kill()
    (tmp_path / "second").touch()
    with life(tmp_path) as other:
        other.ended(second)
        until(lambda: len(other.seen()) == 3)

        assert other.seen() == ["held", "first", "second"]


def test_an_agent_that_goes_on_with_a_run_takes_its_own_steps_after_a_kill_and_not_those_of_the_one_before(tmp_path: Path) -> None:
    with life(tmp_path) as one:
        run = one.run("pass_on", "it")
        before = one.events(run, until="inside")
        one.kill()
    with life(tmp_path) as other:
        record = other.ended(run)

        assert (record["agent"], record["output"]) == ("till", {"price": 15, "before": 1})
        assert (other.seen("desk"), other.seen("till")) == (["it"], ["it"])
        assert begun(tmp_path) == ["price", "it", "it"]
        assert other.events(run)[: len(before)] == before
        assert whole(other.events(run))


def test_an_agent_that_is_suspended_at_a_kill_is_suspended_after_it(tmp_path: Path) -> None:
    with life(tmp_path) as one:
        assert one.http.post("/agents/desk/halt", json={"why": "somebody must look"}).status_code == 204
        waits = one.http.post("/agents/desk/take/cast", json={"what": "it"}).json()["run_id"]
        one.kill()
    with life(tmp_path) as other:
        refusal = other.http.post("/agents/desk/take", json={"what": "something else"})

        assert other.http.get("/agents/desk").json()["status"] == "suspended"
        assert refusal.status_code == 409
        assert "somebody must look" in refusal.json()["detail"]
        assert other.read(waits)["status"] == "queued"
        assert other.seen() == []


def test_an_agent_that_is_drained_at_a_kill_is_suspended_after_it_until_it_is_resumed(tmp_path: Path) -> None:
    with life(tmp_path) as one:
        run = one.run("hold", "it")
        one.events(run, until="inside")
        assert one.http.post("/agents/desk/drain", json={"reason": "a new version"}).json()["intake"] == "draining"
        one.kill()
    with life(tmp_path) as other:
        shown = other.http.get("/agents/desk").json()
        assert (shown["intake"], shown["reason"]) == ("suspended", "a new version")
        assert other.http.post("/agents/desk/resume").json()["intake"] == "open"
        assert other.ended(run)["output"] == "it is done"


def test_a_run_that_is_to_come_later_comes_after_a_kill_and_not_too_early(tmp_path: Path) -> None:
    with life(tmp_path) as one:
        soon, later = one.run("take", "soon", delay=2.0), one.run("take", "later", delay=3600)
        due = one.read(later)["due_at"]
        one.kill()
    with life(tmp_path) as other:
        record = other.ended(soon)

        assert record["status"] == "succeeded"
        assert record["finished_at"] >= record["due_at"]
        assert (other.read(later)["status"], other.read(later)["due_at"]) == ("queued", due)
        assert other.seen() == ["soon"]


def test_a_second_server_on_the_same_directory_does_not_start_and_the_first_goes_on(tmp_path: Path) -> None:
    with life(tmp_path) as one:
        text = refused("serve", "topology.yaml", "--data", "data", "--port", "0", folder=tmp_path)

        assert f"another program uses it (process {one.process.pid})" in text
        assert one.ended(one.run("take", "it"))["status"] == "succeeded"


def test_what_is_not_done_at_a_stop_is_left_for_the_next_start(tmp_path: Path) -> None:
    with life(tmp_path, {"PORTICO_DRAIN_TIMEOUT": "1"}) as one:
        held = one.run("hold", "first")
        waiting = [one.run("take", f"number-{number}") for number in range(3)]
        one.events(held, until="inside")
        with ThreadPoolExecutor() as threads:
            followed = threads.submit(one.events, held)
            asked = threads.submit(one.http.post, "/agents/desk/take", json={"what": "it"}, headers={"idempotency-key": "a-key"})
            until(lambda: len(one.http.get("/runs?status=queued").json()["runs"]) == 4)
            one.process.send_signal(signal.SIGTERM)
            _, stderr = one.process.communicate(timeout=10)

        assert one.process.returncode == 0
        assert "Traceback" not in stderr
        assert [kind for _, kind in followed.result()] == ["run.started", "inside", "stream.draining"]
        assert (asked.result().status_code, asked.result().json()["type"]) == (503, "/problems/interrupted")
    with life(tmp_path) as other:
        assert [other.ended(run)["output"] for run in [held, *waiting]] == ["first is done", 2, 3, 4]
        again = other.http.post("/agents/desk/take", json={"what": "it"}, headers={"idempotency-key": "a-key"})
        assert (again.json(), again.headers.get("idempotency-replayed")) == (5, "true")
        assert other.seen() == ["first", *(f"number-{number}" for number in range(3)), "it"]
        assert other.dead_letters() == []
        assert other.events(held) == [(1, "run.started"), (2, "inside"), (3, "run.succeeded")]


def test_what_must_not_be_handled_twice_and_was_cut_short_by_a_stop_fails(tmp_path: Path) -> None:
    with life(tmp_path, {"PORTICO_DRAIN_TIMEOUT": "1"}) as one:
        run = one.run("pay", "bill")
        one.events(run, until="inside")
        one.process.send_signal(signal.SIGTERM)
        one.process.communicate(timeout=10)
    with life(tmp_path) as other:
        record = other.ended(run)

        assert (record["status"], record["error"]["slug"]) == ("failed", "interrupted")
        assert [letter["run_id"] for letter in other.dead_letters()] == [run]
        assert begun(tmp_path) == ["bill"]
        assert whole(other.events(run))


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_nothing_is_lost_or_done_twice_however_often_the_server_is_killed_under_load(tmp_path: Path) -> None:
    told: list[str] = []

    wrong = soak(tmp_path, kills=5, seconds=None, clients=4, seed=7, report=told.append, environ=environment())

    assert wrong == [], told
