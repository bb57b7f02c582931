"""Soak: a real server under load that is killed again and again, and a comparison of what was promised with what is there.

The server is a process of its own; the clients are here, speak HTTP over a real socket, and repeat with the same idempotency key or
run id what a kill has cut off. Above: `portico soak`, and a test. Below: the agents of `soak_agents.py`, HTTP, and
the store, which is looked through when the last server is dead.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
import time
from asyncio.subprocess import PIPE
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, cast

import httpx

from portico.errors import StoreError
from portico.sse import EventDecoder
from portico.stores.sqlite import SqliteStore
from portico.testing.soak_agents import PAYMENTS, SEEN, STEPS, topology

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping
    from pathlib import Path

    Report = Callable[[str], None]

PATIENCE: Final = 60.0
"""Seconds after which something that should have come is missing."""
PAUSE: Final = 0.05
"""Seconds, at most, for which a handler stops in between; most stop for much less."""
PAUSES: Final[Mapping[str, float]] = {"cashier": 0.5, "sequence": 0.03}
"""The same, of some agents."""
LIVES: Final = (0.15, 1.5)
"""Seconds, at least and at most, that the server lives before it is killed; longer where the machine is busy."""
EARLY: Final = 0.2
"""The part of the kills that come while the server starts."""
STOPS: Final = 0.15
"""How many stops by SIGTERM there are for each kill."""
LEAVES: Final = 0.1
"""The part of the events after which a reader leaves, and comes back."""
AT_ONCE: Final = 6
"""How many runs of one client may be open."""
SHOWN: Final = 40
"""How many lines of what is wrong, and of the server's log, are shown."""
_ENTRY: Final = re.compile(r"^(?=\d{4}-\d\d-\d\d )", re.MULTILINE)
"""Where an entry of the server's log begins."""
TERMINAL: Final = frozenset({"run.succeeded", "run.failed", "run.cancelled", "run.timed_out"})


class SoakError(Exception):
    """It cannot go on."""


# --- what is asked ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of request."""

    agent: str
    """Who is asked."""
    operation: str
    """What."""
    way: str
    """How: `ask`, `cast`, `loose` (a cast without a key), `run`, `async`, `stream` or `plain` (an ask without a key)."""
    counts: tuple[str, ...]
    """Whose states count it where it succeeds."""
    weight: int = 1
    """How often it comes, compared with the others."""
    effect: bool = True
    """Whether it emits one event `effect`."""
    told: int = 0
    """How often it asks the teller, which counts it so often."""
    ends: frozenset[str] = frozenset({"succeeded"})
    """How it may end."""

    @property
    def path(self) -> str:
        """Where it is asked."""
        return f"/agents/{self.agent}" if self.operation in ("note", "tell", "pay") else f"/agents/{self.agent}/{self.operation}"


WORK: Final = ("worker", "receiver")
KINDS: Final[Mapping[str, Kind]] = {
    "ask": Kind("worker", "work", "ask", WORK, 4, told=1),
    "cast": Kind("worker", "work", "cast", WORK, 2, told=1),
    "loose": Kind("worker", "work", "loose", WORK, told=1),
    "run": Kind("worker", "work", "run", WORK, 2, told=1),
    "async": Kind("worker", "work", "async", WORK, 2, told=1),
    "stream": Kind("worker", "work", "stream", WORK, 2, told=1),
    "delayed": Kind("worker", "work", "run", WORK, told=1),
    "crash": Kind("worker", "work", "ask", WORK, told=1),
    "cancelled": Kind("worker", "work", "run", WORK, told=1, ends=frozenset({"succeeded", "cancelled"})),
    "late": Kind("worker", "work", "ask", WORK, told=1, ends=frozenset({"succeeded", "timed_out"})),
    "transfer": Kind("worker", "hand_over", "ask", ("worker", "receiver", "finisher"), 2, told=2),
    "once": Kind("cashier", "pay", "run", ("cashier", "receiver"), 2, ends=frozenset({"succeeded", "failed"})),
    "approve": Kind("waiter", "approve", "run", ("waiter", "receiver"), 2),
    "hope": Kind("waiter", "hope", "async", ("waiter", "receiver")),
    "nap": Kind("waiter", "nap", "async", ("waiter", "receiver")),
    "turn": Kind("session", "turn", "cast", ("session", "receiver"), 2),
    "plain": Kind("counter", "note", "plain", ("counter",), effect=False),
    "sequence": Kind("sequence", "note", "cast", ("sequence",), 0, effect=False),
}
SENDERS: Final = ("worker", "cashier", "waiter")
"""Whose every commit has sent one message to the receiver, which must have them in the order of the commits."""


@dataclass(slots=True)
class Stream:
    """What a client has seen of a run's events."""

    events: list[tuple[int, str, Any]] = field(default_factory=list[tuple[int, str, Any]])
    """Number, type and data."""
    breaks: int = 0
    """How often it was broken off."""

    @property
    def last(self) -> int:
        """The number of the last event."""
        return self.events[-1][0] if self.events else 0

    @property
    def ended(self) -> bool:
        """Whether the terminal event has come."""
        return bool(self.events) and self.events[-1][1] in TERMINAL


