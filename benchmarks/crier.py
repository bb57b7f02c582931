"""Crier: a gateway in which as many things happen each second as it is told. `benchmarks/console.py` watches it from a browser.

python benchmarks/crier.py PORT EVENTS_PER_SECOND AGENTS
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

from portico import AgentProcess, Runtime, Supervisor
from portico.app.factory import create_app
from portico.app.server import GatewayServer, bind
from portico.app.settings import GatewayConfig
from portico.kernel.events import EventKind

BATCHES = 100
"""How often in a second something happens: one event after the other would measure the sleeping."""


class Echo(AgentProcess):
    """Says what it hears."""

    async def handle(self, message: Any) -> Any:
        """Say it."""
        return message.payload


async def cry(runtime: Runtime, rate: int, agents: int) -> None:
    """Tell of crashes that never were; the message of each is when it was told."""
    number, began = 0, time.monotonic()
    while True:
        await asyncio.sleep(1 / BATCHES)
        due = int((time.monotonic() - began) * rate)
        for one in range(number, due):
            error = RuntimeError(f"{time.time():.6f}")
            runtime.router.emit(EventKind.PROCESS_CRASHED, f"echo-{one % agents}", error=error, reason=str(error))
        number = due


async def main(port: int, rate: int, agents: int) -> None:
    """Serve until it is killed."""
    runtime = Runtime(Supervisor("root", [Echo(f"echo-{number}") for number in range(agents)]))
    settings = GatewayConfig(port=port)
    app = create_app(runtime, settings)
    with bind(settings) as listener:
        server = GatewayServer(app, settings, listener)
        async with app.router.lifespan_context(app), asyncio.TaskGroup() as group:
            group.create_task(server.serve())
            if rate:
                group.create_task(cry(runtime, rate, agents))
            await server.accepting.wait()
            print("ready", flush=True)


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
