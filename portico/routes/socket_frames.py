"""SocketFrame: what a client may say on a WebSocket, one JSON object per text frame. Data from strangers, so it is validated.

Above: the session, which does what they say. What the server says back is printed there.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from portico.errors import BadRequest, ContractViolation, did_you_mean, nearest
from portico.operations.contract import faults_of
from portico.routes.exchange import parse

FrameId = Annotated[str, Field(min_length=1, max_length=128)] | Annotated[int, Field(ge=-(2**53), le=2**53)]
"""What the client calls its request; every frame about it says the same."""
Key = Annotated[str, Field(pattern=r"^[!#-~]{1,255}$")]
"""As in the header `Idempotency-Key`."""


class SocketFrame(BaseModel):
    """One frame."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    id: FrameId


class Ask(SocketFrame):
    """Ask the agent: there will be a `result` or an `error`."""

    type: Literal["ask"]
    operation: str | None = None
    payload: Any = Field(default_factory=dict)
    timeout: Annotated[float, Field(gt=0, lt=1e9)] | None = None
    """Seconds; the gateway's own limit caps it."""
    idempotency_key: Key | None = None
    traceparent: str | None = None
    """The trace that it belongs to (W3C Trace Context); unless it names one, that of the handshake."""
    stream: bool = False
    """Its events too, before the result."""


class Send(SocketFrame):
    """Send to the agent: there will be an `accepted`."""

    type: Literal["send"]
    operation: str | None = None
    payload: Any = Field(default_factory=dict)
    timeout: Annotated[float, Field(gt=0, lt=1e9)] | None = None
    idempotency_key: Key | None = None
    traceparent: str | None = None


class Cancel(SocketFrame):
    """Cancel an ask of this connection: `id` is that of the ask."""

    type: Literal["cancel"]


class Subscribe(SocketFrame):
    """Follow a run of one's own, of whatever agent."""

    type: Literal["subscribe"]
    run_id: str
    after: Annotated[int, Field(ge=0, lt=10**18)] = 0
    """The number of an event: those after it."""


class Unsubscribe(SocketFrame):
    """Follow it no more: `id` is that of the subscription."""

    type: Literal["unsubscribe"]


class Ping(SocketFrame):
    """There will be a `pong`."""

    type: Literal["ping"]


_KINDS: Final[dict[str, type[SocketFrame]]] = {
    "ask": Ask,
    "send": Send,
    "cancel": Cancel,
    "subscribe": Subscribe,
    "unsubscribe": Unsubscribe,
    "ping": Ping,
}


def id_in(value: Any) -> str | int | None:
    """The id that a frame has, even if it is wrong otherwise."""
    found: Any = value.get("id") if isinstance(value, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return found if isinstance(found, str | int) and not isinstance(found, bool) else None


def read(value: Any) -> SocketFrame:
    """A frame out of parsed JSON. Raises `BadRequest`, `ContractViolation`."""
    kind: Any = value.get("type") if isinstance(value, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if not isinstance(kind, str):
        raise BadRequest(f"A frame is a JSON object with a type, one of {', '.join(_KINDS)}.")
    if kind not in _KINDS:
        raise BadRequest(f"There is no frame of the type {kind[:100]!r}.{did_you_mean(nearest(kind[:100], _KINDS))}")
    try:
        return _KINDS[kind].model_validate(value)
    except ValidationError as error:
        raise ContractViolation(f"a frame of the type {kind!r}", faults_of(error)) from None


def parsed(text: str) -> Any:
    """The JSON of a frame. Raises `MalformedBody`."""
    return parse(text.encode(errors="surrogatepass"))
