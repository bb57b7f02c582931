"""MCPServerConfig: how one external MCP server is reached. Checked when it is made, before anything starts."""

from __future__ import annotations

import math
import re
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from portico.errors import ConfigurationError, did_you_mean, nearest
from portico.mcp_bridge.authorization import authorization_of
from portico.mcp_bridge.sandbox import sandbox_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from portico.mcp_bridge.authorization import AuthorizationSettings
    from portico.mcp_bridge.sandbox import Sandbox

TRANSPORTS: Final = ("stdio", "streamable_http", "sse")
"""The transports that there are; `sse` is the one of 2024, for servers that have no other."""

LOG_LEVELS: Final = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
"""The levels of log messages in the protocol, which are those of syslog."""
MAX_RESULT: Final = 1024 * 1024
"""Bytes that a tool's result may have, unless its server's settings say otherwise."""
MOST_RESULT: Final = 32 * 1024 * 1024
"""Bytes that they can say at most: a line over stdio has no more."""

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_URL = re.compile(r"https?://[^/\s]+\S*")
_TOOL = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_PIN = re.compile(r"sha256:[0-9a-f]{64}")
_THIS_PYTHON = ("python", "python3")


@dataclass(frozen=True, slots=True)
class MCPServerConfig:
    """One external MCP server. Its tools are addressed `mcp://{name}/{tool}`.

    Raises:
        ConfigurationError: a setting that cannot be, or that belongs to another transport.
    """

    name: str
    """Its name: letters, digits, `_` and `-`."""
    transport: str = "stdio"
    """`stdio` starts it as a child process; `streamable_http` and `sse` reach it at a URL."""
    command: str | None = None
    """stdio: the program. `python` and `python3` mean the interpreter that runs Portico: no environment has to be activated."""
    args: Sequence[str] = field(default=(), repr=False)
    """stdio: its arguments."""
    env: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """stdio: variables for it, beside HOME, LOGNAME, PATH, SHELL, TERM and USER, which is all that it inherits."""
    inherit_env: Sequence[str] = ()
    """stdio: names of variables that it inherits besides, as far as they are set."""
    cwd: str | Path | None = None
    """stdio: the directory that it runs in; None for ours."""
    url: str | None = field(default=None, repr=False)
    """http: where it is."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """http: headers of every request. The headers of our own callers are never handed on."""
    auth: Any = field(default=None, repr=False)
    """http: how we are authorised there, a mapping of `authorization.py`'s settings; None for not at all, or by `headers`."""
    secret_key: str | None = field(default=None, repr=False)
    """http: the key under which tokens are kept; unless given, a random one in a file beside them."""
    required: bool = False
    """Whether the runtime does not start without it."""
    timeout: float = 30.0
    """Seconds that a call may take, where the deadline of its caller does not end it before."""
    connect_timeout: float | None = None
    """Seconds that connecting may take, to the list of tools; None for `timeout`."""
    max_calls: int = 64
    """How many calls it is given at a time."""
    max_waiting: int = 256
    """How many more may wait for their turn; the next is refused."""
    max_restarts: int = 10
    """How many attempts to connect may follow a loss or a failure within `restart_window`. Beyond, it is left alone for a while."""
    restart_window: float = 60.0
    """Seconds; sliding, not reset by successes."""
    log_level: str | None = None
    """The least level of log messages that it is asked for. None: those that it sends unasked, as servers of the old era do."""
    sandbox: Any = None
    """stdio: True, or a mapping of `network`, `read` and `write`: runs it inside bubblewrap. Where there is none, it is refused."""
    allow: Sequence[str] = ()
    """Which of its tools there are, by the server's own names or globs; all of them unless given."""
    deny: Sequence[str] = ()
    """Which of its tools there are not, whatever `allow` says."""
    rename: Mapping[str, str] = field(default_factory=dict[str, str])
    """Names of ours for its tools, by the server's own names."""
    pin: bool = False
    """Whether its tools are remembered as first listed; one that is new or has changed is refused until it is approved."""
    pins: Mapping[str, str] = field(default_factory=dict[str, str])
    """Hashes by the server's own names: a tool with another definition is refused, and so is one that is not among them."""
    max_result: int = MAX_RESULT
    """Bytes that a tool's result may have."""
    elicitation: bool = True
    """Whether the server may ask people: the run that calls it waits for input."""
    input_timeout: float = 240.0
    """Seconds that such a wait may take; then the server hears that it was cancelled."""
    sampling: bool = False
    """Whether the server may ask the model of the agent that calls it, which pays for that."""
    sampling_most: int = 4
    """How often it may, during one call."""
    sampling_max_tokens: int = 1000
    """Tokens that such an answer has at most, about."""
    state_dir: str | Path | None = field(default=None, repr=False)
    """Where pins and tokens are kept; a topology with a data directory sets it."""

    def __post_init__(self) -> None:
        """Check everything that can be checked without starting anything."""
        if not _NAME.fullmatch(self.name):
            raise ConfigurationError(f"An MCP server cannot be named {self.name!r}: letters, digits, '_' and '-' are allowed.")
        whose = f"MCP server {self.name!r}"
        if self.transport not in TRANSPORTS:
            hint = did_you_mean(nearest(self.transport, TRANSPORTS)) or f" Known: {', '.join(TRANSPORTS)}."
            raise ConfigurationError(f"{whose} has the transport {self.transport!r}, which there is not.{hint}")
        sandbox_of(whose, self.sandbox)
        self._check_trust(whose)
        self._check_pins(whose)
        self._check_limits(whose)
        if self.transport == "stdio":
            self._check_child(whose)
        else:
            self._check_remote(whose)

    def _check_limits(self, whose: str) -> None:
        for key in ("timeout", "connect_timeout", "restart_window", "input_timeout"):
            seconds = getattr(self, key)
            if seconds is not None and not 0 < seconds < math.inf:
                raise ConfigurationError(f"{whose} has the {key} {seconds}: it must be above 0 seconds.")
        for key, least in (("max_calls", 1), ("max_waiting", 0), ("max_restarts", 0)):
            if getattr(self, key) < least:
                raise ConfigurationError(f"{whose} has the {key} {getattr(self, key)}: it must be {least} or more.")
        if self.log_level is not None and self.log_level not in LOG_LEVELS:
            hint = did_you_mean(nearest(self.log_level, LOG_LEVELS)) or f" Known: {', '.join(LOG_LEVELS)}."
            raise ConfigurationError(f"{whose} has the log_level {self.log_level!r}, which there is not.{hint}")

    def _check_trust(self, whose: str) -> None:
        for key in ("allow", "deny", "inherit_env"):
            if isinstance(getattr(self, key), str):
                raise ConfigurationError(f"{whose} has {key!r} as one text: it is a list.")
        names = list(self.rename.values())
        for name in names:
            if not _TOOL.fullmatch(name):
                raise ConfigurationError(f"{whose} renames a tool to {name!r}: letters, digits, '_', '-' and '.' are allowed.")
            if names.count(name) > 1:
                raise ConfigurationError(f"{whose} renames two tools to {name!r}.")
        if not 0 < self.max_result <= MOST_RESULT:
            raise ConfigurationError(f"{whose} has the max_result {self.max_result}: it is from 1 to {MOST_RESULT} bytes.")

    def _check_pins(self, whose: str) -> None:
        for tool, pin in self.pins.items():
            if not _PIN.fullmatch(pin):
                raise ConfigurationError(f"{whose} has the pin {pin!r} for {tool!r}: it is 'sha256:' and 64 digits from 0 to f.")
        if self.pin and self.pins:
            raise ConfigurationError(f"{whose} has 'pin' and 'pins': what is approved stands in one place.")
        if self.pin and self.state_dir is None:
            raise ConfigurationError(
                f"{whose} has 'pin', but there is no data directory to remember it in: give the topology a store, or list 'pins'."
            )

    def _check_child(self, whose: str) -> None:
        if not self.command:
            raise ConfigurationError(f"{whose} has no 'command': a stdio server is started by one.")
        if self.url or self.headers or self.auth is not None:
            raise ConfigurationError(
                f"{whose} has a 'url', 'headers' or 'auth', which no stdio server has. Did you mean 'streamable_http'?"
            )

    def _check_remote(self, whose: str) -> None:
        if not self.url or not _URL.fullmatch(self.url):
            raise ConfigurationError(
                f"{whose} has the url {self.url!r}: {self.transport!r} needs one that begins with http:// or https://."
            )
        if self.command or self.args or self.env or self.cwd:
            raise ConfigurationError(f"{whose} has 'command', 'args', 'env' or 'cwd', which only a stdio server has.")
        if self.authorization is not None and any(name.lower() == "authorization" for name in self.headers):
            raise ConfigurationError(f"{whose} has 'auth' and a header Authorization: one of them would be lost.")
        if self.box is not None or self.inherit_env:
            raise ConfigurationError(f"{whose} has 'sandbox' or 'inherit_env', which only a stdio server has.")

    @property
    def box(self) -> Sandbox | None:
        """Its sandbox; None where it runs without."""
        return sandbox_of(f"MCP server {self.name!r}", self.sandbox)

    @property
    def authorization(self) -> AuthorizationSettings | None:
        """How we are authorised; None where `auth` is not given."""
        return authorization_of(f"MCP server {self.name!r}", self.url, self.auth)

    @property
    def patience(self) -> float:
        """Seconds that connecting may take."""
        return self.timeout if self.connect_timeout is None else self.connect_timeout

    @property
    def argv(self) -> list[str]:
        """The command line of a stdio server."""
        command = self.command or ""
        return [sys.executable if command in _THIS_PYTHON else command, *self.args]
