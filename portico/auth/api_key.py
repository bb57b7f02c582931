"""ApiKey: one shared key, sent as a bearer token (RFC 6750). Knows headers' values, not requests."""

from __future__ import annotations

from hashlib import sha256
from hmac import compare_digest

PRINCIPAL = "api-key"
"""Who a caller with the right key is."""


class ApiKey:
    """Compares in constant time; keeps a digest, so that no dump of the object shows the key. Space around a key is none of it."""

    def __init__(self, key: str) -> None:
        self._digest = sha256(key.strip().encode()).digest()

    def __repr__(self) -> str:
        return "ApiKey(…)"

    def principal(self, authorization: str | None) -> str | None:
        """Who sends this Authorization header (its bytes as latin-1); None where it is missing or wrong."""
        scheme, _, token = (authorization or "").partition(" ")
        right = compare_digest(sha256(token.strip().encode("latin-1", "replace")).digest(), self._digest)
        return PRINCIPAL if right and scheme.lower() == "bearer" else None
