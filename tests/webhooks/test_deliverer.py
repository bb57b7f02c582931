"""The deliverer: tries again by the schedule, gives up at its end, and goes on where an earlier life has stopped."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from contextlib import asynccontextmanager
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from portico.kernel.process import AgentProcess
from portico.kernel.supervisor import Supervisor
from portico.runs.call import Call
from portico.runs.callback import Callback, CallbackStatus
from portico.runs.dispatcher import Dispatcher
from portico.runs.store import AcceptRun, Retention
from portico.testing.manual_clock import ManualClock, settle
from portico.topology.runtime import Runtime
from portico.webhooks.deliverer import Deliverer
from portico.webhooks.guard import Guard
from portico.webhooks.schedule import DELAYS, JITTER, LONGEST, after
from portico.webhooks.sender import Outcome
from tests.stores.stores import a_run, ended, stored
from tests.webhooks.receivers import SECRET, answered, receiving

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
    from pathlib import Path

    from portico.runs.run import Run

pytestmark = pytest.mark.anyio


class Echo(AgentProcess):
    """Says it again."""

    async def handle(self, message: Any) -> Any:
        return message.payload


class House:
    """A runtime whose clock stands still, and its deliverer."""

    def __init__(self, runtime: Runtime, clock: ManualClock, guard: Guard, verify: ssl.SSLContext | None) -> None:
        self.clock = clock
        self.door = Dispatcher(runtime)
        self.book = self.door.book
        self.deliverer = Deliverer(self.book, SECRET, guard, verify=verify)

    async def ran(self, url: str, payload: Any = "hello") -> Run:
        """A run that has ended, with a callback."""
        run = await self.door.submit(Call(self.door.catalogue.find("echo"), payload, callback_url=url))
        await run.wait()
        return run

    async def callback(self, run: Run, when: Callable[[Callback], bool]) -> Callback:
        """The callback of a run, once it is so: nothing tells when."""
        with anyio.fail_after(20):
            while True:
                record = await self.book.store.run(run.run_id)
                assert record is not None
                assert record.callback is not None
                if when(record.callback):
                    return record.callback
                await asyncio.sleep(0.005)

    async def attempted(self, run: Run, attempts: int) -> Callback:
        """The callback, once it was sent so often."""
        return await self.callback(run, lambda callback: callback.attempts >= attempts)


@asynccontextmanager
async def house(
    data: Path | None = None,
    *,
    clock: ManualClock | None = None,
    allowed: Sequence[str] = ("127.0.0.1", "localhost"),
    resolve: Callable[[str, int], Awaitable[Sequence[str]]] | None = None,
    verify: ssl.SSLContext | None = None,
) -> AsyncGenerator[House]:
    clock = clock or ManualClock()
    runtime = Runtime(Supervisor("root", [Echo("echo")]), clock=clock, data=data)
    with anyio.fail_after(50):
        async with runtime:
            one = House(runtime, clock, Guard(allowed, resolve=resolve), verify)
            await one.door.recover()
            async with one.deliverer.running():
                yield one


# --- again and again --------------------------------------------------------------------------------------------------


async def test_an_attempt_that_fails_is_made_again_by_the_schedule_and_given_up_at_its_end() -> None:
    async with receiving(*[answered(500)] * 20) as receiver, house() as one:
        run = await one.ran(receiver.url())
        for number, delay in enumerate(DELAYS, 1):
            callback = await one.attempted(run, number)
            assert callback.status is CallbackStatus.PENDING
            assert callback.next_at is not None
            wait = callback.next_at - one.clock.time()
            assert delay <= wait <= delay * (1 + JITTER)
            await one.clock.advance(wait - 0.1)
            assert len(receiver.received) == number
            await one.clock.advance(0.2)
            (await receiver.has(number + 1)).check(now=one.clock.time())
        given_up = await one.callback(run, lambda callback: callback.status is not CallbackStatus.PENDING)
        assert (given_up.status, given_up.attempts, given_up.next_at) == (CallbackStatus.FAILED, 10, None)
        await one.clock.advance(10 * LONGEST)
        assert len(receiver.received) == 10
        assert len({received.headers["webhook-id"] for received in receiver.received}) == 1
        assert len({received.headers["webhook-timestamp"] for received in receiver.received}) == 10


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (answered(301, "Location: /elsewhere"), "It answered 301; a redirect is not followed."),
        (answered(404), "It answered 404."),
        (b"nonsense\r\n\r\n", "The connection ended without an answer."),
        (b"", "The connection ended without an answer."),
    ],
)
async def test_any_other_answer_than_2xx_is_an_attempt_that_failed(answer: bytes, error: str) -> None:
    async with receiving(answer) as receiver, house() as one:
        run = await one.ran(receiver.url())
        assert (await one.attempted(run, 1)).last_error == error
        assert receiver.connections == 1
        await one.clock.advance(6)
        assert (await one.attempted(run, 2)).status is CallbackStatus.DELIVERED


async def test_a_receiver_that_is_not_there_is_tried_again() -> None:
    async with receiving() as receiver:
        url = receiver.url()
    async with house() as one:
        run = await one.ran(url)
        callback = await one.attempted(run, 1)
        assert callback.last_error is not None
        assert callback.last_error.startswith("There was no connection")


async def test_a_receiver_that_does_not_answer_in_time_is_tried_again() -> None:
    over = asyncio.Event()

    async def late() -> bytes:
        await over.wait()
        return answered(200)

    async def too_much() -> bytes:
        return b"HTTP/1.1 200 X\r\nContent-Length: 100000000\r\n\r\n" + b"x" * 100_000

    async with receiving(late, too_much) as receiver, house() as one:
        run = await one.ran(receiver.url())
        await receiver.has(1)
        await one.clock.advance(15.1)
        assert (await one.attempted(run, 1)).last_error == "There was no answer within 15 seconds."
        over.set()
        await one.clock.advance(6)
        assert (await one.attempted(run, 2)).status is CallbackStatus.DELIVERED  # it does not read on to the end


@pytest.mark.parametrize("status", [429, 503])
async def test_a_receiver_that_wants_to_be_left_alone_is(status: int) -> None:
    async with house() as one:
        date = formatdate(one.clock.time() + 700, usegmt=True)
        answers = [
            answered(status, "Retry-After: 600"),
            answered(status, f"Retry-After: {date}"),
            answered(status, "Retry-After: soon"),
        ]
        async with receiving(*answers) as receiver:
            run = await one.ran(receiver.url())
            first = await one.attempted(run, 1)
            assert first.next_at == one.clock.time() + 600
            await one.clock.advance(600)
            second = await one.attempted(run, 2)
            assert second.next_at is not None
            assert 300 <= second.next_at - one.clock.time() <= 330


def test_a_receiver_cannot_put_off_the_next_attempt_for_ever() -> None:
    put_off = after(Callback(url="https://example.com/"), Outcome(503, "It answered 503.", 1e9), 0.0, 0.0)
    assert put_off.next_at == LONGEST


# --- over the end of the program --------------------------------------------------------------------------------------


async def test_what_was_not_told_is_told_by_the_next_life_at_its_time(tmp_path: Path) -> None:
    async with receiving(answered(500), answered(500)) as receiver:
        async with house(tmp_path) as one:
            run = await one.ran(receiver.url())
            await one.attempted(run, 1)
            later = one.clock.time() + 3
        async with house(tmp_path, clock=ManualClock(epoch=later)) as other:
            assert len(receiver.received) == 1
            await other.clock.advance(3)
            callback = await other.attempted(run, 2)
            assert callback.next_at is not None
        async with house(tmp_path, clock=ManualClock(epoch=callback.next_at + 1000)) as third:
            assert (await third.attempted(run, 3)).status is CallbackStatus.DELIVERED
        assert len({received.headers["webhook-id"] for received in receiver.received}) == 1


async def test_the_end_of_a_run_that_the_next_life_gives_up_is_told(tmp_path: Path) -> None:
    async with receiving() as receiver:
        async with house(tmp_path) as one:
            pending = Callback(url=receiver.url(), next_at=one.clock.time())
            await stored(one.book.store, AcceptRun(a_run("lost", agent="nobody", callback=pending)))
        async with house(tmp_path):
            told = (await receiver.has(1)).json()
            assert (told["type"], told["data"]["error"]["slug"]) == ("run.failed", "agent-not-found")


async def test_a_run_that_is_kept_no_more_is_not_told_of_and_holds_up_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async with receiving(answered(500)) as receiver, house() as one:
        gone = await one.ran(receiver.url())
        await one.attempted(gone, 1)
        await one.book.store.prune(Retention(runs_for=0.0), one.clock.time() + 1)
        await one.clock.advance(6)
        await one.attempted(await one.ran(receiver.url("/other")), 1)
        assert [received.target for received in receiver.received] == ["/hook", "/other"]
        assert f"nobody is told of the end of run {gone.run_id}" in caplog.text


async def test_two_gateways_of_one_runtime_tell_it_once() -> None:
    async with receiving() as receiver, house() as one:
        async with Deliverer(one.book, SECRET, Guard(["127.0.0.1"])).running():
            runs = [await one.ran(receiver.url()) for _ in range(10)]
            for run in runs:
                await one.attempted(run, 1)
            await one.clock.advance(5)
        assert len(receiver.received) == 10


async def test_without_a_secret_what_waits_goes_on_waiting_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    async with house() as one:
        await stored(
            one.book.store, AcceptRun(a_run("run", callback=Callback(url="https://example.com/", next_at=0.0))), ended("run")
        )
        async with Deliverer(one.book, None).running():
            await settle()
            assert "1 callbacks wait: set PORTICO_CALLBACK_SECRET" in caplog.text
            assert len(await one.book.store.callbacks()) == 1


# --- where it goes ----------------------------------------------------------------------------------------------------


async def test_a_name_that_means_something_else_a_moment_later_gets_nothing() -> None:
    """It rebinds: open when it is looked at first, and this machine when it is connected to."""
    asked: list[str] = []

    async def resolve(host: str, _port: int) -> Sequence[str]:
        asked.append(host)
        return ["192.0.2.1" if len(asked) % 2 else "127.0.0.1"]

    async def open_first(host: str, _port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.2"]

    async with receiving() as receiver:
        async with house(allowed=(), resolve=resolve) as one:
            run = await one.ran(f"http://rebinding.example:{receiver.port}/")
            for attempt in (1, 2, 3):
                callback = await one.attempted(run, attempt)
                assert callback.last_error is not None
                assert "callback_allowed_hosts" in callback.last_error
                await one.clock.advance(400)
            assert asked[:2] == ["rebinding.example"] * 2
        assert receiver.connections == 0
        asked.clear()
        async with house(allowed=["localhost"], resolve=open_first) as one:  # the system would say 127.0.0.1
            await one.attempted(await one.ran(receiver.url(host="localhost")), 1)
        assert asked == ["localhost"]  # once: what was judged is what was connected to
        assert receiver.connections == 0


async def test_the_next_address_is_tried_where_the_first_takes_no_connection() -> None:
    async def resolve(_host: str, _port: int) -> Sequence[str]:
        return ["::1", "127.0.0.1"]

    async with receiving() as receiver, house(allowed=["hooks.example"], resolve=resolve) as one:
        run = await one.ran(f"http://hooks.example:{receiver.port}/")
        assert (await one.attempted(run, 1)).status is CallbackStatus.DELIVERED
        assert receiver.received[0].headers["host"] == f"hooks.example:{receiver.port}"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
@pytest.mark.parametrize(("name", "believed"), [("hooks.example", True), ("other.example", False)])
async def test_a_certificate_must_be_that_of_the_name_though_the_address_is_connected_to(
    name: str, *, believed: bool, tmp_path: Path
) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made = f"openssl req -x509 -newkey rsa:2048 -nodes -keyout {key} -out {certificate} -days 2 -subj /CN=hooks.example"
    await anyio.run_process(f"{made} -addext subjectAltName=DNS:hooks.example", stderr=subprocess.DEVNULL)
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cafile=certificate)
    server.load_cert_chain(certificate, key)

    async def resolve(_host: str, _port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    async with receiving(tls=server) as receiver, house(allowed=[name], resolve=resolve, verify=client) as one:
        callback = await one.attempted(await one.ran(f"https://{name}:{receiver.port}/"), 1)
        assert (callback.status is CallbackStatus.DELIVERED) == believed
        assert len(receiver.received) == believed
        if not believed:
            assert callback.last_error is not None
            assert "CERTIFICATE_VERIFY_FAILED" in callback.last_error
