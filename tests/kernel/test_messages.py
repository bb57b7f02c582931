"""Asking and sending: how a message gets to its process, and every way in which it can end."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import anyio
import pytest

from portico.errors import (
    AgentError,
    InvalidPayload,
    InvalidReply,
    LifecycleError,
    MailboxFull,
    NoReply,
    ReservedType,
    UnknownAgent,
    UnknownOperation,
)
from portico.kernel.delivery import Delivery
from portico.kernel.events import EventKind
from portico.kernel.messages import Message, new_id
from portico.kernel.process import AgentProcess
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.operations.decorators import operation
from portico.testing import settle
from tests.kernel.helpers import Echo, Logged, Patient, Witness, agent

if TYPE_CHECKING:
    from collections.abc import Generator

pytestmark = pytest.mark.anyio


def one(*children: AgentProcess, **options: Any) -> Runtime:
    return Runtime(Supervisor("root", children, backoff_base=0.0), **options)


class Collector(AgentProcess):
    """Keeps what it is sent in a list of the test's."""

    capabilities: ClassVar[list[str]] = ["collect"]

    def __init__(self, name: str, got: list[Any], **options: Any) -> None:
        super().__init__(name, **options)
        self.got = got

    async def handle(self, message: Message) -> Any:
        self.got.append((self.name, message.payload, message.sender))
        return self.reply(None)


async def test_the_five_minute_start_of_the_seed_works() -> None:
    class EchoText(AgentProcess):
        async def handle(self, message: Message) -> Any:
            return self.reply({"echo": message.payload["text"]})

    with anyio.fail_after(5):
        async with Runtime(supervisor=Supervisor("root", children=[EchoText("echo")])) as runtime:
            result = await runtime.ask("echo", {"text": "hello"})
            assert result.payload["echo"] == "hello"


async def test_a_reply_names_its_sender_and_carries_its_hints() -> None:
    class Creating(AgentProcess):
        async def handle(self, message: Message) -> Any:
            return self.reply({"id": 1}, status=201, headers={"Location": "/things/1"})

    with anyio.fail_after(5):
        async with one(Creating("c")) as runtime:
            reply = await runtime.ask("c", None)
            assert (reply.type, reply.sender, reply.payload) == ("reply", "c", {"id": 1})
            assert reply.meta == {"status": 201, "headers": {"Location": "/things/1"}}


@pytest.mark.parametrize("value", [0, "", False, [], {}, "text", 1.5, [1, 2], {"error": "means nothing"}, b"bytes"])
async def test_any_value_can_be_a_reply_also_one_that_is_false(value: Any) -> None:
    class Giving(AgentProcess):
        async def handle(self, message: Message) -> Any:
            return value

    with anyio.fail_after(5):
        async with one(Giving("g"), strict=True) as runtime:
            assert (await runtime.ask("g", None)).payload == value


async def test_a_handler_that_returns_nothing_to_an_ask_is_told_of_by_name() -> None:
    class Silent(AgentProcess):
        async def handle(self, message: Message) -> Any:
            return None

        @operation
        async def forgetful(self) -> int:
            return None  # pyright: ignore[reportReturnType]  # on purpose

    with anyio.fail_after(5):
        async with one(Silent("s")) as runtime:
            with pytest.raises(NoReply, match="Agent 's' handled 'message' and returned nothing"):
                await runtime.ask("s", None)
            with pytest.raises(NoReply, match="'forgetful'"):
                await runtime.ask("s", None, message_type="forgetful")
            assert agent(runtime, "s").id == "s#1"


async def test_an_operation_that_declares_none_replies_with_nothing() -> None:
    class Quiet(AgentProcess):
        @operation
        async def forget(self) -> None:
            pass

        @operation
        async def find(self, key: str) -> str | None:
            return None

    with anyio.fail_after(5):
        async with one(Quiet("q")) as runtime:
            assert (await runtime.ask("q", None, message_type="forget")).payload is None
            assert (await runtime.ask("q", {"key": "x"}, message_type="find")).payload is None


