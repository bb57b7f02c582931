"""Principal: who calls and what they may do; and how a caller's credential becomes one.

A credential is the bytes that stand in a header, whatever they are: the shared key, a key of the file, a token. Headers' values are
known here, requests are not. Above: every face. Below: `SharedKey`, `KeyRing`, `Tokens`, which know one kind of credential each.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from portico.errors import Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Protocol

    class Keys(Protocol):
        """One kind of credential that is known by looking it up."""

        def principal(self, credential: bytes, digest: bytes) -> Principal | None:
            """Who it stands for; None for nobody. `digest`: its SHA-256."""
            ...

    class Verifier(Protocol):
        """One kind of credential that must be verified, for which a server may have to be asked."""

        def principal(self, credential: bytes, digest: bytes) -> Principal | None:
            """Who it stands for, where it was verified before; None where that is not known."""
            ...

        def is_token(self, credential: bytes) -> bool:
            """Whether it has the form of a token."""
            ...

        async def verified(self, credential: bytes, digest: bytes) -> Principal:
            """Who it stands for. Raises `Unauthenticated`, `AuthUnavailable`."""
            ...


ADMIN: Final = "admin"
"""The scope for the states of agents, everybody's dead letters, and what is done to the tree."""

_BEARER: Final = b"bearer "
SEEN_FOR: Final = 1.0
"""Seconds for which a credential that was good is good again without a further look."""
MOST_SEEN: Final = 4096
"""How many of them are remembered."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls."""

    name: str
    """To whom runs belong, and whom limits count."""
    scopes: frozenset[str]
    """What they may do; `*` for everything."""


def credential_of(authorization: bytes | None, api_key: bytes | None) -> bytes | None:
    """The credential in the values of an `Authorization` and an `X-API-Key` header; None where neither has one.

    A bearer token (RFC 6750 §2.1) counts before a key: a proxy that takes `Authorization: Basic …` for itself leaves room for it.
    """
    if authorization is not None and authorization[:7].lower() == _BEARER:
        return authorization[7:].strip()
    return api_key.strip() if api_key is not None else None


class Authenticator:
    """From a credential to a principal.

    Args:
        keys: what knows keys; all of them look, whichever finds it, so that the time tells nothing.
        tokens: what verifies tokens; None where none are taken.
        monotonic: the time since some moment, in seconds.
    """

    def __init__(
        self, keys: Sequence[Keys], tokens: Verifier | None = None, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._keys = tuple(keys)
        self._tokens = tokens
        self._monotonic = monotonic
        self._seen: dict[bytes, tuple[Principal, float]] = {}

    def known(self, credential: bytes) -> Principal | None:
        """Who it stands for, without waiting: a key, or a token that was verified before. Microseconds.

        Whoever was let in is let in by digest for a second more. Who is not takes the whole way each time.
        """
        digest = sha256(credential).digest()
        seen = self._seen.get(digest)
        if seen is not None and self._monotonic() < seen[1]:
            return seen[0]
        found = self._find(credential, digest)
        if found is not None:
            if len(self._seen) >= MOST_SEEN:
                self._seen.clear()
            self._seen[digest] = found, self._monotonic() + SEEN_FOR
        elif seen is not None:
            del self._seen[digest]
        return found

    def _find(self, credential: bytes, digest: bytes) -> Principal | None:
        found = None
        for keys in self._keys:
            found = keys.principal(credential, digest) or found
        if found is None and self._tokens is not None:
            return self._tokens.principal(credential, digest)
        return found

    async def verified(self, credential: bytes) -> Principal:
        """Who it stands for, where `known` does not know it.

        Raises:
            Unauthenticated: nobody. An unknown, a wrong, an expired and a revoked key are answered with the same sentence.
            AuthUnavailable: it has the form of a token, and the keys to verify it with cannot be had.
        """
        if self._tokens is not None and self._tokens.is_token(credential):
            return await self._tokens.verified(credential, sha256(credential).digest())
        raise Unauthenticated(presented=True)
