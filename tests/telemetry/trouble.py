"""An OTLP endpoint with which something is wrong."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Generator

KINDS: Final = ("down", "hangs", "slow", "nonsense", "errors")
DELAY: Final = 2.0
"""Seconds that a slow one takes for each answer, as long as it is there."""


@contextmanager
def trouble(kind: str) -> Generator[str]:
    """Its address, without a path."""
    if kind in ("down", "hangs"):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            if kind == "hangs":
                listener.listen(100)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        return
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            if kind == "slow":
                over.wait(DELAY)
            body = b"<html>Welcome</html>" if kind != "slow" else b""
            self.send_response(500 if kind == "errors" else 200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        over.set()
        server.shutdown()
        thread.join()
        server.server_close()
