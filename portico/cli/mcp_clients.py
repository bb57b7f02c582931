"""MCPClients: where each client of MCP keeps its servers, and in which form. Pure: nothing is read or written.

Above: `portico connect`. What is here was looked up in the documentation of each client, in November 2026.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePath, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any, Final, Literal

from portico.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

KEY: Final = "PORTICO_API_KEY"
"""The variable with the key that a gateway asks for."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One server, as it shall be known to a client."""

    command: Sequence[str]
    """What starts it: the program and its arguments, or what relays to it."""
    url: str | None = None
    """Where it is; None for one that is started."""
    env: Mapping[str, str | None] = field(default_factory=dict[str, str | None])
    """Its variables. Without a value: the client's own variable of that name is passed on."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Whose files they are."""

    platform: str
    """As `sys.platform` says it."""
    environ: Mapping[str, str]
    """The environment."""
    home: str
    """The user's directory."""

    def path(self, *parts: str) -> PurePath:
        """A path of this machine's kind."""
        return (PureWindowsPath if self.platform == "win32" else PurePosixPath)(*parts)

    def settings(self) -> PurePath:
        """Where programs with windows keep their settings."""
        if self.platform == "win32":
            return self.path(self.environ.get("APPDATA") or str(self.path(self.home, "AppData", "Roaming")))
        if self.platform == "darwin":
            return self.path(self.home, "Library", "Application Support")
        # A relative path is to be passed over (XDG Base Directory Specification).
        chosen = self.environ.get("XDG_CONFIG_HOME", "")
        return self.path(chosen) if chosen.startswith("/") else self.path(self.home, ".config")


@dataclass(frozen=True, slots=True)
class MCPClient:
    """One client."""

    title: str
    """What it is called."""
    file: Callable[[Machine], PurePath]
    """Its user's file with the servers."""
    key: str
    """The member of the file with the servers, by name."""
    form: Callable[[Entry], dict[str, Any]]
    """A server as it is written there."""
    project: str | None = None
    """The file of a project, in its directory; None where there is none."""
    format: Literal["json", "toml"] = "json"
    """What the file is written in."""
    then: str = "Restart it to see the agents."
    """What its user has to do."""


def _stdio(entry: Entry, reference: str | None, **more: Any) -> dict[str, Any]:
    """A server that is started. `reference`: how the client writes a variable of its own; None where it cannot."""
    env: dict[str, str] = {}
    for name, value in entry.env.items():
        if value is None and reference is None:
            raise ConfigurationError(f"This client passes on no variables of its own: give the value, --env {name}=….")
        env[name] = value if value is not None else str(reference).format(name)
    return {**more, "command": entry.command[0], "args": list(entry.command[1:]), **({"env": env} if env else {})}


def _http(entry: Entry, reference: str, **more: Any) -> dict[str, Any]:
    """A server at an address; its key is a header."""
    headers: dict[str, str] = {}
    for name, value in entry.env.items():
        if name != KEY:
            raise ConfigurationError(f"A server at a URL has no variables but {KEY}, its key: {name} would be lost.")
        headers["Authorization"] = f"Bearer {value if value is not None else reference.format(name)}"
    return {**more, "url": entry.url, **({"headers": headers} if headers else {})}


def _claude_desktop(entry: Entry) -> dict[str, Any]:
    return _stdio(entry, None)  # addresses are not taken from this file: they are relayed to


def _claude_code(entry: Entry) -> dict[str, Any]:
    return _stdio(entry, "${{{}}}", type="stdio") if entry.url is None else _http(entry, "${{{}}}", type="http")


def _cursor(entry: Entry) -> dict[str, Any]:
    return _stdio(entry, "${{env:{}}}") if entry.url is None else _http(entry, "${{env:{}}}")


def _vscode(entry: Entry) -> dict[str, Any]:
    return _stdio(entry, "${{env:{}}}", type="stdio") if entry.url is None else _http(entry, "${{env:{}}}", type="http")


def _codex(entry: Entry) -> dict[str, Any]:
    given = {name: value for name, value in entry.env.items() if value is not None}
    passed_on = [name for name, value in entry.env.items() if value is None]
    if entry.url is None:
        passing = {"env_vars": passed_on} if passed_on else {}
        return {"command": entry.command[0], "args": list(entry.command[1:]), **passing, **({"env": given} if given else {})}
    if passed_on == [KEY] and not given:
        return {"url": entry.url, "bearer_token_env_var": KEY}
    form = _http(Entry(entry.command, entry.url, given), "")
    headers = form.pop("headers", None)
    return {**form, **({"http_headers": headers} if headers else {})}


def _claude_code_file(machine: Machine) -> PurePath:
    return machine.path(machine.environ.get("CLAUDE_CONFIG_DIR") or machine.home, ".claude.json")


def _codex_file(machine: Machine) -> PurePath:
    return machine.path(machine.environ.get("CODEX_HOME") or str(machine.path(machine.home, ".codex")), "config.toml")


CLIENTS: Final[Mapping[str, MCPClient]] = {
    "claude-desktop": MCPClient(
        "Claude Desktop", lambda m: m.settings() / "Claude" / "claude_desktop_config.json", "mcpServers", _claude_desktop
    ),
    "claude-code": MCPClient("Claude Code", _claude_code_file, "mcpServers", _claude_code, project=".mcp.json"),
    "codex": MCPClient("Codex", _codex_file, "mcp_servers", _codex, project=".codex/config.toml", format="toml"),
    "cursor": MCPClient(
        "Cursor", lambda m: m.path(m.home, ".cursor", "mcp.json"), "mcpServers", _cursor, project=".cursor/mcp.json"
    ),
    "vscode": MCPClient(
        "Visual Studio Code", lambda m: m.settings() / "Code" / "User" / "mcp.json", "servers", _vscode, project=".vscode/mcp.json"
    ),
}
"""Every client, by the name that `portico connect` takes."""
