"""The small parts: codec, components, inbox, mailbox, clock."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portico.errors import ConfigurationError, ProcessExited
from portico.kernel.clock import SystemClock, sleep
from portico.kernel.codec import JsonCodec
from portico.kernel.components import ComponentSet, build_component_set
from portico.kernel.delivery import Delivery
from portico.kernel.inbox import Inbox
from portico.kernel.mailbox import Mailbox
from portico.kernel.memory import MemoryStore
from portico.kernel.messages import Message
from portico.kernel.process import AgentProcess
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.testing import ManualClock, settle
from tests.kernel.helpers import Echo, agent

pytestmark = pytest.mark.anyio

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=10,
)


@given(JSON | st.binary())
def test_the_codec_gives_back_every_json_value_and_bytes(value: Any) -> None:
    codec = JsonCodec()
    assert codec.decode(codec.encode(value)) == value


@pytest.mark.parametrize("value", [object(), float("nan"), float("inf"), {1, 2}, [b"inside"]])
def test_the_codec_refuses_what_is_no_json(value: Any) -> None:
    with pytest.raises(ValueError, match="JSON"):
        JsonCodec().encode(value)


def test_an_unknown_transport_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match=r"Known: in_process\. Did you mean 'in_process'\?"):
        ComponentSet(transport="in_proces")
    with pytest.raises(ConfigurationError):
        Runtime(transport="zmq")


async def test_a_runtime_takes_its_parts_as_one_value() -> None:
    store = MemoryStore()
    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Echo("e")]), components=build_component_set(store=store)) as runtime:
            assert agent(runtime, "e").store is store


async def test_a_part_that_is_empty_is_still_the_part_that_was_given() -> None:
    class Tools(list[Any]):
        pass

    tools: Any = Tools()
    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Echo("e")]), tool_registry=tools) as runtime:
            assert agent(runtime, "e").tools is tools


async def test_a_runtime_without_a_supervisor_has_an_empty_root() -> None:
    with anyio.fail_after(5):
        async with Runtime() as runtime:
            assert runtime.alive
            assert runtime.all_agents() == []


async def test_the_inbox_gives_events_in_order_and_selectively() -> None:
    inbox = Inbox(ManualClock())
    for number in (1, 2, 3):
        inbox.put(number)
    with anyio.fail_after(5):
        assert await inbox.get(lambda event: event == 2) == 2
        assert [await inbox.get(), await inbox.get()] == [1, 3]


async def test_the_inbox_waits_until_a_time_and_no_longer() -> None:
    clock = ManualClock()
    inbox = Inbox(clock)
    with anyio.fail_after(5):
        assert await inbox.get(until=clock.now()) is None
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(inbox.get(lambda event: event == "wanted", until=clock.now() + 1.0))
            await settle()
            inbox.put("other")
            await clock.advance(0.9)
            assert not waiting.done()
            await clock.advance(0.1)
            assert waiting.result() is None
        assert await inbox.get() == "other"
        assert clock.pending == 0


async def test_a_closed_mailbox_answers_what_waits_and_what_comes() -> None:
    mailbox = Mailbox("m", 10)
    future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
    mailbox.put(Delivery(Message(), future))
    finished = Delivery(Message(), one_way=True)
    finished.dropped = True
    mailbox.put(finished)
    assert len(mailbox.close("the end")) == 1
    with pytest.raises(ProcessExited, match="Agent 'm' has ended and will not come back: the end"):
        await future
    with pytest.raises(ProcessExited):
        mailbox.put(Delivery(Message()))
    back = Delivery(Message(), asyncio.get_running_loop().create_future())
    mailbox.put_back(back)
    assert back.finished
    assert back.future is not None
    assert isinstance(back.future.exception(), ProcessExited)
    mailbox.reopen()
    mailbox.put(Delivery(Message()))
    assert mailbox.snapshot() == {"depth": 1, "size": 10, "incarnation": 0, "restarts": 0, "expired": 0}


async def test_what_is_put_back_has_its_place_before_all_others_and_needs_no_room() -> None:
    mailbox = Mailbox("m", 1)
    first, second = Delivery(Message(payload=1)), Delivery(Message(payload=2))
    mailbox.put(second)
    mailbox.put_back(first)
    assert list(mailbox.waiting) == [first, second]


async def test_later_ends_of_a_delivery_are_ignored() -> None:
    delivery = Delivery(Message(), asyncio.get_running_loop().create_future())
    delivery.resolve(Message(payload="first"))
    delivery.fail(RuntimeError("second"))
    delivery.resolve(Message(payload="third"))
    assert delivery.future is not None
    assert delivery.future.result().payload == "first"


async def test_the_system_clock_calls_when_the_time_has_come_and_not_when_cancelled() -> None:
    clock = SystemClock()
    called: list[str] = []
    with anyio.fail_after(5):
        clock.call_at(clock.now() - 1.0, lambda: called.append("at once"))
        clock.call_at(clock.now() + 0.01, lambda: called.append("later"))
        clock.call_at(clock.now() + 0.005, lambda: called.append("never")).cancel()
        before = clock.now()
        await sleep(clock, 0.02)
        assert clock.now() - before >= 0.02
    assert called == ["at once", "later"]


async def test_a_sleep_that_is_cancelled_leaves_no_timer() -> None:
    clock = ManualClock()
    with anyio.fail_after(5):
        async with asyncio.TaskGroup() as tasks:
            sleeping = tasks.create_task(sleep(clock, 10.0))
            await settle()
            assert clock.pending == 1
            sleeping.cancel()
        assert clock.pending == 0


def test_a_subclass_collects_the_operations_of_its_bases() -> None:
    from portico.operations.decorators import operation

    class Base(AgentProcess):
        @operation
        async def one(self) -> int:
            return 1

    class Derived(Base):
        @operation
        async def two(self) -> int:
            return 2

        async def one(self) -> int:
            return 11

    assert set(Base.operations) == {"one"}
    assert set(Derived.operations) == {"one", "two"}
