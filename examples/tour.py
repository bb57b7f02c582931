"""A tour of the kernel: each stop does one thing and prints a line about it.

Read it from top to bottom, next to what it prints. The tree that all stops share is at the end.

    python examples/tour.py
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, ClassVar

from portico import AgentProcess, DynamicSupervisor, GenServer, Message, Runtime, Supervisor, keyed, operation, pool
from portico.errors import DeadlineExceeded, Suspended, UnknownAgent


def say(stop: str, what: str) -> None:
    print(f"{stop + ':':<13} {what}")


# --- agents: a mailbox, and one message at a time -----------------------------------------------------------------------


class Echo(AgentProcess):
    async def handle(self, message: Message) -> Message:
        return self.reply({"echo": message.payload["text"]})


async def agents(runtime: Runtime) -> None:
    answer = await runtime.ask("echo", {"text": "hello"})
    say("agents", answer.payload["echo"])


async def names(runtime: Runtime) -> None:
    try:
        await runtime.ask("ecko", {"text": "hello"})
    except UnknownAgent as error:
        say("names", str(error))


# --- supervision: who crashes is restarted, what it had in hand is delivered again, its state survives ------------------


class Till(AgentProcess):
    @operation
    async def add(self, amount: int, message: Message) -> int:
        self.state["sum"] = self.state.get("sum", 0) + amount
        if self.state["sum"] > amount and message.attempt == 0:
            raise RuntimeError("crashes after the change, before the reply")
        return self.state["sum"]


async def supervision(runtime: Runtime) -> None:
    await runtime.ask("till", {"amount": 50}, message_type="add")
    answer = await runtime.ask("till", {"amount": 150}, message_type="add")
    say("supervision", f"crashed, restarted, answered at attempt {answer.attempt + 1}")
    say("state", f"50 + 150 = {answer.payload}: the crash took back what it had changed")


# --- messages: asks, sends, broadcasts, capabilities, deadlines ---------------------------------------------------------


class Singer(AgentProcess):
    capabilities: ClassVar = ["sing"]

    async def on_start(self) -> None:
        self.heard = 0

    async def handle(self, message: Message) -> Any:
        self.heard += message.type == "note"
        return self.heard


class Conductor(AgentProcess):
    async def handle(self, message: Message) -> Any:
        await self.send("choir.alto", {}, "note")  # nobody waits
        reached = await self.broadcast("choir.*", {}, "note")  # by name
        able = await self.send_capable("sing", {}, "note")  # by what they can do
        heard = [await self.call(name, {}) for name in reached]
        return f"{' and '.join(reached)} heard {' and '.join(map(str, heard))} notes, {len(able)} can sing"


class Slow(AgentProcess):
    async def handle(self, message: Message) -> str:
        if message.payload:
            await self.sleep(60)
        return "free again"


async def messages(runtime: Runtime) -> None:
    say("messages", await runtime.call("conductor", {}))


async def deadlines(runtime: Runtime) -> None:
    try:
        await runtime.ask("slow", {"long": True}, timeout=0.05)
    except DeadlineExceeded:
        say("deadlines", f"gave up after 0.05 s, and so did the agent: {await runtime.call('slow', {})}")


# --- GenServer: calls, casts and timers ---------------------------------------------------------------------------------


class EggTimer(GenServer):
    async def init(self) -> None:
        self.eggs = 0

    async def handle_cast(self, payload: dict[str, int]) -> None:
        self.eggs = payload["eggs"]

    async def handle_call(self, payload: Any, from_: Message) -> Any:
        self.caller = from_
        self.send_after(20, "ready")  # milliseconds
        return self.defer()

    async def handle_info(self, payload: str) -> None:
        self.reply_to(self.caller, f"{self.eggs} eggs are {payload}")


async def timers(runtime: Runtime) -> None:
    await runtime.cast("eggs", {"eggs": 3})
    say("GenServer", await runtime.call("eggs", {}))


# --- many: children at run time, a pool, a process per key, several hands -----------------------------------------------


async def dynamic(runtime: Runtime) -> None:
    await runtime.spawn("guests", Echo, "visitor")
    answer = await runtime.ask("visitor", {"text": "I am new here"})
    await runtime.stop_agent("guests", "visitor")
    say("dynamic", f"{answer.payload['echo']} … and gone: {runtime.get_agent('visitor')}")


class Porter(AgentProcess):
    async def handle(self, message: Message) -> str:
        await self.sleep(0.02)
        return self.name


async def pools(runtime: Runtime) -> None:
    async with asyncio.TaskGroup() as group:
        asks = [group.create_task(runtime.call("porters", {})) for _ in range(3)]
    say("pool", f"three at once: {', '.join(sorted(ask.result() for ask in asks))}")


class Notebook(AgentProcess):
    async def handle(self, message: Message) -> str:
        self.state["notes"] = self.state.get("notes", 0) + 1
        return f"{self.name} has {self.state['notes']}"


async def keys(runtime: Runtime) -> None:
    notes = [await runtime.call("notebook", {"owner": owner}) for owner in ("ada", "bob", "ada")]
    say("keyed", ", ".join(notes))


class Juggler(AgentProcess):
    async def on_start(self) -> None:
        self.barrier = asyncio.Barrier(4)

    async def handle(self, message: Message) -> str:
        await self.barrier.wait()  # nobody passes before four are there
        return "ball"


async def concurrency(runtime: Runtime) -> None:
    async with asyncio.TaskGroup() as group:
        asks = [group.create_task(runtime.call("juggler", {})) for _ in range(4)]
    say("concurrency", f"one agent, four hands: {' '.join(ask.result() for ask in asks)}")


# --- control: suspend and resume, monitors, links, replacement ----------------------------------------------------------


async def suspension(runtime: Runtime) -> None:
    await runtime.suspend("echo", "it is cleaned")
    try:
        await runtime.ask("echo", {"text": "hello"})
    except Suspended as error:
        await runtime.resume("echo", approver="the cleaner")
        answer = await runtime.ask("echo", {"text": "clean"})
        say("suspension", f"{error}; then {answer.payload['echo']}")


class Watcher(AgentProcess):
    async def handle(self, message: Message) -> Any:
        if message.type == "DOWN":
            self.seen = f"{message.payload['name']} is down: {message.payload['reason']}"
        elif "watch" in message.payload:
            self.monitor(message.payload["watch"])
        return getattr(self, "seen", None) or "watching"


async def monitors(runtime: Runtime) -> None:
    await runtime.spawn("guests", Echo, "visitor")
    await runtime.call("watcher", {"watch": "visitor"})
    await runtime.despawn("guests", "visitor")
    say("monitors", await runtime.call("watcher", {}))


class Twin(AgentProcess):
    async def handle(self, message: Message) -> str:
        if "link" in message.payload:
            self.link(message.payload["link"])
        elif "crash" in message.payload and message.attempt == 0:
            raise RuntimeError("one of the twins crashes")
        return self.id  # the name, and the number of its life


async def links(runtime: Runtime) -> None:
    before = [await runtime.call("castor", {"link": "pollux"}), await runtime.call("pollux", {})]
    after = [await runtime.call("castor", {"crash": True}), await runtime.call("pollux", {})]
    say("links", f"{' and '.join(before)} live and die together: {' and '.join(after)}")


class LoudEcho(AgentProcess):
    async def handle(self, message: Message) -> Message:
        return self.reply({"echo": message.payload["text"].upper()})


async def replacement(runtime: Runtime) -> None:
    await runtime.replace("echo", LoudEcho)  # mailbox and state stay
    answer = await runtime.ask("echo", {"text": "hello"})
    say("replacement", answer.payload["echo"])


# --- the tree -----------------------------------------------------------------------------------------------------------

choir = [Singer("choir.alto"), Singer("choir.bass"), Conductor("conductor")]
crowd = [pool(Porter, "porters", size=3), keyed(Notebook, per_key="owner"), DynamicSupervisor("guests")]
twins = Supervisor("twins", [Twin("castor"), Twin("pollux")], backoff_base=0.01)
others = [Slow("slow"), EggTimer("eggs"), Juggler("juggler", concurrency=4), Watcher("watcher")]
children = [Echo("echo"), Till("till"), Supervisor("choir", choir, strategy="ONE_FOR_ALL"), *crowd, twins, *others]
tree = Supervisor("root", children, backoff_base=0.01)

stops = [agents, names, supervision, messages, deadlines, timers, dynamic, pools, keys, concurrency]
stops += [suspension, monitors, links, replacement]


async def main() -> None:
    logging.disable(logging.WARNING)  # the supervisors' reports of crashes, all of which are on purpose
    async with Runtime(supervisor=tree) as runtime:
        async with runtime.router.bus.subscribe("process.crashed") as crashes:
            for stop in stops:
                await stop(runtime)
        say("events", f"crashed: {', '.join([event.data.name async for event in crashes])}")
        say("the tree", "who supervises whom")
        runtime.print_tree()


if __name__ == "__main__":
    asyncio.run(main())
