"""A gateway over stdio for the tests: prints where it must not, then serves. Not a test."""

from __future__ import annotations

import asyncio
import os
import sys

from portico.kernel.process import AgentProcess
from portico.kernel.protocols import Context
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.mcp_bridge.serving.stdio import serve_stdio
from portico.mcp_bridge.wire import Wire, claimed_wire
from portico.operations.decorators import operation
from portico.runs.dispatcher import Dispatcher


class Echo(AgentProcess):
    """Talks too much."""

    @operation
    async def echo(self, text: str) -> dict[str, str]:
        """Gives back what it is given."""
        print("printed while serving")  # noqa: T201  # what a server over stdio must survive
        os.write(1, b"written to descriptor 1\n")
        return {"echo": text}

    async def on_stop(self) -> None:
        sys.stderr.write("stopped cleanly\n")


class Asking(AgentProcess):
    """Asks its caller."""

    @operation
    async def who(self, ctx: Context) -> str:
        """Asks who that is."""
        return await ctx.wait_input("Who?", str)


class Talking(AgentProcess):
    """Tells what it does."""

    @operation
    async def talk(self, ctx: Context) -> None:
        """Talks."""
        ctx.log("info", "talking")
        ctx.log("debug", "more than anybody wants to know")


class Patient(AgentProcess):
    """Waits until it is cancelled."""

    @operation
    async def wait(self) -> None:
        """Waits."""
        sys.stderr.write("it waits\n")
        try:
            await asyncio.Event().wait()
        finally:
            sys.stderr.write("it was cancelled\n")


async def main(wire: Wire) -> None:
    async with Runtime(
        Supervisor("root", children=[Echo("echo"), Asking("asking"), Talking("talking"), Patient("patient")])
    ) as runtime:
        await serve_stdio(Dispatcher(runtime), wire)


with claimed_wire() as wire:
    print("printed before serving")  # noqa: T201  # as above
    asyncio.run(main(wire))
