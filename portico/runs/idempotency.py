"""Idempotency: what makes two requests the same (draft-ietf-httpapi-idempotency-key-header)."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

from pydantic_core import to_json

from portico.errors import InvalidPayload

if TYPE_CHECKING:
    from portico.runs.call import Call

KEPT: Final = 86400.0
"""Seconds for which a key stands for its request."""


def scope_of(call: Call) -> bytes | None:
    """The place of a call's key among all keys: principal, agent, operation and key, hashed; None without a key."""
    if call.idempotency_key is None:
        return None
    endpoint, principal = call.endpoint, "" if call.principal is None else f"={call.principal}"
    # What comes last may have any characters, the others no NUL.
    text = f"{call.idempotency_key}\0{endpoint.operation.name}\0{endpoint.agent}\0{principal}"
    return blake2b(text.encode(errors="surrogatepass"), digest_size=16).digest()


def fingerprint_of(call: Call) -> bytes:
    """A hash of what is asked. Raises `InvalidPayload` where it is not JSON-able."""
    endpoint = call.endpoint
    callback = "" if call.callback_url is None else f"{call.callback_url}\0"  # no JSON begins as an address does
    return digest_of(call.payload, endpoint.agent, f"{endpoint.operation.name}\0{endpoint.agent}\0{callback}".encode())


def digest_of(payload: Any, recipient: str, salt: bytes = b"") -> bytes:
    """A hash of a payload. Raises `InvalidPayload` where it is not JSON-able."""
    try:
        data = b"\0" + payload if isinstance(payload, bytes) else to_json(payload, inf_nan_mode="constants")
    except ValueError as error:
        raise InvalidPayload(recipient, str(error)) from error
    return blake2b(salt + data, digest_size=16).digest()
