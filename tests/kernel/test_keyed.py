"""Keyed agents: one process per caller and key, made on first use, asleep when idle, and never one too many."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from portico.errors import (
    AgentCrashed,
    CallError,
    DeadlineExceeded,
    DeadlineUnreachable,
    KeyMissing,
    MailboxFull,
    ProcessExited,
    SettingOutOfRange,
    Suspended,
    TooManyKeys,
    UnknownAgent,
)
from portico.kernel.delivery import Delivery
from portico.kernel.events import EventKind
from portico.kernel.keyed import keyed
from portico.kernel.messages import DEFAULT_TYPE, Message, Origin
from portico.kernel.process import AgentProcess, ErrorAction
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.operations.decorators import operation
from portico.testing import ManualClock, settle
from tests.kernel.helpers import BoomError, Echo, Logged, Witness, agent

if TYPE_CHECKING:
    from portico.kernel.keyed import Keyed

pytestmark = pytest.mark.anyio


class Board:
    """What the test and all processes of a keyed agent share: who lives, who does what, and a gate for each word."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.alive: set[str] = set()
        self.most = 0
        self.inside = 0
        self.most_inside = 0

    def gate(self, name: str) -> asyncio.Event:
        return self.gates.setdefault(name, asyncio.Event())

    def open(self, *names: str) -> None:
        for name in names:
            self.gate(name).set()

    def lines(self, start: str) -> list[str]:
        """The lines of the log that begin so, without that."""
        return [line.removeprefix(start) for line in self.log if line.startswith(start)]


class Chat(AgentProcess):
    """Counts what it was told, in its state. The payload says what else: `wait` at a gate, `boom` so many times, `suspend`."""

    capabilities = ["chat"]  # noqa: RUF012  # a `ClassVar` in the base

    def __init__(self, name: str, board: Board, greeting: str = "hello", **options: Any) -> None:
        super().__init__(name, **options)
        self.board = board
        self.greeting = greeting

    async def on_start(self) -> None:
        await self.begin()
        self.board.alive.add(self.name)
        self.board.most = max(self.board.most, len(self.board.alive))
        self.board.log.append(f"start {self.name}")

    async def begin(self) -> None:
        """For subclasses that start slowly, or not at all."""

    async def on_stop(self) -> None:
        self.board.log.append(f"stop {self.name}")
        self.board.alive.discard(self.name)

    async def handle(self, message: Message) -> Any:
        said: dict[str, Any] = message.payload
        self.board.log.append(f"began {said.get('say', '')}")
        self.board.inside += 1
        self.board.most_inside = max(self.board.most_inside, self.board.inside)
        try:
            if "wait" in said:
                await self.board.gate(said["wait"]).wait()
        finally:
            self.board.inside -= 1
        self.state["n"] = self.state.get("n", 0) + 1
        if message.attempt < said.get("boom", 0):
            raise BoomError
        if "suspend" in said:
            await self.suspend(said["suspend"])
        return {"name": self.name, "n": self.state["n"], "id": self.id, "attempt": message.attempt, "greeting": self.greeting}


def chat(board: Board, kind: type[Chat] = Chat, **options: Any) -> Keyed:
    config = {"board": board, **options.pop("config", {})}
    return keyed(kind, "chat", per_key="session_id", config=config, backoff_base=0.0, **options)


def running(*children: AgentProcess | Supervisor, clock: ManualClock | None = None, **options: Any) -> Runtime:
    return Runtime(Supervisor("root", children, backoff_base=0.0), clock=clock or ManualClock(), **options)


async def say(runtime: Runtime, key: Any, principal: str | None = None, *, timeout: float = 600.0, **said: Any) -> dict[str, Any]:
    """An ask that a caller outside has caused, as the dispatcher makes it."""
    deadline = runtime.router.clock.now() + timeout
    payload = {"session_id": key, **said}
    message = Message(DEFAULT_TYPE, payload, recipient="chat", deadline=deadline, origin=Origin("call-1", principal))
    delivery = Delivery(message, asyncio.get_running_loop().create_future())
    runtime.router.deliver(delivery)
    runtime.router.deadlines.add(delivery)
    assert delivery.future is not None
    return (await delivery.future).payload


async def fails(error: type[CallError], runtime: Runtime, key: Any, principal: str | None = None, **said: Any) -> CallError:
    with pytest.raises(error) as caught:
        await say(runtime, key, principal, **said)
    return caught.value


def living(runtime: Runtime) -> list[str]:
    """The processes that there are, besides the root's other children."""
    return sorted(process.name for process in runtime.all_agents() if process.name.startswith("chat/"))


# --- who gets which process -------------------------------------------------------------------------------------------


async def test_the_first_message_of_a_key_makes_a_process_and_the_next_ones_use_it() -> None:
    board = Board()
    with anyio.fail_after(5):
        async with running(chat(board)) as runtime:
            assert living(runtime) == []
            assert [(await say(runtime, "a"))["n"] for _ in range(3)] == [1, 2, 3]
            assert (await say(runtime, "b"))["n"] == 1
            assert len(living(runtime)) == 2
    assert len(board.lines("start ")) == 2


async def test_one_key_of_two_callers_is_two_processes_with_a_state_each() -> None:
    board = Board()
    with anyio.fail_after(5):
        async with running(chat(board)) as runtime:
            replies = [await say(runtime, "s", who) for who in ("alice", "bob", None, "alice", "bob")]
            assert [reply["n"] for reply in replies] == [1, 1, 1, 2, 2]
            assert len({reply["name"] for reply in replies}) == 3


