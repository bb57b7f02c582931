"""Stalled: connections whose client reads nothing, found and cut while the server stops.

Closing such a connection waits for its client, and so would the stop: one that has read nothing of what is ready for it for
`PATIENCE` seconds is not waited for. uvicorn owns the connections; this only looks at them.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PATIENCE: Final = 1.0
"""Seconds without a byte read."""


async def cut_stalled(transports: Callable[[], Iterable[asyncio.Transport]]) -> None:
    """Until cancelled: look, wait, and abort what has not moved meanwhile. `transports`: those that there are."""
    before: dict[asyncio.Transport, int] = {}
    while True:
        now = {transport: transport.get_write_buffer_size() for transport in transports()}
        for transport, waiting in now.items():
            if waiting and waiting == before.get(transport):
                transport.abort()
        before = now
        await asyncio.sleep(PATIENCE)
