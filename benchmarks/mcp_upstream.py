"""The upstream that relayed calls are measured against: an ASGI application that speaks just enough of MCP 2026-07-28."""

from __future__ import annotations

import json
from typing import Any

LIMITS = {"ttlMs": 0, "cacheScope": "private"}
TOOLS = [{"name": "echo", "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}}]


def result_of(message: dict[str, Any]) -> dict[str, Any]:
    match message["method"]:
        case "tools/call":
            arguments = message["params"]["arguments"]
            return {"content": [{"type": "text", "text": arguments["text"]}], "structuredContent": arguments}
        case "tools/list":
            return {"tools": TOOLS, **LIMITS}
        case _:
            return {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, **LIMITS}


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """One POST, one answer."""
    if scope["type"] != "http":
        return
    body = b""
    while True:
        event = await receive()
        body += event.get("body", b"")
        if not event.get("more_body", False):
            break
    message = json.loads(body)
    reply = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": {"resultType": "complete", **result_of(message)}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(reply))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": reply})
