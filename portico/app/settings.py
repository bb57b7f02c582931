"""GatewayConfig: everything that can be set about the HTTP side. The only reader of the environment.

One class for every way in: `create_app(…, settings)`, `HTTPGateway(config=…)`, the topology's `server:` and the command line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from itertools import combinations
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from portico.audit.settings import AuditLevel
from portico.errors import ConfigurationError, did_you_mean, nearest
from portico.loopback import is_loopback
from portico.operations.catalogue import GATEWAY_PATHS
from portico.webhooks.signature import secrets_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from dataclasses import Field

PREFIX = "PORTICO_"

KEYS_FILE = "keys.json"
"""What the file with the API keys is called in a data directory."""

CLIENT_CERT_MODES = ("none", "optional", "required")
"""Whether clients show a certificate."""

_ORIGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")
"""What a browser sends as `Origin`: RFC 6454 §6.2. Names outside ASCII are sent in their xn-- form."""

_POSITIVE = (
    "request_timeout",
    "run_timeout",
    "read_timeout",
    "body_limit",
    "ping",
    "drain_timeout",
    "max_calls",
    "mcp_page_size",
    "mcp_input_timeout",
    "mcp_client_limit",
    "mcp_task_after",
)
_PATHS = {"docs_path": "/docs", "console_path": "/console", "mcp_path": "/mcp"}
"""What can stand at another path of the gateway, and where it stands unless it is told to."""

AUDIT_LEVELS = tuple(level.name.lower() for level in AuditLevel)
"""What `audit` can be."""

IN_CODE = ("routes", "middleware", "interceptors", "sinks")
"""Settings that no variable can hold."""

DEFAULT_ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA")
"""The usual ones; RFC 8725 §3.1 asks for a list that somebody has chosen."""
ALGORITHMS = (*DEFAULT_ALGORITHMS, "RS384", "RS512", "PS384", "PS512", "ES384", "ES512")
"""Every one that can be chosen: a verifier needs the public key only."""

LOG_FORMATS = ("text", "json")
"""What `log_format` can be."""

_HOST = re.compile(r"[^\s/@?#*]+")

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
    """A PEM file with the certificate's key, without a password."""
    tls_ca_cert: str | None = None
    """A PEM file with the authorities that may have signed the certificates of clients."""
    client_cert_mode: str = "none"
    """Whether clients show a certificate: `none`; `optional`, where others need a key or a token; `required`."""
    client_cert_scopes: Sequence[str] = ()
    """What a caller may do who has shown a certificate and nothing else; `*` is everything."""
    enable_http3: bool = False
    """Serve HTTP/3 beside, over UDP; needs a certificate and `portico[http3]`."""
    port_quic: int | None = field(default=None, metadata={"like": 0})
    """The UDP port of HTTP/3; None for the number of `port`."""
    api_key: str | None = field(default=None, repr=False)
    """A key that may do everything. Without it, `keys_file` and `jwt_issuer`, everybody is let in."""
    keys_file: str | None = None
    """The file with the API keys of `portico keys`; None for `keys.json` in the data directory, where that is there."""
    jwt_issuer: str | None = None
    """The URL of who issues the tokens that are taken; None for no tokens."""
    jwt_audience: str | None = None
    """What a token must be meant for: one of these, separated by blanks."""
    jwt_jwks_url: str | None = None
    """Where the issuer's keys are; None: discovered from the issuer."""
    jwt_algorithms: Sequence[str] = DEFAULT_ALGORITHMS
    """The signature algorithms that are taken; asymmetric ones alone."""
    public_url: str | None = None
    """What clients call the gateway; None: what each request says in its Host header."""
    callback_secret: str | None = field(default=None, repr=False)
    """What callbacks are signed with: `whsec_` and the base64 of 24 to 64 random bytes; several with commas between them while
    receivers change from one to the next. None takes no callbacks."""
    callback_allowed_hosts: Sequence[str] = ()
    """Hosts that callbacks may go to wherever they lead, each with or without a port: any other must be on the open Internet."""
    insecure: bool = False
    """Allow to bind an address that others reach, without a key."""
    allowed_hosts: Sequence[str] = ()
    """Names that a Host or Origin header may have, each with or without a port. Empty: this machine's names while bound to
    loopback, else any."""
    cors_origins: Sequence[str] = ()
    """Origins whose pages may call the gateway from a browser (CORS), such as `https://app.example`; `*` is every origin."""
    request_timeout: float = 30.0
    """Seconds that a plain ask may take."""
    run_timeout: float = 3600.0
    """Seconds that a send, an async run or an MCP call may take."""
    read_timeout: float = 20.0
    """Seconds in which a request's head must have come; its body has as many, and one more for each 500 bytes of it."""
    body_limit: int = 4 * 1024 * 1024
    """Bytes that a request body may have."""
    compression: bool = True
    """Send long replies as gzip to clients that take it."""
    ping: float = 15.0
    """Seconds between the heartbeats of an event stream."""
    drain_timeout: float = 25.0
    """Seconds that requests in flight get on shutdown."""
    routes: Sequence[Mapping[str, Any]] = ()
    """More routes: mappings with `method`, `path`, `agent` and, if not the only one, `operation`; `mode`, `timeout`."""
    interceptors: Sequence[Any] = ()
    """Around every call, whatever face it came through, the outermost first: `async (call, next)`, or its dotted path."""
    sinks: Sequence[Any] = ()
    """Who else takes the events of runs and what models took: objects, or dotted paths of what makes one. See `runs/sinks.py`."""
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
    console_enabled: bool = True
    """Serve the live page."""
    console_path: str = "/console"
    """Where the live page is."""
    mcp_path: str | None = "/mcp"
    """Where the MCP endpoint is; None for nowhere."""
    mcp_allow: Sequence[str] = ()
    """Globs of the tools that MCP serves, by their names before `mcp_rename`; empty for all."""
    mcp_deny: Sequence[str] = ()
    """Globs of the tools that MCP does not serve, whatever `mcp_allow` says."""
    mcp_rename: Mapping[str, str] = field(default_factory=dict[str, str], metadata={"like": MappingProxyType({})})
    """Other names for tools of MCP: by the name that each would have."""
    mcp_page_size: int = 1000
    """How many tools, or whatever else MCP lists, one answer may have."""
    mcp_input_timeout: float = 600.0
    """Seconds that a call of an MCP client waits for what the client is asked: elicitation, sampling, roots."""
    mcp_client_limit: float = 50.0
    """Seconds after which an MCP client that knows no tasks is told that its call is still running."""
    mcp_task_after: float = 5.0
    """Seconds after which the call of an MCP client that knows tasks becomes one, unless its operation says otherwise."""
    mcp_sse: bool = False
    """Serve MCP in its oldest form too, HTTP with SSE of 2024-11-05: `/sse` and `/messages` below `mcp_path`."""
    mcp_direct: bool = True
    """Answer plain MCP calls in front of the SDK: the same answers, several times as fast. False only to find a fault."""
    mcp_sessions_per_caller: int = 100
    """MCP sessions that one caller may have open at once: a principal, or an address where none is known."""
    mcp_max_sessions: int = 10_000
    """MCP sessions of all callers, of some 36 KiB each."""
    mcp_session_idle_timeout: float = 300.0
    """Seconds after which an MCP session that nobody uses ends."""
    data: str | None = None
    """The data directory: runs and states are stored there and survive the program; None for what the topology says."""
    metrics_enabled: bool = True
    """Count calls, and serve `/metrics`."""
    audit: str = "actions"
    """How much the audit trail has: `off`; `actions`; `calls`; `messages`."""
    audit_keep: float | None = field(default=None, metadata={"like": 0.0})
    """Seconds for which the journal keeps entries of the audit trail; None for ever."""
    audit_journal: bool = True
    """Keep the audit trail in the store of the runs."""
    audit_sinks: Sequence[Any] = ()
    """Where else the audit trail goes: `file:PATH`, `unix:///dev/log`, `udp://`, `tcp://` or `tls://host:port`, `otlp`; an
    `AuditSink`, or the dotted path of a class of them."""
    access_log: bool = False
    """Log every request as a line of JSON, on the logger `portico.access`."""
    log_format: str = "text"
    """How `portico serve` writes its log: `text`, or `json` for one object per line."""
    title: str = "Portico"
    """The API's title in its documentation."""

    def __post_init__(self) -> None:
        """Raises `ConfigurationError` for values that cannot be."""
        for about in fields(self):
            if (value := getattr(self, about.name)) is not None or about.default is not None:
                _check_kind(about.name, value, _like(about))
        self._check_numbers()
        self._check_words()
        self._check_tools()
        _check_callbacks(self.callback_secret, self.callback_allowed_hosts)
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ConfigurationError("tls_cert and tls_key belong together: give both or none.")
        self._check_callers()
        self._check_audit()
        self._check_client_certificates()
        self._check_http3()
        self._check_origins()

    def _check_numbers(self) -> None:
        for name in ("port", "port_quic"):
            port: int | None = getattr(self, name)
            if port is not None and not 0 <= port <= 65535:  # noqa: PLR2004  # RFC 9293
                raise ConfigurationError(f"{name} is {port}: it must be between 0 and 65535.")
        for name in _POSITIVE:
            if not 0 < getattr(self, name) < LONGEST:
                raise ConfigurationError(f"{name} is {getattr(self, name)}: it must be more than 0, and finite.")

    def _check_audit(self) -> None:
        if self.audit not in AUDIT_LEVELS:
            hint = did_you_mean(nearest(self.audit, AUDIT_LEVELS))
            raise ConfigurationError(f"audit is {self.audit!r}: it must be one of {', '.join(AUDIT_LEVELS)}.{hint}")
        if self.audit_keep is not None and not 0 < self.audit_keep < LONGEST:
            raise ConfigurationError(f"audit_keep is {self.audit_keep}: it must be more than 0, and finite.")
        if self.audit_sinks:
            from portico.audit.sinks import check_sink  # noqa: PLC0415  # only where there are any: it loads what they need

            for sink in self.audit_sinks:
                check_sink(sink)

    def _check_callers(self) -> None:
        if self.api_key is not None and not self.api_key.strip():
            raise ConfigurationError("api_key is blank: everybody would have it. Set it to a secret, or leave it out.")
        self._check_tokens()

    def _check_tokens(self) -> None:
        if self.public_url is not None and not _is_url(self.public_url, plain=True):
            raise ConfigurationError(f"public_url is {self.public_url!r}: it must be an http:// or https:// URL without a query.")
        for name in ("jwt_issuer", "jwt_jwks_url"):
            url: str | None = getattr(self, name)
            if url is not None and not _is_url(url, plain=self.insecure, query=name == "jwt_jwks_url"):
                raise ConfigurationError(
                    f"{name} is {url!r}: it must be an https:// URL. Over plain HTTP, whoever is on the way could hand in keys of "
                    "their own; only this machine's addresses may be http://, unless you say --insecure."
                )
        if self.jwt_issuer is not None and not (self.jwt_audience or "").strip():
            raise ConfigurationError(
                "jwt_audience is missing: without it, a token that was issued for any other service would be taken here."
            )
        if self.jwt_issuer is None and (self.jwt_audience is not None or self.jwt_jwks_url is not None):
            raise ConfigurationError("jwt_issuer is missing: it says whose tokens are taken.")
        if not self.jwt_algorithms:
            raise ConfigurationError("jwt_algorithms is empty: no token could be verified.")
        for algorithm in self.jwt_algorithms:
            if algorithm not in ALGORITHMS:
                hint = did_you_mean(nearest(algorithm, ALGORITHMS)) if isinstance(algorithm, str) else ""  # pyright: ignore[reportUnnecessaryIsInstance]  # YAML gives what it likes
                raise ConfigurationError(
                    f"jwt_algorithms has {algorithm!r}: it must be asymmetric, one of {', '.join(ALGORITHMS)}.{hint}"
                )

    def _check_client_certificates(self) -> None:
        mode = self.client_cert_mode
        if mode not in CLIENT_CERT_MODES:
            words = ", ".join(CLIENT_CERT_MODES)
            raise ConfigurationError(
                f"client_cert_mode is {mode!r}: it must be one of {words}.{did_you_mean(nearest(mode, CLIENT_CERT_MODES))}"
            )
        if mode != "none" and self.tls_cert is None:
            raise ConfigurationError(f"client_cert_mode is {mode!r}: client certificates need TLS. Set tls_cert and tls_key.")
        if mode != "none" and self.tls_ca_cert is None:
            raise ConfigurationError(f"client_cert_mode is {mode!r}: set tls_ca_cert to the authorities that may have signed.")
        if mode == "none" and self.tls_ca_cert is not None:
            raise ConfigurationError("tls_ca_cert is set, but client_cert_mode is 'none': say 'optional' or 'required'.")
        if mode == "none" and self.client_cert_scopes:
            raise ConfigurationError("client_cert_scopes is set, but client_cert_mode is 'none': nobody would have them.")

    def _check_http3(self) -> None:
        if self.port_quic is not None and not self.enable_http3:
            raise ConfigurationError("port_quic is set, but enable_http3 is not: nothing would listen there.")
        if self.enable_http3 and self.tls_cert is None:
            raise ConfigurationError("enable_http3 needs TLS: HTTP/3 has no other form. Set tls_cert and tls_key.")
        if self.enable_http3 and self.client_cert_mode != "none":
            raise ConfigurationError(
                "enable_http3 and client_cert_mode cannot be had together: over HTTP/3 none would be asked for."
            )

    def _check_origins(self) -> None:
        for origin in self.cors_origins:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ConfigurationError(
                    f"cors_origins has {origin!r}: it must be '*', or scheme, host and port without a path, "
                    "such as https://app.example or http://localhost:3000."
                )
        if "*" in self.cors_origins and self.client_cert_mode != "none":
            raise ConfigurationError(
                "cors_origins has '*', and client_cert_mode is not 'none': any page could use its visitors' certificates. "
                "Name the origins."
            )

    @property
    def secrets(self) -> list[str]:
        """The credentials in it, which no log line may have."""
        return [*([self.api_key] if self.api_key else []), *(self.callback_secret or "").split(",")]

    @property
    def mcp_paths(self) -> tuple[str, ...]:
        """Where MCP is served: the endpoint, and where the oldest form is served, its stream and its messages."""
        if self.mcp_path is None:
            return ()
        base = self.mcp_path.rstrip("/")
        return (self.mcp_path, f"{base}/sse", f"{base}/messages") if self.mcp_sse else (self.mcp_path,)

    @property
    def public_path(self) -> str | None:
        """What clients write before the gateway's paths, as far as `public_url` tells."""
        return urlsplit(self.public_url).path.rstrip("/") if self.public_url is not None else None

    @property
    def authenticates(self) -> bool:
        """Whether callers must say who they are."""
        keys = self.api_key is not None or self.keys_file is not None
        return keys or self.jwt_issuer is not None or self.client_cert_mode != "none"

    def _check_words(self) -> None:
        if self.log_format not in LOG_FORMATS:
            raise ConfigurationError(f"log_format is {self.log_format!r}: it must be {' or '.join(LOG_FORMATS)}.")
        for name, usual in _PATHS.items():
            path: str | None = getattr(self, name)
            if path is not None and not path.startswith("/"):
                raise ConfigurationError(f"{name} is {path!r}: it must begin with '/'.")
            if path is not None and (taken := _taken(path, own=usual)) is not None:
                raise ConfigurationError(f"{name} is {path!r}: {taken} and what is below it belongs to the gateway itself.")
        self._check_places()
        for name, what in (("data", "directory"), ("keys_file", "file")):
            said: str | None = getattr(self, name)
            if said is not None and not said.strip():
                raise ConfigurationError(f"{name} is blank: name the {what}, or leave it out.")

    def _check_places(self) -> None:
        places = {
            "docs_path": self.docs_path if self.docs_enabled else None,
            "console_path": self.console_path if self.console_enabled else None,
            "mcp_path": self.mcp_path,
        }
        for (name, path), (other, same) in combinations(places.items(), 2):
            if path is not None and path == same:
                raise ConfigurationError(f"{name} and {other} are both {path!r}: each needs a path of its own.")
        if (below := self._below_console()) is not None:
            name, path = below
            raise ConfigurationError(f"{name} is {path!r}: what is below {self.console_path} are the files of the live page.")
        if self.mcp_sse and self.mcp_path is None:
            raise ConfigurationError("mcp_sse is set, but mcp_path is null: it is served below that path.")

    def _below_console(self) -> tuple[str, str] | None:
        """Which other path is below that of the live page, whose files are open: what they hid would need no credential."""
        others = {"docs_path": self.docs_path if self.docs_enabled else None, "mcp_path": self.mcp_path}
        above = self.console_path.rstrip("/") + ("/" if self.console_path != "/" else "/assets/")
        found = ((name, path) for name, path in others.items() if path is not None and f"{path}/".startswith(above))
        return next(found, None) if self.console_enabled else None

    def _check_tools(self) -> None:
        for name in ("mcp_allow", "mcp_deny"):
            for pattern in getattr(self, name):
                if not isinstance(pattern, str) or not pattern.strip():
                    raise ConfigurationError(f"{name} has {pattern!r}: it must be the name of a tool, or a glob such as 'calc-*'.")
        for tool, other in self.mcp_rename.items():
            if not isinstance(tool, str) or not isinstance(other, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # YAML gives what it likes
                raise ConfigurationError(f"mcp_rename has {tool!r}: {other!r}: both must be names of tools.")

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches the address to bind, as far as its spelling tells. Of names, `localhost` alone."""
        return is_loopback(self.host)

    def refuse_exposure(self, address: str | None = None) -> None:
        """Raises `ConfigurationError` where others would reach the gateway without a key, a token or a certificate.

        Args:
            address: what `host` resolved to; by default its spelling counts.
        """
        loopback = self.loopback if address is None else is_loopback(address)
        if not loopback and not self.authenticates and not self.insecure:
            where = self.host or "every address, since host is empty,"
            where += f", which is {address}," if address not in (None, self.host) else ""
            raise ConfigurationError(
                f"Binding {where} would let everybody who reaches this machine call its agents. "
                "Set PORTICO_API_KEY to a secret, or say --insecure."
            )

    def keyed(self, environ: Mapping[str, str]) -> Self:
        """The same, with the key and the secret of the environment where there are none."""
        missing = (name for name in ("api_key", "callback_secret") if getattr(self, name) is None)
        found = {name: environ.get(PREFIX + name.upper(), "").strip() for name in missing}
        return replace(self, **{name: text for name, text in found.items() if text})

    def with_keys_of(self, directory: Path | str | None) -> Self:
        """The same, with the key file of a data directory where there is one and no other was chosen."""
        directory = self.data or directory
        if self.keys_file is not None or directory is None or not (file := Path(directory, KEYS_FILE)).exists():
            return self
        return replace(self, keys_file=str(file))

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
            values[known[name].name] = _read(name, text.strip(), _like(known[name]))
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


_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9A-Fa-f:.]+\]|[^\[\]:/@?#\s\"\\]+)(?::[0-9]{1,5})?(?:/[^?#\s\"\\]*)?(?P<query>\?[^#\s\"\\]*)?"
)


def _is_url(text: str, *, plain: bool, query: bool = False) -> bool:
    """Whether it is an https:// URL, or an http:// one of this machine. `plain`: or of any. `query`: it may have one."""
    match = _URL.fullmatch(text)
    if match is None or (match["query"] is not None and not query):
        return False
    return match["scheme"] == "https" or plain or is_loopback(match["host"].strip("[]"))


def _like(about: Field[Any]) -> Any:
    """A value of a setting's kind: its default, where that is not None."""
    return about.metadata.get("like", about.default)


def _check_callbacks(secret: str | None, hosts: Sequence[str]) -> None:
    """Raises `ConfigurationError` where callbacks cannot be signed with that secret, which it does not show, or a host is none."""
    for host in hosts:
        if not _HOST.fullmatch(host):
            raise ConfigurationError(f"callback_allowed_hosts has {host!r}: write a host alone, with or without a port.")
    if secret is not None:
        try:
            secrets_of(secret)
        except ValueError as error:
            raise ConfigurationError(f"callback_secret cannot be used: {error}.") from None


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
    elif isinstance(default, Mapping):
        kinds, kind = (Mapping,), "a mapping"
    else:
        kinds, kind = (str,) if default is not None else (str, type(None)), "text"
    if name == "mcp_path":
        kinds = (str, type(None))
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise ConfigurationError(f"{name} is {value!r}: it must be {kind}.")


def _taken(path: str, own: str) -> str | None:
    """Which of the gateway's other paths is at a path or above it. The pages are open: what they hid would need no credential."""
    return next((other for other in GATEWAY_PATHS if other != own and f"{path}/".startswith(f"{other}/")), None)


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
    if isinstance(default, Mapping):
        pairs = [part.partition("=") for part in text.split(",") if part.strip()]
        if not all(sign and key.strip() and value.strip() for key, sign, value in pairs):
            raise ConfigurationError(f"{name} is {text!r}: write it as one=other, and commas between several.")
        return {key.strip(): value.strip() for key, _, value in pairs}
    return text
