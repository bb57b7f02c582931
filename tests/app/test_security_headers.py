"""What every response says beside its content, and what none says: raw, and in a browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.app.serving import raw, served
from tests.cli.programs import DEMO, serving
from tests.openapi.chromium import new_page
from tests.routes.agents import Echo

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

GET = b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n"
INVALID = [
    b"GARBAGE\r\n\r\n",
    b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
    b"GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
]


@pytest.mark.parametrize(
    "path", ["/livez", "/agents", "/nowhere", "/docs", "/redoc", "/docs/assets/docs.js", "/openapi.json", "/runs"]
)
async def test_every_response_forbids_to_guess_its_type_and_names_no_server(path: str) -> None:
    async with served(Echo("echo")) as one:
        response = await raw(one.port, GET % path.encode())

    assert response.headers["x-content-type-options"] == "nosniff"
    assert not {"server", "x-powered-by", "via"} & set(response.headers)


@pytest.mark.parametrize("request_", INVALID)
async def test_what_is_no_http_gets_a_400_without_a_name_or_a_trace(request_: bytes) -> None:
    async with served(Echo("echo")) as one:
        response = await raw(one.port, request_)
        assert (await one.client.get("/livez")).status_code == 200

    assert response.status == 400
    assert "server" not in response.headers
    for word in (b"uvicorn", b"Traceback", b"httptools", b"portico", b".py"):
        assert word not in response.body


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
async def test_pages_cannot_be_framed_by_others_and_run_nothing_inline(path: str) -> None:
    async with served(Echo("echo")) as one:
        headers = (await one.client.get(path)).headers

    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert (policy["frame-ancestors"], headers["x-frame-options"]) == ("'self'", "SAMEORIGIN")
    assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.timeout(240)  # a browser and a server start, on a busy machine
def test_trying_it_out_works_in_a_browser_and_nothing_is_complained_about(tmp_path: Path) -> None:
    with serving(DEMO, folder=tmp_path) as (_, url), new_page(tmp_path / "profile") as page:
        page.show(f"{url}/docs")
        block = """[...document.querySelectorAll('.opblock')].find((one) => one.querySelector('[data-path="/agents/echo"]'))"""
        page.wait_for(f"!!{block}")
        page.evaluate(f"{block}.querySelector('.opblock-summary-control').click()")
        page.wait_for(f"!!{block}.querySelector('.execute')")
        page.evaluate(f"{block}.querySelector('.execute').click()")
        shown = page.wait_for(f"{block}.querySelector('.live-responses-table tbody .response-col_status')?.innerText")
        assert shown.strip().startswith("200")

    assert page.complaints == []
