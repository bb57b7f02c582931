"""Login: one person logs in at a remote server, by a browser: prints where to go, and hears the answer on a port of this machine.

Only an answer with the state of this very login counts (RFC 6749 §10.12); whatever else comes is told so, and waited past. Above:
`portico mcp-login`. It keeps nothing: `authorizing.py` does.
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, urlsplit

from mcp.client.auth import OAuthFlowError
from mcp.shared.auth import AuthorizationCodeResult

from portico.loopback import is_loopback

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

PATH: Final = "/callback"
LONGEST_REQUEST: Final = 16 * 1024
"""Bytes of a request's head."""
READ_PATIENCE: Final = 10.0
"""Seconds for it to come."""
_PAGE: Final = "<!doctype html><meta charset=utf-8><title>Portico</title><p>{}"


class Login:
    """See the module; made by `waiting_for_login`."""

    def __init__(self, port: int, show: Callable[[str], None], timeout: float) -> None:
        self.address = f"http://127.0.0.1:{port}{PATH}"
        """Where the browser is sent back to (RFC 8252 §7.3: a literal address, never a name)."""
        self._show = show
        self._timeout = timeout
        self._state: str | None = None
        self._answered: asyncio.Future[dict[str, str]] | None = None

    async def ask(self, address: str) -> None:
        """Show where to log in. Raises `OAuthFlowError` for an address that nobody should open."""
        parsed = urlsplit(address)
        if parsed.scheme != "https" and not (parsed.scheme == "http" and is_loopback(parsed.hostname or "")):
            raise OAuthFlowError("its authorisation server is not reached by https")
        self._state = parse_qs(parsed.query).get("state", [None])[0]
        self._answered = asyncio.get_running_loop().create_future()
        self._show(address)

    async def answer(self) -> AuthorizationCodeResult:
        """What came back. Raises `OAuthFlowError` where nothing did in time, or a refusal."""
        assert self._answered is not None  # noqa: S101  # `ask` comes first
        try:
            async with asyncio.timeout(self._timeout):
                said = await self._answered
        except TimeoutError:
            raise OAuthFlowError(f"nobody has logged in within {self._timeout:g} s") from None
        if "error" in said:
            raise OAuthFlowError(f"the authorisation server refused: {said['error'][:80]}")
        return AuthorizationCodeResult(code=said.get("code", ""), state=said.get("state"), iss=said.get("iss"))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request to the callback."""
        try:
            async with asyncio.timeout(READ_PATIENCE):
                head = await reader.readuntil(b"\r\n\r\n")
            status, text = self._take(head)
            body = _PAGE.format(text).encode()
            lines = [f"HTTP/1.1 {status}", "content-type: text/html", f"content-length: {len(body)}", "connection: close"]
            lines += ["cache-control: no-store", "referrer-policy: no-referrer", "content-security-policy: default-src 'none'"]
            writer.write("\r\n".join([*lines, "", ""]).encode() + body)
            await writer.drain()
        except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    def _take(self, head: bytes) -> tuple[str, str]:
        method, target, *_ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        parsed = urlsplit(target)
        if method != "GET" or parsed.path != PATH:
            return "404 Not Found", "There is nothing here."
        said = {key: values[0] for key, values in parse_qs(parsed.query).items() if len(values) == 1}
        answered, state = self._answered, said.get("state", "")
        if answered is None or self._state is None or not secrets.compare_digest(state.encode(), self._state.encode()):
            return "400 Bad Request", "This is no answer to the login that is waited for."
        if not answered.done():
            answered.set_result(said)
        return "200 OK", "Portico has heard it. You can close this page."


@asynccontextmanager
async def waiting_for_login(port: int, show: Callable[[str], None], timeout: float) -> AsyncGenerator[Login]:
    """A login whose callback listens on this machine only, meanwhile.

    Args:
        port: where; 0 for any.
        show: called with the address that somebody has to open.
        timeout: seconds that they have.

    Raises:
        OSError: the port is taken.
    """

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await login.serve(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", port, limit=LONGEST_REQUEST)
    login = Login(server.sockets[0].getsockname()[1], show, timeout)
    async with server:
        yield login
