"""Sinks: from what a setting says to an `AuditSink`. The table of those that Portico brings; any other is named by its class.

`otlp` is none of this room's: it needs OpenTelemetry, and whoever has that hands it in.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from portico.audit.jsonl_file import FileSink
from portico.audit.syslog import SyslogSink
from portico.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from portico.audit.sink import AuditSink

FILE: Final = "file"
"""`file:PATH`: JSON Lines."""
OTLP: Final = "otlp"
"""Log records of OpenTelemetry."""
SYSLOG: Final = ("unix", "udp", "tcp", "tls")
"""`tls://host:6514` and the like: syslog. TLS takes `?ca=PATH`."""
FORMS: Final = "file:PATH, unix:///dev/log, udp://host:514, tcp://host:601, tls://host:6514, otlp, or the dotted path of a class"


def check_sink(what: Any) -> None:
    """Raises `ConfigurationError` for what is no sink and names none. Imports nothing and opens nothing."""
    if isinstance(what, str) and what != OTLP:
        scheme, colon, rest = what.partition(":")
        if scheme in SYSLOG:
            _syslog(what)
        elif (scheme == FILE and not rest.strip()) or (scheme != FILE and (colon or not _is_dotted(what))):
            raise ConfigurationError(f"The audit sink {what!r} is none: write {FORMS}.")
    elif not isinstance(what, str) and not callable(getattr(what, "write", None)):
        raise ConfigurationError(f"The audit sink {what!r} cannot be written to: give an AuditSink, or write {FORMS}.")


def sink_of(what: Any, directory: Path | None, otlp: Callable[[], AuditSink]) -> AuditSink:
    """The sink that a setting names, or is. `directory`: from where a relative path goes. `otlp` makes that one.

    Raises:
        ConfigurationError: there is none such.
    """
    check_sink(what)
    if not isinstance(what, str):
        return what
    if what == OTLP:
        return otlp()
    scheme, _, rest = what.partition(":")
    if scheme == FILE:
        return FileSink((directory or Path()) / rest.strip())
    return _syslog(what) if scheme in SYSLOG else _imported(what)


def _syslog(what: str) -> SyslogSink:
    address, query, ca_cert = what.partition("?ca=")
    if query and not address.startswith("tls:"):
        raise ConfigurationError(f"The audit sink {what!r} has authorities, but no TLS: write tls://host:6514?ca=PATH.")
    return SyslogSink(address, ca_cert=ca_cert or None)


def _is_dotted(what: str) -> bool:
    return "." in what and all(part.isidentifier() for part in what.split("."))


def _imported(what: str) -> Any:
    """A sink of a class of its own. Raises `ConfigurationError` where that cannot be: a missing sink is not skipped in silence."""
    module, _, name = what.rpartition(".")
    try:
        made = getattr(import_module(module), name)()
    except Exception as error:
        raise ConfigurationError(f"The audit sink {what!r} cannot be made: {type(error).__name__}: {error}.") from error
    check_sink(made)
    return made
