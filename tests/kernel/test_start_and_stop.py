"""Start in order, stop in reverse order, both within a bound."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from portico.errors import DuplicateName, LifecycleError, ProcessExited, RuntimeNotStarted, RuntimeStopped, StartError
from portico.kernel.events import EventKind
from portico.kernel.inbox import Inbox
from portico.kernel.incarnation import Incarnation
from portico.kernel.mailbox import Mailbox
from portico.kernel.process import AgentProcess
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.testing import ManualClock, settle
from tests.kernel.helpers import BoomError, Deaf, Echo, Logged, Patient, Witness, agent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio


@pytest.fixture
async def gate() -> AsyncIterator[asyncio.Event]:
    """Opened when the test is over, so that no deaf process outlives it."""
    event = asyncio.Event()
    yield event
    event.set()


class Failing(AgentProcess):
    """Cannot start."""

    async def on_start(self) -> None:
        raise BoomError("no luck")


class SlowToStart(Logged):
    """Starts when the test opens the gate."""

    def __init__(self, name: str, log: list[str], gate: asyncio.Event, **options: Any) -> None:
        super().__init__(name, log, **options)
        self.gate = gate

    async def on_start(self) -> None:
        self.log.append(f"starting {self.name}")
        await self.gate.wait()
        await super().on_start()


def nested(log: list[str]) -> Supervisor:
    inner = Supervisor("inner", [Logged("b", log), Logged("c", log)])
    return Supervisor("root", [Logged("a", log), inner, Logged("d", log)])


async def test_children_start_in_order_and_stop_in_reverse_order_through_the_whole_tree() -> None:
    log: list[str] = []
    with anyio.fail_after(5):
        async with Runtime(nested(log)):
            assert log == ["start a", "start b", "start c", "start d"]
            log.clear()
    assert log == ["stop d", "stop c", "stop b", "stop a"]


async def test_the_next_child_starts_when_the_one_before_it_has_started() -> None:
    log: list[str] = []
    gate = asyncio.Event()
    with anyio.fail_after(5):
        async with asyncio.TaskGroup() as tasks:
            runtime = Runtime(Supervisor("root", [SlowToStart("a", log, gate), Logged("b", log)]))
            starting = tasks.create_task(runtime.start())
            await settle()
            assert log == ["starting a"]
            assert agent(runtime, "a").status == "starting"
            gate.set()
            await starting
            assert log == ["starting a", "start a", "start b"]
        await runtime.stop()


async def test_a_failure_at_first_start_stops_what_was_started_and_names_the_child() -> None:
    log: list[str] = []
    inner = Supervisor("inner", [Logged("b", log), Failing("bad"), Logged("never", log)])
    runtime = Runtime(Supervisor("root", [Logged("a", log), inner]))
    with anyio.fail_after(5):
        with pytest.raises(StartError) as caught:
            await runtime.start()
    assert str(caught.value) == "'bad' did not start: BoomError: no luck"
    assert caught.value.name == "bad"
    assert log == ["start a", "start b", "stop b", "stop a"]
    assert not runtime.started


async def test_a_runtime_that_failed_to_start_can_be_started_again() -> None:
    failures = [BoomError()]

    class OnceFailing(AgentProcess):
        async def on_start(self) -> None:
            if failures:
                raise failures.pop()

    runtime = Runtime(Supervisor("root", [OnceFailing("a"), Echo("echo")]))
    with anyio.fail_after(5):
        with pytest.raises(StartError):
            await runtime.start()
        async with runtime:
            assert (await runtime.ask("echo", 1)).payload == 1


async def test_a_constructor_that_fails_at_a_restart_is_a_start_failure() -> None:
    made: list[str] = []

    class Choosy(Logged):
        def __init__(self, name: str, log: list[str]) -> None:
            super().__init__(name, log)
            made.append(name)
            if len(made) == 2:
                raise BoomError("not again")

    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Choosy("a", [])], backoff_base=0.0)) as runtime:
            await runtime.send("a", "crash")
            assert (await runtime.ask("a", "hello")).payload == "a#2"
    assert len(made) == 3


async def test_a_start_that_takes_longer_than_its_timeout_fails() -> None:
    log: list[str] = []
    clock = ManualClock()
    slow = SlowToStart("slow", log, asyncio.Event(), start_timeout=3.0)
    runtime = Runtime(Supervisor("root", [Logged("a", log), slow]), clock=clock)
    with anyio.fail_after(5):
        async with asyncio.TaskGroup() as tasks:
            starting = tasks.create_task(expect_start_error(runtime))
            await clock.advance(2.9)
            assert not starting.done()
            await clock.advance(0.1)
    assert starting.result() == "'slow' did not start: on_start took longer than start_timeout (3 s)"
    assert log == ["start a", "starting slow", "stop a"]


async def expect_start_error(runtime: Runtime) -> str:
    with pytest.raises(StartError) as caught:
        await runtime.start()
    return str(caught.value)


async def test_a_stop_during_the_start_ends_both() -> None:
    log: list[str] = []
    runtime = Runtime(Supervisor("root", [Logged("a", log), SlowToStart("slow", log, asyncio.Event())]))
    with anyio.fail_after(5):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(expect_start_error(runtime))
            await settle()
            await runtime.stop()
    assert log == ["start a", "starting slow", "stop a"]


async def test_a_start_that_is_cancelled_leaves_nothing_behind() -> None:
    log: list[str] = []
    runtime = Runtime(Supervisor("root", [Logged("a", log), SlowToStart("slow", log, asyncio.Event())]))
    with anyio.fail_after(5):
        async with asyncio.TaskGroup() as tasks:
            starting = tasks.create_task(runtime.start())
            await settle()
            starting.cancel()
    assert log == ["start a", "starting slow", "stop a"]
    assert not runtime.started


async def test_a_stop_that_meets_a_child_just_spawned_does_not_wait_for_it() -> None:
    """The stop arrives in the same turn of the loop in which the first child reports its start."""
    log: list[str] = []

    class Stopper(Logged):
        async def on_start(self) -> None:
            tasks.create_task(runtime.stop())
            await asyncio.sleep(0)

    clock = ManualClock()
    runtime = Runtime(Supervisor("root", [Stopper("a", log), Logged("b", log), Logged("c", log)]), clock=clock)
    with anyio.fail_after(5):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(expect_start_error(runtime))
    assert "shutdown_timeout" not in (runtime.report or "")
    assert [child.status for child in runtime.all_agents()] == ["stopped"] * 3


async def test_a_life_that_is_killed_before_its_first_step_still_tells_its_end() -> None:
    log: list[str] = []
    with anyio.fail_after(5):
        async with Runtime() as runtime:
            inbox = Inbox(runtime.router.clock)
            life = Incarnation(Logged("a", log), Mailbox("a", 1), runtime.router, inbox, 1)
            life.spawn()
            life.kill()
            ended: Any = await inbox.get()
            assert (ended.child, ended.exit.kind) == (life, "shutdown")
    assert log == []


async def test_a_stop_lets_the_message_in_hand_finish_and_answers_those_that_wait() -> None:
    with anyio.fail_after(5):
        runtime = Runtime(Supervisor("root", [Patient("p")]))
        async with asyncio.TaskGroup() as tasks:
            await runtime.start()
            process: Patient = agent(runtime, "p")
            in_hand = tasks.create_task(runtime.ask("p", "in hand"))
            await process.began.wait()
            waiting = tasks.create_task(expect_exited(runtime))
            await settle()
            tasks.create_task(runtime.stop())
            await settle()
            process.gate.set()
        assert in_hand.result().payload == "in hand"
        assert waiting.result() == "Agent 'p' has ended and will not come back: it was stopped"


async def expect_exited(runtime: Runtime) -> str:
    with pytest.raises(ProcessExited) as caught:
        await runtime.ask("p", "waits")
    return str(caught.value)


async def test_a_handler_that_does_not_finish_within_shutdown_timeout_is_cancelled() -> None:
    clock, witness = ManualClock(), Witness()
    runtime = Runtime(Supervisor("root", [Patient("p", shutdown_timeout=3.0)]), clock=clock, observers=[witness])
    with anyio.fail_after(5):
        async with asyncio.TaskGroup() as tasks:
            await runtime.start()
            process: Patient = agent(runtime, "p")
            asked = tasks.create_task(expect_exited(runtime))
            await process.began.wait()
            stopping = tasks.create_task(runtime.stop())
            await clock.advance(2.9)
            assert not process.cancelled.is_set()
            await clock.advance(0.1)
            assert process.cancelled.is_set()
        assert stopping.done()
        assert "it was stopped" in asked.result()
        assert witness.names(EventKind.DEAD_LETTER) == ["p"]


async def test_a_deaf_handler_is_given_up_and_the_stop_ends_within_its_bound(gate: asyncio.Event) -> None:
    began = asyncio.Event()
    clock, witness = ManualClock(), Witness()
    log: list[str] = []
    deaf = Deaf("deaf", began, gate, shutdown_timeout=3.0)
    runtime = Runtime(Supervisor("root", [Logged("a", log), deaf]), clock=clock, observers=[witness])
    with anyio.fail_after(5):
        async with asyncio.TaskGroup() as tasks:
            await runtime.start()
            await runtime.send("deaf", "block")
            await began.wait()
            stopping = tasks.create_task(runtime.stop())
            await clock.advance(3.0)  # asked
            assert "stop a" not in log
            await clock.advance(3.0)  # cancelled
            assert log == ["start a", "stop a"]
            assert agent(runtime, "deaf").status == "failed"
            report = witness.of(EventKind.SUPERVISOR_REPORT)[-1].data["report"]
            assert (report.context, report.reason, report.offender) == (
                "shutdown_error",
                "ignored its cancellation for 3 s",
                "deaf",
            )
            gate.set()
        assert stopping.done()


async def test_the_runtimes_stop_timeout_is_above_all() -> None:
    clock = ManualClock()
    root = Supervisor("root", [Patient("p", shutdown_timeout=1000.0), Patient("q", shutdown_timeout=1000.0)])
    runtime = Runtime(root, clock=clock, stop_timeout=10.0)
    with anyio.fail_after(5):
        async with asyncio.TaskGroup() as tasks:
            await runtime.start()
            for name in ("p", "q"):
                await runtime.send(name, "block")
            await settle()
            stopping = tasks.create_task(runtime.stop())
            await clock.advance(9.9)
            assert not stopping.done()
            await clock.advance(0.1)
        assert [child.status for child in runtime.all_agents()] == ["stopped", "stopped"]


async def test_a_deaf_tree_does_not_hold_the_stop_longer_than_its_timeouts(
    gate: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portico.kernel.runtime.KILL_GRACE", 0.05)
    began = asyncio.Event()
    runtime = Runtime(Supervisor("root", [Deaf("deaf", began, gate, shutdown_timeout=60.0)]), stop_timeout=0.05)
    with anyio.fail_after(10):
        await runtime.start()
        await runtime.send("deaf", "block")
        await began.wait()
        before = time.monotonic()
        await runtime.stop()
        assert time.monotonic() - before < 2.0
        assert runtime.report == "'deaf' did not stop within 0.05 s"
        gate.set()
        await settle()


async def test_on_stop_runs_after_a_crash_before_the_next_life_starts() -> None:
    log: list[str] = []
    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Logged("a", log)], backoff_base=0.0)) as runtime:
            await runtime.send("a", "crash")
            await runtime.ask("a", "hello")
            assert log == ["start a", "stop a", "start a"]


async def test_an_on_stop_that_raises_is_logged_and_forgotten() -> None:
    class Clumsy(Logged):
        async def on_stop(self) -> None:
            await super().on_stop()
            raise BoomError

    log: list[str] = []
    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Logged("a", log), Clumsy("b", log)])):
            pass
    assert log == ["start a", "start b", "stop b", "stop a"]


async def test_an_on_stop_that_takes_too_long_after_a_crash_is_cut_short() -> None:
    class Lingering(Logged):
        async def on_stop(self) -> None:
            await super().on_stop()
            if self.id == "a#1":
                await asyncio.Event().wait()

    log: list[str] = []
    clock = ManualClock()
    root = Supervisor("root", [Lingering("a", log, shutdown_timeout=2.0)], backoff_base=0.0)
    with anyio.fail_after(5):
        async with Runtime(root, clock=clock) as runtime:
            await runtime.send("a", "crash")
            await clock.advance(2.0)
            assert (await runtime.ask("a", "hello")).payload == "a#2"


async def test_an_on_stop_that_ignores_its_cancellation_does_not_keep_the_next_life_from_starting(gate: asyncio.Event) -> None:
    class Stubborn(Logged):
        async def on_stop(self) -> None:
            while self.id == "a#1" and not gate.is_set():
                try:
                    await gate.wait()
                except asyncio.CancelledError:
                    continue

    clock = ManualClock()
    root = Supervisor("root", [Stubborn("a", [], shutdown_timeout=2.0)], backoff_base=0.0)
    with anyio.fail_after(5):
        async with Runtime(root, clock=clock) as runtime:
            await runtime.send("a", "crash")
            await clock.advance(2.0)  # on_stop is cancelled
            await clock.advance(2.0)  # and given up
            assert (await runtime.ask("a", "hello")).payload == "a#2"
            gate.set()


async def test_tasks_of_a_process_end_with_it() -> None:
    ended = asyncio.Event()

    class Worker(AgentProcess):
        async def on_start(self) -> None:
            self.start_task(self.work())

        async def work(self) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Worker("w")])):
            await settle()
            assert not ended.is_set()
    assert ended.is_set()


async def test_a_task_that_a_process_began_just_before_its_end_ends_without_a_complaint() -> None:
    class Worker(AgentProcess):
        async def on_stop(self) -> None:
            self.start_task(asyncio.sleep(0))

    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Worker("w")])):
            pass
    gc.collect()  # warnings are errors


async def test_a_runtime_can_be_stopped_twice_and_started_again() -> None:
    runtime = Runtime(Supervisor("root", [Echo("echo")]))
    with anyio.fail_after(5):
        await runtime.stop()
        async with runtime:
            await runtime.start()
            assert (await runtime.ask("echo", 1)).payload == 1
        async with asyncio.TaskGroup() as tasks:
            await runtime.start()
            tasks.create_task(runtime.stop())
            tasks.create_task(runtime.stop())
        async with runtime:
            assert (await runtime.ask("echo", 2)).payload == 2


async def test_before_the_start_and_after_the_stop_everything_says_that_the_runtime_is_not_started() -> None:
    runtime = Runtime(Supervisor("root", [Echo("echo")]))
    never = "^Runtime not started: use `async with runtime:` or `await runtime.start\\(\\)` first.$"
    stopped = "^Runtime not started: it was stopped. `await runtime.start\\(\\)` starts it again.$"
    with anyio.fail_after(5):
        for kind, sentence in ((RuntimeNotStarted, never), (RuntimeStopped, stopped)):
            with pytest.raises(kind, match=sentence):
                await runtime.ask("echo", 1)
            with pytest.raises(RuntimeNotStarted):
                await runtime.send("echo", 1)
            async with runtime:
                pass
    with pytest.raises(RuntimeNotStarted):
        await Echo("unbound").ask("echo", 1)


async def test_wait_returns_when_the_runtime_stops() -> None:
    runtime = Runtime(Supervisor("root", [Echo("echo")]))
    with pytest.raises(RuntimeNotStarted):
        await runtime.wait()
    with anyio.fail_after(5):
        async with asyncio.TaskGroup() as tasks:
            await runtime.start()
            waiting = tasks.create_task(runtime.wait())
            await settle()
            assert not waiting.done()
            await runtime.stop()
    assert runtime.report is None


async def test_two_processes_of_one_name_are_refused_before_anything_starts() -> None:
    log: list[str] = []
    inner = Supervisor("inner", [Logged("a", log)])
    with pytest.raises(DuplicateName, match="Two processes are named 'a'"):
        await Runtime(Supervisor("root", [Logged("a", log), inner])).start()
    with pytest.raises(DuplicateName, match="Two processes are named 'root'"):
        await Runtime(Supervisor("root", [Logged("root", log)])).start()
    assert log == []


async def test_a_process_that_is_not_there_cannot_be_restarted() -> None:
    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Echo("echo")])) as runtime:
            with pytest.raises(LifecycleError, match="There is no process 'nobody' to restart"):
                await runtime.restart_agent("nobody")


async def test_the_tree_is_printed_exactly(capsys: pytest.CaptureFixture[str]) -> None:
    expected = """\
