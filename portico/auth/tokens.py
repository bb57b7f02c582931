"""Tokens: JSON Web Tokens (RFC 7519) of one issuer, verified with its published keys. From a token to a principal and its scopes.

Asymmetric algorithms only: with a shared secret, whoever can verify can also issue. What was verified is remembered until it must
be verified again, so that a request costs a look-up.
"""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final, cast

import jwt
from jwt.exceptions import InvalidSubjectError

from portico.auth.principal import Principal
from portico.auth.shared_key import SHARED
from portico.errors import Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from portico.auth.jwks import SigningKeys

LEEWAY: Final = 30.0
"""Seconds by which the issuer's clock may differ from ours."""
REMEMBERED: Final = 4096
"""How many verified tokens are remembered."""
REMEMBERED_FOR: Final = 300.0
"""Seconds after which a token is verified again: a key that its issuer has withdrawn opens nothing for longer."""
LONGEST: Final = 16 * 1024
"""Bytes that a token may have."""
_TOKEN: Final = re.compile(rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")


class Tokens:
    """Verifies the tokens of one issuer.

    Args:
        keys: the issuer's.
        issuer: what `iss` must be.
        audience: one of these must be in `aud`.
        algorithms: those that are taken.
        now: the time, in seconds since the epoch, for what is remembered.
    """

    def __init__(
        self,
        keys: SigningKeys,
        *,
        issuer: str,
        audience: Sequence[str],
        algorithms: Sequence[str],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = list(audience)
        self._algorithms = frozenset(algorithms)
        self._now = now
        self._jwt = jwt.PyJWT({"require": ["exp", "iss", "aud", "sub"], "enforce_minimum_key_length": True})
        self._verified: OrderedDict[bytes, tuple[Principal, float]] = OrderedDict()

    def principal(self, credential: bytes, digest: bytes) -> Principal | None:
        """Who a token stands for that was verified before; None for any other. `digest`: its SHA-256."""
        del credential
        found = self._verified.get(digest)
        if found is None:
            return None
        if self._now() >= found[1]:
            del self._verified[digest]
            return None
        self._verified.move_to_end(digest)
        return found[0]

    def is_token(self, credential: bytes) -> bool:
        """Whether it has the form of a signed token (RFC 7515 §7.1)."""
        return len(credential) <= LONGEST and _TOKEN.fullmatch(credential) is not None

    async def verified(self, credential: bytes, digest: bytes) -> Principal:
        """Who a token stands for; it is remembered.

        Raises:
            Unauthenticated: it is not valid; the reason is for its owner, who can read it anyway.
            AuthUnavailable: the issuer's keys cannot be had.
        """
        try:
            header = jwt.get_unverified_header(credential)
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise Unauthenticated("it cannot be read") from None
        algorithm = header.get("alg")
        if not isinstance(algorithm, str) or algorithm not in self._algorithms:
            raise Unauthenticated("its algorithm is not taken here")
        key = await self._keys.find(header.get("kid"), algorithm)
        if key is None:
            raise Unauthenticated("its key is not one of its issuer's")
        claims = self._claims(credential, key, algorithm)
        principal = Principal(_subject(claims), _scopes(claims))
        self._remember(digest, principal, claims["exp"] + LEEWAY)
        return principal

    def _claims(self, credential: bytes, key: jwt.PyJWK, algorithm: str) -> Mapping[str, Any]:
        try:
            claims: dict[str, Any] = self._jwt.decode(
                credential, key, algorithms=[algorithm], audience=self._audience, issuer=self._issuer, leeway=LEEWAY
            )
            return {**claims, "exp": float(claims["exp"])}  # a whole number may be too large for it
        except (jwt.PyJWTError, ValueError, ArithmeticError, TypeError) as error:
            raise Unauthenticated(_reason(error)) from None

    def _remember(self, digest: bytes, principal: Principal, expires: float) -> None:
        self._verified[digest] = principal, min(expires, self._now() + REMEMBERED_FOR)
        if len(self._verified) > REMEMBERED:
            self._verified.popitem(last=False)


_REASONS: Final[Mapping[type[Exception], str]] = {
    jwt.ExpiredSignatureError: "it has expired",
    jwt.ImmatureSignatureError: "it is not valid yet",
    jwt.InvalidAudienceError: "it is for another audience",
    jwt.InvalidIssuerError: "it is of another issuer",
    jwt.InvalidSignatureError: "its signature is wrong",
    InvalidSubjectError: "its subject is no text",
}


def _reason(error: Exception) -> str:
    if isinstance(error, jwt.MissingRequiredClaimError):
        return f"it has no claim {error.claim!r}"
    return next((reason for kind, reason in _REASONS.items() if isinstance(error, kind)), "it cannot be read")


def _subject(claims: Mapping[str, Any]) -> str:
    subject: str = claims["sub"]
    if not subject.strip():
        raise Unauthenticated("its subject is blank")
    if subject == SHARED.name:
        raise Unauthenticated("its subject is a name of the gateway's own")
    return subject


def _scopes(claims: Mapping[str, Any]) -> frozenset[str]:
    """What it allows: `scope`, separated by blanks (RFC 8693 §4.2, RFC 9068 §2.2.3), or `scp`, which is that or a list."""
    said: Any = claims.get("scope", claims.get("scp", ""))
    if isinstance(said, str):
        return frozenset(said.split())
    if not isinstance(said, list):
        return frozenset()
    return frozenset(one for one in cast("list[Any]", said) if isinstance(one, str))