async def test_a_shared_keyed_agent_has_one_process_per_key_for_all_callers() -> None:
    board = Board()
    with anyio.fail_after(5):
        async with running(chat(board, shared=True)) as runtime:
            replies = [await say(runtime, "s", who) for who in ("alice", "bob", None)]
            assert [reply["n"] for reply in replies] == [1, 2, 3]
            assert len(living(runtime)) == 1


async def test_a_nested_ask_belongs_to_the_caller_outside() -> None:
    class Desk(AgentProcess):
        async def handle(self, message: Message) -> Any:
            return (await self.ask("chat", message.payload)).payload

    async def through_the_desk(runtime: Runtime, who: str) -> int:
        message = Message(DEFAULT_TYPE, {"session_id": "s"}, recipient="desk", origin=Origin("call", who))
        delivery = Delivery(message, asyncio.get_running_loop().create_future())
        runtime.router.deliver(delivery)
        assert delivery.future is not None
        return (await delivery.future).payload["n"]

    board = Board()
    with anyio.fail_after(5):
        async with running(chat(board), Desk("desk")) as runtime:
            assert [await through_the_desk(runtime, who) for who in ("alice", "bob", "alice")] == [1, 1, 2]
            assert (await say(runtime, "s", "bob"))["n"] == 2


HOSTILE = [
    "a",
    "a@b",
    "a%40b",
    "a/b",
    "a%2Fb",
    "a@",
    "@",
    "/",
    "//",
    ".",
    "..",
    "a b",
    "ä",
    "a\u0308",
    "\x00",
    "a\n",
    "%",
    "日本",
    "🙂",
    "A",
]


async def test_no_key_can_be_written_that_is_another_callers_process() -> None:
    board = Board()
    callers = [(key, who) for key in HOSTILE for who in (None, "", "b", "a", "a@b", "/b", "%")]
    with anyio.fail_after(30):
        async with running(chat(board, max_keys=1000)) as runtime:
            first = [await say(runtime, key, who) for key, who in callers]
            assert [reply["n"] for reply in first] == [1] * len(callers)
            assert len({reply["name"] for reply in first}) == len(callers)
            assert [(await say(runtime, key, who))["n"] for key, who in callers] == [2] * len(callers)


async def test_an_integer_may_be_a_key_and_zero_too() -> None:
    board = Board()
    with anyio.fail_after(5):
        async with running(chat(board)) as runtime:
            assert [(await say(runtime, key))["n"] for key in (7, 0, -3, 10**30, 7)] == [1, 1, 1, 1, 2]


NO_KEYS: dict[str, Any] = {
    "null": None,
    "true": True,
    "false": False,
    "fraction": 1.5,
    "list": ["a"],
    "object": {"a": 1},
    "bytes": b"a",
    "empty": "",
    "too long": "x" * 257,
    "too large": 10**300,
    "larger than can be printed": 10**5000,
    "half a character": "\ud800",
}


@pytest.mark.parametrize("what", NO_KEYS)
async def test_what_cannot_be_a_key_is_refused_and_makes_nothing(what: str) -> None:
    board, key = Board(), NO_KEYS[what]
    with anyio.fail_after(5):
        async with running(chat(board)) as runtime:
            error = await fails(KeyMissing, runtime, key)
            assert "'chat'" in str(error)
            assert "'session_id'" in str(error)
            assert error.extra["errors"][0]["path"].removeprefix("/") == "session_id"
            await settle()
            assert (living(runtime), board.log) == ([], [])


@pytest.mark.parametrize("payload", [None, "s", 5, [], ["session_id"], {}, {"Session_id": "s"}, b"session_id"], ids=repr)
async def test_a_payload_that_names_no_key_is_refused(payload: Any) -> None:
    with anyio.fail_after(5):
        async with running(chat(Board())) as runtime:
            with pytest.raises(KeyMissing):
                await runtime.ask("chat", payload)
            with pytest.raises(KeyMissing):
                await runtime.send("chat", payload)


async def test_a_key_of_the_greatest_length_is_taken() -> None:
    with anyio.fail_after(5):
        async with running(chat(Board())) as runtime:
            assert (await say(runtime, "ü" * 256, "alice"))["n"] == 1


async def test_a_key_in_a_subclass_of_str_is_the_same_key() -> None:
    class Text(str):
        __slots__ = ()

    with anyio.fail_after(5):
        async with running(chat(Board())) as runtime:
            assert [(await say(runtime, key))["n"] for key in ("a", Text("a"))] == [1, 2]


async def test_an_unknown_name_never_shows_whose_keys_there_are() -> None:
    with anyio.fail_after(5):
        async with running(chat(Board()), Echo("chatter")) as runtime:
            for who in ("alice", "bob"):
                await say(runtime, "secret", who)
            for guess in ("chat/secret@alic", "chat/secret", "chatt", "chat/"):
                with pytest.raises(UnknownAgent) as caught:
                    await runtime.ask(guess, {"session_id": "x"})
                assert not any("/" in name for name in caught.value.nearest)


async def test_a_broadcast_never_reaches_the_processes_behind_the_name() -> None:
    board = Board()
    with anyio.fail_after(5):
        async with running(chat(board), Echo("echo")) as runtime:
            await say(runtime, "s", "alice", say="before")
            assert await runtime.broadcast("*", {"say": "to all"}) == ["echo"]  # no key, so not even the keyed agent takes it
            assert await runtime.broadcast("*", {"session_id": "s", "say": "to one"}) == ["chat", "echo"]
            await settle()
    assert board.lines("began ") == ["before", "to one"]