@dataclass(slots=True, eq=False)
class Request:
    """One request of a client, and what became of it."""

    name: str
    """No other has it."""
    kind: Kind
    payload: dict[str, Any]
    headers: dict[str, str]
    run_id: str | None = None
    accepted: bool = False
    """Whether a client got an answer that promises that it is done."""
    reply: Any = None
    """What an ask was answered."""
    status: str | None = None
    """How it ended, where that was told."""
    refused: bool = False
    """Whether it was not accepted."""
    stream: Stream | None = None
    """What its client has seen of its events."""
    outcome: tuple[Any, ...] | None = None
    """Status, output and error, as they were read first."""
    answered: bool = False
    """Whether its input was sent, perhaps in vain."""

    @property
    def exact(self) -> bool:
        """Whether it must be done, once it was accepted, and never twice."""
        return self.kind.way != "plain"


# --- the server -------------------------------------------------------------------------------------------------------


class Server:
    """`portico serve` as a process, one after another, always on the same port and the same data directory."""

    def __init__(self, directory: Path, environ: Mapping[str, str] | None) -> None:
        self.up = asyncio.Event()
        """Set while it takes requests, as far as anybody knows."""
        self.lives = 0
        """How often it has announced itself."""
        self.port = 0
        self.took = 0.0
        """Seconds that its last start took."""
        self.slowest = 0.0
        """The same of the slowest."""
        self._directory = directory
        self._environ = environ
        self._process: asyncio.subprocess.Process | None = None
        self._log = directory / "server.log"
        self._next = asyncio.Event()
        files = directory / "files"
        files.mkdir()
        (directory / "topology.yaml").write_text(json.dumps(topology(files), indent=1))

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    async def spawn(self) -> None:
        """Start a process."""
        options = ["--data", str(self._directory / "data"), "--port", str(self.port), "--log-level", "warning"]
        command = [sys.executable, "-m", "portico", "serve", str(self._directory / "topology.yaml"), *options]
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=log, env=self._environ)

    async def start(self) -> None:
        """Start a process, and wait until it says where it serves. Raises `SoakError` where it does not."""
        begun = time.monotonic()
        await self.spawn()
        assert self._process is not None  # noqa: S101  # just spawned
        assert self._process.stdout is not None  # noqa: S101  # it is a pipe
        line = b""
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                line = await self._process.stdout.readline()
        announced = re.match(r"Portico serves http://\S+:(\d+)\b", line.decode())
        if announced is None:
            await self.kill()
            raise SoakError(f"the server did not start after life {self.lives}: it said {line.decode()!r}")
        self.port = int(announced[1])
        self.took = time.monotonic() - begun
        self.slowest = max(self.slowest, self.took)
        self.lives += 1
        self.up.set()
        self._next.set()
        self._next = asyncio.Event()

    async def kill(self) -> None:
        """End it with SIGKILL."""
        self.up.clear()
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    async def stop(self) -> int | None:
        """End it with SIGTERM. Returns its exit code; None where it had to be killed."""
        self.up.clear()
        assert self._process is not None  # noqa: S101  # it has been started
        self._process.terminate()
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._process.wait()
        except TimeoutError:
            await self.kill()
            return None

    async def next_life(self) -> None:
        """Until it has been started again."""
        await self._next.wait()

    def wake(self) -> None:
        """Nobody waits for another life any more."""
        self._next.set()

    async def damage(self) -> list[str]:
        """What the store itself finds, when nobody uses it."""
        store = SqliteStore(self._directory / "data", read_only=True)
        try:
            await store.open()
            return [f"the store is damaged: {sentence}" for sentence in await store.verify()]
        except StoreError as error:
            return [str(error)]
        finally:
            await store.close()

    def entries(self) -> list[str]:
        """The entries of its log, without the crashes on purpose."""
        text = self._log.read_text(errors="replace") if self._log.exists() else ""
        return [entry for entry in _ENTRY.split(text) if entry.strip() and "on purpose" not in entry]

    def tail(self) -> list[str]:
        """The last lines of these."""
        return "".join(self.entries()).splitlines()[-SHOWN:]


# --- the clients ------------------------------------------------------------------------------------------------------


