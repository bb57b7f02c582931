"""ApiKey: one key of one principal, as it is kept: with a digest in place of its secret. Where it is kept is `KeyFile`.

A key reads `portico_<id>_<secret>`. The id is public: it finds the record, and stands in lists. The secret ends with a checksum, so
that a scanner for leaked secrets tells a key from anything else without asking anybody.
"""

from __future__ import annotations

import secrets
import time
from binascii import crc32
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from portico.auth.principal import Principal

PREFIX: Final = "portico_"
SECRET_BYTES: Final = 32
_DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SECRET_LENGTH: Final = 43
"""Digits that 256 bits have in base 62."""
_CHECKSUM_LENGTH: Final = 6
"""Digits that 32 bits have in base 62."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is kept of a key. Times are seconds since the epoch."""

    id: str
    """Its public part, by which it is found, listed and revoked."""
    principal: Principal
    """Whom it stands for."""
    digest: bytes
    """The SHA-256 of the whole key.

    A plain digest is enough: 256 random bits cannot be guessed, however quick each guess is. Slow ones (argon2, scrypt) are for
    passwords, which people choose; here they would cost each request, and each stranger's, their milliseconds.
    """
    created: float
    """When it was made."""
    expires: float | None = None
    """When it opens nothing any more; None for never."""

    def expired(self, now: float) -> bool:
        """Whether it opens nothing any more."""
        return self.expires is not None and now >= self.expires


def new_key(principal: Principal, lifetime: float | None = None) -> tuple[str, ApiKey]:
    """A new key and its record. The key itself is nowhere but in what this returns. `lifetime`: seconds; None for ever."""
    key_id = secrets.token_hex(6)
    body = f"{PREFIX}{key_id}_{_base62(int.from_bytes(secrets.token_bytes(SECRET_BYTES)), _SECRET_LENGTH)}"
    key = body + _checksum(body)
    now = time.time()
    expires = now + lifetime if lifetime is not None else None
    return key, ApiKey(key_id, principal, sha256(key.encode()).digest(), now, expires)


def id_of(credential: bytes) -> str:
    """The id in what may be a key; any text where it is none."""
    return credential[len(PREFIX) :].partition(b"_")[0].decode("latin-1")


def is_whole(text: str) -> bool:
    """Whether a text is a key with nothing missing and nothing mistyped, whatever it opens."""
    body, checksum = text[:-_CHECKSUM_LENGTH], text[-_CHECKSUM_LENGTH:]
    return text.startswith(PREFIX) and text.isascii() and checksum == _checksum(body)


def _checksum(body: str) -> str:
    return _base62(crc32(body.encode()), _CHECKSUM_LENGTH)


def _base62(number: int, length: int) -> str:
    digits = ""
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits = _DIGITS[digit] + digits
    return digits