async def test_capabilities_belong_to_the_name_and_not_to_the_processes_behind_it() -> None:
    with anyio.fail_after(5):
        async with running(chat(Board())) as runtime:
            assert runtime.router.registry.find_by_capability("chat") == ["chat"]
            await say(runtime, "s", "alice")
            assert runtime.router.registry.find_by_capability("chat") == ["chat"]


async def test_config_reaches_every_process_and_the_name_is_the_class_in_lower_case() -> None:
    one = keyed(Chat, per_key="session_id", config={"board": Board(), "greeting": "good day"})
    with anyio.fail_after(5):
        async with running(one) as runtime:
            assert (await say(runtime, "s"))["greeting"] == "good day"
            assert runtime.print_tree().splitlines()[1] == "  [keyed] chat (one_for_one)"


@pytest.mark.parametrize("option", [{"max_keys": 0}, {"max_keys": -1}, {"idle_timeout": 0.0}, {"idle_timeout": -1.0}])
def test_settings_that_nothing_could_live_with_are_refused(option: dict[str, Any]) -> None:
    with pytest.raises(SettingOutOfRange, match=next(iter(option))):
        chat(Board(), **option)


# --- order, and side by side ------------------------------------------------------------------------------------------


async def test_within_a_key_the_order_is_strict_while_other_keys_run_at_once() -> None:
    board = Board()
    with anyio.fail_after(5):
        async with running(chat(board)) as runtime, asyncio.TaskGroup() as callers:
            for key in "ab":
                for number in range(3):
                    callers.create_task(say(runtime, key, say=f"{key}{number}", wait=f"{key}{number}"))
            await settle()
            assert board.lines("began ") == ["a0", "b0"]
            board.open("b2", "b1", "a1", "a2")
            await settle()
            assert board.lines("began ") == ["a0", "b0"]
            board.open("b0")
            await settle()
            assert board.lines("began ") == ["a0", "b0", "b1", "b2"]
            board.open("a0")
    assert board.lines("began ")[-2:] == ["a1", "a2"]
    assert board.most_inside == 2


async def test_a_slow_start_of_one_key_holds_up_no_other() -> None:
    class Slow(Chat):
        async def begin(self) -> None:
            if "slow" in self.name:
                await self.board.gate("start").wait()

    board = Board()
    with anyio.fail_after(5):
        async with running(chat(board, Slow)) as runtime, asyncio.TaskGroup() as callers:
            slow = callers.create_task(say(runtime, "slow"))
            await settle()
            assert (await say(runtime, "quick"))["n"] == 1
            assert (await say(runtime, "quick", boom=1))["attempt"] == 1  # nor a restart
            assert not slow.done()
            board.open("start")
        assert slow.result()["n"] == 1


async def test_a_full_mailbox_of_one_key_refuses_nobody_elses_messages() -> None:
    board = Board()
    with anyio.fail_after(5):
        async with running(chat(board, config={"mailbox_size": 2})) as runtime, asyncio.TaskGroup() as callers:
            callers.create_task(say(runtime, "a", wait="gate"))
            await settle()
            for _ in range(2):
                callers.create_task(say(runtime, "a"))
            await settle()
            await fails(MailboxFull, runtime, "a")
            assert (await say(runtime, "b"))["n"] == 1
            board.open("gate")


async def test_sends_are_handled_too() -> None:
    board = Board()
    with anyio.fail_after(5):
        async with running(chat(board)) as runtime:
            for number in range(3):
                await runtime.send("chat", {"session_id": "a", "say": str(number)})
            assert (await runtime.ask("chat", {"session_id": "a"})).payload["n"] == 4
    assert board.lines("began ") == ["0", "1", "2", ""]


# --- asleep -----------------------------------------------------------------------------------------------------------


async def test_an_idle_process_goes_to_sleep_and_the_next_message_goes_on_where_it_was() -> None:
    board, clock = Board(), ManualClock()
    with anyio.fail_after(5):
        async with running(chat(board, idle_timeout=60.0), clock=clock) as runtime:
            await say(runtime, "s", "alice")
            await say(runtime, "s", "alice")
            await clock.advance(59.0)
            assert len(living(runtime)) == 1
            await clock.advance(2.0)
            assert living(runtime) == []
            assert board.lines("stop ") == board.lines("start ")
            reply = await say(runtime, "s", "alice")
            assert (reply["n"], reply["attempt"]) == (3, 0)
            assert (await say(runtime, "s", "bob"))["n"] == 1


async def test_a_process_that_is_used_stays_awake_and_only_the_idle_ones_sleep() -> None:
    board, clock = Board(), ManualClock()
    with anyio.fail_after(5):
        async with running(chat(board, idle_timeout=10.0), clock=clock) as runtime:
            await say(runtime, "idle")
            for _ in range(10):
                await say(runtime, "used")
                await clock.advance(4.0)
            assert living(runtime) == ["chat/used"]
            await clock.advance(20.0)
            assert living(runtime) == []


async def test_a_process_at_work_does_not_go_to_sleep() -> None:
    board, clock = Board(), ManualClock()
    with anyio.fail_after(5):
        async with running(chat(board, idle_timeout=10.0), clock=clock) as runtime, asyncio.TaskGroup() as callers:
            asked = callers.create_task(say(runtime, "s", wait="gate"))
            await clock.advance(100.0)
            assert living(runtime) == ["chat/s"]
            board.open("gate")
            await settle()
            assert asked.result()["n"] == 1
            await clock.advance(21.0)
            assert living(runtime) == []


