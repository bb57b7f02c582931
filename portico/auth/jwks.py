"""SigningKeys: the public keys of a token issuer, fetched over HTTP (RFC 7517), cached, and fetched again when they have changed.

Above: `Tokens`, which verifies with them. Where they are is set, or discovered from the issuer (OpenID Connect Discovery,
RFC 8414).
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlsplit, urlunsplit

import httpx
import jwt

from portico.errors import AuthUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

logger = logging.getLogger("portico.auth")

FRESH_FOR: Final = 300.0
"""Seconds that keys are good for, where their server does not say."""
LEAST_FRESH, MOST_FRESH = 10.0, 86_400.0
"""Seconds: what a server's `max-age` comes to at least, and at most."""
RETRY_AFTER: Final = 10.0
"""Seconds between two fetches that a failure or an unknown key id asks for."""
TIMEOUT: Final = 5.0
"""Seconds that a fetch may take, as a whole."""
MOST_BYTES: Final = 512 * 1024
"""Bytes that a document may have."""
_MAX_AGE: Final = re.compile(r"(?:^|[,\s])max-age=\"?([0-9]{1,9})", re.IGNORECASE)
_KINDS: Final = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
"""The kind of key that an algorithm needs, by its first letters."""


class FetchError(Exception):
    """A document could not be had; the sentence says why."""


