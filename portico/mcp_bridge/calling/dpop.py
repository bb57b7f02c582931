"""DPoPAuth: tokens that are bound to a key of ours, so that who steals one cannot use it (RFC 9449, SEP-1932).

It stands around another client: each request of that one for a token, and each request with a token, gets a fresh proof; a server
that wants a nonce in it gets one, at the second attempt. The SDK knows bearer tokens only: so the inner client is told that each
token is one, and sends it so; here it becomes what it is before it goes out.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from http import HTTPStatus
from secrets import token_urlsafe
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs

import httpx2
import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

SCHEME: Final = "DPoP"
_BEARER: Final = "Bearer "


class DPoPAuth(httpx2.Auth):
    """See the module.

    Args:
        inner: the client that fetches and sends tokens.
        key: what they are bound to (P-256); unless given, a new one, which lives as long as this object.
    """

    requires_response_body = False

    def __init__(self, inner: httpx2.Auth, key: ec.EllipticCurvePrivateKey | None = None) -> None:
        self._inner = inner
        self._key = key or ec.generate_private_key(ec.SECP256R1())
        public: dict[str, Any] = json.loads(ECAlgorithm.to_jwk(self._key.public_key()))
        self._jwk = {name: public[name] for name in ("kty", "crv", "x", "y")}
        self._nonces: dict[str, str] = {}

    def __repr__(self) -> str:
        return "DPoPAuth(…)"

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """See `httpx2.Auth`."""
        flow = self._inner.async_auth_flow(request)
        try:
            outgoing = await anext(flow)
            while True:
                proves = self._prove(outgoing)
                response = yield outgoing
                if proves and await self._wants_nonce(outgoing, response):
                    self._prove(outgoing)
                    response = yield outgoing
                    self._remember(outgoing, response)
                if outgoing is not request:
                    response = await _as_bearer(outgoing, response)
                outgoing = await flow.asend(response)
        except StopAsyncIteration:
            return
        finally:
            await flow.aclose()

    def _prove(self, request: httpx2.Request) -> bool:
        """Put a proof on what needs one: a token, and a request for one. Returns whether that is so."""
        header = request.headers.get("authorization", "")
        token = None
        if header.startswith((_BEARER, f"{SCHEME} ")):
            token = header.partition(" ")[2]
            request.headers["Authorization"] = f"{SCHEME} {token}"
        elif not _asks_for_token(request):
            return False
        request.headers["DPoP"] = self._proof(request, token)
        return True

    def _proof(self, request: httpx2.Request, token: str | None) -> str:
        """One that is used once (RFC 9449 §4.2)."""
        address = request.url.copy_with(query=None, fragment=None)
        claims: dict[str, Any] = {"jti": token_urlsafe(16), "htm": request.method, "htu": str(address), "iat": int(time.time())}
        if token is not None:
            claims["ath"] = base64.urlsafe_b64encode(hashlib.sha256(token.encode()).digest()).decode().rstrip("=")
        if (nonce := self._nonces.get(_origin(request))) is not None:
            claims["nonce"] = nonce
        return jwt.encode(claims, self._key, "ES256", {"typ": "dpop+jwt", "jwk": self._jwk})

    async def _wants_nonce(self, request: httpx2.Request, response: httpx2.Response) -> bool:
        """Whether it was refused for want of a nonce, which is there now (§8, §9)."""
        fresh = self._remember(request, response)
        if response.status_code not in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED) or not fresh:
            return False
        if "use_dpop_nonce" in response.headers.get("www-authenticate", ""):
            return True
        return b"use_dpop_nonce" in await response.aread()

    def _remember(self, request: httpx2.Request, response: httpx2.Response) -> bool:
        nonce = response.headers.get("dpop-nonce")
        if nonce is not None:
            self._nonces[_origin(request)] = nonce
        return nonce is not None


async def _as_bearer(request: httpx2.Request, response: httpx2.Response) -> httpx2.Response:
    """A token response whose type the inner client knows."""
    await response.aread()
    try:
        said: Any = response.json()
        bound = said["token_type"].lower() == SCHEME.lower()
    except (ValueError, KeyError, TypeError, AttributeError):
        return response
    return httpx2.Response(response.status_code, json={**said, "token_type": "Bearer"}, request=request) if bound else response


def _asks_for_token(request: httpx2.Request) -> bool:
    if request.method != "POST" or "x-www-form-urlencoded" not in request.headers.get("content-type", ""):
        return False
    return "grant_type" in parse_qs(request.content.decode(errors="replace"))


def _origin(request: httpx2.Request) -> str:
    return f"{request.url.scheme}://{request.url.netloc.decode()}"
