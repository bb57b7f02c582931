"""Compression: which replies come as gzip, to whom, and what their headers say."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Any

import pytest

from portico.kernel.process import AgentProcess
from portico.operations.decorators import operation, route
from portico.routes.compression import takes_gzip
from tests.app.serving import head, raw, served

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.app.serving import RawResponse, Served

pytestmark = pytest.mark.anyio


class Long(AgentProcess):
    @route("GET", "/long/{length}")
    @operation
    async def long(self, length: int, kind: str | None = None, encoding: str | None = None) -> Any:
        headers = {} if encoding is None else {"content-encoding": encoding, "etag": '"mine"'}
        return self.reply("x" * length, media_type=kind, headers=headers) if kind or headers else "x" * length

    @route("GET", "/tagged")
    @operation
    async def tagged(self) -> Any:
        return self.reply("x" * 2000, headers={"etag": '"mine"'})


@pytest.fixture(scope="module")
async def long(anyio_backend: object) -> AsyncGenerator[Served]:
    async with served(Long("long", expose=True), patience=None) as one:
        yield one


async def get(gateway: Served, path: str, *lines: str) -> RawResponse:
    """With these headers, and none that a client adds of itself."""
    return await raw(gateway.port, head("GET", path, *lines))


@pytest.mark.parametrize("length", [1022, 200_000])
@pytest.mark.parametrize("accept", ["gzip", "br, gzip;q=0.5", "*", "GZIP", "x-gzip"])
async def test_a_long_reply_is_packed_for_who_takes_gzip(long: Served, length: int, accept: str) -> None:
    response = await get(long, f"/long/{length}", f"Accept-Encoding: {accept}")

    assert response.headers["content-encoding"] == "gzip"
    assert len(response.body) < length / 10
    assert gzip.decompress(response.body) == b'"' + b"x" * length + b'"'


@pytest.mark.parametrize("line", ["X: y", "Accept-Encoding: br", "Accept-Encoding: gzip;q=0", "Accept-Encoding: gzip; q=0.0, *"])
@pytest.mark.parametrize("path", ["/long/2000", "/openapi.json", "/docs/assets/docs.js"])
async def test_who_does_not_take_gzip_gets_the_reply_as_it_is_and_caches_are_told_why(long: Served, path: str, line: str) -> None:
    response = await get(long, path, line)

    assert "content-encoding" not in response.headers
    assert "Accept-Encoding" in response.headers["vary"]


@pytest.mark.parametrize("path", ["/long/1021", "/long/2000?kind=image/png", "/long/2000?encoding=br", "/livez"])
async def test_what_is_short_or_packed_already_stays_as_it_is(long: Served, path: str) -> None:
    response = await get(long, path, "Accept-Encoding: gzip")

    assert response.headers.get("content-encoding") in (None, "br")


@pytest.mark.parametrize(
    "path", ["/long/2000?kind=text/html", "/long/2000?kind=application/ld%2Bjson", "/openapi.json", "/docs/assets/docs.js"]
)
async def test_text_of_any_kind_is_packed(long: Served, path: str) -> None:
    response = await get(long, path, "Accept-Encoding: gzip")

    assert response.headers["content-encoding"] == "gzip"
    assert gzip.decompress(response.body)


@pytest.mark.parametrize("accept", ["text/event-stream"])
async def test_a_stream_of_events_is_never_packed(long: Served, accept: str) -> None:
    headers = {"accept": accept, "accept-encoding": "gzip"}
    asked = await long.client.get("/long/5000", headers=headers)
    run = await long.client.get(asked.headers["location"] + "/events", headers=headers)

    assert "x" * 5000 in asked.text
    for response in (asked, run):
        assert "content-encoding" not in response.headers


async def test_the_tag_of_a_packed_reply_is_weak_since_it_stands_for_two_forms(long: Served) -> None:
    assert (await get(long, "/tagged", "Accept-Encoding: gzip")).headers["etag"] == 'W/"mine"'
    assert (await get(long, "/tagged")).headers["etag"] == '"mine"'


async def test_it_can_be_switched_off() -> None:
    async with served(Long("long", expose=True), compression=False) as gateway:
        for path in ("/long/2000", "/openapi.json"):
            assert "content-encoding" not in (await get(gateway, path, "Accept-Encoding: gzip")).headers


@pytest.mark.parametrize(
    ("header", "takes"),
    [
        ("", False),
        ("identity", False),
        ("gzip", True),
        ("gzip;q=0", False),
        ("*;q=0", False),
        ("gzip;q=0.001, *;q=0", True),
        (";", False),
    ],
)
def test_who_takes_gzip_says_so(header: str, *, takes: bool) -> None:
    assert takes_gzip(header) is takes