class SigningKeys:
    """The keys of one issuer.

    Args:
        issuer: whose they are; a URL.
        url: where they are; None: discovered from the issuer.
        plain: whether they may come over plain HTTP from beyond this machine.
        monotonic: the time since some moment, in seconds.
    """

    def __init__(
        self, issuer: str, url: str | None = None, *, plain: bool = False, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._issuer = issuer
        self._url = url
        self._plain = plain
        self._monotonic = monotonic
        self._tls = httpx.create_ssl_context()  # once: reading the authorities takes some 20 ms
        self._lock = asyncio.Lock()
        self._sources: list[Mapping[str, Any]] | None = None
        self._keys: dict[tuple[str | None, str], jwt.PyJWK | None] = {}
        self._fresh_until = float("-inf")
        self._next_try = float("-inf")

    async def find(self, key_id: str | None, algorithm: str) -> jwt.PyJWK | None:
        """The key of that id, for that algorithm; without an id, the only one that fits. None where there is none.

        Raises:
            AuthUnavailable: no keys were ever fetched, and none can be.
        """
        key = self._look_up(key_id, algorithm)
        if key is not None and (self._monotonic() < self._fresh_until or self._lock.locked()):
            return key  # also while another request fetches: what is known is good until it is known to be wrong
        async with self._lock:  # one fetch, however many wait for it
            key = self._look_up(key_id, algorithm)
            now = self._monotonic()
            if (key is None or now >= self._fresh_until) and now >= self._next_try:
                before, self._next_try = self._next_try, now + RETRY_AFTER
                try:
                    await self._refresh()
                except asyncio.CancelledError:
                    self._next_try = before  # one request that ends early keeps no other from asking
                    raise
                key = self._look_up(key_id, algorithm)
        if self._sources is None:
            raise AuthUnavailable(max(1.0, self._next_try - self._monotonic()))
        return key

    def _look_up(self, key_id: str | None, algorithm: str) -> jwt.PyJWK | None:
        found = (key_id, algorithm)
        if found in self._keys:
            return self._keys[found]
        fitting = [one for one in self._sources or () if _fits(one, algorithm) and key_id in (None, one.get("kid"))]
        if len(fitting) != 1:
            return None  # not remembered: strangers choose the ids
        key = _made(fitting[0], algorithm)
        self._keys[found] = key
        return key

    async def _refresh(self) -> None:
        try:
            async with (
                asyncio.timeout(TIMEOUT),
                httpx.AsyncClient(verify=self._tls, timeout=TIMEOUT, follow_redirects=False, trust_env=True) as client,
            ):
                url = self._url or await self._discovered(client)
                document, fresh_for = await self._fetched(client, url)
            keys = document.get("keys")
            if not isinstance(keys, list):
                raise FetchError(f"{url} has no list of keys")
        except (FetchError, httpx.HTTPError, TimeoutError) as error:
            kept = "" if self._sources is None else " Those of before stay valid."
            logger.error("the keys of %s cannot be fetched: %s.%s", self._issuer, str(error) or type(error).__name__, kept)  # noqa: TRY400  # one line says it all
            return
        self._sources = [cast("dict[str, Any]", one) for one in cast("list[Any]", keys) if isinstance(one, dict)]
        self._keys = {}
        self._fresh_until = self._monotonic() + fresh_for

    async def _discovered(self, client: httpx.AsyncClient) -> str:
        """Where the keys are, by the issuer's own metadata, which must name this issuer (RFC 8414 §3.3)."""
        reasons: list[str] = []
        for url in metadata_urls(self._issuer):
            try:
                document, _ = await self._fetched(client, url)
            except (FetchError, httpx.HTTPError) as error:
                reasons.append(str(error) or type(error).__name__)
                continue
            if document.get("issuer") != self._issuer:
                raise FetchError(f"{url} is about the issuer {document.get('issuer')!r}")
            found = document.get("jwks_uri")
            if not isinstance(found, str):
                raise FetchError(f"{url} has no jwks_uri")
            return found
        raise FetchError("; ".join(reasons))

    async def _fetched(self, client: httpx.AsyncClient, url: str) -> tuple[Mapping[str, Any], float]:
        """A JSON object, and for how many seconds it is good."""
        if not may_be_fetched(url, plain=self._plain):
            raise FetchError(f"{url} is no https:// address")
        body = bytearray()
        async with client.stream("GET", url, headers={"accept": "application/json"}) as response:
            if response.status_code != HTTPStatus.OK:
                raise FetchError(f"{url} answers {response.status_code}")
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MOST_BYTES:
                    raise FetchError(f"{url} has more than {MOST_BYTES} bytes")
            said = _MAX_AGE.search(response.headers.get("cache-control", ""))
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            raise FetchError(f"{url} is not JSON") from None
        if not isinstance(document, dict):
            raise FetchError(f"{url} is no JSON object")
        fresh_for = min(max(float(said[1]), LEAST_FRESH), MOST_FRESH) if said else FRESH_FOR
        return cast("dict[str, Any]", document), fresh_for


def metadata_urls(issuer: str) -> list[str]:
    """Where an issuer describes itself: OpenID Connect Discovery 1.0 §4 appends to its path, RFC 8414 §3 puts it in front."""
    parts = urlsplit(issuer)
    path = parts.path.rstrip("/")
    return [
        urlunsplit((parts.scheme, parts.netloc, f"{path}/.well-known/openid-configuration", "", "")),
        urlunsplit((parts.scheme, parts.netloc, f"/.well-known/oauth-authorization-server{path}", "", "")),
    ]


def may_be_fetched(url: str, *, plain: bool) -> bool:
    """Whether keys from there can be trusted: over HTTPS, or from this machine. `plain`: or from anywhere."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return False
    secure = parts.scheme == "https" or (parts.scheme == "http" and (plain or host in ("localhost", "127.0.0.1", "::1")))
    return secure and bool(host)


def _fits(source: Mapping[str, Any], algorithm: str) -> bool:
    """Whether a key is for signatures of that kind (RFC 7517 §4)."""
    kind, use, own = source.get("kty"), source.get("use", "sig"), source.get("alg", algorithm)
    return kind == _KINDS.get(algorithm[:2]) and use == "sig" and own == algorithm


def _made(source: Mapping[str, Any], algorithm: str) -> jwt.PyJWK | None:
    """A key bound to one algorithm: a token cannot choose another for it."""
    try:
        return jwt.PyJWK(dict(source), algorithm)
    except jwt.PyJWTError as error:
        logger.warning("a key of the issuer cannot be used: %s", error)
        return None
