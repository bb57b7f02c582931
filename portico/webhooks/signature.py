"""Signature: the symmetric one of Standard Webhooks 1.0, made by who sends, and verified by who receives.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md. The standard library is all it needs:
a receiver may use `verify` without the rest of Portico.
"""

from __future__ import annotations

import hmac
import time
from base64 import b64decode, b64encode
from hashlib import sha256
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PREFIX: Final = "whsec_"
"""What a secret begins with."""
SHORTEST, LONGEST = 24, 64
"""Bytes that a secret may have: the specification's own bounds."""
TOLERANCE: Final = 300.0
"""Seconds that the time of a message may differ from that of who receives it."""
ID: Final = "webhook-id"
"""The header with the message's id: the same at every attempt."""
TIMESTAMP: Final = "webhook-timestamp"
"""The header with the time of the attempt, in whole seconds since the epoch."""
SIGNATURE: Final = "webhook-signature"
"""The header with the signatures, with a blank between two."""
VERSION: Final = "v1"
"""The symmetric scheme: HMAC-SHA256."""


class InvalidSignatureError(Exception):
    """A message is not from who has the secret, or is too old to be believed."""


def secrets_of(text: str) -> tuple[bytes, ...]:
    """The keys of one secret, or of several with commas between them. Raises `ValueError`, which does not show them."""
    return tuple(_key(part.strip()) for part in text.split(","))


def sign(secrets: Sequence[bytes], message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers of a message: one signature for each secret, so that receivers change from one to the next when they like."""
    return {
        ID: message_id,
        TIMESTAMP: str(timestamp),
        SIGNATURE: " ".join(f"{VERSION},{_signature(secret, message_id, str(timestamp), body)}" for secret in secrets),
    }


def verify(secret: str, headers: Mapping[str, str], body: bytes, *, now: float | None = None) -> None:
    """Check that a message is from who has the secret, and not an old one that somebody sends again.

    Args:
        secret: `whsec_…`, or several with commas between them.
        headers: those of the request, by names in lower case.
        body: the bytes as they came: JSON that was read and printed again is not the same.
        now: seconds since the epoch; None for the machine's time.

    Raises:
        InvalidSignatureError: it is not to be believed.
        ValueError: the secret is none.
    """
    secrets = secrets_of(secret)
    try:
        message_id, timestamp, given = headers[ID], headers[TIMESTAMP], headers[SIGNATURE]
    except KeyError as missing:
        raise InvalidSignatureError(f"The header {missing.args[0]} is missing.") from None
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 16):  # noqa: PLR2004  # more is no time of this era
        raise InvalidSignatureError(f"{TIMESTAMP} is no time in whole seconds.")
    if abs((time.time() if now is None else now) - int(timestamp)) > TOLERANCE:
        raise InvalidSignatureError(f"Its time is more than {TOLERANCE:.0f} seconds away from now.")
    expected = [_signature(key, message_id, timestamp, body).encode() for key in secrets]
    found = False
    for one in given.split(" "):
        version, _, text = one.partition(",")
        if version == VERSION:
            for own in expected:
                found |= hmac.compare_digest(own, text.encode(errors="replace"))
    if not found:
        raise InvalidSignatureError("No signature is that of this secret over this message.")


def _signature(secret: bytes, message_id: str, timestamp: str, body: bytes) -> str:
    return b64encode(hmac.new(secret, f"{message_id}.{timestamp}.".encode() + body, sha256).digest()).decode()


def _key(text: str) -> bytes:
    """The key of one secret. Raises `ValueError`."""
    if not text.startswith(PREFIX):
        raise ValueError(f"a secret begins with {PREFIX}")
    encoded = text.removeprefix(PREFIX).rstrip("=")
    try:
        key = b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except ValueError:
        raise ValueError(f"what comes after {PREFIX} is base64") from None
    if not SHORTEST <= len(key) <= LONGEST:
        raise ValueError(f"a secret has {SHORTEST} to {LONGEST} bytes, and this one has {len(key)}")
    return key