async def test_a_declared_error_goes_to_the_caller_and_the_process_lives() -> None:
    class Shop(AgentProcess):
        async def handle(self, message: Message) -> Any:
            self.state["tried"] = True
            raise AgentError("out-of-stock", "None left.", status=409, left=0)

    with anyio.fail_after(5):
        async with one(Shop("shop")) as runtime:
            with pytest.raises(AgentError) as caught:
                await runtime.ask("shop", None)
            assert (caught.value.slug, str(caught.value), caught.value.status) == ("out-of-stock", "None left.", 409)
            assert caught.value.title == "Out of stock"
            assert caught.value.extra == {"left": 0}
            assert agent(runtime, "shop").id == "shop#1"
            assert agent(runtime, "shop").state == {}


async def test_an_agent_without_a_handler_refuses_and_names_the_nearest_operation() -> None:
    class Calculator(AgentProcess):
        @operation
        async def multiply(self, a: int, b: int) -> int:
            return a * b

    with anyio.fail_after(5):
        async with one(Calculator("calc")) as runtime:
            with pytest.raises(UnknownOperation, match=r"has no operation 'multipl'\. Did you mean 'multiply'\?"):
                await runtime.ask("calc", {}, message_type="multipl")


async def test_an_unknown_agent_is_refused_and_the_nearest_names_are_offered() -> None:
    with anyio.fail_after(5):
        async with one(Echo("assistant"), Echo("archive")) as runtime:
            with pytest.raises(UnknownAgent) as caught:
                await runtime.ask("asistant", None)
            assert str(caught.value) == "There is no agent 'asistant'. Did you mean 'assistant'?"
            assert caught.value.nearest == ["assistant"]
            with pytest.raises(UnknownAgent, match=r"There is no agent 'xyz'\.$"):
                await runtime.send("xyz", None)
            with pytest.raises(UnknownAgent):
                await runtime.ask("root", None)  # supervisors take no messages


@pytest.mark.parametrize("reserved", ["portico.", "portico.start", "portico.stop"])
async def test_reserved_message_types_cannot_be_sent_or_asked(reserved: str) -> None:
    with anyio.fail_after(5):
        async with one(Echo("e"), Echo("f")) as runtime:
            with pytest.raises(ReservedType):
                await runtime.ask("e", None, message_type=reserved)
            with pytest.raises(ReservedType):
                await runtime.send("e", None, message_type=reserved)
            with pytest.raises(ReservedType):
                await agent(runtime, "e").broadcast("*", None, reserved)


async def test_a_full_mailbox_refuses_at_once_and_loses_nothing_that_it_took() -> None:
    with anyio.fail_after(5):
        async with one(Patient("p", mailbox_size=2)) as runtime, asyncio.TaskGroup() as callers:
            process: Patient = agent(runtime, "p")
            asks = [callers.create_task(runtime.ask("p", 0))]
            await process.began.wait()  # one in hand, and room for two
            asks += [callers.create_task(runtime.ask("p", number)) for number in (1, 2)]
            await settle()
            with pytest.raises(MailboxFull, match=r"The mailbox of 'p' is full: 2 messages wait\. Try again in 1 s\."):
                await runtime.ask("p", 3)
            with pytest.raises(MailboxFull):
                await runtime.send("p", 3)
            process.gate.set()
            assert [(await ask).payload for ask in asks] == [0, 1, 2]


async def test_a_higher_priority_is_handled_first_and_equals_in_their_order() -> None:
    got: list[Any] = []
    with anyio.fail_after(5):
        async with one(Collector("c", got)) as runtime:
            for payload, priority in (("a", 0), ("b", 5), ("c", 0), ("d", 9), ("e", 5)):
                message = Message(payload=payload, recipient="c", priority=priority)
                runtime.router.deliver(Delivery(message, one_way=True))
            await settle()
    assert [payload for _, payload, _ in got] == ["d", "b", "e", "a", "c"]


async def test_many_messages_in_a_row_do_not_keep_others_from_running() -> None:
    turns: list[str] = []

    class Busy(AgentProcess):
        async def handle(self, message: Message) -> Any:
            turns.append(self.name)
            return self.reply(None)

    with anyio.fail_after(5):
        async with one(Busy("a"), Busy("b")) as runtime:
            for _ in range(500):
                await runtime.send("a", None)
            for _ in range(10):
                await runtime.send("b", None)
            await runtime.ask("a", None)
    assert turns.index("b") < 200


