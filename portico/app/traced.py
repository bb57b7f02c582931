"""Traced: traces of a command that serves no HTTP: `portico mcp` and `portico ask`, where an endpoint is configured.

Above: the command line, which hands on what the environment says. `create_app` does the same for gateways, in their lifespan.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from portico.telemetry.setup import traces

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from portico.kernel.runtime import Runtime
    from portico.telemetry.outlets import Outlets
    from portico.telemetry.tracing import Tracing


@asynccontextmanager
async def traced(runtime: Runtime, outlets: Outlets) -> AsyncGenerator[list[Tracing]]:
    """The observers that the dispatcher of a runtime needs, which is not started yet; in the end what is left is sent.

    Raises:
        ConfigurationError, MissingExtra: as `traces`.
    """
    telemetry = traces(outlets)
    if telemetry is None:
        yield []
        return
    runtime.services.observers.append(telemetry.observer)
    try:
        yield [telemetry.observer]
    finally:
        runtime.services.observers.remove(telemetry.observer)
        await asyncio.to_thread(telemetry.shutdown)  # it may wait for a collector