[sup] root (rest_for_one)
  [agent] a (running)
  [sup] inner (one_for_one)
    [agent] b (running)
  [agent] d (running)"""
    root = Supervisor("root", [Echo("a"), Supervisor("inner", [Echo("b")]), Echo("d")], strategy="REST_FOR_ONE")
    with anyio.fail_after(5):
        async with Runtime(root) as runtime:
            assert runtime.print_tree() == expected
            assert capsys.readouterr().out == expected + "\n"
        runtime.print_tree()
        assert "[agent] b (stopped)" in capsys.readouterr().out


async def test_a_supervision_that_was_told_to_kill_a_child_supervisor_does_not_see_it_restart_its_children() -> None:
    """The root's stop meets an inner supervisor in the same turn in which that has started."""
    log: list[str] = []

    class Stopper(Logged):
        async def on_start(self) -> None:
            await super().on_start()
            tasks.create_task(runtime.stop())
            for _ in range(turns):
                await asyncio.sleep(0)

    for turns in range(12):  # noqa: B007  # the agents read it
        runtime = Runtime(Supervisor("root", [Supervisor("inner", [Stopper("a", log)]), Echo("echo")]), clock=ManualClock())
        with anyio.fail_after(5):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(start_or_not(runtime))
        assert agent(runtime, "a").status == "stopped"


async def start_or_not(runtime: Runtime) -> None:
    try:
        await runtime.start()
    except StartError:
        assert not runtime.started


async def test_an_attached_supervisor_stops_after_the_root_and_cannot_take_a_name() -> None:
    stopped: list[str] = []

    class Told(Echo):
        async def on_stop(self) -> None:
            stopped.append(self.name)

    runtime = Runtime(Supervisor("root", [Told("first")]))
    with pytest.raises(RuntimeNotStarted):
        await runtime.attach(Supervisor("beside", [Told("second")]))
    async with runtime:
        await runtime.attach(Supervisor("beside", [Told("second")]))
        assert [agent.name for agent in runtime.all_agents()] == ["first", "second"]
        with pytest.raises(DuplicateName):
            await runtime.attach(Supervisor("again", [Told("first")]))
    assert stopped == ["first", "second"]
