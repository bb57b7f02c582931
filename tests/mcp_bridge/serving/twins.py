"""Two endpoints over one dispatcher, one with the direct path and one without, and raw requests to both."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import httpx
from starlette.applications import Starlette
from starlette.routing import Route

from portico.kernel.runtime import Runtime
from portico.kernel.supervisor import Supervisor
from portico.mcp_bridge.serving.http import MCPEndpoint
from portico.mcp_bridge.serving.options import ServingOptions
from portico.runs.dispatcher import Dispatcher
from tests.mcp_bridge.helpers import Principal, free_port, serving

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from portico.kernel.process import AgentProcess

MODERN: Final = "2026-07-28"
PREFIX: Final = "io.modelcontextprotocol/"
HEADERS: Final = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
COMPARED: Final = ("allow", "retry-after", "www-authenticate")
"""The headers in which two answers must agree, beside their kind."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    kind: str
    """The media type."""
    message: Any
    """The JSON-RPC message of a JSON body, or the last one of a stream; the text of any other body."""
    headers: tuple[str | None, ...]
    raw: bytes

    @property
    def told(self) -> tuple[Any, ...]:
        """What must be the same on both ways."""
        return self.status, steady(self.message), self.headers


def steady(message: Any) -> Any:
    """A message without what differs from call to call: ids of runs, and how often an agent has crashed."""
    match message:
        case {"result": {"_meta": dict()} as result}:
            about: dict[str, Any] = result["_meta"]
            about = {**about, **({"portico/run_id": True} if "portico/run_id" in about else {})}
            problem: dict[str, Any] = about.get("portico/error", {})
            kept = {key: value for key, value in problem.items() if key not in ("incarnation", "restarts", "run_id")}
            crashed = problem.get("slug") == "agent-crashed"
            content = len(result["content"]) if crashed else result["content"]
            return {**message, "result": {**result, "content": content, "_meta": {**about, "portico/error": kept}}}
        case _:
            return message


def meta(**more: Any) -> dict[str, Any]:
    """The envelope of the new era. `more`: by the ends of their names."""
    return {
        f"{PREFIX}protocolVersion": MODERN,
        f"{PREFIX}clientCapabilities": {},
        f"{PREFIX}clientInfo": {"name": "twins", "version": "1"},
        **{PREFIX + name: value for name, value in more.items()},
    }


def call(name: str, arguments: Any = None, *, envelope: Any = None, request_id: Any = 7, **params: Any) -> dict[str, Any]:
    """A call of the new era; `envelope` in place of its `_meta`."""
    asked: dict[str, Any] = {
        "name": name,
        "arguments": arguments if arguments is not None else {},
        "_meta": envelope or meta(),
        **params,
    }
    return {"jsonrpc": "2.0", "id": request_id, "method": "tools/call", "params": asked}


def old_call(name: str, arguments: Any = None, *, request_id: Any = 7, **params: Any) -> dict[str, Any]:
    """A call of the old era."""
    asked: dict[str, Any] = {"name": name, "arguments": arguments if arguments is not None else {}, **params}
    return {"jsonrpc": "2.0", "id": request_id, "method": "tools/call", "params": asked}


def headers_of(message: Any, **more: str | None) -> dict[str, str]:
    """The headers of a message of the new era, or others: `more`, with `_` for `-`; None for none."""
    said = cast("dict[str, Any]", message) if isinstance(message, dict) else {}
    params = said.get("params")
    name = cast("dict[str, Any]", params).get("name") if isinstance(params, dict) else "x"
    usual: dict[str, str | None] = {**HEADERS, "mcp-protocol-version": MODERN, "mcp-method": "tools/call", "mcp-name": str(name)}
    usual.update({key.replace("_", "-"): value for key, value in more.items()})
    return {key: value for key, value in usual.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Twin:
    """One of the two."""

    url: str
    client: httpx.AsyncClient

    async def post(self, body: Any, headers: Mapping[str, str] | list[tuple[str, str]]) -> Answer:
        """Send these bytes, or this as JSON."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        response = await self.client.post(self.url, content=content, headers=headers)
        return answer_of(response)

    async def session(self, capabilities: Mapping[str, Any] | None = None, *, who: str | None = None) -> dict[str, str]:
        """Open a session of the old era. Returns the headers of its requests. `who`: the caller, where there is one."""
        headers = {} if who is None else {"x-who": who}
        opening = {"protocolVersion": "2025-11-25", "capabilities": capabilities or {}, "clientInfo": {"name": "t", "version": "1"}}
        message = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": opening}
        response = await self.client.post(self.url, json=message, headers={**HEADERS, **headers})
        response.raise_for_status()
        own = {**HEADERS, **headers, "mcp-session-id": response.headers["mcp-session-id"], "mcp-protocol-version": "2025-11-25"}
        done = await self.post({"jsonrpc": "2.0", "method": "notifications/initialized"}, own)
        assert done.status == 202
        return own


def answer_of(response: httpx.Response) -> Answer:
    """A response, taken apart."""
    kind = response.headers.get("content-type", "").partition(";")[0]
    message: Any = response.text
    if kind == "text/event-stream":
        events = [line.removeprefix("data: ") for line in response.text.replace("\r", "").split("\n") if line.startswith("data: ")]
        message = json.loads(events[-1])
    elif kind == "application/json":
        message = response.json() if response.content else None
    headers = tuple(response.headers.get(name) for name in COMPARED)
    return Answer(response.status_code, kind, message, headers, response.content)


@asynccontextmanager
async def twins(*agents: AgentProcess, **options: Any) -> AsyncGenerator[tuple[Twin, Twin]]:
    """The endpoint with the direct path, and the one without. `options`: of both."""
    port = free_port()
    async with Runtime(Supervisor("root", children=list(agents))) as runtime:
        dispatcher = Dispatcher(runtime)
        direct = MCPEndpoint(dispatcher, allowed_hosts=None, options=ServingOptions(direct=True, **options))
        plain = MCPEndpoint(dispatcher, allowed_hosts=None, options=ServingOptions(direct=False, **options))

        @asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncGenerator[None]:
            async with direct.lifespan(), plain.lifespan():
                yield

        app = Starlette(routes=[Route("/direct", endpoint=direct), Route("/plain", endpoint=plain)], lifespan=lifespan)
        async with serving(Principal(app), port), httpx.AsyncClient(timeout=30) as client:
            base = f"http://127.0.0.1:{port}"
            yield Twin(f"{base}/direct", client), Twin(f"{base}/plain", client)
