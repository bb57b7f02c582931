"""What is written or asked wrongly: each mistake has an error class of its own, and a sentence that says what and where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

from portico import AgentProcess, DynamicSupervisor, Message, Runtime, Supervisor, keyed, pool
from portico.errors import (
    DuplicateName,
    InvalidPayload,
    KeyMissing,
    PorticoError,
    ReservedType,
    RuntimeNotStarted,
    RuntimeStopped,
    SelfAsk,
    SettingOutOfRange,
    SpawnLimitReached,
    StartTimeout,
    UnknownAgent,
    UnknownWord,
)
from portico.testing import ManualClock, TestRuntime
from tests.kernel.helpers import Echo

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("make", "kind", "sentence"),
    [
        (
            lambda: Supervisor("s", strategy="one_for_al"),
            UnknownWord,
            "The strategy of supervisor 's' 'one_for_al' is unknown. Did you mean 'one_for_all' or",
        ),
        (
            lambda: Echo("e", restart="allways"),
            UnknownWord,
            "The restart of 'e' 'allways' is unknown. Known: permanent, transient,",
        ),
        (lambda: Supervisor("s", restart_window=-1.0), SettingOutOfRange, "restart_window of supervisor 's' is -1.0: it cannot be"),
        (lambda: Echo("e", concurrency=0), SettingOutOfRange, "concurrency of 'e' is 0: it must be at least 1."),
        (lambda: pool(Echo, "p", size=0), SettingOutOfRange, "size of pool 'p' is 0: it must be at least 1."),
        (lambda: keyed(Echo, "k", per_key="id", max_keys=0), SettingOutOfRange, "max_keys of keyed agent 'k' is 0: it must be"),
        (lambda: DynamicSupervisor("d", max_children=-1), SettingOutOfRange, "max_children of supervisor 'd' is -1: it cannot be"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_where_it_is_written(
    make: Callable[[], object], kind: type[PorticoError], sentence: str
) -> None:
    with pytest.raises(kind) as caught:
        make()
    assert str(caught.value).startswith(sentence)
    assert type(caught.value) is kind


async def test_two_children_of_one_name_are_refused_before_anything_starts() -> None:
    with anyio.fail_after(5), pytest.raises(DuplicateName, match=r"^Two processes are named 'e': a name is an identity"):
        await Runtime(Supervisor("root", [Echo("e"), Supervisor("s", [Echo("e")])])).start()


async def test_the_name_of_a_pool_and_of_its_members_is_taken() -> None:
    with anyio.fail_after(5):
        for other in ("p", "p.2"):
            with pytest.raises(DuplicateName):
                await Runtime(Supervisor("root", [pool(Echo, "p", size=2), Echo(other)])).start()


@pytest.mark.parametrize("payload", [object(), {1, 2}, {"n": float("nan")}])
async def test_a_payload_that_is_no_json_is_refused_where_the_runtime_is_strict(payload: Any) -> None:
    with anyio.fail_after(5):
        async with TestRuntime(Echo("e")) as runtime:
            with pytest.raises(InvalidPayload, match=r"^The payload for 'e' is not JSON-able data: "):
                await runtime.ask("e", payload)
            with pytest.raises(InvalidPayload):
                await runtime.send("e", payload)


async def test_a_process_that_asks_itself_is_told_at_once() -> None:
    class Narcissus(AgentProcess):
        async def handle(self, message: Message) -> Any:
            return await self.ask(self.name, "who is the fairest?")

    with anyio.fail_after(5):
        async with TestRuntime(Narcissus("n")) as runtime:
            with pytest.raises(
                SelfAsk, match=r"^'n' asks itself, and would wait for itself: call the method, or `send` to yourself.$"
            ):
                await runtime.ask("n", {})


async def test_a_runtime_that_was_never_started_and_one_that_was_stopped_are_told_apart() -> None:
    runtime = Runtime(Supervisor("root", [Echo("e")]))
    with anyio.fail_after(5):
        with pytest.raises(RuntimeNotStarted) as never:
            await runtime.ask("e", {})
        async with runtime:
            pass
        with pytest.raises(RuntimeStopped, match=r"it was stopped"):
            await runtime.ask("e", {})
    assert type(never.value) is RuntimeNotStarted


async def test_a_spawn_past_the_limit_says_which_limit() -> None:
    with anyio.fail_after(5):
        async with TestRuntime(DynamicSupervisor("d", max_children=1)) as runtime:
            await runtime.spawn("d", Echo, "one")
            with pytest.raises(
                SpawnLimitReached, match=r"^Supervisor 'd' has 1 children \(max_children\): 'two' was not spawned.$"
            ):
                await runtime.spawn("d", Echo, "two")


async def test_an_on_start_that_hangs_is_a_start_timeout_and_what_had_started_is_stopped() -> None:
    class Hanging(AgentProcess):
        async def on_start(self) -> None:
            await self.sleep(3600.0)

    clock = ManualClock()
    echo = Echo("e")
    runtime = Runtime(Supervisor("root", [echo, Hanging("h", start_timeout=2.0)]), clock=clock)
    caught: list[StartTimeout] = []

    async def starting() -> None:
        try:
            await runtime.start()
        except StartTimeout as error:
            caught.append(error)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(starting)
            await clock.advance(2.0)
            await clock.advance(10.0)
    assert [str(error) for error in caught] == ["'h' did not start: on_start took longer than start_timeout (2 s)"]
    assert echo.status in {"stopped", "failed"}


async def test_a_timeout_that_is_no_number_is_told_in_a_sentence() -> None:
    with anyio.fail_after(5):
        async with TestRuntime(Echo("e")) as runtime:
            wrong: Any = "echo"
            with pytest.raises(TypeError, match=r"^The timeout of an ask is a number of seconds, not 'echo'.$"):
                await runtime.ask("e", {}, wrong)


async def test_unknown_names_reserved_types_and_missing_keys_are_told() -> None:
    with anyio.fail_after(5):
        async with TestRuntime(Echo("echo"), keyed(Echo, "chat", per_key="session_id")) as runtime:
            with pytest.raises(UnknownAgent, match=r"There is no agent 'ecko'. Did you mean 'echo'?"):
                await runtime.ask("ecko", {})
            for reserved in ("portico.stop", "DOWN", "EXIT"):
                with pytest.raises(ReservedType):
                    await runtime.ask("echo", {}, message_type=reserved)
            with pytest.raises(KeyMissing, match=r"^Agent 'chat' has one process per 'session_id': it is missing$"):
                await runtime.ask("chat", {})