async def test_a_process_that_owes_a_deferred_reply_does_not_go_to_sleep() -> None:
    class Deferring(Chat):
        async def handle(self, message: Message) -> Any:
            if message.payload.get("say") == "later":
                self.start_task(self.answer(message))
                return self.defer()
            return await super().handle(message)

        async def answer(self, message: Message) -> None:
            await self.board.gate("answer").wait()
            self.reply_to(message, {"n": "answered"})

    board, clock = Board(), ManualClock()
    with anyio.fail_after(5):
        async with running(chat(board, Deferring, idle_timeout=10.0, max_keys=1), clock=clock) as runtime:
            async with asyncio.TaskGroup() as callers:
                asked = callers.create_task(say(runtime, "s", say="later"))
                await clock.advance(100.0)
                await fails(TooManyKeys, runtime, "other")
                board.open("answer")
            assert asked.result() == {"n": "answered"}


async def test_a_message_that_arrives_while_its_process_falls_asleep_is_not_lost() -> None:
    class Sleepy(Chat):
        async def on_stop(self) -> None:
            self.board.log.append("falling asleep")
            await self.board.gate("asleep").wait()
            await super().on_stop()

    board, clock = Board(), ManualClock()
    with anyio.fail_after(5):
        async with running(chat(board, Sleepy, idle_timeout=10.0), clock=clock) as runtime, asyncio.TaskGroup() as callers:
            await say(runtime, "s")
            await clock.advance(11.0)
            assert board.lines("falling") == [" asleep"]
            asks = [callers.create_task(say(runtime, "s", say=f"m{number}")) for number in range(3)]
            await settle()
            assert not any(ask.done() for ask in asks)
            board.open("asleep")
        assert [ask.result()["n"] for ask in asks] == [2, 3, 4]
    assert board.lines("began ")[1:] == ["m0", "m1", "m2"]
    assert board.most == 1


async def test_a_message_that_comes_at_the_very_moment_of_falling_asleep_is_not_lost() -> None:
    with anyio.fail_after(20):
        for turns in range(40):  # after so many turns of the event loop
            board, clock = Board(), ManualClock()
            async with running(chat(board, max_keys=1), clock=clock) as runtime, asyncio.TaskGroup() as callers:
                await say(runtime, "a")
                b = callers.create_task(say(runtime, "b"))  # puts `a` to sleep
                for _ in range(turns):
                    await asyncio.sleep(0)
                a = callers.create_task(ends(say(runtime, "a")))
                await clock.advance(5.0)
                assert b.result()["n"] == 1, turns
                assert isinstance(a.result(), TooManyKeys) or a.result()["n"] == 2, turns
                assert board.most == 1


async def test_a_sleeper_that_takes_too_long_to_end_is_cut_short_and_its_key_lives_on() -> None:
    class Insomniac(Chat):
        async def on_stop(self) -> None:
            await self.board.gate("tired").wait()

    board, clock = Board(), ManualClock()
    with anyio.fail_after(5):
        async with running(chat(board, Insomniac, idle_timeout=10.0), clock=clock) as runtime, asyncio.TaskGroup() as callers:
            await say(runtime, "s")
            await clock.advance(11.0)
            asked = callers.create_task(say(runtime, "s"))
            await clock.advance(6.0)
            assert asked.done()
            assert asked.result()["n"] == 2
            board.open("tired")


async def test_a_suspension_of_one_key_survives_its_sleep() -> None:
    board, clock = Board(), ManualClock()
    with anyio.fail_after(5):
        async with running(chat(board, idle_timeout=10.0), clock=clock) as runtime:
            await say(runtime, "s", suspend="waits for an approval")
            await fails(Suspended, runtime, "s")
            await clock.advance(100.0)
            await fails(Suspended, runtime, "s")


async def test_a_process_that_ends_itself_is_woken_by_the_next_message() -> None:
    class Ending(Chat):
        async def on_error(self, error: Exception, message: Message) -> ErrorAction:
            return ErrorAction.STOP

    board = Board()
    with anyio.fail_after(5):
        async with running(chat(board, Ending)) as runtime, asyncio.TaskGroup() as callers:
            await say(runtime, "s")
            ending = callers.create_task(fails(AgentCrashed, runtime, "s", boom=9))
            waiting = callers.create_task(say(runtime, "s"))
        assert ending.result().extra["attempts"] == 1
        assert waiting.result()["n"] == 2


# --- room -------------------------------------------------------------------------------------------------------------


async def test_the_longest_unused_process_makes_room_and_loses_nothing() -> None:
    board, clock = Board(), ManualClock()
    with anyio.fail_after(5):
        async with running(chat(board, max_keys=3), clock=clock) as runtime:
            for key in "abcab":
                await say(runtime, key)
                await clock.advance(1.0)
            await say(runtime, "d")
            assert living(runtime) == ["chat/a", "chat/b", "chat/d"]
            assert [(await say(runtime, key))["n"] for key in "cab"] == [2, 3, 3]
    assert board.most == 3


async def test_where_all_are_at_work_one_more_key_is_refused_and_those_that_are_there_are_not() -> None:
    board = Board()
    with anyio.fail_after(5):
        async with running(chat(board, max_keys=2)) as runtime, asyncio.TaskGroup() as callers:
            for key in "ab":
                callers.create_task(say(runtime, key, wait="gate"))
            await settle()
            error = await fails(TooManyKeys, runtime, "c")
            assert "2 keys" in str(error)
            more = callers.create_task(say(runtime, "a"))
            await settle()
            board.open("gate")
            await settle()
            assert more.result()["n"] == 2
            assert (await say(runtime, "c"))["n"] == 1
            assert len(living(runtime)) <= 2


