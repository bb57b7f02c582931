"""`portico connect`: what it prints starts, what it writes keeps everything else, and a second time changes nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from portico.cli.mcp_clients import CLIENTS, Machine
from tests.cli.programs import DEMO, environment, portico, refused, serving, topology

NAMES = list(CLIENTS)
URL = "http://127.0.0.1:8080/mcp"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, where clients keep their files."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in ("XDG_CONFIG_HOME", "CODEX_HOME", "CLAUDE_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)
    return home


def read(path: Path) -> Any:
    return tomllib.loads(path.read_text()) if path.suffix == ".toml" else json.loads(path.read_text())


def file_of(client: str, home: Path) -> Path:
    return Path(CLIENTS[client].file(Machine(sys.platform, {}, str(home))))


def server_in(client: str, text: str, name: str) -> dict[str, Any]:
    document = tomllib.loads(text) if CLIENTS[client].format == "toml" else json.loads(text)
    return document[CLIENTS[client].key][name]


async def tools_of(server: dict[str, Any]) -> list[str]:
    """Start what a client would start, with no more of an environment than a client gives, and list its tools."""
    here = {"PYTHONPATH": environment()["PYTHONPATH"]}
    parameters = StdioServerParameters(command=server["command"], args=server["args"], env={**here, **server.get("env", {})})
    with anyio.fail_after(50):
        async with Client(stdio_client(parameters)) as client:
            return [tool.name for tool in (await client.list_tools()).tools]


# --- it works ---------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.timeout(120)
@pytest.mark.parametrize("client", NAMES)
async def test_the_printed_command_starts_the_agents(client: str, home: Path, tmp_path: Path) -> None:
    file = topology(tmp_path, "Kinds")
    printed = portico("connect", client, file, "--name", "mine", folder=tmp_path)
    server = server_in(client, printed.stdout, "mine")
    assert Path(server["command"]).is_absolute()
    assert str(file) in server["args"]
    assert str(file_of(client, home)) in printed.stderr
    assert not any(home.rglob("*"))  # noqa: ASYNC240  # nobody waits
    assert "kinds-raw" in await tools_of(server)


@pytest.mark.anyio
@pytest.mark.timeout(120)
async def test_the_printed_command_for_an_address_reaches_the_gateway(home: Path, tmp_path: Path) -> None:
    file = topology(tmp_path, "Kinds")
    with serving(file, folder=tmp_path, env={"PORTICO_API_KEY": "sesame"}) as (_, address):
        arguments = ("--url", f"{address}/mcp", "--env", "PORTICO_API_KEY=sesame")
        printed = portico("connect", "claude-desktop", *arguments, folder=tmp_path)
        assert "kinds-raw" in await tools_of(server_in("claude-desktop", printed.stdout, "portico"))
    del home


@pytest.mark.parametrize("client", [name for name in NAMES if name != "claude-desktop"])
def test_an_address_is_given_as_such_to_clients_that_take_one(client: str, home: Path, tmp_path: Path) -> None:
    server = server_in(client, portico("connect", client, "--url", URL, folder=tmp_path).stdout, "portico")
    assert server["url"] == URL
    assert "command" not in server
    assert server.get("type", "http") == "http"
    del home


@pytest.mark.parametrize(
    ("client", "member", "value"),
    [
        ("claude-code", "headers", {"Authorization": "Bearer ${PORTICO_API_KEY}"}),
        ("cursor", "headers", {"Authorization": "Bearer ${env:PORTICO_API_KEY}"}),
        ("vscode", "headers", {"Authorization": "Bearer ${env:PORTICO_API_KEY}"}),
        ("codex", "bearer_token_env_var", "PORTICO_API_KEY"),
    ],
)
def test_a_key_without_a_value_stays_in_the_environment(
    client: str, member: str, value: object, home: Path, tmp_path: Path
) -> None:
    printed = portico(
        "connect", client, "--url", URL, "--env", "PORTICO_API_KEY", folder=tmp_path, env={"PORTICO_API_KEY": "sesame"}
    )
    assert server_in(client, printed.stdout, "portico")[member] == value
    assert "sesame" not in printed.stdout
    del home


# --- it writes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("client", NAMES)
def test_a_file_that_is_not_there_is_made_for_its_user_alone_and_a_second_time_changes_nothing(
    client: str, home: Path, tmp_path: Path
) -> None:
    arguments = ("connect", client, DEMO, "--write", "--env", "A=b")
    portico(*arguments, folder=tmp_path)
    path = file_of(client, home)
    assert read(path)[CLIENTS[client].key]["demo"]["env"] == {"A": "b"}
    assert path.stat().st_mode & 0o777 == 0o600
    before = (path.read_bytes(), path.stat().st_mtime_ns)
    again = portico(*arguments, folder=tmp_path)
    assert "already" in again.stdout
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert [one for one in home.rglob("*") if one.is_file()] == [path]


@pytest.mark.parametrize("client", NAMES)
def test_other_servers_and_settings_stay_and_a_copy_is_kept(client: str, home: Path, tmp_path: Path) -> None:
    path, key = file_of(client, home), CLIENTS[client].key
    path.parent.mkdir(parents=True, exist_ok=True)
    if CLIENTS[client].format == "toml":
        old = (
            '# mine\nmodel = "o9"  # the best\n\n[mcp_servers.other]\ncommand = "x"\n\n[mcp_servers.demo]\ncommand = "old"\n'
            '[mcp_servers.demo.env]\nA = "1"\n\n# about the tools\n[tools]\nweb = true\n'
        )
    else:
        old = json.dumps({"z": 1, key: {"other": {"command": "ü"}, "demo": {"command": "old"}}, "a": [1]}, ensure_ascii=False)
    path.write_text(old)
    path.chmod(0o640)
    before = read(path)
    portico("connect", client, DEMO, "--write", folder=tmp_path)
    after = read(path)
    assert after[key].pop("demo")["command"] == sys.executable
    assert before[key].pop("demo")["command"] == "old"
    assert after == before
    assert list(after) == list(before)
    assert path.stat().st_mode & 0o777 == 0o640
    copy = path.with_name(path.name + ".before-portico")
    assert copy.read_text() == old
    if CLIENTS[client].format == "toml":
        for remark in ("# mine", "# the best", "# about the tools\n[tools]"):
            assert remark in path.read_text()
    portico("connect", client, DEMO, "--write", "--env", "B=c", folder=tmp_path)
    assert path.with_name(path.name + ".before-portico.2").exists()
    assert copy.read_text() == old


def test_a_server_is_put_behind_whatever_a_toml_file_has(home: Path, tmp_path: Path) -> None:
    path = file_of("codex", home)
    path.parent.mkdir()
    path.write_text('model = "o9"\n[profiles.x]\na = "[mcp_servers.demo]"')
    portico("connect", "codex", DEMO, "--write", folder=tmp_path)
    assert path.read_text().startswith('model = "o9"\n[profiles.x]\na = "[mcp_servers.demo]"\n\n[mcp_servers.demo]\n')


def test_a_link_stays_one(home: Path, tmp_path: Path) -> None:
    real = tmp_path / "dotfiles.json"
    real.write_text("{}")
    path = file_of("cursor", home)
    path.parent.mkdir()
    path.symlink_to(real)
    portico("connect", "cursor", DEMO, "--write", folder=tmp_path)
    assert path.is_symlink()
    assert "demo" in read(real)["mcpServers"]


def test_a_project_s_file_is_written_in_the_directory(home: Path, tmp_path: Path) -> None:
    portico("connect", "vscode", DEMO, "--write", "--project", folder=tmp_path)
    assert read(tmp_path / ".vscode" / "mcp.json")["servers"]["demo"]["type"] == "stdio"
    assert not list(home.rglob("*"))
    assert "projects" in refused("connect", "claude-desktop", DEMO, "--project", folder=tmp_path)


@pytest.mark.parametrize("client", NAMES)
@pytest.mark.parametrize("text", ["{ not", "[1, 2", '{"mcpServers": [], "servers": 7}\n', "mcp_servers = 7", "\udcff"])
def test_a_file_that_cannot_be_understood_is_left_as_it_is(client: str, text: str, home: Path, tmp_path: Path) -> None:
    path = file_of(client, home)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(old := text.encode(errors="surrogateescape"))
    told = refused("connect", client, DEMO, "--write", folder=tmp_path)
    assert str(path) in told
    assert "left as it is" in told
    assert path.read_bytes() == old
    assert [one for one in home.rglob("*") if one.is_file()] == [path]


def test_a_form_of_toml_that_cannot_be_changed_in_place_is_left(home: Path, tmp_path: Path) -> None:
    path = file_of("codex", home)
    path.parent.mkdir()
    path.write_text('mcp_servers = { demo = { command = "x" } }\n')
    assert "by hand" in refused("connect", "codex", DEMO, "--write", folder=tmp_path)


def test_a_file_that_cannot_be_written_is_a_sentence(home: Path, tmp_path: Path) -> None:
    (home / ".cursor").write_text("in the way")
    assert "cannot be" in refused("connect", "cursor", DEMO, "--write", folder=tmp_path)


# --- where ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("client", "platform", "environ", "path"),
    [
        ("claude-desktop", "darwin", {}, "/u/Library/Application Support/Claude/claude_desktop_config.json"),
        ("claude-desktop", "linux", {}, "/u/.config/Claude/claude_desktop_config.json"),
        ("claude-desktop", "linux", {"XDG_CONFIG_HOME": "/x"}, "/x/Claude/claude_desktop_config.json"),
        ("claude-desktop", "linux", {"XDG_CONFIG_HOME": "x"}, "/u/.config/Claude/claude_desktop_config.json"),
        ("claude-desktop", "win32", {"APPDATA": r"C:\a"}, r"C:\a\Claude\claude_desktop_config.json"),
        ("claude-code", "linux", {}, "/u/.claude.json"),
        ("claude-code", "linux", {"CLAUDE_CONFIG_DIR": "/c"}, "/c/.claude.json"),
        ("codex", "linux", {}, "/u/.codex/config.toml"),
        ("codex", "darwin", {"CODEX_HOME": "/c"}, "/c/config.toml"),
        ("cursor", "win32", {}, r"\u\.cursor\mcp.json"),
        ("vscode", "darwin", {}, "/u/Library/Application Support/Code/User/mcp.json"),
        ("vscode", "linux", {}, "/u/.config/Code/User/mcp.json"),
        ("vscode", "win32", {"APPDATA": r"C:\a"}, r"C:\a\Code\User\mcp.json"),
    ],
)
def test_each_client_has_its_file_on_each_platform(client: str, platform: str, environ: dict[str, str], path: str) -> None:
    kind = PureWindowsPath if platform == "win32" else PurePosixPath
    assert CLIENTS[client].file(Machine(platform, environ, "\\u" if platform == "win32" else "/u")) == kind(path)


# --- what is said wrong -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("cursor",), "There is no topology"),
        (("cursor", "--url", "localhost:8080"), "no address of an MCP endpoint"),
        (("cursor", "--url", "http://a:b@host/mcp"), "no address of an MCP endpoint"),
        (("cursor", DEMO, "--url", URL), "not both"),
        (("cursor", DEMO, "--name", "a b"), "Letters"),
        (("cursor", DEMO, "--env", "1=2"), "NAME=VALUE"),
        (("cursor", "--url", URL, "--env", "OTHER=1"), "OTHER would be lost"),
        (("claude-desktop", DEMO, "--env", "OTHER"), "give the value"),
    ],
)
def test_mistakes_are_told(arguments: tuple[Any, ...], sentence: str, home: Path, tmp_path: Path) -> None:
    assert sentence in " ".join(refused("connect", *arguments, folder=tmp_path).split())
    assert not list(home.rglob("*"))


# --- the registry -----------------------------------------------------------------------------------------------------

REGISTRY = ("--name", "io.github.somebody/thing", "--description", "Agents that add.", "--version", "1.0.0")


def test_a_server_json_is_as_the_registry_wants_it(tmp_path: Path) -> None:
    arguments = ("connect", "registry", *REGISTRY, "--url", "https://a.example/mcp", "--package", "thing==1.0.0", "--keyed")
    document = json.loads(portico(*arguments, folder=tmp_path).stdout)
    assert document["$schema"] == "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json"
    assert document["name"].count("/") == 1
    assert (document["packages"][0]["registryType"], document["packages"][0]["identifier"]) == ("pypi", "thing")
    assert document["packages"][0]["version"] == document["version"] == "1.0.0"
    assert document["packages"][0]["transport"] == {"type": "stdio"}
    assert (document["remotes"][0]["type"], document["remotes"][0]["url"]) == ("streamable-http", "https://a.example/mcp")
    assert document["remotes"][0]["headers"][0]["isSecret"] is True
    portico(*arguments, "--write", folder=tmp_path)
    assert json.loads((tmp_path / "server.json").read_text()) == document
    assert "already" in portico(*arguments, "--write", folder=tmp_path).stdout
    assert [path.name for path in tmp_path.iterdir()] == ["server.json"]


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"--name": "thing"}, "one slash"),
        ({"--name": "io.github.a/b/c"}, "one slash"),
        ({"--description": "x" * 101}, "101 characters"),
        ({"--version": "latest"}, "exact version"),
        ({"--version": "^1.0"}, "exact version"),
        ({"--url": "http://127.0.0.1/mcp"}, "https://"),
        ({"--package": "thing>=1"}, "exact package"),
        ({"--url": None}, "Say where it runs"),
    ],
)
def test_what_the_registry_would_refuse_is_refused(changed: dict[str, str | None], sentence: str, tmp_path: Path) -> None:
    options: dict[str, str | None] = {**dict(zip(REGISTRY[::2], REGISTRY[1::2], strict=True)), "--url": "https://a.example/mcp"}
    options |= changed
    arguments = [part for name, value in options.items() if value is not None for part in (name, value)]
    assert sentence in refused("connect", "registry", *arguments, folder=tmp_path)


def test_the_help_names_every_client() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "portico", "connect", "--help"], env=environment(), capture_output=True, check=True
    )
    assert all(name.encode() in done.stdout for name in [*NAMES, "registry"])