async def test_messages_of_one_sender_are_handled_in_their_order() -> None:
    got: list[Any] = []
    with anyio.fail_after(5):
        async with one(Collector("c", got)) as runtime:
            for number in range(300):
                await runtime.send("c", number)
            await runtime.ask("c", "last")
    assert [payload for _, payload, _ in got] == [*range(300), "last"]


async def test_an_agent_asks_sends_calls_and_casts_under_its_own_name() -> None:
    class Talker(AgentProcess):
        async def handle(self, message: Message) -> Any:
            await self.send("c", "sent")
            await self.cast("c", "cast")
            return [(await self.ask("echo", "asked")).payload, await self.call("echo", "called")]

    got: list[Any] = []
    with anyio.fail_after(5):
        async with one(Talker("t"), Echo("echo"), Collector("c", got)) as runtime:
            assert (await runtime.ask("t", None)).payload == ["asked", "called"]
            assert await runtime.call("t", None) == ["asked", "called"]
            await runtime.ask("c", "flush")
    assert got[:2] == [("c", "sent", "t"), ("c", "cast", "t")]


async def test_a_broadcast_reaches_whoever_matches_except_oneself_and_leaves_out_who_cannot_take_it() -> None:
    got: list[Any] = []
    children = [Collector(f"worker-{number}", got) for number in range(3)]
    full = Patient("worker-full", mailbox_size=0)
    gone = Logged("worker-gone", [], restart="temporary")
    with anyio.fail_after(5):
        async with one(*children, full, gone, Echo("other")) as runtime:
            await runtime.send("worker-gone", "crash")
            await settle()
            assert await agent(runtime, "worker-1").broadcast("worker-*", "news") == ["worker-0", "worker-2"]
            await settle()
    assert sorted(got) == [("worker-0", "news", "worker-1"), ("worker-2", "news", "worker-1")]


async def test_send_capable_reaches_those_who_have_the_capability_except_oneself() -> None:
    got: list[Any] = []
    with anyio.fail_after(5):
        async with one(Collector("a", got), Collector("b", got), Echo("echo")) as runtime:
            assert await agent(runtime, "a").send_capable("collect", 1) == ["b"]
            assert await agent(runtime, "echo").send_capable("collect", 2) == ["a", "b"]
            assert await agent(runtime, "echo").send_capable("paint", 3) == []
            await settle()
    assert sorted(got) == [("a", 2, "echo"), ("b", 1, "a"), ("b", 2, "echo")]


async def test_two_runtimes_in_one_process_do_not_know_each_other() -> None:
    with anyio.fail_after(5):
        async with one(Echo("a")) as first, one(Echo("a"), Echo("b")) as second:
            assert (await first.ask("a", 1)).payload == 1
            assert (await second.ask("a", 2)).payload == 2
            with pytest.raises(UnknownAgent):
                await first.ask("b", 1)
            assert first.get_agent("b") is None
            assert [child.name for child in second.all_agents()] == ["a", "b"]


async def test_a_strict_runtime_finds_requests_that_would_not_survive_a_wire() -> None:
    with anyio.fail_after(5):
        async with one(Echo("e"), strict=True) as runtime:
            for payload in (object(), {1, 2}, {"n": float("nan")}):
                with pytest.raises(InvalidPayload, match=r"^The payload for 'e' is not JSON-able data: "):
                    await runtime.ask("e", payload)
            assert (await runtime.ask("e", (1, 2))).payload == [1, 2]
            assert (await runtime.ask("e", {1: "a"})).payload == {"1": "a"}


async def test_a_strict_runtime_finds_replies_that_would_not_survive_a_wire() -> None:
    class Careless(AgentProcess):
        async def handle(self, message: Message) -> Any:
            self.state["n"] = 1
            return object()

    with anyio.fail_after(5):
        async with one(Careless("c"), strict=True) as runtime:
            with pytest.raises(InvalidReply, match="not JSON serializable"):
                await runtime.ask("c", None)
            assert agent(runtime, "c").id == "c#1"
            assert agent(runtime, "c").state == {}


async def test_without_strict_a_payload_is_handed_over_as_it_is() -> None:
    thing = object()
    with anyio.fail_after(5):
        async with one(Echo("e")) as runtime:
            assert (await runtime.ask("e", thing)).payload is thing