async def test_an_idle_process_makes_room_though_many_that_were_used_earlier_are_still_at_work() -> None:
    board = Board()
    with anyio.fail_after(10):
        async with running(chat(board, max_keys=80)) as runtime, asyncio.TaskGroup() as callers:
            for number in range(75):
                callers.create_task(say(runtime, f"busy{number}", wait="gate"))
            await settle()
            for number in range(5):
                await say(runtime, f"idle{number}")
            try:
                assert (await say(runtime, "new"))["n"] == 1
            finally:
                board.open("gate")


async def test_never_more_processes_than_max_keys_live_at_once_though_they_end_slowly() -> None:
    class Sluggish(Chat):
        async def on_stop(self) -> None:
            if not self.board.gate("tired").is_set():
                await self.sleep(1.0)
            await super().on_stop()

    board, clock = Board(), ManualClock()
    asks: list[asyncio.Task[Any]] = []
    with anyio.fail_after(20):
        async with running(chat(board, Sluggish, max_keys=3), clock=clock) as runtime, asyncio.TaskGroup() as callers:
            for _ in range(10):
                asks += [callers.create_task(ends(say(runtime, key))) for key in "abc"]
                await clock.advance(5.0)
                asks += [callers.create_task(ends(say(runtime, key))) for key in "def"]
                await clock.advance(5.0)
            board.open("tired")
        assert all(isinstance(ask.result(), TooManyKeys) or ask.result()["n"] for ask in asks)
    assert board.most <= 3


async def test_one_whose_start_fails_gives_its_room_back() -> None:
    class Choosy(Chat):
        async def begin(self) -> None:
            if "bad" in self.name:
                raise BoomError

    board = Board()
    with anyio.fail_after(5):
        async with running(chat(board, Choosy, max_keys=1)) as runtime:
            for _ in range(3):
                await fails(AgentCrashed, runtime, "bad")
                assert (await say(runtime, "good"))["n"] >= 1


async def test_a_caller_who_left_before_the_start_leaves_no_process_that_blocks_room_for_good() -> None:
    board = Board()
    with anyio.fail_after(5):
        async with running(chat(board, max_keys=1)) as runtime, asyncio.TaskGroup() as callers:
            left = callers.create_task(runtime.ask("chat", {"session_id": "a"}))
            await asyncio.sleep(0)
            left.cancel()
            await settle()
            assert (await say(runtime, "b"))["n"] == 1
            assert left.cancelled()


# --- starts that fail -------------------------------------------------------------------------------------------------


class Moody(Chat):
    """Starts, or is made, only where the board says so."""

    def __init__(self, name: str, board: Board, **options: Any) -> None:
        super().__init__(name, board, **options)
        if "unmade" in name and not board.gate("well").is_set():
            raise BoomError("constructor")

    async def begin(self) -> None:
        if "unborn" in self.name and not self.board.gate("well").is_set():
            raise BoomError("on_start")
        if "slow" in self.name and not self.board.gate("well").is_set():
            await asyncio.Event().wait()


@pytest.mark.parametrize("key", ["unmade", "unborn"])
async def test_a_start_that_fails_fails_the_callers_of_this_key_alone_and_the_next_message_tries_again(key: str) -> None:
    board, witness = Board(), Witness()
    with anyio.fail_after(5):
        async with running(chat(board, Moody, max_restarts=0), observers=[witness]) as runtime, asyncio.TaskGroup() as callers:
            good = callers.create_task(say(runtime, "good", wait="gate"))
            for _ in range(5):
                tasks = [callers.create_task(fails(AgentCrashed, runtime, key)) for _ in range(3)]
                await settle()
                assert all(task.done() for task in tasks)
            assert "chat" not in witness.names(EventKind.PROCESS_RESTARTED)
            board.open("well", "gate")
            assert (await say(runtime, key))["n"] == 1
        assert good.result()["id"] == "chat/good#1"
        assert runtime.report is None


async def test_a_start_that_takes_too_long_fails_its_callers() -> None:
    board, clock = Board(), ManualClock()
    with anyio.fail_after(5):
        async with running(chat(board, Moody, config={"start_timeout": 3.0}), clock=clock) as runtime:
            async with asyncio.TaskGroup() as callers:
                asked = callers.create_task(fails(AgentCrashed, runtime, "slow"))
                await clock.advance(2.9)
                assert not asked.done()
                await clock.advance(0.2)
                assert asked.done()
            assert living(runtime) == []
            board.open("well")
            assert (await say(runtime, "slow"))["n"] == 1


async def test_a_restart_that_fails_answers_its_callers_and_counts_to_no_window() -> None:
    class Once(Chat):
        async def begin(self) -> None:
            if self.board.lines(f"start {self.name}") and not self.board.gate("well").is_set():
                raise BoomError("not again")

    board, clock = Board(), ManualClock()
    with anyio.fail_after(5):
        async with running(chat(board, Once, max_restarts=1), clock=clock) as runtime, asyncio.TaskGroup() as callers:
            good = callers.create_task(say(runtime, "good", wait="gate"))
            for _ in range(4):
                await fails(AgentCrashed, runtime, "bad", boom=1)
                await clock.advance(1.0)
            board.open("well", "gate")
            assert (await say(runtime, "bad"))["n"] == 1
        assert good.result()["id"] == "chat/good#1"


async def test_a_deadline_ends_a_call_that_waits_for_a_start() -> None:
    board, clock = Board(), ManualClock()
    with anyio.fail_after(5):
        async with running(chat(board, Moody), clock=clock) as runtime, asyncio.TaskGroup() as callers:
            asked = callers.create_task(fails(DeadlineExceeded, runtime, "slow", timeout=2.0))
            await clock.advance(2.1)
            assert asked.done()


