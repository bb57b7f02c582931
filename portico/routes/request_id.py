"""RequestId: gives every request an id, echoes the client's own, and puts it on the response (`X-Request-ID`).

What goes wrong unexpectedly further in becomes a problem here. Further out stand only `Cors`, the access log and the spans.
"""

from __future__ import annotations

import asyncio
import logging
import re
from contextlib import suppress
from time import perf_counter
from typing import TYPE_CHECKING

from portico.errors import Interrupted
from portico.kernel.messages import new_id
from portico.routes.exchange import BEGUN, PREFIX, REQUEST_ID, ClientLeftError, header, respond_with_problem
from portico.telemetry.log_context import request_in_hand

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger("portico.http")

ACCEPTED = re.compile(r"[A-Za-z0-9._~:/+=@-]{1,128}")
"""A client's own id is taken when it looks like one; anything else would end up in logs as it is."""


class RequestId:
    """ASGI middleware. `always`: headers that every response has beside its id."""

    def __init__(self, app: ASGIApp, always: Iterable[tuple[bytes, bytes]] = ()) -> None:
        self._app = app
        self._always = tuple(always)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await (self._connect if scope["type"] == "websocket" else self._app)(scope, receive, send)
            return
        stamp = _begun(scope)
        token = request_in_hand.set(scope)
        always = self._always
        begun = ended = False

        def stamped(message: Message) -> Awaitable[None]:  # not a coroutine of its own: each would cost as much as its work
            nonlocal begun, ended
            if message["type"] == "http.response.start":
                begun = True
                message["headers"] = [*message.get("headers", ()), stamp, *always]
            else:
                ended = not message.get("more_body", False)
            return send(message)

        try:
            await self._app(scope, receive, stamped)
        except ClientLeftError:
            return
        except asyncio.CancelledError:  # what outlives the drain is cancelled by the server
            if begun:
                raise
            await respond_with_problem(scope, stamped, Interrupted())
        except Exception as error:
            logger.exception("request %s failed", scope[REQUEST_ID])
            if not begun:
                await respond_with_problem(scope, stamped, error)
            elif not ended:
                raise  # the server closes the connection: the client sees that the response is cut short
        finally:
            request_in_hand.reset(token)

    async def _connect(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a WebSocket: its id is on the answer to the handshake."""
        stamp, begun = _begun(scope), False
        token = request_in_hand.set(scope)

        def stamped(message: Message) -> Awaitable[None]:
            nonlocal begun
            if message["type"] in ("websocket.accept", "websocket.http.response.start"):
                begun = True
                message["headers"] = [*message.get("headers", ()), stamp, *self._always]
            return send(message)

        try:
            await self._app(scope, receive, stamped)
        except asyncio.CancelledError:
            if begun:
                raise
            await respond_with_problem(scope, stamped, Interrupted())
        except OSError:
            return  # as ASGI says it: the client has left
        except Exception as error:
            logger.exception("the connection %s failed", scope[REQUEST_ID])
            if begun:
                with suppress(OSError, RuntimeError):  # the client has left, or is told already
                    await send({"type": "websocket.close", "code": 1011})
            else:
                await respond_with_problem(scope, stamped, error)
        finally:
            request_in_hand.reset(token)


def _begun(scope: Scope) -> tuple[bytes, bytes]:
    """Note in the scope what is known of a request when it comes. Returns the header with its id."""
    given = header(scope, b"x-request-id")
    request_id = given if given is not None and ACCEPTED.fullmatch(given) else new_id()
    scope[REQUEST_ID] = request_id
    scope[PREFIX] = scope.get("root_path", "")
    scope[BEGUN] = perf_counter()
    return b"x-request-id", request_id.encode("ascii")
