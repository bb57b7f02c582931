"""What is served at `/console`: files alone, under a strict policy, at any prefix, kept by browsers while they stay the same."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from portico.app.settings import GatewayConfig
from portico.console.assets import STATIC, Assets
from portico.console.page import mount_console
from portico.errors import ConfigurationError
from tests.app.serving import served
from tests.conformance.node import PACKAGES, required
from tests.routes.agents import Echo

if TYPE_CHECKING:
    from pathlib import Path

PACKAGE_OF = {
    "vendor/htm-preact.js": "htm/preact/standalone.module.js",
    "vendor/uplot.js": "uplot/dist/uPlot.esm.js",
    "vendor/uplot.css": "uplot/dist/uPlot.min.css",
    "vendor/eventsource-parser/errors.js": "eventsource-parser/dist/errors.js",
    "vendor/eventsource-parser/index.js": "eventsource-parser/dist/index.js",
    "vendor/eventsource-parser/parse.js": "eventsource-parser/dist/parse.js",
}


def site(**paths: str) -> Starlette:
    app = Starlette()
    mount_console(app, title="Agents & <more>", **paths)
    return app


def test_the_page_names_no_address_and_has_nothing_inline() -> None:
    text = TestClient(site()).get("/console").text

    assert "//" not in text.replace("<!doctype", "")
    assert re.findall(r"<script(?![^>]* src=\"[^\"]+\"></script>)", text) == []
    assert re.findall(r"<style|\sstyle=|\son[a-z]+=", text) == []
    assert "Agents &amp; &lt;more&gt;" in text


def test_the_page_may_load_nothing_from_elsewhere_and_be_shown_in_no_other() -> None:
    headers = TestClient(site()).get("/console").headers
    policy = headers["content-security-policy"].split("; ")

    assert {"default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "base-uri 'none'"} <= set(policy)
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in " ".join(policy)
    assert (headers["x-frame-options"], headers["referrer-policy"]) == ("DENY", "no-referrer")


@pytest.mark.parametrize(("prefix", "path"), [("", "/console"), ("/gateway/v1", "/console"), ("", "/ops/live"), ("/x", "/ui")])
@pytest.mark.parametrize("slash", ["", "/"])
def test_every_address_in_the_page_leads_to_a_file_under_any_prefix(prefix: str, path: str, slash: str) -> None:
    app = site(console_path=path)
    client = TestClient(Starlette(routes=[Mount(prefix, app)]) if prefix else app)
    shown = client.get(prefix + path + slash)
    if slash and shown.status_code == 404:  # a bare Starlette knows no slash at the end; the gateway takes it off
        pytest.skip("only the gateway serves both")

    addresses = re.findall(r'(?:src|href)="([^"]+)"', shown.text)
    base = re.search(r'data-base="([^"]+)"', shown.text)
    assert len(addresses) > 30
    for address in addresses:
        assert client.get(str(shown.url.join(address))).status_code == 200, address
    assert base is not None
    assert str(shown.url.join(base[1] + "/")).rstrip("/").endswith(prefix or "testserver")


def test_a_file_is_kept_for_good_and_another_version_of_it_is_not_there() -> None:
    client = TestClient(site())
    digest = Assets().digest
    found = client.get(f"/console/assets/{digest}/console.js")

    assert found.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert found.headers["content-type"] == "text/javascript; charset=utf-8"
    assert client.get(f"/console/assets/{digest}/console.js", headers={"if-none-match": found.headers["etag"]}).status_code == 304
    missing = client.get("/console/assets/0123456789abcdef/console.js")
    assert (missing.status_code, missing.headers["cache-control"]) == (404, "no-store")


@pytest.mark.parametrize("name", ["README.md", "vendor/htm.LICENSE", "../page.py", "..%2fpage.py", "nothing.js", ""])
def test_what_is_no_part_of_the_page_is_not_served(name: str) -> None:
    assert TestClient(site()).get(f"/console/assets/{Assets().digest}/{name}").status_code == 404


def test_another_file_makes_another_address(tmp_path: Path) -> None:
    (tmp_path / "a.js").write_text("1")
    before = Assets(tmp_path).digest
    (tmp_path / "a.js").write_text("2")

    assert Assets(tmp_path).digest != before


def test_the_page_is_not_sent_again_where_it_is_known() -> None:
    client = TestClient(site())
    first = client.get("/console")

    assert first.headers["cache-control"] == "no-cache"
    again = client.get("/console", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["content-security-policy"] == first.headers["content-security-policy"]


@pytest.mark.anyio
async def test_the_gateway_serves_the_page_to_everybody_and_the_agents_to_those_with_the_key() -> None:
    async with served(Echo("echo"), api_key="open sesame") as gateway:
        page = await gateway.client.get("/console")
        module = re.search(r'src="([^"]+/console\.js)"', page.text)
        assert module is not None
        assert page.status_code == 200
        assert (await gateway.client.get(f"/{module[1]}")).status_code == 200
        assert (await gateway.client.head("/console")).status_code == 200
        assert (await gateway.client.get("/console/")).status_code == 200
        assert (await gateway.client.post("/console")).status_code == 405
        assert (await gateway.client.get("/agents")).status_code == 401
        assert (await gateway.client.get("/console/elsewhere")).status_code == 401


@pytest.mark.anyio
async def test_the_page_can_stand_elsewhere_or_nowhere() -> None:
    async with served(Echo("echo"), console_path="/") as gateway:
        assert (await gateway.client.get("/")).headers["content-type"].startswith("text/html")
        assert (await gateway.client.get("/console")).status_code == 404
    async with served(Echo("echo"), console_enabled=False) as gateway:
        assert (await gateway.client.get("/console")).status_code == 404


@pytest.mark.parametrize(
    "paths",
    [
        {"console_path": "live"},
        {"console_path": "/runs/live"},
        {"console_path": "/mcp"},
        {"console_path": "/ui", "docs_path": "/ui"},
        {"console_path": "/ui", "mcp_path": "/ui/assets/mcp"},
        {"console_path": "/", "mcp_path": "/assets/mcp"},
    ],
)
def test_the_page_cannot_stand_where_its_files_would_open_something_else(paths: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match=r"console_path|live page"):
        GatewayConfig(**paths)  # pyright: ignore[reportArgumentType]


def test_the_files_of_others_are_as_published() -> None:
    sums = re.findall(r"^ +([0-9a-f]{64})  (\S+)$", (STATIC / "README.md").read_text(), re.MULTILINE)

    assert {name for _, name in sums} == {path.relative_to(STATIC).as_posix() for path in (STATIC / "vendor").rglob("*.*s")}
    for digest, name in sums:
        assert hashlib.sha256((STATIC / name).read_bytes()).hexdigest() == digest


def test_the_files_of_others_are_those_of_their_packages() -> None:
    required()
    for name, origin in PACKAGE_OF.items():
        assert (STATIC / name).read_bytes() == (PACKAGES / origin).read_bytes(), name
    text = (STATIC / "README.md").read_text()
    for package in ("htm", "uplot", "eventsource-parser"):
        about = (PACKAGES / package / "package.json").read_text()
        version = re.search(r'"version": "([^"]+)"', about)
        assert version is not None
        assert f"| {version[1]} |" in text