# --- crashes ----------------------------------------------------------------------------------------------------------


async def test_a_crash_restarts_its_own_key_with_redelivery_and_touches_no_other() -> None:
    board, witness = Board(), Witness()
    with anyio.fail_after(5):
        async with running(chat(board), observers=[witness]) as runtime, asyncio.TaskGroup() as callers:
            await say(runtime, "a")
            other = callers.create_task(say(runtime, "b", wait="gate"))
            crashed = callers.create_task(say(runtime, "a", boom=2))
            waiting = callers.create_task(say(runtime, "a"))
            await settle()
            board.open("gate")
        assert crashed.result() == {"name": "chat/a", "n": 2, "id": "chat/a#3", "attempt": 2, "greeting": "hello"}
        assert (waiting.result()["n"], waiting.result()["attempt"]) == (3, 0)
        assert other.result()["id"] == "chat/b#1"
        assert witness.names(EventKind.PROCESS_CRASHED) == ["chat/a", "chat/a"]


async def test_attempts_are_bounded_and_the_key_lives_on() -> None:
    board = Board()
    with anyio.fail_after(5):
        async with running(chat(board, max_restarts=2)) as runtime:
            for _ in range(4):
                assert (await fails(AgentCrashed, runtime, "a", boom=99)).extra["attempts"] == 3
            assert (await say(runtime, "a"))["n"] == 1
            assert runtime.report is None


async def test_messages_that_come_during_the_backoff_wait_for_it() -> None:
    board, clock = Board(), ManualClock()
    slow = keyed(Chat, "chat", per_key="session_id", config={"board": board}, backoff_base=10.0, max_keys=1)
    with anyio.fail_after(5):
        async with running(slow, clock=clock) as runtime, asyncio.TaskGroup() as callers:
            crashed = callers.create_task(say(runtime, "a", boom=1))
            await settle()
            waiting = callers.create_task(say(runtime, "a"))
            await fails(TooManyKeys, runtime, "b")  # it has no room for another while somebody waits for it
            await clock.advance(9.0)
            assert not crashed.done()
            await clock.advance(2.0)
        assert (crashed.result()["attempt"], waiting.result()["n"]) == (1, 2)


async def test_a_keyed_agent_that_gives_up_answers_everybody_and_is_started_again_by_the_one_above() -> None:
    board, clock = Board(), ManualClock()
    with anyio.fail_after(5):
        async with running(chat(board, max_restarts=0), clock=clock) as runtime:
            async with asyncio.TaskGroup() as callers:
                callers.create_task(ends(say(runtime, "b", wait="never")))
                callers.create_task(ends(say(runtime, "b")))
                await settle()
                await runtime.send("chat", {"session_id": "a", "boom": 1})  # no origin: it counts
                await clock.advance(1.0)
                board.open("never")
            assert (await say(runtime, "a"))["n"] == 1
            assert runtime.alive


async def ends(call: Any) -> Any:
    """How it ended: with a reply, or with a reason."""
    try:
        return await call
    except CallError as error:
        return error


async def test_a_keyed_agent_that_gives_up_for_good_answers_everybody() -> None:
    board, clock = Board(), ManualClock()
    root = Supervisor("root", [chat(board, max_restarts=0, max_keys=2)], max_restarts=0, backoff_base=0.0)
    with anyio.fail_after(5):
        async with Runtime(root, clock=clock) as runtime, asyncio.TaskGroup() as callers:
            asks = [callers.create_task(ends(say(runtime, key, wait="never"))) for key in "ab"]
            await settle()
            await runtime.send("chat", {"session_id": "a", "boom": 1})
            board.open("never")
            await clock.advance(6.0)
            assert all(ask.done() for ask in asks)
            await fails(ProcessExited, runtime, "a")
            await fails(ProcessExited, runtime, "c")


async def test_what_is_in_hand_survives_when_a_sibling_takes_the_keyed_agent_down() -> None:
    board, clock = Board(), ManualClock()
    children = [chat(board, config={"shutdown_timeout": 1.0}), Logged("sibling", [])]
    root = Supervisor("root", children, strategy="one_for_all", backoff_base=0.0)
    with anyio.fail_after(5):
        async with Runtime(root, clock=clock) as runtime, asyncio.TaskGroup() as callers:
            asks = [callers.create_task(ends(say(runtime, "a", wait="gate"))) for _ in range(2)]
            await settle()
            await runtime.send("sibling", "crash")
            await clock.advance(5.0)
            board.open("gate")
            await clock.advance(1.0)
        assert [ask.result()["attempt"] for ask in asks] == [0, 0]


async def test_a_restart_of_the_keyed_agent_loses_nothing_that_waits() -> None:
    board, clock = Board(), ManualClock()
    with anyio.fail_after(5):
        async with running(chat(board), clock=clock) as runtime, asyncio.TaskGroup() as callers:
            in_hand = callers.create_task(ends(say(runtime, "a", wait="gate")))
            waiting = callers.create_task(ends(say(runtime, "a")))
            await settle()
            restarting = callers.create_task(runtime.restart_agent("chat"))
            await settle()
            board.open("gate")
            await clock.advance(6.0)
            await restarting
        assert [task.result()["n"] for task in (in_hand, waiting)] == [1, 2]


