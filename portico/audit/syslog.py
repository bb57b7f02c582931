"""SyslogSink: the audit trail to a syslog server, as RFC 5424 has it, over a local socket, UDP, TCP or TLS.

Each entry is one message: its fields as structured data, itself as JSON for the text. Syslog answers nothing: what a server that
dies has in hand is lost, and the next connection goes on with what comes then. It keeps no chain: one begins with each program.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from portico.audit.chain import shown, time_of
from portico.errors import ConfigurationError
from portico.runs.audit_entry import ACCEPTED, OK, ChainHead
from portico.runs.printing import ascii_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from portico.runs.audit_entry import SealedEntry

FACILITY: Final = 13
"""Log audit (RFC 5424 §6.2.1)."""
NOTICE: Final = 5
"""The severity of what was done."""
WARNING: Final = 4
"""The severity of what was refused, or has failed."""
SD_ID: Final = "portico@32473"
"""Of the structured data. The number is the one for programs without a number of their own (RFC 5612)."""
PORTS: Final = {"udp": 514, "tcp": 601, "tls": 6514}
"""Where servers listen (RFC 5426, RFC 6587, RFC 5425)."""
CONNECTING: Final = 10.0
"""Seconds that a server may take to be reached."""

_OUTSIDE: Final = re.compile(r"[^!-~]")
"""What a header field cannot have."""
_TOLD_ANYWAY: Final = frozenset({"v", "alg", "at", "details"})
"""What stands elsewhere in the message."""


@dataclass(frozen=True, slots=True)
class SyslogAddress:
    """Where a server listens."""

    scheme: str
    """`unix`, `udp`, `tcp`, `tls`."""
    host: str
    """The path of a local socket, else a host."""
    port: int

    @classmethod
    def read(cls, address: str) -> SyslogAddress:
        """From `unix:///dev/log`, `udp://host:514`, `tcp://host:601`, `tls://host:6514`. Raises `ConfigurationError`."""
        form = "unix:///dev/log, udp://host:514, tcp://host:601 or tls://host:6514"
        try:
            parts = urlsplit(address)
            port = parts.port
        except ValueError:
            raise ConfigurationError(f"The syslog address {address!r} has no such port: write it as {form}.") from None
        is_local = parts.scheme == "unix"
        host = parts.path if is_local else parts.hostname
        other = parts.query or parts.fragment or parts.username or (parts.netloc if is_local else parts.path)
        if not host or other or (not is_local and parts.scheme not in PORTS):
            raise ConfigurationError(f"The syslog address {address!r} is none: write it as {form}.")
        return cls(parts.scheme, host, port or PORTS.get(parts.scheme, 0))


class SyslogSink:
    """See `AuditSink`.

    Args:
        address: where the server listens.
        app_name: what the program is called there.
        ca_cert: a PEM file with the authorities that may have signed its certificate; None for those of the machine.

    Raises:
        ConfigurationError: an address that is none.
    """

    def __init__(self, address: str, app_name: str = "portico", ca_cert: str | None = None) -> None:
        self._address = SyslogAddress.read(address)
        self._written = address
        self._ca_cert = ca_cert
        self._header = f"{_word(socket.gethostname(), 255)} {_word(app_name, 48)} {os.getpid()}"
        self._stream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._datagrams: socket.socket | None = None

    @property
    def name(self) -> str:
        """See `AuditSink.name`."""
        return f"syslog {self._written}"

    async def open(self) -> ChainHead:
        """See `AuditSink.open`. Raises `OSError`."""
        await self._connect()
        return ChainHead()

    async def write(self, entries: Sequence[SealedEntry]) -> None:
        """See `AuditSink.write`. Raises `OSError`; what was sent before comes again then."""
        if self._is_gone():
            await self._connect()
        try:
            await self._send([self._message(sealed) for sealed in entries])
        except BaseException:  # given up, too: what a server that hangs has not taken must not go out before the same comes again
            self._abort()
            raise

    async def close(self) -> None:
        """See `AuditSink.close`."""
        if self._datagrams is not None:
            self._datagrams.close()
            self._datagrams = None
        if self._stream is not None:
            writer, self._stream = self._stream[1], None
            writer.close()
            try:
                async with asyncio.timeout(1.0):
                    await writer.wait_closed()
            except (OSError, TimeoutError):
                pass  # it is gone either way
            finally:
                writer.transport.abort()

    def _abort(self) -> None:
        """Let go of it, and of what it has not sent yet."""
        if self._datagrams is not None:
            self._datagrams.close()
            self._datagrams = None
        if self._stream is not None:
            writer, self._stream = self._stream[1], None
            writer.transport.abort()

    # --- the connection -----------------------------------------------------------------------------------------------

    def _is_gone(self) -> bool:
        """Whether there is no connection, or its other end has closed it."""
        if self._stream is not None:
            return self._stream[0].at_eof() or self._stream[1].is_closing()
        return self._datagrams is None

    async def _connect(self) -> None:
        await self.close()
        address = self._address
        async with asyncio.timeout(CONNECTING):
            if address.scheme == "unix":
                await self._connect_locally(address.host)
            elif address.scheme == "udp":
                await self._connect_datagrams(address)
            else:
                context = ssl.create_default_context(cafile=self._ca_cert) if address.scheme == "tls" else None
                self._stream = await asyncio.open_connection(address.host, address.port, ssl=context)

    async def _connect_locally(self, path: str) -> None:
        """Syslog daemons have a socket of datagrams; a few have one of a stream."""
        datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        datagrams.setblocking(False)
        try:
            datagrams.connect(path)
        except OSError as error:
            datagrams.close()
            if not isinstance(error, ConnectionError) and error.errno != errno.EPROTOTYPE:
                raise
            self._stream = await asyncio.open_unix_connection(path)
        else:
            self._datagrams = datagrams

    async def _connect_datagrams(self, address: SyslogAddress) -> None:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_DGRAM)
        family, kind, protocol, _, place = found[0]
        datagrams = socket.socket(family, kind, protocol)
        datagrams.setblocking(False)
        datagrams.connect(place)
        self._datagrams = datagrams

    async def _send(self, messages: list[bytes]) -> None:
        if self._datagrams is not None:
            loop = asyncio.get_running_loop()
            for message in messages:
                await loop.sock_sendall(self._datagrams, message)
        elif self._stream is not None:
            writer = self._stream[1]
            writer.write(b"".join(b"%d %s" % (len(message), message) for message in messages))  # octet counting, RFC 6587 §3.4.1
            await writer.drain()
        else:
            raise ConnectionError("there is no connection")

    # --- the message --------------------------------------------------------------------------------------------------

    def _message(self, sealed: SealedEntry) -> bytes:
        """One entry (RFC 5424 §6). Its text is JSON in ASCII: nothing in it can begin another line."""
        entry = shown(sealed)
        severity = NOTICE if sealed.entry.outcome in (OK, ACCEPTED) else WARNING
        about: dict[str, Any] = {name: value for name, value in entry.items() if name not in _TOLD_ANYWAY}
        head = f"<{FACILITY * 8 + severity}>1 {time_of(sealed.entry.at_us)} {self._header} {_word(sealed.entry.action, 32)}"
        return f"{head} {_structured(about)} {ascii_json(entry)}".encode("utf-8", "replace")


def _word(text: str, longest: int) -> str:
    """A header field (RFC 5424 §6.2): printable ASCII without blanks."""
    return _OUTSIDE.sub("_", text)[:longest] or "-"


def _structured(about: Mapping[str, Any]) -> str:
    """Structured data (RFC 5424 §6.3). Control characters are escaped as JSON does it."""
    params = " ".join(f'{name}="{_value(value)}"' for name, value in about.items())
    return f"[{SD_ID} {params}]"


def _value(value: Any) -> str:
    """A value, with a backslash before what would end it (RFC 5424 §6.3.3)."""
    text = str(value)
    if any(not character.isprintable() for character in text):
        text = "".join(one if one.isprintable() else ascii_json(one)[1:-1] for one in text)
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")
