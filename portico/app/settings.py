"""GatewayConfig: everything that can be set about the HTTP side. The only reader of the environment.

One class for every way in: `create_app(…, settings)`, `HTTPGateway(config=…)`, the topology's `server:` and the command line.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Self

from portico.errors import ConfigurationError, did_you_mean, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PREFIX = "PORTICO_"

LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")
"""Addresses that only this machine reaches."""

IN_CODE = ("routes", "middleware", "interceptors")
"""Settings that no variable can hold."""

LONGEST = 1e12
"""What no number of seconds or bytes reaches."""


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """The settings of one gateway."""

    host: str = "127.0.0.1"
    """The address to bind."""
    port: int = 8080
    """The port to bind; 0 for any free one."""
    tls_cert: str | None = None
    """A PEM file with the certificate chain; with `tls_key`, the gateway speaks HTTPS."""
    tls_key: str | None = None
    """A PEM file with the certificate's key."""
    api_key: str | None = field(default=None, repr=False)
    """Callers must send it as a bearer token; None lets everybody in."""
    insecure: bool = False
    """Allow to bind an address that others reach, without a key."""
    allowed_hosts: Sequence[str] = ()
    """Names that a Host or Origin header may have, each with or without a port. Empty: this machine's names while bound to
    loopback, else any."""
    request_timeout: float = 30.0
    """Seconds that a plain ask may take."""
    run_timeout: float = 3600.0
    """Seconds that a send, an async run or an MCP call may take."""
    read_timeout: float = 20.0
    """Seconds in which a request's head must have come; its body has as many, and one more for each 500 bytes of it."""
    body_limit: int = 4 * 1024 * 1024
    """Bytes that a request body may have."""
    ping: float = 15.0
    """Seconds between the heartbeats of an event stream."""
    drain_timeout: float = 25.0
    """Seconds that requests in flight get on shutdown."""
    routes: Sequence[Mapping[str, Any]] = ()
    """More routes: mappings with `method`, `path`, `agent` and, if not the only one, `operation`; `mode`, `timeout`."""
    interceptors: Sequence[Any] = ()
    """Around every call, whatever face it came through, the outermost first: `async (call, next)`, or its dotted path."""
    rate_limit: Sequence[str] = ()
    """How often one caller may call: texts such as `100/minute`; several hold together. Empty: as often as it likes."""
    max_calls: int = 10_000
    """Plain asks that may be in flight at once; more are refused with 503."""
    middleware: Sequence[Any] = ()
    """ASGI middleware classes, the outermost first; they run inside authentication."""
    docs_enabled: bool = True
    """Serve Swagger UI and ReDoc."""
    docs_path: str = "/docs"
    """Where Swagger UI is."""
    mcp_path: str | None = "/mcp"
    """Where the MCP endpoint is; None for nowhere."""
    data: str | None = None
    """The data directory: runs and states are stored there and survive the program; None for what the topology says."""
    title: str = "Portico"
    """The API's title in its documentation."""

    def __post_init__(self) -> None:
        """Raises `ConfigurationError` for values that cannot be."""
        for about in fields(self):
            _check_kind(about.name, getattr(self, about.name), about.default)
        if not 0 <= self.port <= 65535:  # noqa: PLR2004  # RFC 9293
            raise ConfigurationError(f"port is {self.port}: it must be between 0 and 65535.")
        for name in ("request_timeout", "run_timeout", "read_timeout", "body_limit", "ping", "drain_timeout", "max_calls"):
            if not 0 < getattr(self, name) < LONGEST:
                raise ConfigurationError(f"{name} is {getattr(self, name)}: it must be more than 0, and finite.")
        for name in ("docs_path", "mcp_path"):
            path: str | None = getattr(self, name)
            if path is not None and not path.startswith("/"):
                raise ConfigurationError(f"{name} is {path!r}: it must begin with '/'.")
        if self.data is not None and not self.data.strip():
            raise ConfigurationError("data is blank: name the directory, or leave it out.")
        if self.api_key is not None and not self.api_key.strip():
            raise ConfigurationError("api_key is blank: everybody would have it. Set it to a secret, or leave it out.")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ConfigurationError("tls_cert and tls_key belong together: give both or none.")

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches the bound address."""
        return self.host in LOOPBACK_HOSTS

    def refuse_exposure(self) -> None:
        """Raises `ConfigurationError` where others would reach the gateway without a key."""
        if not self.loopback and self.api_key is None and not self.insecure:
            raise ConfigurationError(
                f"Binding {self.host} would let everybody who reaches this machine call its agents. "
                "Set PORTICO_API_KEY to a secret, or say --insecure."
            )

    def keyed(self, environ: Mapping[str, str]) -> Self:
        """The same, with the key of the environment where there is none."""
        key = environ.get(PREFIX + "API_KEY", "").strip()
        return self if self.api_key is not None or not key else replace(self, api_key=key)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], base: Mapping[str, Any] | None = None, **given: Any) -> Self:
        """Settings from `PORTICO_*` variables: they win over `base` (a topology's `server:`), and what is `given` over both.

        Raises:
            ConfigurationError: an unknown `PORTICO_` variable, or a value that cannot be read.
        """
        known = {PREFIX + about.name.upper(): about for about in fields(cls) if about.name not in IN_CODE}
        values: dict[str, Any] = dict(base or {})
        for name, text in environ.items():
            if not name.startswith(PREFIX) or not text.strip():
                continue
            if name not in known:
                raise ConfigurationError(f"There is no setting {name}.{did_you_mean(nearest(name, known))}")
            values[known[name].name] = _read(name, text.strip(), known[name].default)
        values.update((name, value) for name, value in given.items() if value is not None)
        return cls(**values)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Settings from plain data, such as YAML. Raises `ConfigurationError` for an unknown key, with the nearest."""
        known = [about.name for about in fields(cls)]
        for key in values:
            if key not in known:
                raise ConfigurationError(f"A gateway has no setting {key!r}.{did_you_mean(nearest(key, known))}")
        return cls(**values)


def _check_kind(name: str, value: Any, default: Any) -> None:
    """Raises `ConfigurationError` where a value is of another kind than its default: YAML and code give what they like."""
    kinds: tuple[type, ...]
    if isinstance(default, bool):
        kinds, kind = (bool,), "true or false"
    elif isinstance(default, int):
        kinds, kind = (int,), "a whole number"
    elif isinstance(default, float):
        kinds, kind = (int, float), "a number"
    elif isinstance(default, tuple):
        kinds, kind = (list, tuple), "a list"
    else:
        kinds, kind = (str,) if default is not None else (str, type(None)), "text"
    if name == "mcp_path":
        kinds = (str, type(None))
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise ConfigurationError(f"{name} is {value!r}: it must be {kind}.")


def _read(name: str, text: str, default: Any) -> Any:
    """A variable's text as the type of its default."""
    if isinstance(default, bool):
        if text.lower() not in ("1", "0", "true", "false", "yes", "no", "on", "off"):
            raise ConfigurationError(f"{name} is {text!r}: it must be true or false.")
        return text.lower() in ("1", "true", "yes", "on")
    if isinstance(default, int | float):
        try:
            return type(default)(text)
        except ValueError:
            kind = "a whole number" if isinstance(default, int) else "a number"
            raise ConfigurationError(f"{name} is {text!r}: it must be {kind}.") from None
    if isinstance(default, tuple):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    return text