async def test_an_agent_says_what_its_runtime_was_not_given() -> None:
    with anyio.fail_after(5):
        async with one(Echo("e")) as runtime:
            echo = agent(runtime, "e")
            with pytest.raises(LifecycleError, match="Runtime\\(model_provider=…\\)"):
                _ = echo.llm
            with pytest.raises(LifecycleError, match="Runtime\\(tool_registry=…\\)"):
                _ = echo.tools
            await echo.store.put("key", {"n": 1})
            assert await echo.store.get("key") == {"n": 1}


async def test_blocking_work_in_a_thread_stalls_nobody() -> None:
    import threading

    release = threading.Event()

    class Blocking(AgentProcess):
        async def handle(self, message: Message) -> Any:
            return await self.run_blocking(release.wait, 5.0)

    with anyio.fail_after(5):
        async with one(Blocking("b"), Echo("e")) as runtime, asyncio.TaskGroup() as callers:
            blocked = callers.create_task(runtime.ask("b", None))
            await settle()
            assert (await runtime.ask("e", 1)).payload == 1
            assert not blocked.done()
            release.set()
            assert (await blocked).payload is True


def test_message_ids_are_unique_and_made_once() -> None:
    messages = [Message() for _ in range(100)]
    assert len({message.id for message in messages} | {new_id() for _ in range(100)}) == 200
    assert messages[0].id == messages[0].id
    assert Message(id="mine").id == "mine"


def test_a_traceparent_is_read_into_its_parts() -> None:
    message = Message(traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    assert message.trace_id == "0af7651916cd43dd8448eb211c80319c"
    assert Message().trace_id is None


# --- observers --------------------------------------------------------------------------------------------------------


async def test_an_observer_sees_every_handling_and_its_traceparent_rides_on() -> None:
    seen: list[str] = []

    class Tracer(Witness):
        def handling(self, message: Message) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
            return self.around(message)

        @contextmanager
        def around(self, message: Message) -> Generator[str]:
            seen.append(f"{message.recipient} from {message.traceparent}")
            yield f"span of {message.recipient}"
            seen.append(f"{message.recipient} done")

    class Outer(AgentProcess):
        async def handle(self, message: Message) -> Any:
            return (await self.ask("inner", 1)).payload

    with anyio.fail_after(5):
        async with one(Outer("outer"), Echo("inner"), observers=[Tracer()]) as runtime:
            await runtime.ask("outer", None)
    assert seen == ["outer from None", "inner from span of outer", "inner done", "outer done"]


class Meddling:
    """A context manager of an observer that does one thing wrong."""

    def __init__(self, when: str) -> None:
        self.when = when

    def __enter__(self) -> None:
        if self.when == "enter":
            raise RuntimeError(self.when)

    def __exit__(self, *raised: object) -> bool:
        if self.when == "leave":
            raise RuntimeError(self.when)
        return self.when == "swallow"


class Bad(Witness):
    """An observer that does one thing wrong."""

    def __init__(self, when: str) -> None:
        super().__init__()
        self.when = when

    def event(self, event: Any) -> None:
        if self.when == "event":
            raise RuntimeError(self.when)

    def handling(self, message: Message) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        if self.when == "hook":
            raise RuntimeError(self.when)
        return Meddling(self.when)


@pytest.mark.parametrize("when", ["event", "hook", "enter", "leave", "swallow"])
async def test_an_observer_that_misbehaves_changes_nothing(when: str) -> None:
    class Picky(AgentProcess):
        async def handle(self, message: Message) -> Any:
            if message.payload == "refuse":
                raise AgentError("no")
            return self.id

    witness = Witness()
    with anyio.fail_after(5):
        async with one(Picky("p"), observers=[Bad(when), witness]) as runtime:
            assert (await runtime.ask("p", None)).payload == "p#1"
            with pytest.raises(AgentError):
                await runtime.ask("p", "refuse")
            assert witness.names(EventKind.PROCESS_STARTED) == ["p"]


async def test_the_handler_of_one_runtime_does_not_hand_its_deadline_to_another_runtime() -> None:
    remaining: list[float | None] = []

    class Inner(AgentProcess):
        async def on_start(self) -> None:
            remaining.append(self.context.remaining())

    class Outer(AgentProcess):
        async def handle(self, message: Message) -> Any:
            async with one(Inner("inner")):
                return "done"

    with anyio.fail_after(5):
        async with one(Outer("outer")) as runtime:
            await runtime.ask("outer", None, timeout=2.0)
    assert remaining == [None]
