"""A gateway for the tests of the relay, as a process that can be killed and started again on the same port. Not a test.

python gateway.py PORT
"""

from __future__ import annotations

import asyncio
import os
import sys

import uvicorn
from pydantic import BaseModel, Field

from portico.app.factory import create_app
from portico.app.settings import GatewayConfig
from portico.kernel.process import AgentProcess
from portico.kernel.protocols import Context
from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.operations.decorators import operation


class Echo(AgentProcess):
    """Says back what it is told."""

    @operation
    async def echo(self, text: str) -> dict[str, str | None]:
        """Say it back."""
        return {"echo": text}


class Slow(AgentProcess):
    """Takes its time."""

    @operation
    async def wait(self) -> str:
        """Never ends."""
        sys.stdout.write("began\n")
        sys.stdout.flush()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            sys.stdout.write("cancelled\n")
            sys.stdout.flush()
            raise
        return "never"

    @operation
    async def count(self, ctx: Context, to: int = 3) -> int:
        """Tells how far it is."""
        for done in range(1, to + 1):
            ctx.progress(done, to, f"step {done}")
        return to


class Asking(AgentProcess):
    """Asks back."""

    @operation
    async def greet(self, ctx: Context) -> str:
        """Ask who it is."""
        return f"Hello, {await ctx.wait_input('Who are you?', {'type': 'string'})}!"


class Place(BaseModel):
    region: str = Field(json_schema_extra={"x-mcp-header": "Region"})


class Regional(AgentProcess):
    """Is asked where, in a header too."""

    @operation
    async def at(self, request: Place) -> str:
        """Say where."""
        return request.region


class Who(AgentProcess):
    """Knows who asks."""

    @operation
    async def who(self, ctx: Context) -> dict[str, str | None]:
        """Who asks."""
        return {"principal": ctx.principal}


def main() -> None:
    """Serve until killed."""
    port = int(sys.argv[1])
    settings = GatewayConfig(port=port, api_key=sys.argv[2] if len(sys.argv) > 2 else None)
    runtime = Runtime(Supervisor("root", children=[Echo("echo"), Slow("slow"), Who("who"), Asking("asking"), Regional("regional")]))
    app = create_app(runtime, settings)
    if "WAIT" in os.environ:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
    uvicorn.run(app, port=port, log_level="error", timeout_graceful_shutdown=2)


if __name__ == "__main__":
    main()
