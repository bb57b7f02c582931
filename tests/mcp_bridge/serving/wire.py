"""A client of 2026-07-28 that writes its requests by hand, as no SDK has the tasks extension yet."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import httpx

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

TASKS = "io.modelcontextprotocol/tasks"
VERSION = "2026-07-28"
KNOWS_TASKS: dict[str, Any] = {"elicitation": {}, "extensions": {TASKS: {}}}


class WireError(Exception):
    """A JSON-RPC error."""

    def __init__(self, status: int, error: Mapping[str, Any]) -> None:
        super().__init__(error["message"])
        self.status = status
        self.code: int = error["code"]
        self.data: Any = error.get("data")


class Wire:
    """Requests to one URL, as one client."""

    def __init__(self, http: httpx.AsyncClient, url: str, capabilities: Mapping[str, Any]) -> None:
        self._http = http
        self._url = url
        self._capabilities = dict(capabilities)

    async def request(self, method: str, params: Mapping[str, Any], *, name: str | None = None) -> dict[str, Any]:
        """The result of a request. `name`: the header `Mcp-Name`, where it is not to be the right one. Raises `WireError`."""
        meta = {
            "io.modelcontextprotocol/protocolVersion": VERSION,
            "io.modelcontextprotocol/clientCapabilities": self._capabilities,
        }
        headers = {
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": VERSION,
            "mcp-method": method,
            "mcp-name": name if name is not None else str(params.get("taskId") or params.get("name") or ""),
        }
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}
        response = await self._http.post(self._url, json=body, headers=headers)
        answer = _last(response)
        if "error" in answer:
            raise WireError(response.status_code, answer["error"])
        if "result" not in answer:
            raise httpx.ProtocolError(f"{response.status_code}: {response.text}")
        result: dict[str, Any] = answer["result"]
        return result

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """`tools/call`."""
        return await self.request("tools/call", {"name": tool, "arguments": arguments})

    async def get(self, task_id: str) -> dict[str, Any]:
        """`tasks/get`."""
        return await self.request("tasks/get", {"taskId": task_id})

    async def update(self, task_id: str, **responses: Any) -> dict[str, Any]:
        """`tasks/update`."""
        return await self.request("tasks/update", {"taskId": task_id, "inputResponses": responses})

    async def until(self, task_id: str, *statuses: str) -> dict[str, Any]:
        """Poll a task until it has one of these statuses."""
        while (task := await self.get(task_id))["status"] not in statuses:  # noqa: ASYNC110  # a client can only poll
            await anyio.sleep(0.02)
        return task


def _last(response: httpx.Response) -> dict[str, Any]:
    if not response.headers["content-type"].startswith("text/event-stream"):
        return response.json()
    data = [line.removeprefix("data:") for line in response.text.splitlines() if line.startswith("data:")]
    return json.loads(data[-1])


@asynccontextmanager
async def wire(
    url: str, capabilities: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
) -> AsyncGenerator[Wire]:
    """A client of a gateway that knows tasks, unless its capabilities say otherwise."""
    async with httpx.AsyncClient(timeout=30, trust_env=False, headers=headers) as http:
        yield Wire(http, url, KNOWS_TASKS if capabilities is None else capabilities)


def accepted(**content: Any) -> dict[str, Any]:
    """The response of somebody who has filled in a form."""
    return {"action": "accept", "content": content}
