"""Plan: what a call of the client does, step by step, without doing it. The plans are written once, for both clients.

A plan is a generator. It yields steps (and, where it tells several things one by one, those things), is given what came of each,
and returns the result. `Client` takes the steps by blocking, `AsyncClient` by awaiting; neither knows what they are for. A step
that failed is an `httpx.RequestError`, thrown into the plan.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from portico.errors import ConfigurationError

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request to send, once or several times."""

    method: str
    path: str
    """Below the gateway's address, percent-encoded."""
    seconds: float
    """The time for the whole call: every attempt, and the pauses in between. Infinite for one without limit."""
    idempotent: bool
    """Whether to send it twice has the effect of sending it once."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    query: Mapping[str, Any] | None = None
    content: bytes | None = None
    announced: bool = False
    """Whether `Request-Timeout` says how much of the time is left."""


def path_of(*parts: str) -> str:
    """A path of these segments, percent-encoded. Raises `ConfigurationError` for a name that can be none."""
    for part in parts:
        if not part.strip("."):  # the way to somewhere else (RFC 3986 §5.2.4)
            raise ConfigurationError(f"{part!r} names nothing that a gateway could serve: it cannot stand in a path.")
    return "".join(f"/{quote(part, safe='')}" for part in parts)


class Step:
    """What a plan wants done."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Send(Step):
    """Send a request and read the whole response: that is what comes of it."""

    request: Outgoing
    headers: Mapping[str, str]
    silence: float | None
    """The seconds without a byte after which the connection counts as lost."""
    streamed: bool = False
    """Leave the body to `Read`; an `Opened` comes of it."""


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """A response whose body is still to come."""

    response: httpx.Response
    chunks: Any
    """An iterator over its bytes, of the kind that the client takes."""


@dataclass(frozen=True, slots=True)
class Read(Step):
    """The next piece of a body: bytes, or None at its end."""

    source: Opened


@dataclass(frozen=True, slots=True)
class Close(Step):
    """Read no more of it."""

    source: Opened


@dataclass(frozen=True, slots=True)
class Pause(Step):
    """Let so many seconds pass."""

    seconds: float


Plan = Generator[Step, Any, R]
"""Returns an `R`."""
Telling = Generator[Step | T, Any, None]
"""Yields `T` among its steps."""
