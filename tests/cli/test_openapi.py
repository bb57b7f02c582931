"""`portico openapi` and `portico routes`: what a topology would serve, without starting it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml

from tests.cli.programs import DEMO, portico, refused, serving, topology

if TYPE_CHECKING:
    from pathlib import Path

MIDDLEWARE = """
class First:
    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        await self.app(scope, receive, send)


class Second(First):
    pass


async def checked(call, next):
    return await next(call)
"""
SERVER = """
server:
  middleware: [extras.First, extras.Second]
routes:
  - {method: PUT, path: "/say/{word}", agent: echo, timeout: 2.5, scopes: [talk, admin], interceptors: [extras.checked]}
"""


# --- openapi ----------------------------------------------------------------------------------------------------------


def test_openapi_is_what_a_server_serves_in_the_same_order(tmp_path: Path) -> None:
    written = json.loads(portico("openapi", DEMO, folder=tmp_path).stdout)
    with serving(DEMO, folder=tmp_path) as (_, url):
        served = httpx.get(f"{url}/openapi.json", trust_env=False).json()

    assert json.dumps(written) == json.dumps(served)


def test_openapi_is_the_same_bytes_each_time(tmp_path: Path) -> None:
    written = [portico("openapi", DEMO, folder=tmp_path, env={"PYTHONHASHSEED": seed}).stdout for seed in ("1", "2")]

    assert written[0] == written[1]
    assert written[0].startswith('{\n  "openapi": "3.1.0",')


def test_openapi_writes_a_file_in_the_form_that_its_name_says(tmp_path: Path) -> None:
    path = topology(tmp_path, "Echo")
    for name in ("api.json", "api.yaml"):
        assert portico("openapi", path, "-o", name, folder=tmp_path).stdout == ""
    as_json, as_yaml = json.loads((tmp_path / "api.json").read_text()), yaml.safe_load((tmp_path / "api.yaml").read_text())

    assert as_json == as_yaml
    assert as_json["paths"]["/agents/echo"]["post"]["operationId"] == "ask_echo"
    assert "&id" not in (tmp_path / "api.yaml").read_text()


def test_openapi_prints_yaml_where_it_is_told_to(tmp_path: Path) -> None:
    printed = portico("openapi", topology(tmp_path, "Echo"), "--format", "yaml", folder=tmp_path).stdout

    assert yaml.safe_load(printed)["info"]["title"] == "Portico"


def test_openapi_heeds_the_settings_of_the_environment(tmp_path: Path) -> None:
    env = {"PORTICO_API_KEY": "sesame-9137", "PORTICO_TITLE": "Ours"}
    document = json.loads(portico("openapi", topology(tmp_path, "Echo"), folder=tmp_path, env=env).stdout)

    assert document["info"]["title"] == "Ours"
    assert document["security"]
    assert "sesame-9137" not in json.dumps(document)


def test_openapi_and_routes_start_nothing(tmp_path: Path) -> None:
    path = topology(tmp_path, "Stillborn")

    for command in ("openapi", "routes"):
        assert portico(command, path, folder=tmp_path).returncode == 0


def test_openapi_says_where_it_cannot_write(tmp_path: Path) -> None:
    text = refused("openapi", topology(tmp_path, "Echo"), "-o", "no/such/folder.json", folder=tmp_path)

    assert "no/such/folder.json cannot be written: No such file or directory." in text


def test_a_wrong_topology_is_told_by_both(tmp_path: Path) -> None:
    path = topology(tmp_path, more="supervision:\n  children:\n    - {type: agents.Ecko, name: echo}\n")
    for command in ("openapi", "routes"):
        assert "'Echo'" in refused(command, path, folder=tmp_path)


# --- routes -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("routes")
    return json.loads(portico("routes", declared(folder), "--json", folder=folder).stdout)


def declared(folder: Path) -> Path:
    """A topology with a route and middlewares of its own."""
    (folder / "extras.py").write_text(MIDDLEWARE)
    return topology(folder, "Echo", more=SERVER)


def test_routes_lists_declared_default_and_own_routes_with_all_that_is_known(listed: dict[str, Any]) -> None:
    found = {(row["method"], row["path"]): row for row in listed["routes"]}

    assert found["PUT", "/say/{word}"] == {
        "kind": "declared",
        "method": "PUT",
        "path": "/say/{word}",
        "agent": "echo",
        "operation": "message",
        "mode": "ask",
        "timeout": 2.5,
        "scopes": ["admin", "talk"],
        "interceptors": ["extras.checked"],
    }
    assert found["GET", "/runs"]["kind"] == "gateway"
    assert found["GET", "/runs"]["operation"] == "list_runs"
    assert {("POST", "/mcp"), ("GET", "/docs"), ("GET", "/openapi.json")} <= set(found)


def test_routes_lists_the_default_routes_of_what_is_exposed(tmp_path: Path) -> None:
    rows = json.loads(portico("routes", topology(tmp_path, "Echo"), "--json", folder=tmp_path).stdout)["routes"]
    found = {row["path"]: row for row in rows if row["kind"] == "default"}

    assert set(found) == {"/agents/echo", "/agents/echo/cast"}
    assert (found["/agents/echo/cast"]["mode"], found["/agents/echo/cast"]["timeout"]) == ("send", 3600)


def test_routes_lists_the_middlewares_from_the_outermost_to_the_innermost(listed: dict[str, Any]) -> None:
    names = [name.rpartition(".")[2] for name in listed["middleware"]]

    assert names[:2] == ["RequestMeter", "RequestId"]
    assert names[-2:] == ["First", "Second"]


def test_routes_prints_a_table_for_people(tmp_path: Path) -> None:
    declared(tmp_path)
    lines = portico("routes", folder=tmp_path).stdout.splitlines()

    assert lines[0].split() == ["METHOD", "PATH", "AGENT", "OPERATION", "MODE", "TIMEOUT", "SCOPES", "INTERCEPTORS", "KIND"]
    assert lines[1].split() == ["PUT", "/say/{word}", "echo", "message", "ask", "2.5", "s", "admin", "talk", "1", "declared"]
    place = lines.index("A request passes, from the outermost to the innermost:")
    assert [line.split(".", 1)[0].strip() for line in lines[place + 1 :]] == [str(n) for n in range(1, len(lines) - place)]
    assert lines[-1].endswith("the route, with its interceptors")
