"""The limit that MCP calls are measured against: parses a `tools/call`, prints its answer, and does nothing else."""

from __future__ import annotations

import json
from typing import Any

STAMP = {"io.modelcontextprotocol/serverInfo": {"name": "bare", "version": "1"}}


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """The answer of an echo."""
    if scope["type"] != "http":
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    asked = json.loads(body)
    said = {"echo": asked.get("params", {}).get("arguments", {}).get("text")}
    content = [{"type": "text", "text": json.dumps(said)}]
    result = {"content": content, "structuredContent": said, "isError": False, "resultType": "complete", "_meta": STAMP}
    reply = json.dumps({"jsonrpc": "2.0", "id": asked.get("id"), "result": result}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(reply))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": reply})
