"""Attempts: a request is sent until it is answered, cannot be any more, or its time is over. Every call goes through here.

Above: what the calls are. Below: the steps of a plan, and the table of `retries.py`.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, Final

import httpx

from portico.client.answers import failure, problem
from portico.client.plan import Close, Opened, Pause, Read, Send
from portico.client.retries import Retries

if TYPE_CHECKING:
    from collections.abc import Mapping

    from portico.client.errors import ClientError
    from portico.client.plan import Outgoing, Plan

GRACE: Final = 5.0
"""Seconds beyond the deadline in which the gateway may still say that it has passed."""
LONGEST_PROBLEM: Final = 1024 * 1024
"""Bytes: more of an error's body is not read."""
PATIENT: Final = Retries(most=1_000_000)
"""As often as the time allows."""


class Attempts:
    """Sends what it is told to, with the same headers each time."""

    def __init__(self, url: str, headers: Mapping[str, str], retries: int) -> None:
        self.url = url
        self._headers = headers
        self._retries = Retries(retries)

    def answered(self, request: Outgoing, *, patient: bool = False) -> Plan[httpx.Response]:
        """The whole response of a request that went well. `patient`: as often as its time allows. Raises `ClientError`."""
        policy = PATIENT if patient else self._retries
        begun, attempt = time.monotonic(), 0
        while True:
            left = request.seconds - (time.monotonic() - begun)
            try:
                response: httpx.Response = yield self._send(request, left, streamed=False)
            except httpx.RequestError as cause:
                error = failure(self.url, cause)
                error.__cause__ = cause
            else:
                if response.is_success:
                    return response
                error = problem(self.url, response, response.content)
            yield self._pause(error, request, policy, attempt, begun)
            attempt += 1

    def opened(self, request: Outgoing, *, patient: bool = False, silence: float) -> Plan[Opened]:
        """A response that went well so far, whose body is still to come: a connection to events."""
        policy = PATIENT if patient else self._retries
        begun, attempt = time.monotonic(), 0
        while True:
            try:
                opened: Opened = yield self._send(request, silence, streamed=True)
                if opened.response.is_success:
                    return opened
                body = yield from _rest(opened)
                error = problem(self.url, opened.response, body)
            except httpx.RequestError as cause:
                error = failure(self.url, cause)
                error.__cause__ = cause
            yield self._pause(error, request, policy, attempt, begun)
            attempt += 1

    def _send(self, request: Outgoing, left: float, *, streamed: bool) -> Send:
        headers = {**self._headers, **request.headers}
        if request.announced and math.isfinite(left):
            headers["request-timeout"] = f"{max(left, 0.001):.3f}"
            left += GRACE
        return Send(request, headers, max(left, 0.001) if math.isfinite(left) else None, streamed)

    def _pause(self, error: ClientError, request: Outgoing, policy: Retries, attempt: int, begun: float) -> Pause:
        """The pause before the next attempt. Raises the error where there is none, or no time for it."""
        seconds = policy.pause(error, attempt, idempotent=request.idempotent)
        if seconds is None or time.monotonic() - begun + seconds >= request.seconds:
            raise error
        return Pause(seconds)


def _rest(opened: Opened) -> Plan[bytes]:
    body = bytearray()
    while len(body) < LONGEST_PROBLEM:
        chunk: bytes | None = yield Read(opened)
        if chunk is None:
            break
        body += chunk
    yield Close(opened)
    return bytes(body)


def merged(*headers: Mapping[str, str] | None) -> dict[str, str]:
    """All of these headers, their names in small letters: a later one wins."""
    found: dict[str, Any] = {}
    for some in headers:
        found |= {name.lower(): value for name, value in (some or {}).items()}
    return found