class Client:
    """A careful client: what breaks off is sent again, with the same key or run id."""

    def __init__(self, soak: Soak, number: int) -> None:
        self.soak = soak
        self.number = number
        self.dice = random.Random(f"{soak.seed}/{number}")  # noqa: S311  # reproducible, not secret
        self._http = httpx.AsyncClient(base_url=soak.server.url, timeout=PATIENCE, trust_env=False)
        self._open = asyncio.Semaphore(AT_ONCE)
        self._asked = 0

    async def run(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do that again and again until the soak is over, and read every stream to its end."""
        try:
            async with asyncio.timeout(None) as limit, self._http, asyncio.TaskGroup() as self._readers:
                while not self.soak.over:
                    await work()
                limit.reschedule(asyncio.get_running_loop().time() + PATIENCE)
        except TimeoutError:
            self.soak.complain(f"client {self.number} has waited {PATIENCE:g} s in vain for the last of its streams")

    # --- requests -----------------------------------------------------------------------------------------------------

    def request(self, what: str) -> Request:
        """A new request of that kind."""
        self._asked += 1
        name, kind = f"{self.number}-{self._asked}-{what}", KINDS[what]
        payload: dict[str, Any] = {"request": name}
        request = Request(name, kind, payload, {})
        payload["pause"] = round(self.dice.random() ** 6 * PAUSES.get(kind.agent, PAUSE), 4)
        if what == "nap":
            payload["seconds"] = 1.0 + self.dice.random()
        if what == "crash":
            payload["crash"] = True
        if what == "late":
            request.headers["request-timeout"] = str(round(0.01 + self.dice.random() * 0.5, 3))
        if kind.agent == "session":
            payload["session"] = f"s{self.dice.randrange(5)}"
        if kind.way in ("ask", "cast", "async", "stream"):
            request.headers["idempotency-key"] = name
        if kind.way == "async":
            request.headers["prefer"] = "respond-async"
        if kind.way == "run":
            request.run_id = f"run-{name}"
        self.soak.requests[name] = request
        return request

    async def anything(self) -> None:
        """One request of any kind; what it starts is followed beside the next."""
        names = list(KINDS)
        what = self.dice.choices(names, [kind.weight for kind in KINDS.values()])[0]
        request = self.request(what)
        if request.kind.way in ("ask", "plain"):
            await self._ask(request)
        else:
            await self._open.acquire()
            self._readers.create_task(self._see_through(request, delay=self.dice.random() * 2 if what == "delayed" else 0))

    async def one_after_another(self) -> None:
        """A cast that is accepted before the next one is sent. Now and then its end is waited for."""
        request = self.request("sequence")
        await self._submit(request)
        if self._asked % 5 == 0 and request.run_id is not None:
            await self._follow(request)

    async def _ask(self, request: Request) -> None:
        path = request.kind.path
        if request.exact:
            response = await self.insist("POST", path, json=request.payload, headers=request.headers)
        else:
            response = await self.once("POST", path, json=request.payload)
            if response is None:
                return
        if response.status_code == HTTPStatus.GATEWAY_TIMEOUT and "timed_out" in request.kind.ends:
            request.accepted, request.status = True, "timed_out"
        elif response.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
            request.refused = request.exact
        elif response.status_code != HTTPStatus.OK:
            self.soak.complain(f"{request.name} was answered {response.status_code}: {response.text[:300]}")
        else:
            request.accepted, request.reply, request.status = True, response.json(), "succeeded"

    async def _see_through(self, request: Request, *, delay: float = 0) -> None:
        try:
            if request.kind.way == "stream":
                await self._ask_for_stream(request)
            else:
                await self._submit(request, delay=delay)
            if "cancelled" in request.kind.ends:
                await self._cancel(request)
            if request.accepted:
                await self._follow(request)
        finally:
            self._open.release()

    async def _submit(self, request: Request, *, delay: float = 0) -> None:
        kind = request.kind
        if kind.way == "run":
            body = {"agent": kind.agent, "operation": kind.operation, "payload": request.payload, "run_id": request.run_id}
            response = await self.insist("POST", "/runs", json={**body, "delay": delay} if delay else body)
        elif kind.way == "loose":
            response = await self.once("POST", f"{kind.path}/cast", json=request.payload)
            if response is None or response.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
                return
        else:
            path = f"{kind.path}/cast" if kind.way == "cast" else kind.path
            response = await self.insist("POST", path, json=request.payload, headers=request.headers)
        if response.status_code == HTTPStatus.OK and kind.way == "async":  # sent again when it was over already
            request.accepted, request.reply = True, response.json()
            request.run_id = await self.run_of(request)
        elif response.status_code != HTTPStatus.ACCEPTED:
            self.soak.complain(f"{request.name} was answered {response.status_code}: {response.text[:300]}")
        else:
            run_id: str = response.json()["run_id"]
            if request.run_id not in (None, run_id):
                self.soak.complain(f"{request.name} was to be run {request.run_id}, and is {run_id}")
            request.run_id, request.accepted = run_id, True

    async def _cancel(self, request: Request) -> None:
        """Cancel a run that has just been accepted. What is answered is how it ended."""
        response = await self.insist("POST", f"/runs/{request.run_id}/cancel")
        if response.status_code != HTTPStatus.OK:
            self.soak.complain(f"to cancel {request.run_id} was answered {response.status_code}: {response.text[:300]}")
        else:
            request.status = response.json()["status"]

    async def once(self, method: str, path: str, **options: Any) -> httpx.Response | None:
        """One attempt. None where the connection broke."""
        server = self.soak.server
        await server.up.wait()
        life = server.lives
        try:
            return await self._http.request(method, path, **options)
        except httpx.TransportError as error:
            if isinstance(error, httpx.TimeoutException) and server.up.is_set() and server.lives == life:
                raise SoakError(f"{method} {path} was not answered for {PATIENCE:g} s: {options}") from error
            return None

    async def insist(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Again and again, until there is an answer."""
        vain = 0
        while True:
            life = self.soak.server.lives
            response = await self.once(method, path, **options)
            if response is not None and response.status_code != HTTPStatus.SERVICE_UNAVAILABLE:
                return response
            if response is not None:
                if response.json()["type"] == "/problems/deadline-unreachable":  # there is no point in asking again
                    return response
                await self._come_later(response)
            vain = vain + 1 if life == self.soak.server.lives and self.soak.server.up.is_set() else 0
            if vain == 10:  # noqa: PLR2004  # a keep-alive connection may end while it is used, but not again and again
                raise SoakError(f"{method} {path} was not answered by a server that is up")

    async def _come_later(self, response: httpx.Response) -> None:
        """Wait as long as the server wants that."""
        await response.aread()
        self.soak.refused[response.json()["type"]] += 1
        await asyncio.sleep(float(response.headers.get("retry-after", 0.1)))

    async def run_of(self, request: Request) -> str:
        """The run of a keyed ask, which a stream of the same key tells."""
        headers = {"idempotency-key": request.name, "accept": "text/event-stream"}
        response = await self.insist("POST", request.kind.path, json=request.payload, headers=headers)
        if "location" not in response.headers:  # it failed before it told anything: a problem, which names its run
            return response.json()["run_id"]
        return response.headers["location"].rpartition("/")[2]

    # --- streams ------------------------------------------------------------------------------------------------------

    async def _ask_for_stream(self, request: Request) -> None:
        """An ask whose answer is a stream. When that breaks off, it is followed as any other run."""
        headers = {**request.headers, "accept": "text/event-stream"}
        stream = request.stream = Stream()
        while request.run_id is None:
            await self.soak.server.up.wait()
            with suppress(httpx.TransportError):
                async with self._http.stream("POST", request.kind.path, json=request.payload, headers=headers) as response:
                    if response.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
                        await self._come_later(response)
                        continue
                    if response.status_code != HTTPStatus.OK:
                        about = json.loads(await response.aread())
                        if "run_id" in about:  # it failed before it told anything
                            request.run_id, request.accepted = about["run_id"], True
                            break
                        self.soak.complain(f"{request.name} was answered {response.status_code}: {about}")
                        return
                    request.run_id, request.accepted = response.headers["location"].rpartition("/")[2], True
                    await self._read(request, stream, response)

    async def _follow(self, request: Request) -> None:
        """Read its events to the last one, however often that breaks off."""
        stream = request.stream = request.stream or Stream()
        while not stream.ended:
            await self.soak.server.up.wait()
            headers = {"last-event-id": str(stream.last)} if stream.last else {}
            life, before = self.soak.server.lives, stream.last
            try:
                async with self._http.stream("GET", f"/runs/{request.run_id}/events", headers=headers) as response:
                    if response.status_code != HTTPStatus.OK:
                        self.soak.complain(f"the events of {request.run_id} ({request.name}): {response.status_code}")
                        return
                    if await self._read(request, stream, response):
                        continue
            except httpx.TransportError:
                stream.breaks += 1
                continue
            in_vain = self.soak.server.up.is_set() and (life, before) == (self.soak.server.lives, stream.last)
            if in_vain and not stream.ended:
                self.soak.complain(f"the stream of {request.run_id} ({request.name}) ended after event {stream.last}")
                return

    async def _read(self, request: Request, stream: Stream, response: httpx.Response) -> bool:
        """Read what comes. Returns whether the reader left before the end."""
        async for number, kind, data in events_of(response):
            if kind in ("stream.draining", "error"):
                continue
            if number is None:
                self.soak.complain(f"the stream of {request.run_id} ({request.name}) has an event {kind}: {data}")
                continue
            if number != stream.last + 1:
                self.soak.complain(f"the stream of {request.run_id} ({request.name}): {number} came after {stream.last}")
            stream.events.append((number, kind, data))
            if kind == "run.waiting" and request.kind.operation == "approve" and not request.answered:
                request.answered = True
                self._readers.create_task(self._answer(request))
            if self.dice.random() < LEAVES and not stream.ended:
                return True
        return False

    async def _answer(self, request: Request) -> None:
        """Give a run its input: at once, or to another life of the server."""
        if self.dice.random() < 0.5 and not self.soak.over:  # noqa: PLR2004  # every second one
            await self.soak.server.next_life()
        answer, attempts = {"approved": True, "by": request.name}, 0
        while True:
            attempts += 1
            response = await self.once("POST", f"/runs/{request.run_id}/input", json=answer)
            if response is not None and response.status_code != HTTPStatus.SERVICE_UNAVAILABLE:
                break
            if response is not None:
                await self._come_later(response)
        late = attempts > 1 and response.status_code == HTTPStatus.CONFLICT  # the one before has arrived
        if response.status_code != HTTPStatus.OK and not late:
            self.soak.complain(f"the input of {request.run_id} was answered {response.status_code}: {response.text[:300]}")


async def events_of(response: httpx.Response) -> AsyncIterator[tuple[int | None, str, Any]]:
    """The events of a stream (WHATWG HTML §9.2): number, type, data. One that is not whole counts for nothing."""
    decoder = EventDecoder()
    async for chunk in response.aiter_bytes():
        for told in decoder.feed(chunk):
            data, number = json.loads(told.data), int(told.id) if told.id is not None else None
            yield number, told.name, data["data"] if number is not None else data


# --- the soak ---------------------------------------------------------------------------------------------------------


class Soak:
    """One run of it, in a directory of its own."""

    def __init__(
        self,
        directory: Path,
        *,
        kills: int,
        seconds: float | None,
        clients: int,
        seed: int,
        report: Report,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.server = Server(directory, environ)
        self.seed = seed
        self.over = False
        """Whether nothing new is asked."""
        self.requests: dict[str, Request] = {}
        self.refused: Counter[str] = Counter()
        """How often the server asked to come later, by problem."""
        self.wrong: list[str] = []
        self._kills = kills
        self._seconds = seconds
        self._clients = clients
        self._report = report
        self._dice = random.Random(seed)  # noqa: S311  # reproducible, not secret
        self._files = directory / "files"
        self._killed = 0
        self._stopped = 0

    def complain(self, text: str) -> None:
        """Something is not as it was promised."""
        self.wrong.append(text)

    async def run(self) -> list[str]:
        """Run it. Returns what went wrong."""
        try:
            await self.server.start()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._kill_again_and_again())
                for number in range(self._clients):
                    client = Client(self, number)
                    sequential = number % 4 == 3  # noqa: PLR2004  # every fourth
                    group.create_task(client.run(client.one_after_another if sequential else client.anything))
            self._report(f"{len(self.requests)} requests, {self._killed} kills, {self._stopped} stops; now everything is looked at")
            await self._judge()
        except* (SoakError, httpx.HTTPError) as errors:
            self.wrong += [f"{type(error).__name__}: {error}" for error in _leaves(errors)]
        finally:
            await self.server.kill()
        self.wrong += await self.server.damage()
        tracebacks = sum("Traceback" in entry for entry in self.server.entries())
        if tracebacks:
            self.wrong.append(f"the server's log has {tracebacks} tracebacks")
        return self.wrong

    # --- the kills ----------------------------------------------------------------------------------------------------

    async def _kill_again_and_again(self) -> None:
        begun = time.monotonic()
        try:
            while self._killed < self._kills:
                await asyncio.sleep(self._pause(begun))
                if self._dice.random() < STOPS:
                    await self._stop()
                    continue
                await self.server.kill()
                self._killed += 1
                if self._dice.random() < EARLY and self._killed < self._kills:
                    await self.server.spawn()
                    await asyncio.sleep(self._dice.random() * 1.2)
                    await self.server.kill()
                    self._killed += 1
                await self.server.start()
                if self._killed % 10 == 0:
                    self._report(f"{self._killed} kills, {len(self.requests)} requests")
            if self._seconds is not None:
                await asyncio.sleep(max(0.0, begun + self._seconds - time.monotonic()))
        finally:
            self.over = True
            self.server.wake()

    async def _stop(self) -> None:
        """For once as an operator does."""
        code = await self.server.stop()
        if code != 0:
            self.complain(f"the server ended with {code} after a SIGTERM")
        self._stopped += 1
        await self.server.start()

    def _pause(self, begun: float) -> float:
        """Seconds until the next kill: a random moment."""
        least, most = LIVES
        if self._seconds is None:
            return self._dice.uniform(least, max(most, self.server.took / 2))
        due = begun + self._seconds * (self._killed + self._dice.random()) / self._kills
        return max(least, due - time.monotonic())

    # --- the judgement ------------------------------------------------------------------------------------------------

    async def _judge(self) -> None:
        """Let everything end, start the server once more, and look at what is left on the disk."""
        async with httpx.AsyncClient(base_url=self.server.url, timeout=PATIENCE, trust_env=False) as http:
            look = Look(self, http, self._files)
            await look.wait_for_ends()
            await look.note_outcomes()
        await self.server.kill()
        await self.server.start()
        async with httpx.AsyncClient(base_url=self.server.url, timeout=PATIENCE, trust_env=False) as http:
            look = Look(self, http, self._files)
            await look.judge()
            for line in look.figures():
                self._report(line)


class Look:
    """A look at everything that a server says, and at the files of its agents."""

    def __init__(self, soak: Soak, http: httpx.AsyncClient, files: Path) -> None:
        self._soak = soak
        self._http = http
        self._files = files
        self._complain = soak.complain
        self._requests = soak.requests
        self._runs: list[dict[str, Any]] = []
        self._tops: dict[str, dict[str, Any]] = {}
        """The run of each request, by its name."""
        self._streams: dict[str, Stream] = {}
        """The events of each run, by its id, as they are now."""

    async def _get(self, path: str, **parameters: Any) -> Any:
        response = await self._http.get(path, params=parameters)
        if response.status_code != HTTPStatus.OK:
            raise SoakError(f"GET {path} was answered {response.status_code}: {response.text[:300]}")
        return response.json()

    async def _each(self, work: Iterable[Awaitable[None]]) -> None:
        """Do all of it, some at a time."""
        queue = iter(work)

        async def worker() -> None:
            for one in queue:
                await one

        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(worker())

    # --- before the last restart --------------------------------------------------------------------------------------

    async def wait_for_ends(self) -> None:
        """Until no run is left that has not ended."""
        try:
            async with asyncio.timeout(PATIENCE):
                for status in ("waiting", "queued", "running", "queued", "running"):
                    while runs := (await self._get("/runs", status=status, limit=500))["runs"]:
                        await self._get(f"/runs/{runs[-1]['run_id']}", wait=5)
        except TimeoutError:
            for status in ("waiting", "queued", "running"):
                for run in (await self._get("/runs", status=status, limit=500))["runs"]:
                    self._complain(f"run {run['run_id']} of {run['agent']} is {status} for ever: {run['input']}")

    async def note_outcomes(self) -> None:
        """Read every run once, so that it can be compared with what is read after the restart."""
        await self._list()
        for run in self._runs:
            request = self._requests.get(_request_of(run))
            if request is not None and run["parent_id"] is None:
                request.outcome = _outcome(run)

    async def _list(self) -> None:
        before: dict[str, Any] = {}
        while True:
            page = await self._get("/runs", limit=500, **before)
            self._runs += [run for run in page["runs"] if run["stored"]]
            if page["next"] is None:
                return
            before = {"before": page["next"]}

    # --- after it -----------------------------------------------------------------------------------------------------

    async def judge(self) -> None:
        """Compare."""
        await self._list()
        self._judge_runs()
        await self._each(self._judge_stream(request) for request in self._requests.values() if request.name in self._tops)
        await self._each(self._repeat(request) for request in self._requests.values() if request.kind.way in ("ask", "async"))
        self._judge_children()
        await self._judge_states()
        self._judge_files()
        await self._judge_dead_letters()

    def _judge_runs(self) -> None:
        """Every accepted request has one run, under its id, that has ended as it should and as it was seen before."""
        for run in self._runs:
            if run["parent_id"] is None:
                name = _request_of(run)
                if name in self._tops:
                    self._complain(f"{name} has two runs: {self._tops[name]['run_id']} and {run['run_id']}")
                self._tops[name] = run
        for name, request in self._requests.items():
            run = self._tops.get(name)
            if run is not None and request.refused:
                self._complain(f"{name} was refused, and is run {run['run_id']}")
            if run is None:
                if request.accepted and request.exact:
                    self._complain(f"{name} was accepted as run {request.run_id}, which is not there")
            else:
                self._judge_run(request, run)
        for name in self._tops.keys() - self._requests.keys():
            self._complain(f"run {self._tops[name]['run_id']} has a request {name!r} that nobody made")

    def _judge_run(self, request: Request, run: dict[str, Any]) -> None:
        about = f"run {run['run_id']} ({request.name})"
        if request.run_id not in (None, run["run_id"]):
            self._complain(f"{about} was accepted as {request.run_id}")
        if request.outcome != _outcome(run):
            self._complain(f"{about} was {request.outcome} before the last restart, and is {_outcome(run)}")
        if request.reply is not None and run["output"] != request.reply:
            self._complain(f"{about} was answered {request.reply}, and has the output {run['output']}")
        if request.status not in (None, run["status"]):
            self._complain(f"{about} was {request.status}, and is {run['status']}")
        if run["status"] not in request.kind.ends:
            self._complain(f"{about} is {run['status']}: {run['error']}")
        first = f"{request.name}/{run['agent']}/"
        if run["status"] == "succeeded" and "first" in run["output"] and not run["output"]["first"].startswith(first):
            self._complain(f"{about} has the result of somebody else's step: {run['output']}")
        if run["status"] == "failed" and (run["error"] is None or run["error"]["slug"] != "interrupted"):
            self._complain(f"{about} has failed for no good reason: {run['error']}")

    async def _repeat(self, request: Request) -> None:
        """A keyed ask that is repeated has the same answer, and is not handled again."""
        headers = {name: value for name, value in request.headers.items() if name != "prefer"}
        run = self._tops.get(request.name)
        if run is None:
            return
        response = await self._http.post(request.kind.path, json=request.payload, headers=headers)
        replayed = response.headers.get("idempotency-replayed")
        succeeded = run["status"] == "succeeded"
        expected = HTTPStatus.OK if succeeded else HTTPStatus.GATEWAY_TIMEOUT
        if (response.status_code, replayed) != (expected, "true") or (succeeded and response.json() != run["output"]):
            text = f"{response.status_code}, replayed: {replayed}: {response.text[:200]}"
            self._complain(f"{request.name}, repeated with its key, was answered {text} instead of {run['output']}")

    async def _judge_stream(self, request: Request) -> None:
        """A run's events are whole, end with its end, and are those that its client has seen."""
        run = self._tops[request.name]
        about = f"the stream of {run['run_id']} ({request.name})"
        fresh = self._streams[run["run_id"]] = Stream()
        async with self._http.stream("GET", f"/runs/{run['run_id']}/events") as response:
            async for number, kind, data in events_of(response):
                fresh.events.append((number or 0, kind, data))
        if [event[0] for event in fresh.events] != list(range(1, len(fresh.events) + 1)):
            self._complain(f"{about} has the numbers {[event[0] for event in fresh.events]}")
        ends = [kind for _, kind, _ in fresh.events if kind in TERMINAL]
        if ends != [f"run.{run['status']}"] or not fresh.ended:
            self._complain(f"{about} of a run that {run['status']} ends with {fresh.events[-1:]}; terminal events: {ends}")
        seen = request.stream
        if seen is not None:
            for old, new in zip(map(_comparable, seen.events), map(_comparable, fresh.events), strict=False):
                if old != new:
                    self._complain(f"{about}: its client saw {old}, and now there is {new}")
                    break
            if seen.ended and len(seen.events) != len(fresh.events):
                self._complain(f"{about}: its client saw {len(seen.events)} events, and now there are {len(fresh.events)}")
        if run["status"] == "succeeded":
            self._judge_events(request, fresh, about)

    def _judge_events(self, request: Request, stream: Stream, about: str) -> None:
        """What a handler emits is there once; a step whose result is stored is not begun again."""
        kinds = Counter(kind for _, kind, _ in stream.events)
        expected = {"effect": int(request.kind.effect), "counted": request.kind.told}
        for kind, number in expected.items():
            if kinds[kind] != number:
                self._complain(f"{about} has {kinds[kind]} events {kind!r} instead of {number}: {[e[1] for e in stream.events]}")
        if kinds["run.restarted"]:
            self._complain(f"{about} says that its handling went another way: {[e[1] for e in stream.events]}")
        completed: set[str] = set()
        for _, kind, data in stream.events:
            if kind == "step.started" and data["key"] in completed:
                self._complain(f"{about}: the step {data['key']} was begun again after its result was stored")
            if kind == "step.completed":
                completed.add(data["key"])

    def _judge_children(self) -> None:
        """What a handler that has committed sent is a run of its own, once; what another one sent is not there."""
        sent = Counter(run["parent_id"] for run in self._runs if run["parent_id"] is not None)
        for run in self._runs:
            if run["parent_id"] is None:
                kind = self._requests[_request_of(run)].kind if _request_of(run) in self._requests else None
                number = int(run["status"] == "succeeded" and kind is not None and "receiver" in kind.counts)
                if sent.pop(run["run_id"], 0) != number:
                    self._complain(f"run {run['run_id']} has not sent {number} messages: {_request_of(run)}")
            elif run["status"] != "succeeded":
                self._complain(f"run {run['run_id']}, sent by {run['parent_id']}, is {run['status']}: {run['error']}")
        for parent, number in sent.items():
            self._complain(f"{number} messages were sent by run {parent}, which is not there")

    async def _judge_states(self) -> None:
        """Every state has counted what it should, once, and what one client sent one after another in that order."""
        seen: dict[str, list[str]] = {}
        for agent in {"teller", *(agent for kind in KINDS.values() for agent in kind.counts)} - {"session"}:
            seen[agent] = (await self._get(f"/agents/{agent}/state")).get(SEEN, [])
        seen["session"] = []
        for number in range(5):
            response = await self._http.post("/agents/session/report", json={"session": f"s{number}"})
            seen["session"] += response.json()
        for agent, names in seen.items():
            self._judge_state(agent, Counter(names))
        self._judge_order(seen["sequence"])
        for agent in SENDERS:
            self._judge_sends(agent, seen[agent], seen["receiver"])

    def _judge_state(self, agent: str, counted: Counter[str]) -> None:
        for name, request in self._requests.items():
            kind, run = request.kind, self._tops.get(name)
            done = (run is not None and run["status"] == "succeeded") if request.exact else request.accepted
            most = kind.told if agent == "teller" else int(agent in kind.counts)
            # What is asked in a handling that came to nothing has been done; a plain ask may have been, though its answer was lost.
            least = 0 if not done else most
            allowed = least if request.exact and agent != "teller" else most
            found = counted.pop(name, 0)
            if not least <= found <= allowed:
                self._complain(f"{agent} has counted {name} {found} times: {least} would be right, or {allowed}")
        for name, number in counted.items():
            self._complain(f"{agent} has counted {name} {number} times, which nobody sent")

    def _judge_order(self, names: list[str]) -> None:
        last: dict[str, int] = {}
        for name in names:
            client, number, _ = name.split("-")
            if int(number) <= last.get(client, 0):
                self._complain(f"the sequence of client {client}: {number} came after {last[client]}")
            last[client] = max(int(number), last.get(client, 0))

    def _judge_sends(self, sender: str, committed: list[str], received: list[str]) -> None:
        """What one agent has sent to another comes in the order in which it was sent."""
        place = {name: number for number, name in enumerate(received)}
        last = ""
        for name in committed:
            if name in place:
                if last and place[name] < place[last]:
                    self._complain(f"{sender} has sent {last} before {name}, and the receiver had them the other way round")
                last = name

    def _judge_files(self) -> None:
        """Every step was called, always under the same key; no payment was begun twice."""
        keys: dict[str, set[tuple[str, str]]] = {}
        called: dict[str, set[str]] = {}
        for line in self._lines(STEPS):
            run_id, agent, name, key, _ = line.split(" ")
            keys.setdefault(run_id, set()).add((f"{agent} {name}", key))
            called.setdefault(run_id, set()).add(key)
        for run_id, found in keys.items():
            doubled = [step for step, number in Counter(step for step, _ in found).items() if number > 1]
            if doubled and "teller tell" not in doubled:  # who hands over has asked it, and who goes on asks it again
                self._complain(f"the steps {doubled} of run {run_id} had several keys: {sorted(found)}")
        for run_id, stream in self._streams.items():
            completed = [data for _, kind, data in stream.events if kind == "step.completed"]
            for data in completed:
                if data["key"] not in called.get(run_id, ()):
                    self._complain(f"the step {data['key']} of run {run_id} is complete, but was never called")
        begun = Counter(line.split(" ")[0] for line in self._lines(PAYMENTS))
        paid = {run["run_id"] for run in self._tops.values() if run["agent"] == "cashier" and run["status"] == "succeeded"}
        for run_id in begun.keys() | paid:
            if begun[run_id] > 1 or (run_id in paid and begun[run_id] == 0):
                self._complain(f"run {run_id}, which must begin once, has begun {begun[run_id]} times")

    async def _judge_dead_letters(self) -> None:
        """Those that were interrupted and must not be repeated, and no others."""
        found: set[str] = set()
        before: dict[str, Any] = {}
        while True:
            page = await self._get("/dead-letters", limit=500, **before)
            for letter in page["dead_letters"]:
                found.add(letter["run_id"])
                if not letter["reason"]:
                    self._complain(f"the dead letter {letter['id']} has no reason")
            if page["next"] is None:
                break
            before = {"before": page["next"]}
        expected = {run["run_id"] for run in self._runs if run["status"] == "failed"}
        for run_id in expected ^ found:
            self._complain(f"run {run_id} {'is no' if run_id in expected else 'has not failed, but is a'} dead letter")

    def _lines(self, name: str) -> list[str]:
        path = self._files / name
        return path.read_text().splitlines() if path.exists() else []

    # --- figures ------------------------------------------------------------------------------------------------------

    def figures(self) -> list[str]:
        """What was done, for people."""
        kinds = Counter(name.partition("-")[2].partition("-")[2] for name in self._requests)
        listed = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())
        accepted = sum(request.accepted for request in self._requests.values())
        breaks = sum(request.stream.breaks for request in self._requests.values() if request.stream is not None)
        events = sum(len(stream.events) for stream in self._streams.values())
        again = Counter(run["attempts"] for run in self._runs)
        steps = self._lines(STEPS)
        doubled = len(steps) - len({line.split(" ")[3] for line in steps})
        failed = sum(run["status"] == "failed" for run in self._runs)
        return [
            f"{len(self._requests)} requests, {accepted} of them accepted: {listed}",
            f"{len(self._runs)} runs, {events} events; attempts: {dict(sorted(again.items()))}; interrupted for good: {failed}",
            f"{breaks} streams were broken off; {doubled} of {len(steps)} calls of steps were repeats",
            f"refused for a while: {dict(self._soak.refused) or 'none'}; slowest start {self._soak.server.slowest:.1f} s",
        ]


