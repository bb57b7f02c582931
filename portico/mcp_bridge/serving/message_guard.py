"""MessageGuard: refuses what is no message of JSON-RPC before the SDK sees it, in one way for both eras.

Strict JSON (RFC 8259: no NaN, no lone surrogates, UTF-8), one object, ids that are texts or whole numbers. What the SDK says of
such bodies differs by era, has its validator's words in it, or takes a request with a bad id for a notification, which nobody
answers. Above: `http.py`. Below: the SDK, which judges what a message asks for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from mcp.types import INVALID_REQUEST, PARSE_ERROR
from mcp.types.jsonrpc import HEADER_MISMATCH
from pydantic_core import from_json, to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

ONCE: Final = (b"mcp-protocol-version", b"mcp-session-id", b"mcp-method", b"mcp-name", b"content-type")
"""Headers that must not come twice: who is on the way might read the other one."""


class RefusedMessage(Exception):
    """No message, or one that this caller may not send, with the status, the code and the sentence to say so.

    `challenge`: of a 401 or 403, what the caller needs (RFC 6750 §3).
    """

    def __init__(self, status: int, code: int, sentence: str, *, key: Any = None, challenge: str | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.code = code
        self.key = key
        self.challenge = challenge

    @property
    def answer(self) -> bytes:
        """The error, as JSON-RPC has it."""
        return to_json({"jsonrpc": "2.0", "id": self.key, "error": {"code": self.code, "message": str(self)}})


class MessageGuard:
    """ASGI application in front of another.

    Args:
        app: what gets the messages that are some, their bytes as they came.
        body_limit: bytes that one may have.
        judge: is shown each message with its scope; raises `RefusedMessage` where the caller may not send it.
    """

    def __init__(self, app: ASGIApp, body_limit: int, judge: Callable[[Mapping[str, Any], Scope], None] | None = None) -> None:
        self._app = app
        self._body_limit = body_limit
        self._judge = judge

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on one request, or refuse it."""
        if scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        try:
            _check_headers(scope["headers"], self._body_limit)
            body = await self._read(receive)
            if body is None:
                return  # the client has gone
            message = checked_message(body)
            if self._judge is not None:
                self._judge(message, scope)
        except RefusedMessage as refused:
            await _respond(send, refused)
            return
        await self._app(scope, _replaying(body, receive), send)

    async def _read(self, receive: Receive) -> bytes | None:
        pieces: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return None
            piece: bytes = message.get("body", b"")
            size += len(piece)
            if size > self._body_limit:
                raise _too_large(self._body_limit)
            pieces.append(piece)
            if not message.get("more_body", False):
                return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _check_headers(headers: list[tuple[bytes, bytes]], body_limit: int) -> None:
    names = [name for name, _ in headers]
    for name in ONCE:
        if names.count(name) > 1:
            raise RefusedMessage(400, HEADER_MISMATCH, f"The header {name.decode()} came more than once.")
    found = dict(headers)
    media_type = found.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if media_type != b"application/json":
        raise RefusedMessage(415, INVALID_REQUEST, "The content type must be application/json.")
    if found.get(b"content-encoding", b"identity").strip().lower() not in (b"identity", b""):
        raise RefusedMessage(415, INVALID_REQUEST, "Compressed bodies are not taken here.")
    declared = found.get(b"content-length", b"")
    if declared.isdigit() and int(declared) > body_limit:
        raise _too_large(body_limit)


def checked_message(body: bytes) -> Mapping[str, Any]:
    """A body as a message of JSON-RPC 2.0. Raises `RefusedMessage` where it is none."""
    try:
        message: Any = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise RefusedMessage(400, PARSE_ERROR, f"That is no JSON: {error}.") from None
    if isinstance(message, list):
        raise RefusedMessage(400, INVALID_REQUEST, "Batches are not taken: send each message on its own.")
    if not isinstance(message, dict):
        raise RefusedMessage(400, INVALID_REQUEST, "A message is an object.")
    known = cast("dict[str, Any]", message)
    fault = _fault_of(known)
    if fault is not None:
        raise RefusedMessage(400, INVALID_REQUEST, fault)
    return known


def _fault_of(message: dict[str, Any]) -> str | None:
    """What is wrong with an object as a message; None where it is one."""
    if message.get("jsonrpc") != "2.0":
        return "A message has the member jsonrpc with the value 2.0."
    if not message.keys() & {"method", "result", "error"}:
        return "A message has a method, a result or an error."
    if "method" in message and not isinstance(message["method"], str):
        return "The method must be text."
    if not isinstance(message.get("params", {}), dict | None):
        return "The params must be an object."
    nameless = "id" not in message if "method" in message else "error" in message and message.get("id") is None
    return None if nameless or _is_id(message.get("id")) else "The id must be text or a whole number."


def _is_id(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def _too_large(limit: int) -> RefusedMessage:
    return RefusedMessage(413, INVALID_REQUEST, f"The body is larger than {limit} bytes.")


def _replaying(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives this body first."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def _respond(send: Send, refused: RefusedMessage) -> None:
    body = refused.answer
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if refused.challenge is not None:
        headers.append((b"www-authenticate", refused.challenge.encode("latin-1", "replace")))
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
