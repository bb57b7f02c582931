"""Sender: one HTTP request with a callback, and what came of it. Above: the deliverer. Below: httpx, and the guard.

It follows no redirect, takes no proxy from the environment, keeps no connection and shows nothing of what a receiver answers but
its status: who asks for a callback learns nothing from it about places that only the gateway reaches.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import httpx

from portico.kernel.clock import timeout
from portico.retry_after import retry_after
from portico.version import __version__
from portico.webhooks.guard import ClosedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from portico.kernel.clock import Clock
    from portico.webhooks.guard import Guard, Target

PATIENCE: Final = 15.0
"""Seconds for an attempt, from the look-up of the host to the end of the answer."""
CONNECTING: Final = 5.0
"""Seconds for a connection to one address of a host; then the next one is tried."""
MOST_READ: Final = 4096
"""Bytes that are read of an answer, so that an ordinary receiver can end it well."""
PATIENT: Final = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
"""The statuses whose `Retry-After` counts (RFC 6585 §4, RFC 9110 §15.6.4)."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an attempt."""

    status: int | None = None
    """The HTTP status; None where there was no answer."""
    error: str | None = None
    """Why it has failed, as a sentence; None where it was delivered."""
    retry_after: float = 0.0
    """Seconds that the receiver wants to be left alone."""
    gone: bool = False
    """Whether the receiver wants no more of it."""


class Sender:
    """Sends to hosts that the guard leaves open. `verify`: None for the certificate authorities that httpx knows."""

    def __init__(self, guard: Guard, clock: Clock, *, verify: ssl.SSLContext | None = None) -> None:
        self._guard = guard
        self._clock = clock
        self._verify = verify

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Outcome:
        """Send it once."""
        try:
            async with timeout(self._clock, PATIENCE):
                return await self._send(await self._guard.target(url), headers, body)
        except ClosedError as error:
            return Outcome(error=str(error))
        except (TimeoutError, httpx.TimeoutException):
            return Outcome(error=f"There was no answer within {PATIENCE:.0f} seconds.")
        except httpx.ConnectError as error:
            return Outcome(error=f"There was no connection: {error}.")
        except httpx.HTTPError:
            return Outcome(error="The connection ended without an answer.")
        except (OSError, ValueError, httpx.InvalidURL):
            return Outcome(error="Its host cannot be found.")

    async def _send(self, target: Target, headers: Mapping[str, str], body: bytes) -> Outcome:
        # A client for each: a connection that was verified for one host must not serve another one at the same address.
        transport = httpx.AsyncHTTPTransport(verify=await self._context(target.url), trust_env=False)
        limits = httpx.Timeout(PATIENCE, connect=CONNECTING)
        async with httpx.AsyncClient(transport=transport, timeout=limits, trust_env=False) as client:
            for address in target.addresses[:-1]:
                try:
                    return await self._post(client, target, address, headers, body)
                except (httpx.ConnectError, httpx.ConnectTimeout):
                    continue
            return await self._post(client, target, target.addresses[-1], headers, body)

    async def _context(self, url: httpx.URL) -> ssl.SSLContext:
        """What certificates are checked with. To read the authorities takes a good while, so it is done once, and aside."""
        if url.scheme == "http":
            return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # never used: a transport that is given none reads them all
        if self._verify is None:
            self._verify = await asyncio.to_thread(httpx.create_ssl_context)
        return self._verify

    async def _post(
        self, client: httpx.AsyncClient, target: Target, address: str, headers: Mapping[str, str], body: bytes
    ) -> Outcome:
        """Send it to the very address that the guard has seen; certificate and `Host` are those of the name."""
        request = client.build_request(
            "POST",
            target.url.copy_with(host=address),
            headers={
                "host": target.url.netloc.decode("ascii"),
                "content-type": "application/json",
                "user-agent": f"portico/{__version__}",
                "accept": "*/*",
                "accept-encoding": "identity",
                "connection": "close",
                **headers,
            },
            content=body,
            extensions={"sni_hostname": target.host},
        )
        response = await client.send(request, stream=True)
        try:
            read = 0
            async for piece in response.aiter_raw():
                read += len(piece)
                if read >= MOST_READ:
                    break
        finally:
            await response.aclose()
        return self._outcome(response)

    def _outcome(self, response: httpx.Response) -> Outcome:
        status = response.status_code
        if response.is_success:
            return Outcome(status)
        if status == HTTPStatus.GONE:
            return Outcome(status, "It answered 410: it wants no more callbacks.", gone=True)
        redirected = "; a redirect is not followed" if response.is_redirect else ""
        asked = retry_after(response.headers.get("retry-after"), self._clock.time()) if status in PATIENT else None
        return Outcome(status, f"It answered {status}{redirected}.", asked or 0.0)
