"""BackChannel: how a client of the old era is asked while a call of its is answered directly, and where its responses are awaited.

Above: `going_on.py`, which gives one to the code that the SDK's way uses; the direct paths, which show it what clients send. A
request goes out on the stream of its call; the response comes as a message of its own.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, cast

import anyio
from mcp.shared.exceptions import MCPError, NoBackChannelError
from mcp.shared.transport_context import TransportContext
from mcp.types import INTERNAL_ERROR
from pydantic_core import from_json, to_json

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from mcp.shared.dispatcher import CallOptions
    from mcp.types import RequestId

PREFIX: Final = "portico-"
"""What the ids of our requests begin with: the SDK's are numbers, and so none is another's."""


class Questions:
    """The requests to one client that it has not answered yet."""

    def __init__(self) -> None:
        self._open: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._count = 0

    async def ask(self, tell: Callable[[bytes], Awaitable[None]], method: str, params: Mapping[str, Any] | None) -> dict[str, Any]:
        """Send a request by `tell`, and wait for the response. Whoever is cancelled meanwhile takes the request back.

        Raises:
            MCPError: the client has answered with an error.
        """
        self._count += 1
        request_id = f"{PREFIX}{self._count}"
        response: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._open[request_id] = response
        try:
            await tell(to_json({"jsonrpc": "2.0", "id": request_id, "method": method, "params": dict(params or {})}))
            return await response
        except asyncio.CancelledError:
            with anyio.CancelScope(shield=True):
                taken_back = {"requestId": request_id, "reason": "The answer is not needed any more."}
                await tell(to_json({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": taken_back}))
            raise
        finally:
            del self._open[request_id]

    def hear(self, body: bytes) -> bool:
        """Whether a message is the response to one of them; then who has asked gets it."""
        if not self._open or PREFIX.encode() not in body:
            return False
        try:
            message: Any = from_json(body)
        except ValueError:
            return False
        if not isinstance(message, dict):
            return False
        said = cast("dict[str, Any]", message)
        request_id = said.get("id")
        waiting = self._open.get(request_id) if isinstance(request_id, str) and "method" not in said else None
        if waiting is None or waiting.done():
            return False
        result, error = said.get("result"), said.get("error")
        if isinstance(result, dict):
            waiting.set_result(cast("dict[str, Any]", result))
        else:
            about = cast("dict[str, Any]", error) if isinstance(error, dict) else {}
            code, text = about.get("code"), about.get("message")
            waiting.set_exception(
                MCPError(
                    code if isinstance(code, int) else INTERNAL_ERROR, text if isinstance(text, str) else "", about.get("data")
                )
            )
        return True


class BackChannel:
    """That of one call, in the form that the SDK's sessions take (`DispatchContext`).

    Args:
        request_id: of the call.
        questions: of its client; None: it cannot be asked by requests.
        tell: sends a message on the stream of the call.
    """

    def __init__(self, request_id: RequestId, questions: Questions | None, tell: Callable[[bytes], Awaitable[None]] | None) -> None:
        self.request_id: RequestId | None = request_id
        self.message_metadata = None
        self.cancel_requested = anyio.Event()
        self._questions = questions
        self._tell = tell

    @property
    def can_send_request(self) -> bool:
        """Whether the client can be asked."""
        return self._questions is not None and self._tell is not None

    @property
    def transport(self) -> TransportContext:
        """What carries the call."""
        return TransportContext(kind="direct", can_send_request=self.can_send_request)

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None
    ) -> dict[str, Any]:
        """Ask the client. Raises `MCPError`; `NoBackChannelError` where it cannot be asked."""
        del opts  # nobody here sets any
        if self._questions is None or self._tell is None:
            raise NoBackChannelError(method)
        return await self._questions.ask(self._tell, method, params)

    async def notify(self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None) -> None:
        """Nothing: whoever wants to be told of anything is not answered directly."""

    async def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        """Nothing, as `notify`."""