async def test_what_must_not_run_twice_does_not() -> None:
    class Paying(Chat):
        @operation(idempotent=False)
        async def pay(self, session_id: str) -> str:
            self.board.log.append(f"paid {session_id}")
            raise BoomError

    board = Board()
    with anyio.fail_after(5):
        async with running(chat(board, Paying)) as runtime:
            with pytest.raises(AgentCrashed, match="crashed once"):
                await runtime.ask("chat", {"session_id": "a"}, message_type="pay")
    assert board.lines("paid ") == ["a"]


# --- deadlines, suspension, stop --------------------------------------------------------------------------------------


async def test_a_deadline_cancels_the_handling_of_its_key_alone() -> None:
    board, clock = Board(), ManualClock()
    with anyio.fail_after(5):
        async with running(chat(board), clock=clock) as runtime, asyncio.TaskGroup() as callers:
            late = callers.create_task(fails(DeadlineExceeded, runtime, "a", wait="gate", timeout=1.0))
            calm = callers.create_task(say(runtime, "b", wait="gate"))
            await clock.advance(2.0)
            assert late.done()
            assert (await say(runtime, "a"))["n"] == 1
            board.open("gate")
        assert calm.result()["n"] == 1


async def test_a_hopeless_deadline_is_refused_at_once_for_a_slow_key_and_for_no_other() -> None:
    board, clock = Board(), ManualClock()
    with anyio.fail_after(5):
        async with running(chat(board), clock=clock) as runtime, asyncio.TaskGroup() as callers:
            for number in range(5):
                callers.create_task(say(runtime, "slow", wait=f"gate{number}"))
            for number in range(2):  # two handlings of ten seconds each
                await clock.advance(10.0)
                board.open(f"gate{number}")
                await settle()
            await fails(DeadlineUnreachable, runtime, "slow", timeout=1.0)
            assert (await say(runtime, "quick", timeout=1.0))["n"] == 1
            board.open(*(f"gate{number}" for number in range(5)))


async def test_the_whole_is_suspended_and_resumed_with_all_its_keys() -> None:
    board, clock = Board(), ManualClock()
    with anyio.fail_after(5):
        async with running(chat(board), clock=clock) as runtime, asyncio.TaskGroup() as callers:
            await say(runtime, "a")
            in_hand = callers.create_task(say(runtime, "b", wait="gate"))
            await settle()
            await runtime.suspend("chat", "maintenance")
            for key in ("a", "b", "new"):
                assert "maintenance" in str(await fails(Suspended, runtime, key))
            for key in ("a", "new"):
                await runtime.send("chat", {"session_id": key, "say": f"sent {key}"})
            board.open("gate")
            await clock.advance(1.0)
            assert in_hand.result()["n"] == 1
            assert not board.lines("began sent")
            await runtime.resume("chat")
            await clock.advance(1.0)
            assert sorted(board.lines("began sent ")) == ["a", "new"]
            assert (await say(runtime, "a"))["n"] == 3


async def test_a_suspended_key_that_crashes_stays_suspended() -> None:
    class Failing(Chat):
        async def on_suspend(self, reason: str) -> None:
            if self.id.endswith("#1"):
                raise BoomError

    board, clock = Board(), ManualClock()
    with anyio.fail_after(5):
        async with running(chat(board, Failing), clock=clock) as runtime:
            await say(runtime, "a")
            await runtime.suspend("chat")
            await clock.advance(1.0)
            assert agent(runtime, "chat/a").status == "suspended"
            assert agent(runtime, "chat/a").id == "chat/a#2"
            await runtime.resume("chat")
            assert (await say(runtime, "a"))["n"] == 2


async def test_a_stop_ends_all_keys_side_by_side_and_answers_everything() -> None:
    board, clock = Board(), ManualClock()
    with anyio.fail_after(10):
        runtime = running(chat(board, config={"shutdown_timeout": 2.0}), clock=clock)
        async with asyncio.TaskGroup() as callers:
            await runtime.start()
            stuck = [callers.create_task(fails(ProcessExited, runtime, f"s{number}", wait="never")) for number in range(50)]
            waiting = [callers.create_task(fails(ProcessExited, runtime, f"s{number}")) for number in range(50)]
            quick = callers.create_task(say(runtime, "quick", wait="gate"))
            await settle()
            stopping = callers.create_task(runtime.stop())
            await clock.advance(1.0)
            board.open("gate")
            await settle()
            assert quick.result()["n"] == 1
            await clock.advance(1.1)
            await stopping
            assert all(task.done() for task in (*stuck, *waiting))
        assert board.alive == set()


async def test_a_stop_answers_those_too_who_wait_for_room_or_for_a_start() -> None:
    class Sluggish(Moody):
        async def on_stop(self) -> None:
            await self.sleep(4.0)
            await super().on_stop()

    board, clock = Board(), ManualClock()
    with anyio.fail_after(10):
        runtime = running(chat(board, Sluggish, max_keys=2), clock=clock)
        async with asyncio.TaskGroup() as callers:
            await runtime.start()
            await say(runtime, "a")
            starting = callers.create_task(ends(say(runtime, "slow")))
            await settle()
            for_room = callers.create_task(ends(say(runtime, "b")))
            await settle()
            assert not for_room.done()
            stopping = callers.create_task(runtime.stop())
            await clock.advance(30.0)
            await stopping
            assert isinstance(starting.result(), CallError)
            assert isinstance(for_room.result(), CallError)


async def test_the_state_outlives_a_stop_and_a_start_of_the_runtime() -> None:
    board = Board()
    with anyio.fail_after(5):
        runtime = running(chat(board))
        async with runtime:
            await say(runtime, "a", "alice")
        async with runtime:
            assert living(runtime) == []
            assert (await say(runtime, "a", "alice"))["n"] == 2


