"""Lives of `portico serve --data`: a process on a directory that is killed, started again, and short of disk meanwhile."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx

from tests.cli.programs import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from pathlib import Path

AGENTS = """
import asyncio
import os
import uuid
from pathlib import Path

from portico import AgentProcess, Context, operation
from portico.errors import AgentError


class Echo(AgentProcess):
    async def handle(self, message):
        return message.payload


class Desk(AgentProcess):
    def note(self, what):
        self.state.setdefault("seen", []).append(what)

    async def stay(self, ctx, what):
        "Until a file of that name is there. An empty file tells that it came here: one fits on a full disk."
        Path("begun", f"{what}-{uuid.uuid4().hex}").touch()
        ctx.emit("inside", {"what": what})
        while not Path("open", what).exists():
            await asyncio.sleep(0.01)

    @operation
    async def take(self, what: str) -> int:
        self.note(what)
        return len(self.state["seen"])

    @operation
    async def look(self) -> list:
        return self.state.get("seen", [])

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
    async def refuse(self, what: str, ctx: Context) -> str:
        await self.stay(ctx, what)
        raise AgentError("too-late", f"{what} came too late", status=409)

    @operation
    async def approve(self, what: str, ctx: Context) -> dict:
        answer = await ctx.wait_input(f"{what}?", {"type": "object", "required": ["yes"]})
        self.note(what)
        return answer

    @operation
    async def ponder(self, what: str, ctx: Context) -> dict:
        await self.stay(ctx, what)
        return await ctx.wait_input(f"{what}?", {"type": "object"})

    @operation
    async def keep(self, what: str) -> list:
        await self.store.put(f"desk/{what}", {"what": what})
        return await self.store.keys("desk/")

    @operation
    async def kept(self) -> dict:
        return {key: await self.store.get(key) for key in await self.store.keys("desk/")}

    @operation
    async def halt(self, why: str) -> None:
        await self.suspend(why)

    @operation
    async def fall(self, what: str) -> str:
        raise RuntimeError("on purpose")


class Teller(AgentProcess):
    @operation
    async def tell(self, count: int, ctx: Context) -> float:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        for number in range(count):
            ctx.emit("number", {"number": number, "filling": "x" * 200})
            if number % 100 == 0:
                await asyncio.sleep(0)
        return loop.time() - begun


class Poison(AgentProcess):
    @operation
    async def drink(self, what: str) -> str:
        Path("begun", f"{what}-{uuid.uuid4().hex}").touch()
        os._exit(9)

    @operation
    async def sip(self, what: str) -> str:
        Path("begun", f"{what}-{uuid.uuid4().hex}").touch()
        await asyncio.sleep(0.5)
        os._exit(9)


class Session(Desk):
    @operation
    async def halt(self, what: str) -> None:
        await self.suspend("somebody must look")
