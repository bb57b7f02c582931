"""How long a restart waits."""

from __future__ import annotations

import anyio
import pytest

from portico.errors import ConfigurationError
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.testing import ManualClock
from tests.kernel.helpers import Logged, agent

pytestmark = pytest.mark.anyio


def waits(kind: str, *, base: float = 1.0, most: float = 60.0, count: int = 5) -> list[float]:
    supervisor = Supervisor("s", backoff=kind, backoff_base=base, backoff_max=most)
    return [supervisor.delay(crashes) for crashes in range(1, count + 1)]


def test_a_constant_backoff_does_not_grow() -> None:
    assert waits("CONSTANT", base=0.5) == [0.5] * 5


def test_a_linear_backoff_grows_by_its_base() -> None:
    assert waits("linear", base=2.0) == [2.0, 4.0, 6.0, 8.0, 10.0]


def test_an_exponential_backoff_doubles_and_waits_between_a_half_and_the_whole() -> None:
    for _ in range(50):
        for wait, whole in zip(waits("EXPONENTIAL"), (1.0, 2.0, 4.0, 8.0, 16.0), strict=True):
            assert whole / 2 <= wait <= whole
    assert len({waits("EXPONENTIAL")[4] for _ in range(50)}) > 1, "there is no jitter"


@pytest.mark.parametrize("kind", ["constant", "linear", "exponential"])
def test_no_wait_exceeds_the_cap(kind: str) -> None:
    assert max(waits(kind, base=3.0, most=2.0, count=2000)) <= 2.0


@pytest.mark.parametrize("kind", ["CONSTANT", "LINEAR", "EXPONENTIAL"])
def test_a_base_of_nothing_waits_for_nothing(kind: str) -> None:
    assert waits(kind, base=0.0) == [0.0] * 5


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"strategy": "one_for_al"}, "The strategy of supervisor 's' 'one_for_al' is unknown. Did you mean 'one_for_all'"),
        ({"backoff": "LINEA"}, "The backoff of supervisor 's' 'LINEA' is unknown. Did you mean 'linear'?"),
        ({"backoff": "zzz"}, "The backoff of supervisor 's' 'zzz' is unknown. Known: constant, linear, exponential."),
        ({"restart": "permanet"}, "The restart of supervisor 's' 'permanet' is unknown. Did you mean 'permanent'?"),
        ({"max_restarts": -1}, "max_restarts of supervisor 's' is -1: it cannot be negative."),
        ({"restart_window": -0.5}, "restart_window of supervisor 's' is -0.5: it cannot be negative."),
        ({"backoff_base": -1.0}, "backoff_base of supervisor 's' is -1.0: it cannot be negative."),
        ({"backoff_max": -1.0}, "backoff_max of supervisor 's' is -1.0: it cannot be negative."),
    ],
)
def test_settings_that_cannot_be_are_refused_with_a_sentence(options: dict[str, str | float], sentence: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Supervisor("s", **options)  # pyright: ignore[reportArgumentType]  # on purpose
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"restart": "never"}, "The restart of 'a' 'never' is unknown."),
        ({"mailbox_size": -1}, "mailbox_size of 'a' is -1: it cannot be negative."),
        ({"shutdown_timeout": -1.0}, "shutdown_timeout of 'a' is -1.0: it cannot be negative."),
    ],
)
def test_settings_of_a_process_that_cannot_be_are_refused_too(options: dict[str, str | float], sentence: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Logged("a", [], **options)
    assert str(caught.value).startswith(sentence)


async def crash(runtime: Runtime, clock: ManualClock) -> None:
    await runtime.send("a", "crash")
    await clock.advance()


async def test_the_backoff_counts_consecutive_crashes_and_a_success_resets_it() -> None:
    clock = ManualClock()
    root = Supervisor("root", [Logged("a", [])], max_restarts=100, backoff="linear", backoff_base=10.0)
    with anyio.fail_after(5):
        async with Runtime(root, clock=clock) as runtime:
            for crashes in (1, 2, 3):
                await crash(runtime, clock)
                await clock.advance(10.0 * crashes - 0.1)
                assert agent(runtime, "a").status == "restarting"
                await clock.advance(0.1)
                assert agent(runtime, "a").id == f"a#{crashes + 1}"
            await runtime.ask("a", "hello")
            await crash(runtime, clock)
            await clock.advance(10.0)
            assert agent(runtime, "a").status == "running"


async def test_backoffs_of_two_children_overlap() -> None:
    clock = ManualClock()
    root = Supervisor("root", [Logged("a", []), Logged("b", [])], backoff_base=10.0)
    with anyio.fail_after(5):
        async with Runtime(root, clock=clock) as runtime:
            await runtime.send("a", "crash")
            await clock.advance(5.0)
            await runtime.send("b", "crash")
            await clock.advance(5.0)
            assert [child.status for child in runtime.all_agents()] == ["running", "restarting"]
            await clock.advance(5.0)
            assert [child.status for child in runtime.all_agents()] == ["running", "running"]


async def test_a_stop_does_not_wait_for_a_backoff() -> None:
    clock = ManualClock()
    with anyio.fail_after(5):
        async with Runtime(Supervisor("root", [Logged("a", [])], backoff_base=60.0), clock=clock) as runtime:
            await crash(runtime, clock)
            assert agent(runtime, "a").status == "restarting"
            before = clock.now()
    assert clock.now() == before
    assert agent(runtime, "a").status == "stopped"