# --- replacement ------------------------------------------------------------------------------------------------------


class Newer(Chat):
    """The next version."""

    async def handle(self, message: Message) -> Any:
        return {**await super().handle(message), "version": 2}


async def test_a_replacement_takes_over_each_key_after_the_message_in_hand_and_drops_none() -> None:
    board, clock = Board(), ManualClock()
    with anyio.fail_after(5):
        async with running(chat(board), clock=clock) as runtime, asyncio.TaskGroup() as callers:
            await say(runtime, "idle")
            in_hand = callers.create_task(say(runtime, "busy", wait="gate"))
            waiting = callers.create_task(say(runtime, "busy"))
            await settle()
            await runtime.replace("chat", Newer)
            await settle()
            board.open("gate")
            await clock.advance(1.0)
            assert ("version" in in_hand.result(), waiting.result()["version"]) == (False, 2)
            assert waiting.result()["n"] == 2
            assert [(await say(runtime, key))["version"] for key in ("idle", "new")] == [2, 2]
            await runtime.restart_agent("chat")
            assert (await say(runtime, "idle"))["version"] == 2


async def test_a_replacement_drops_no_call_that_waits_for_a_restart() -> None:
    board, clock = Board(), ManualClock()
    slow = keyed(Chat, "chat", per_key="session_id", config={"board": board}, backoff_base=10.0)
    with anyio.fail_after(5):
        async with running(slow, clock=clock) as runtime, asyncio.TaskGroup() as callers:
            crashed = callers.create_task(ends(say(runtime, "a", boom=1)))
            await settle()
            await runtime.replace("chat", Newer)
            await clock.advance(11.0)
            assert crashed.done()
        assert crashed.result()["version"] == 2


async def test_a_replacement_reaches_a_key_that_was_just_starting() -> None:
    class Slow(Chat):
        async def begin(self) -> None:
            await self.board.gate("start").wait()

    board, clock = Board(), ManualClock()
    with anyio.fail_after(5):
        async with running(chat(board, Slow), clock=clock) as runtime, asyncio.TaskGroup() as callers:
            first = callers.create_task(say(runtime, "a"))
            await settle()
            await runtime.replace("chat", Newer)
            board.open("start")
            await clock.advance(1.0)
            assert first.done()
            assert (await say(runtime, "a"))["version"] == 2


async def test_a_replacement_that_meets_a_crash_or_a_handling_that_takes_too_long_hands_the_message_on() -> None:
    board, clock = Board(), ManualClock()
    with anyio.fail_after(5):
        async with running(chat(board), clock=clock) as runtime, asyncio.TaskGroup() as callers:
            crashing = callers.create_task(say(runtime, "a", wait="gate", boom=1))
            stuck = callers.create_task(say(runtime, "b", wait="stuck"))
            await settle()
            await runtime.replace("chat", Newer, timeout=3.0)
            board.open("gate")
            await clock.advance(3.1)
            board.open("stuck")
            await clock.advance(1.0)
        assert (crashing.result()["attempt"], crashing.result()["version"]) == (1, 2)
        assert (stuck.result()["attempt"], stuck.result()["version"]) == (0, 2)


async def test_a_class_that_cannot_be_made_replaces_nothing() -> None:
    class Unmakeable(Chat):
        def __init__(self, name: str, board: Board, *, needed: str) -> None:
            super().__init__(name, board)

    with anyio.fail_after(5):
        async with running(chat(Board())) as runtime:
            await say(runtime, "a")
            with pytest.raises(Exception, match="needed"):
                await runtime.replace("chat", Unmakeable)
            assert (await say(runtime, "a"))["n"] == 2
            assert (await say(runtime, "b"))["n"] == 1


# --- many -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_a_thousand_keys_under_random_load_lose_nothing(seed: int) -> None:
    class Hasty(Chat):
        async def handle(self, message: Message) -> Any:
            for _ in range(message.payload["turns"]):
                await asyncio.sleep(0)
            return await super().handle(message)

    chance, board, clock = random.Random(seed), Board(), ManualClock()
    expected: dict[tuple[str, str | None], int] = {}
    refused: list[CallError] = []
    wrong: list[Any] = []

    async def one(runtime: Runtime, key: str, who: str | None) -> None:
        try:
            reply = await say(runtime, key, who, boom=chance.choice([0] * 9 + [1]), turns=chance.randrange(4))
        except TooManyKeys as error:
            refused.append(error)
            return
        expected[key, who] = expected.get((key, who), 0) + 1
        if reply["n"] != expected[key, who]:
            wrong.append((key, who, reply, expected[key, who]))

    with anyio.fail_after(50):
        async with running(chat(board, Hasty, max_keys=100, idle_timeout=5.0), clock=clock) as runtime:
            async with asyncio.TaskGroup() as callers:
                tasks: list[asyncio.Task[None]] = []
                for number in range(3000):
                    key, who = f"k{chance.randrange(500)}", chance.choice([None, "alice"])
                    tasks.append(callers.create_task(one(runtime, key, who)))
                    if number % 20 == 0:
                        await clock.advance(chance.choice([0.0, 0.5, 3.0]))
                for _ in range(30):
                    await clock.advance(1.0)
                assert all(task.done() for task in tasks)
            await clock.advance(20.0)
            assert living(runtime) == []
            assert len(runtime.router.registry.all_names()) == 1
    assert wrong == []
    assert sum(expected.values()) + len(refused) == 3000
    assert len(refused) < 1500
    assert board.most <= 100
    assert board.alive == set()
