"""A client that reads nothing, while the server stops."""

from __future__ import annotations

import socket

import anyio
import pytest

from tests.app.serving import head, served
from tests.routes.agents import Flood

pytestmark = pytest.mark.anyio


async def test_a_client_that_reads_nothing_does_not_hold_up_the_stop() -> None:
    flood = Flood("flood")
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        async with served(flood, patience=None, drain_timeout=60) as gateway:
            client.connect(("127.0.0.1", gateway.port))
            client.sendall(head("POST", "/agents/flood", "Content-Length: 0", "Accept: text/event-stream"))
            with anyio.fail_after(20):
                await flood.over.wait()
            began = anyio.current_time()
        took = anyio.current_time() - began

    assert took < 20  # for as long as the drain may take, where nobody cuts it