"""

CHILDREN: Sequence[Mapping[str, Any]] = (
    {"type": "agents.Echo", "name": "echo"},
    {"type": "agents.Desk", "name": "desk", "shutdown_timeout": 0.2},
    {"type": "agents.Desk", "name": "till", "shutdown_timeout": 0.2},
    {"type": "agents.Session", "name": "session", "per_key": "what", "idle_timeout": 0.2},
    {"type": "agents.Desk", "name": "team", "pool": 2},
    {"type": "agents.Teller", "name": "teller"},
    {"type": "agents.Poison", "name": "poison"},
)


class Life:
    """One life of the server."""

    def __init__(self, process: subprocess.Popen[str], http: httpx.Client, folder: Path) -> None:
        self.process = process
        self.http = http
        self.folder = folder

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.process.kill()
        self.process.wait(5)

    @contextmanager
    def short_of_disk(self) -> Generator[None]:
        """Let no file of it take a byte more: each write fails, as on a disk that fails."""
        before = resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        try:
            yield
        finally:
            resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, before)

    def ask(self, path: str, what: str = "it", *, key: str | None = None, **headers: str) -> httpx.Response:
        """Ask an operation: `desk/take`. With a key it is stored."""
        if key is not None:
            headers["idempotency-key"] = key
        return self.http.post(f"/agents/{path}", json={"what": what}, headers=headers)

    def run(self, path: str, what: str = "it", **options: Any) -> str:
        """Start a run. Returns its id."""
        agent, _, operation = path.partition("/")
        body = {"agent": agent, "operation": operation, "payload": {"what": what}, **options}
        response = self.http.post("/runs", json=body)
        assert response.status_code == 202, response.text
        return response.json()["run_id"]

    def read(self, run: str, wait: float = 0) -> dict[str, Any]:
        """A run, as it is now, or once it has ended."""
        return self.http.get(f"/runs/{run}", params={"wait": wait}).json()

    def ended(self, run: str) -> dict[str, Any]:
        """A run, when it has ended."""
        record = self.read(run, wait=45)
        assert record.get("finished_at") is not None, record
        return record

    def events(self, run: str, *, until: str | None = None, after: int = 0, within: float = 40) -> list[tuple[int, str]]:
        """The numbers and types of a run's events: all, or up to the first of a type. One without a number has the one before."""
        late = time.monotonic() + within
        found: list[tuple[int, str]] = []
        number = after
        with self.http.stream("GET", f"/runs/{run}/events", headers={"last-event-id": str(after)}) as response:
            for line in response.iter_lines():
                if time.monotonic() > late:  # a ping came instead
                    break
                if line.startswith("id: "):
                    number = int(line[4:])
                elif line.startswith("event: "):
                    found.append((number, line[7:]))
                    if found[-1][1] == until:
                        break
        return found

    def ready(self) -> httpx.Response:
        """What `/readyz?verbose` says."""
        return self.http.get("/readyz?verbose")

    def begun(self, what: str) -> int:
        """How often a handler was entered with that."""
        return sum(one.name.rpartition("-")[0] == what for one in (self.folder / "begun").iterdir())

    def let(self, what: str) -> None:
        """Let the handlers go on that stay with that."""
        (self.folder / "open" / what).touch()


def prepare(folder: Path, children: Sequence[Mapping[str, Any]] = CHILDREN, **more: Any) -> None:
    """The topology, its agents, and where they meet the test."""
    (folder / "agents.py").write_text(AGENTS)
    tree = {"name": "root", "children": list(children)}
    (folder / "topology.yaml").write_text(json.dumps({"supervision": tree, **more}))
    for name in ("begun", "open"):
        (folder / name).mkdir(exist_ok=True)


@contextmanager
def life(
    folder: Path,
    *arguments: str | Path,
    data: Path | str | None = "data",
    env: Mapping[str, str] | None = None,
    **more: Any,
) -> Generator[Life]:
    """A server on this data directory; killed at the end, where it still lives. It never shows a traceback."""
    prepare(folder, **more)
    given = ["--data", data] if data is not None else []
    with (
        serving("topology.yaml", *given, *arguments, folder=folder, env=env) as (process, url),
        httpx.Client(base_url=url, timeout=60, trust_env=False) as http,
    ):
        yield Life(process, http, folder)
        process.kill()
        assert process.stderr is not None
        if not process.stderr.closed:
            stderr = process.stderr.read()
            assert "Traceback" not in stderr, stderr


def until(condition: Callable[[], bool]) -> None:
    """Until that is so: the server has no event for it."""
    while not condition():
        time.sleep(0.01)


def mounted(place: Path, size: str) -> bool:
    """Put a small disk there. Returns whether that is permitted."""
    place.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def remounted(place: Path, options: str) -> bool:
    """Change a disk. Returns whether that was done."""
    command = ["mount", "-o", f"remount,{options}", str(place)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def fill(filler: Path) -> None:
    """Leave no room on its disk."""
    descriptor = os.open(filler, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        while os.write(descriptor, bytes(4096)):
            pass
    except OSError:
        pass
    finally:
        os.close(descriptor)
