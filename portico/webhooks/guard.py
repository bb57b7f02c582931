"""Guard: which addresses a callback may go to. Those of this machine and of the networks behind it are closed; hosts can be opened.

Who asks for a callback makes the gateway send a request from where it stands (server-side request forgery, OWASP API7:2023). So a
host is resolved once, every address that comes of it is judged, and the connection goes to the very address that was: a name that
means something else a moment later (DNS rebinding) is no way around. Above: the sender. It opens no connection itself.
"""

from __future__ import annotations

import asyncio
import re
import socket
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, Final, TypeAlias

import httpx

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence


Address: TypeAlias = IPv4Address | IPv6Address

LONGEST: Final = 2048
"""Characters that an address may have."""
PORTS: Final = (80, 443)
"""The ports below 1024 that a callback may go to: those of HTTP. The others belong to other protocols."""
FIRST_FREE_PORT: Final = 1024

CLOSED: Final = tuple(
    map(
        ip_network,
        (
            "192.0.0.0/24",  # protocol assignments (RFC 6890); a metadata service of Oracle is among them
            "192.88.99.0/24",  # relays of 6to4 (RFC 7526)
            "168.63.129.16/32",  # Azure's virtual host, though it looks like any other
            "2001::/23",  # protocol assignments, Teredo among them (RFC 2928, RFC 4380)
            "3fff::/20",  # documentation (RFC 9637)
            "5f00::/16",  # segment routing (RFC 9602)
        ),
    )
)
"""Networks that are closed although `ipaddress` may call them global; which those are differs between versions of Python."""
GLOBAL_6: Final = ip_network("2000::/3")
"""Where the global addresses of IPv6 are (RFC 4291 §2.4)."""
NAT64: Final = ip_network("64:ff9b::/96")
"""Addresses that stand for those of IPv4 (RFC 6052)."""
_NUMERIC: Final = re.compile(r"[0-9a-fx.]+", re.IGNORECASE)
"""What the system may take for an address of IPv4 in one of its old spellings, such as `0x7f.1` or `2130706433`."""
_VISIBLE: Final = re.compile(r"[!-~]+")


class ClosedError(Exception):
    """An address that no callback may go to. Its text is a sentence for who asked for it."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a callback goes."""

    url: httpx.URL
    """As it was asked for."""
    host: str
    """Its host, as a certificate has it."""
    addresses: Sequence[str]
    """What that resolves to; all of them are open."""


class Guard:
    """Judges addresses.

    Args:
        allowed: hosts that are open wherever they lead to, each with or without a port; one without a port opens every port.
        resolve: from a host and a port to addresses; None asks the system. Raises `OSError`.
    """

    def __init__(
        self, allowed: Iterable[str] = (), *, resolve: Callable[[str, int], Awaitable[Sequence[str]]] | None = None
    ) -> None:
        self._allowed = frozenset(_bracketed(name.lower()) for name in allowed)
        self._resolve = resolve or _resolved

    def check(self, url: str) -> httpx.URL:
        """What can be said of an address without asking for its host. Raises `ClosedError`."""
        if len(url) > LONGEST:
            raise ClosedError(f"The address has more than {LONGEST} characters.")
        parsed = _parsed(url)
        if self._is_open(parsed):
            return parsed
        host, port = _host_of(parsed), _port_of(parsed)
        if port not in PORTS and port < FIRST_FREE_PORT:
            raise ClosedError(f"Port {port} is no port of HTTP: take {PORTS[0]}, {PORTS[1]}, or one from {FIRST_FREE_PORT}.")
        literal = _literal(host)
        if host == "localhost" or host.endswith(".localhost") or (literal is not None and is_internal(literal)):
            raise ClosedError(_closed(host))
        return parsed

    async def target(self, url: str) -> Target:
        """Where a callback goes. Raises `ClosedError` where it may not go there, `OSError` where its host cannot be resolved."""
        parsed = self.check(url)
        host, port = _host_of(parsed), _port_of(parsed)
        addresses = await self._resolve(host, port)
        if not addresses:
            raise OSError(f"{host!r} has no address")
        if not self._is_open(parsed) and any(_is_closed(address) for address in addresses):
            raise ClosedError(_closed(host))
        return Target(parsed, host, addresses)

    def _is_open(self, url: httpx.URL) -> bool:
        host = _bracketed(_host_of(url))
        return host in self._allowed or f"{host}:{_port_of(url)}" in self._allowed


def is_internal(address: Address) -> bool:
    """Whether an address is not one of the open Internet, or stands for one that is not."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return is_internal(address.ipv4_mapped)
        if address in NAT64:
            return is_internal(IPv4Address(int(address) & 0xFFFFFFFF))
        if address.sixtofour is not None and is_internal(address.sixtofour):
            return True
        if address not in GLOBAL_6:
            return True
    elif address.is_reserved or address.is_unspecified:
        return True
    return not address.is_global or address.is_multicast or any(address in network for network in CLOSED)


def _is_closed(address: str) -> bool:
    try:
        return is_internal(ip_address(address))  # a zone, as in `fe80::1%eth0`, is a part of it
    except ValueError:
        return True


def _parsed(url: str) -> httpx.URL:
    if not _VISIBLE.fullmatch(url):
        raise ClosedError("The address has blanks, or characters that are not ASCII: encode them.")
    try:
        parsed = httpx.URL(url)
        host, port = parsed.host, _port_of(parsed)
    except (httpx.InvalidURL, ValueError):
        raise ClosedError("This is no address.") from None
    if parsed.scheme not in ("http", "https") or not host:
        raise ClosedError("The address must begin with https:// or http://, and name a host.")
    if parsed.userinfo:
        raise ClosedError("The address has a user or a password in it: who receives the callback knows it by its signature.")
    if parsed.fragment:
        raise ClosedError("The address has a fragment (#…), which is never sent.")
    if not 0 < port < 65536:  # noqa: PLR2004  # RFC 9293
        raise ClosedError(f"There is no port {port}.")
    return parsed


def _host_of(url: httpx.URL) -> str:
    """As it is resolved: in lower case, names of other scripts in ASCII, without the brackets and the last dot."""
    return url.raw_host.decode("ascii").lower().rstrip(".").strip("[]")


def _port_of(url: httpx.URL) -> int:
    return url.port if url.port is not None else (443 if url.scheme == "https" else 80)


def _bracketed(host: str) -> str:
    """A host as it stands before a port: an address of IPv6 in brackets."""
    with suppress(ValueError):
        return f"[{IPv6Address(host)}]"
    return host


def _literal(host: str) -> Address | None:
    """The address that a host is, where it is no name."""
    with suppress(ValueError):
        return ip_address(host)
    if _NUMERIC.fullmatch(host):
        with suppress(OSError):
            return IPv4Address(socket.inet_aton(host))
    return None


def _closed(host: str) -> str:
    return f"{host!r} is an address of this machine or of a network behind it: an operator may open it (callback_allowed_hosts)."


async def _resolved(host: str, port: int) -> Sequence[str]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # a part of the name is too long
        raise OSError(str(error)) from error
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
