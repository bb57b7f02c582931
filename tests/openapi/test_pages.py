"""The documentation pages: from local files alone, under any prefix, under a strict policy, in a real browser."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from portico.app.factory import create_app
from portico.app.settings import GatewayConfig
from portico.openapi.pages import STATIC, STATIC_PATH, mount_pages
from tests.cli.programs import DEMO
from tests.openapi.chromium import Page, new_page
from tests.openapi.sample import document
from tests.openapi.serving import served

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request

KEY = "open sesame"


def site(*, secured: bool = False, **paths: str) -> Starlette:
    """The pages, the document, and an agent that answers."""

    async def openapi(request: Request) -> JSONResponse:
        if secured and request.headers.get("authorization") != f"Bearer {KEY}":
            return JSONResponse({"title": "Unauthenticated"}, 401)
        return JSONResponse(document(secured=secured))

    async def echo(request: Request) -> JSONResponse:
        return JSONResponse({"heard": await request.json(), "authorization": request.headers.get("authorization", "none")})

    app = Starlette(routes=[Route("/openapi.json", openapi), Route("/agents/echo", echo, methods=["POST"])])
    mount_pages(app, title="Agents & <more>", **paths)
    return app


# --- what is served ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_a_page_names_no_address_and_has_no_inline_script(path: str) -> None:
    text = TestClient(site()).get(path).text

    assert "//" not in text.replace("<!doctype", "")
    assert re.findall(r"<script(?! src=\"[^\"]+\"></script>)", text) == []
    assert "Agents &amp; &lt;more&gt;" in text


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_a_page_allows_nothing_from_elsewhere(path: str) -> None:
    policy = TestClient(site()).get(path).headers["content-security-policy"]

    assert policy.startswith("default-src 'none'; script-src 'self';")
    assert "http" not in policy
    assert "unsafe-eval" not in policy


@pytest.mark.parametrize(
    ("prefix", "paths"),
    [
        ("", {}),
        ("/gateway/v1", {}),
        ("", {"docs_path": "/api/help", "redoc_path": "/api/reference/all"}),
    ],
)
def test_every_address_in_a_page_leads_to_a_file_under_any_prefix(prefix: str, paths: dict[str, str]) -> None:
    app = site(secured=False, **paths)
    client = TestClient(Starlette(routes=[Mount(prefix, app)]) if prefix else app)
    for path in (paths.get("docs_path", "/docs"), paths.get("redoc_path", "/redoc")):
        shown = client.get(prefix + path)
        addresses = re.findall(r'(?:src|href|data-openapi)="([^"]+)"', shown.text)
        assert len(addresses) >= 5
        for address in addresses:
            found = client.get(str(shown.url.join(address)))
            assert found.status_code == 200, address


def test_the_files_are_where_the_gateway_says_that_they_are_open() -> None:
    assert TestClient(site(docs_path="/help")).get(f"{STATIC_PATH}/docs.js").headers["content-type"].startswith("text/javascript")


def test_the_files_of_others_are_as_published() -> None:
    sums = re.findall(r"^ +([0-9a-f]{64})  (\S+)$", (STATIC / "README.md").read_text(), re.MULTILINE)

    assert len(sums) == 4
    for digest, name in sums:
        assert hashlib.sha256((STATIC / name).read_bytes()).hexdigest() == digest


def test_the_scripts_of_others_name_no_font_or_script_to_load() -> None:
    for name in ("swagger-ui-bundle.js", "redoc.standalone.js", "swagger-ui.css"):
        text = (STATIC / name).read_text()
        assert "fonts.googleapis" not in text
        assert re.findall(r"@import\s+(?:url\()?[\"']?https?:|url\([\"']?(?:https?:)?//", text) == []
    assert "validatorUrl: null" in (STATIC / "docs.js").read_text()


# --- what is seen -----------------------------------------------------------------------------------------------------


def local(asked: list[str]) -> bool:
    return all(url.startswith(("http://127.0.0.1:", "data:", "blob:", "about:", "chrome:")) for url in asked)


def try_echo(page: Page) -> str:
    """Press "Execute" on the echo agent as it stands, and read the answer."""
    block = "document.querySelector('#operations-echo-ask_echo')"
    answer = "document.querySelector('.live-responses-table .response .highlight-code')"
    page.wait_for(f"!!{block}")
    page.evaluate(f"{block}.querySelector('.opblock-summary-control').click()")
    page.wait_for(f"({block}.querySelector('textarea.body-param__text') || {{ value: '' }}).value.includes('hello')")
    # A press that comes while the page still draws itself is lost, as it would be for a person, who would press again.
    page.wait_for(f"!!({answer} || void {block}.querySelector('.execute').click())")
    return page.evaluate("document.querySelector('.live-responses-table').innerText")


def test_swagger_ui_shows_every_operation_and_tries_one_out(tmp_path: Path) -> None:
    count = sum(len(item) for item in document(secured=False)["paths"].values())
    with served(Starlette(routes=[Mount("/gateway", site())])) as address, new_page(tmp_path) as page:
        page.show(f"{address}/gateway/docs")
        page.wait_for(f"document.querySelectorAll('.opblock').length === {count}")
        answer = try_echo(page)

    assert '"text": "hello"' in answer
    assert page.complaints == []
    assert local(page.asked)
    assert f"{address}/gateway/agents/echo" in page.asked


@pytest.mark.timeout(240)
def test_swagger_ui_of_the_demo_tries_out_what_its_examples_say(tmp_path: Path) -> None:
    app = create_app(DEMO, GatewayConfig())
    count = sum(len(item) for item in app.openapi()["paths"].values())
    tried = ("echo-ask_echo", "echo-post_echo_text")
    with served(app) as address, new_page(tmp_path) as page:
        page.show(f"{address}/docs")
        page.wait_for(f"document.querySelectorAll('.opblock').length === {count}")
        statuses = {name: status_of(page, name) for name in tried}

    assert statuses == dict.fromkeys(tried, "200")
    assert page.complaints == []
    assert local(page.asked)


def status_of(page: Page, operation: str) -> str:
    """Press "Execute" on an operation as it stands, and read the status of the answer."""
    block = f"document.querySelector('#operations-{operation}')"
    answer = f"{block}.querySelector('.live-responses-table tbody .response-col_status')"
    page.evaluate(f"{block}.querySelector('.opblock-summary-control').click()")
    page.wait_for(f"!!{block}.querySelector('.execute')")
    page.wait_for(f"!!(({answer} && {answer}.innerText.match(/[0-9]/)) || void {block}.querySelector('.execute').click())")
    return page.evaluate(f"{answer}.innerText").split()[0]


def test_redoc_shows_every_operation(tmp_path: Path) -> None:
    with served(site()) as address, new_page(tmp_path) as page:
        page.show(f"{address}/redoc")
        shown = page.wait_for("document.querySelectorAll('[data-section-id^=\"tag/\"] h2').length")
        text: Any = page.evaluate("document.body.innerText")
        loaded = page.evaluate("[...document.images].filter((i) => i.complete && i.naturalWidth).map((i) => i.src).join()")

    assert shown >= sum(len(item) for item in document(secured=False)["paths"].values())
    assert "Search a conversation" in text
    assert "http" not in loaded
    # ReDoc asks for its maker's logo; the policy refuses, and that is the only complaint.
    assert [one for one in page.complaints if "cdn.redoc.ly/redoc/logo-mini.svg" not in one] == []
    assert local([url for url in page.asked if not url.endswith("logo-mini.svg")])


def test_a_page_asks_for_the_key_that_its_document_needs(tmp_path: Path) -> None:
    with served(site(secured=True)) as address, new_page(tmp_path) as page:
        page.show(f"{address}/docs")
        for key, outcome in (
            ("wrong", "document.querySelector('#key-form output').value.includes('not the right one')"),
            (KEY, "document.querySelector('#operations-echo-ask_echo')"),
        ):
            page.wait_for("!document.getElementById('key-form').hidden")
            page.evaluate(f"document.getElementById('key').value = '{key}'")
            page.evaluate("document.querySelector('#key-form button').click()")
            page.wait_for(f"!!({outcome})")
        answer = try_echo(page)
        kept = page.evaluate("JSON.stringify([localStorage, sessionStorage, document.cookie])")

    assert f"Bearer {KEY}" in answer
    assert KEY not in kept
