"""SharedKey: the one key of `PORTICO_API_KEY`, which may do everything."""

from __future__ import annotations

from hashlib import sha256
from hmac import compare_digest
from typing import Final

from portico.auth.principal import Principal
from portico.runs.call import EVERY_SCOPE

SHARED: Final = Principal("api-key", frozenset({EVERY_SCOPE}))
"""Who a caller with the right key is."""


class SharedKey:
    """Compares in constant time; keeps a digest, so that no dump of the object shows the key. Space around a key is none of it."""

    def __init__(self, key: str) -> None:
        self._digest = sha256(key.strip().encode()).digest()

    def __repr__(self) -> str:
        return "SharedKey(…)"

    def principal(self, credential: bytes, digest: bytes) -> Principal | None:
        """Who it stands for; None where it is another key. `digest`: its SHA-256."""
        del credential
        return SHARED if compare_digest(digest, self._digest) else None
