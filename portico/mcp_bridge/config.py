"""MCPServerConfig: how one external MCP server is reached. Checked when it is made, before anything starts."""

from __future__ import annotations

import math
import re
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from portico.errors import ConfigurationError, did_you_mean, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

TRANSPORTS: Final = ("stdio", "streamable_http", "sse")
"""The transports that there are; `sse` is the one of 2024, for servers that have no other."""

LOG_LEVELS: Final = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
"""The levels of log messages in the protocol, which are those of syslog."""

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_URL = re.compile(r"https?://[^/\s]+\S*")
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
    args: Sequence[str] = ()
    """stdio: its arguments."""
    env: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """stdio: variables for it, beside HOME, LOGNAME, PATH, SHELL, TERM and USER, which is all that it inherits."""
    cwd: str | Path | None = None
    """stdio: the directory that it runs in; None for ours."""
    url: str | None = None
    """http: where it is."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """http: headers of every request. The headers of our own callers are never handed on."""
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
    """Reserved: a server for which one is asked is refused, never run without."""

    def __post_init__(self) -> None:
        """Check everything that can be checked without starting anything."""
        if not _NAME.fullmatch(self.name):
            raise ConfigurationError(f"An MCP server cannot be named {self.name!r}: letters, digits, '_' and '-' are allowed.")
        whose = f"MCP server {self.name!r}"
        if self.transport not in TRANSPORTS:
            hint = did_you_mean(nearest(self.transport, TRANSPORTS)) or f" Known: {', '.join(TRANSPORTS)}."
            raise ConfigurationError(f"{whose} has the transport {self.transport!r}, which there is not.{hint}")
        if self.sandbox:
            raise ConfigurationError(f"{whose} asks for a sandbox, which this version does not have. It is not started without.")
        self._check_limits(whose)
        if self.transport == "stdio":
            self._check_child(whose)
        else:
            self._check_remote(whose)

    def _check_limits(self, whose: str) -> None:
        for key in ("timeout", "connect_timeout", "restart_window"):
            seconds = getattr(self, key)
            if seconds is not None and not 0 < seconds < math.inf:
                raise ConfigurationError(f"{whose} has the {key} {seconds}: it must be above 0 seconds.")
        for key, least in (("max_calls", 1), ("max_waiting", 0), ("max_restarts", 0)):
            if getattr(self, key) < least:
                raise ConfigurationError(f"{whose} has the {key} {getattr(self, key)}: it must be {least} or more.")
        if self.log_level is not None and self.log_level not in LOG_LEVELS:
            hint = did_you_mean(nearest(self.log_level, LOG_LEVELS)) or f" Known: {', '.join(LOG_LEVELS)}."
            raise ConfigurationError(f"{whose} has the log_level {self.log_level!r}, which there is not.{hint}")

    def _check_child(self, whose: str) -> None:
        if not self.command:
            raise ConfigurationError(f"{whose} has no 'command': a stdio server is started by one.")
        if self.url or self.headers:
            raise ConfigurationError(
                f"{whose} has a 'url' or 'headers', which no stdio server has. Did you mean 'streamable_http'?"
            )

    def _check_remote(self, whose: str) -> None:
        if not self.url or not _URL.fullmatch(self.url):
            raise ConfigurationError(
                f"{whose} has the url {self.url!r}: {self.transport!r} needs one that begins with http:// or https://."
            )
        if self.command or self.args or self.env or self.cwd:
            raise ConfigurationError(f"{whose} has 'command', 'args', 'env' or 'cwd', which only a stdio server has.")

    @property
    def patience(self) -> float:
        """Seconds that connecting may take."""
        return self.timeout if self.connect_timeout is None else self.connect_timeout

    @property
    def argv(self) -> list[str]:
        """The command line of a stdio server."""
        command = self.command or ""
        return [sys.executable if command in _THIS_PYTHON else command, *self.args]