def _leaves(error: BaseException) -> list[BaseException]:
    """The exceptions in a group of groups."""
    if isinstance(error, BaseExceptionGroup):
        inside = cast("BaseExceptionGroup[BaseException]", error).exceptions
        return [leaf for one in inside for leaf in _leaves(one)]
    return [error]


def _request_of(run: Mapping[str, Any]) -> str:
    """The name of the request that a run is about."""
    payload = run["input"]
    return str(cast("dict[str, Any]", payload).get("request")) if isinstance(payload, dict) else ""


def _outcome(run: Mapping[str, Any]) -> tuple[Any, ...]:
    return run["status"], run["output"], run["error"]


def _comparable(event: tuple[int, str, Any]) -> tuple[int, str, Any]:
    """An event without what belongs to the reader's own request."""
    number, kind, data = event
    if kind in TERMINAL and isinstance(data, dict):
        data = {key: value for key, value in cast("dict[str, Any]", data).items() if key != "request_id"}
    return number, kind, data


def soak(
    directory: Path,
    *,
    kills: int,
    seconds: float | None,
    clients: int,
    seed: int,
    report: Report,
    environ: Mapping[str, str] | None = None,
) -> list[str]:
    """Serve the agents of the soak, ask them, and kill the server again and again.

    Args:
        directory: an empty one; topology, data, the agents' files and the server's log are in it afterwards.
        kills: how often the server is killed.
        seconds: over how long the kills are spread; None for one after another.
        clients: how many ask at once; every fourth sends one after another, and its order is looked at.
        seed: of the dice.
        report: told what goes on.
        environ: the server's environment; None for that of this program.

    Returns what went wrong, and the end of the server's log with it; nothing where all is sound.
    """
    run = Soak(directory, kills=kills, seconds=seconds, clients=clients, seed=seed, report=report, environ=environ)
    wrong = asyncio.run(run.run())
    if not wrong:
        return []
    more = [f"… and {len(wrong) - SHOWN} more"] if len(wrong) > SHOWN else []
    return [*wrong[:SHOWN], *more, *(f"server: {line}" for line in run.server.tail())]
