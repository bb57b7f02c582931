"""AuthorizationSettings: how we are authorised at an external MCP server: OAuth 2.1, as its `auth:` says. Asks nobody."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlsplit

from portico.errors import ConfigurationError, did_you_mean, nearest
from portico.loopback import is_loopback

if TYPE_CHECKING:
    from collections.abc import Sequence

AUTHORIZATION_CODE: Final = "authorization_code"
"""Somebody logs in once, by `portico mcp-login`."""
CLIENT_CREDENTIALS: Final = "client_credentials"
"""We are a client with an id and a secret, or a key that signs in its place."""
WORKLOAD: Final = "workload"
"""A token that the platform puts into a file stands for us (RFC 7523 §2.1)."""
TYPES: Final = (AUTHORIZATION_CODE, CLIENT_CREDENTIALS, WORKLOAD)
METHODS: Final = ("client_secret_basic", "client_secret_post", "private_key_jwt")
_NEEDS: Final = {
    AUTHORIZATION_CODE: (),
    CLIENT_CREDENTIALS: ("client_id", "issuer"),
    WORKLOAD: ("client_id", "issuer", "assertion_file"),
}
_ALGORITHM: Final = re.compile(r"(RS|ES|PS)(256|384|512)|EdDSA")


@dataclass(frozen=True, slots=True)
class AuthorizationSettings:
    """How we are authorised. Its secrets are in no text of it."""

    type: str
    """`authorization_code`, `client_credentials` or `workload`."""
    client_id: str | None = None
    """As whom; for `authorization_code` only where the client was registered by hand."""
    client_secret: str | None = field(default=None, repr=False)
    """What proves it."""
    private_key: str | None = field(default=None, repr=False)
    """`client_credentials`: what proves it in place of a secret: a key in PEM that signs (RFC 7523 §2.2)."""
    algorithm: str = "RS256"
    """How it signs."""
    method: str = "client_secret_basic"
    """How the secret is sent: `client_secret_basic` or `client_secret_post`."""
    issuer: str | None = None
    """The authorisation server that our secrets are for: they go nowhere else."""
    scope: str | None = None
    """What is asked for; unless given, what the server says that it needs."""
    client_metadata_url: str | None = None
    """`authorization_code`: the https address of a document about us, which is then our id (CIMD)."""
    callback_port: int = 0
    """`authorization_code`: the port of the local callback; 0 for any."""
    assertion_file: str | None = None
    """`workload`: where the platform puts its token; it is read again for each exchange."""
    dpop: bool = False
    """Whether tokens are bound to a key of ours, so that nobody else can use them (RFC 9449). The key is kept with them."""
    trusted_hosts: Sequence[str] = ()
    """Hosts, with or without a port, that a discovery may lead to although they are internal."""

    def secrets(self) -> list[str]:
        """What must be in no text."""
        return [secret for secret in (self.client_secret, self.private_key) if secret]


def authorization_of(whose: str, url: str | None, said: Any) -> AuthorizationSettings | None:
    """A setting `auth:` as it is meant; None for none. Raises `ConfigurationError`."""
    if said is None:
        return None
    if not isinstance(said, dict):
        raise ConfigurationError(f"{whose} has 'auth' that is no mapping: it has a 'type' ({', '.join(TYPES)}).")
    given = cast("dict[str, Any]", said)
    known = [one.name for one in fields(AuthorizationSettings)]
    for key in given:
        if key not in known:
            hint = did_you_mean(nearest(key, known)) or f" Known: {', '.join(known)}."
            raise ConfigurationError(f"{whose} has 'auth' with {key!r}, which there is not.{hint}")
    kind = given.get("type")
    if kind not in TYPES:
        hint = did_you_mean(nearest(str(kind), TYPES)) or f" Known: {', '.join(TYPES)}."
        raise ConfigurationError(f"{whose} has 'auth' of the type {kind!r}, which there is not.{hint}")
    settings = AuthorizationSettings(**given)
    _check(f"The 'auth' of {whose}", settings)
    _check_address(f"The 'auth' of {whose} would send tokens to 'url'", url)
    return settings


def _check(whose: str, settings: AuthorizationSettings) -> None:
    for key in _NEEDS[settings.type]:
        if not getattr(settings, key):
            raise ConfigurationError(f"{whose} is of the type {settings.type!r} and has no {key!r}.")
    if settings.type == CLIENT_CREDENTIALS and bool(settings.client_secret) == bool(settings.private_key):
        raise ConfigurationError(f"{whose} needs a 'client_secret' or a 'private_key', one of both.")
    if settings.method not in METHODS:
        hint = did_you_mean(nearest(settings.method, METHODS)) or f" Known: {', '.join(METHODS)}."
        raise ConfigurationError(f"{whose} has the method {settings.method!r}, which there is not.{hint}")
    if not _ALGORITHM.fullmatch(settings.algorithm):
        raise ConfigurationError(f"{whose} has the algorithm {settings.algorithm!r}, which there is not: RS256, ES256, EdDSA, …")
    if settings.issuer is not None:
        _check_address(f"{whose} has an 'issuer'", settings.issuer)
    cimd = settings.client_metadata_url
    if cimd is not None and (not cimd.startswith("https://") or urlsplit(cimd).path in ("", "/")):
        raise ConfigurationError(f"{whose} has the client_metadata_url {cimd!r}: it begins with https:// and has a path.")
    if settings.assertion_file is not None and not Path(settings.assertion_file).is_absolute():
        raise ConfigurationError(f"{whose} has the assertion_file {settings.assertion_file!r}: it is an absolute path.")


def _check_address(whose: str, url: str | None) -> None:
    """Nothing secret goes over a network in the clear (RFC 6749 §3.1, RFC 9700 §2.6)."""
    parsed = urlsplit(url or "")
    if parsed.scheme != "https" and not (parsed.scheme == "http" and is_loopback(parsed.hostname or "")):
        raise ConfigurationError(f"{whose} that is not https: {url!r}. Only this machine itself is reached by http.")
