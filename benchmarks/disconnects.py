"""Disconnects: the time from a client's leaving to its handler's `CancelledError`, by the clock that both processes share.

A client leaves by FIN, by RST, or half; at once, or when its ask is watched already; an ask, a stream, or an ask of an ask.
"""

from __future__ import annotations

import socket
import struct
import sys
import time
from pathlib import Path

from gateway import LONGEST, Gateway, served
from machine import pace
from rounds import Bounds, print_table

TOPOLOGY = Path(__file__).parent / "streams.yaml"
AGES = (0.0, 0.03, 0.2)
"""Seconds after the beginning of the handling."""
HEAD = "POST {} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\nContent-Type: application/json\r\nAccept: {}\r\n\r\n{{}}"


def leave(client: socket.socket, how: str) -> float:
    """Leave. Returns when."""
    left = time.monotonic()
    if how == "half":
        client.shutdown(socket.SHUT_WR)
        return left
    if how == "RST":
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    return left


def noticed(gateway: Gateway, path: str, accept: str, how: str, age: float) -> float:
    """Milliseconds until the handler is cancelled."""
    with socket.create_connection(("127.0.0.1", gateway.port), LONGEST) as client:
        client.sendall(HEAD.format(path, accept).encode())
        while gateway.request("/agents/herald/begun", "POST", b"{}") != (200, True):
            pass
        time.sleep(age)
        left = leave(client, how)
        status, cancelled = gateway.request("/agents/herald/cancelled", "POST", b"{}")
    if status != 200:
        raise RuntimeError(f"the handler was not cancelled: {cancelled}")
    return (cancelled - left) * 1000


def main(rounds: int = 20) -> bool:
    """Print the table. Returns whether the target was met."""
    kinds = {
        "ask, FIN": ("/agents/herald/stay", "*/*", "FIN"),
        "ask, RST": ("/agents/herald/stay", "*/*", "RST"),
        "ask, half-closed": ("/agents/herald/stay", "*/*", "half"),
        "ask of an ask, FIN": ("/agents/crier", "*/*", "FIN"),
        "stream, FIN": ("/agents/herald/stay", "text/event-stream", "FIN"),
    }
    times: dict[str, list[float]] = {}
    with served(topology=TOPOLOGY) as gateway:
        for name, (path, accept, how) in kinds.items():
            found = [noticed(gateway, path, accept, how, AGES[number % len(AGES)]) for number in range(rounds)]
            times[name] = [max(found)]
            times[f"{name}: each"] = found
    targets = {name: Bounds(most=100 / min(1.0, pace())) for name in kinds}
    return print_table(
        f"From a client's leaving to its handler's end: the latest of {rounds}, and each", times, None, targets, " ms"
    )


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
