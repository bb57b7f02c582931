"""A tiny external MCP server of the standard library, which starts in no time: `tiny_server.py [--http PORT] [--notes FILE]`.

Not a test. It speaks 2026-07-28, over stdio also the old era (`--old`). `strike` is not to be called twice: it notes each call, and
answers after `wait` seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from typing import Any

parser = argparse.ArgumentParser()
parser.add_argument("--http", type=int)
parser.add_argument("--notes")
parser.add_argument("--old", action="store_true")
options = parser.parse_args()

TOOLS = [
    {"name": "echo", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}},
    {"name": "strike", "inputSchema": {"type": "object"}},
    {"name": "pid", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}},
]
CACHE = {"ttlMs": 0, "cacheScope": "private"}


def note(line: str) -> None:
    if options.notes is not None:
        with open(options.notes, "a", encoding="utf-8") as notes:  # noqa: PTH123  # pathlib costs a fifth of the start
            notes.write(line + "\n")


def called(params: dict[str, Any]) -> dict[str, Any]:
    name = params["name"]
    arguments: dict[str, Any] = params.get("arguments") or {}
    if name == "strike":
        note(f"strike {arguments['id']}")
        time.sleep(arguments.get("wait", 0))
    if name == "pid":
        arguments = {"pid": os.getpid()}
    return {"resultType": "complete", "content": [], "structuredContent": arguments}


def answered(message: dict[str, Any]) -> dict[str, Any]:
    method = message["method"]
    params: dict[str, Any] = message.get("params") or {}
    result: dict[str, Any] | None = None
    if method == "server/discover" and not options.old:
        note("asked for the era")
        result = {"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, **CACHE}
    elif method == "initialize":
        about = {"name": "tiny", "version": "1"}
        result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": about}
    elif method == "tools/list":
        result = {"resultType": "complete", "tools": TOOLS, **CACHE}
    elif method == "tools/call":
        result = called(params)
    if result is None:
        return {"jsonrpc": "2.0", "id": message["id"], "error": {"code": -32601, "message": f"no {method}"}}
    return {"jsonrpc": "2.0", "id": message["id"], "result": result}


def serve_http(port: int) -> None:
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer  # most of the start, and stdio needs none

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answer = answered(json.loads(body))
            data = json.dumps(answer).encode()
            self.send_response(404 if "error" in answer else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # its name in the base class
            """Says nothing."""

    ThreadingHTTPServer.daemon_threads = True
    ThreadingHTTPServer.allow_reuse_address = True
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


def serve_line(line: str) -> None:
    message = json.loads(line)
    if "id" in message and "method" in message:
        data = json.dumps(answered(message)) + "\n"
        with writing:
            sys.stdout.write(data)
            sys.stdout.flush()


if options.http is not None:
    serve_http(options.http)
else:
    writing = threading.Lock()
    for line in sys.stdin:
        threading.Thread(target=serve_line, args=(line,), daemon=True).start()
