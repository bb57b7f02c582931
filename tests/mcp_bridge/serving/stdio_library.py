"""A library over stdio for the tests. Not a test."""

from __future__ import annotations

import asyncio

from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.mcp_bridge.serving.stdio import Wire, claimed_wire, serve_stdio
from portico.runs.dispatcher import Dispatcher
from tests.mcp_bridge.serving.library import Library


async def main(wire: Wire) -> None:
    async with Runtime(Supervisor("root", children=[Library("library")])) as runtime:
        await serve_stdio(Dispatcher(runtime), wire)


with claimed_wire() as claimed:
    asyncio.run(main(claimed))
