"""Bodies that are no JSON: forms, files, bytes as they are. What is sent, what the agent gets, what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel, Field

from portico.kernel.process import AgentProcess
from portico.operations.decorators import contract, operation, route
from portico.operations.upload import Upload
from tests.app.serving import is_problem, served

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.app.serving import Served

pytestmark = pytest.mark.anyio

PIXEL = b"\x89PNG\r\n\x1a\n\xff\x00--not-the-boundary\r\n"
"""Bytes that are no text, with what a parser might stumble over."""
LINES = "multipart/form-data; boundary=line"
PART = 'content-disposition: form-data; name="{}"'


class Photo(BaseModel):
    image: bytes
    note: str = ""
    stars: int = Field(1, ge=1, le=5)
    tags: list[str] = []


class Album(BaseModel):
    title: str
    files: list[Upload]
    about: dict[str, Any] = {}


class Nested(BaseModel):
    inner: Photo


class Files(AgentProcess):
    @route("POST", "/photos/{stars}")
    @operation
    async def photo(self, request: Photo) -> dict[str, Any]:
        return {**request.model_dump(exclude={"image"}), "image": request.image.hex()}

    @operation
    async def album(self, request: Album) -> list[Any]:
        return [request.title, request.about, [[one.filename, one.content_type, one.content.hex()] for one in request.files]]

    @operation
    async def one(self, file: Upload | None = None, comment: str = "") -> list[Any]:
        return [None if file is None else [file.filename, file.content_type, file.content.hex()], comment]

    @contract(request=bytes, response=bytes)
    async def turned(self, data: bytes) -> bytes:
        return data[::-1]

    @operation
    async def nested(self, request: Nested) -> str:
        return request.inner.image.hex()

    @operation
    async def plain(self, text: str, times: int = 1, on: bool = False) -> list[Any]:  # noqa: FBT001, FBT002  # a member
        return [text, times, on]

    @operation
    async def export(self) -> Any:
        return self.reply(PIXEL, media_type="image/png", headers={"content-disposition": 'attachment; filename="a.png"'})


@pytest.fixture(scope="module")
async def files(anyio_backend: object) -> AsyncGenerator[Served]:
    async with served(Files("files", expose=True), patience=None) as one:
        yield one


def parts(*of: tuple[str, bytes]) -> bytes:
    """A multipart body from the heads and contents of its parts."""
    return b"".join(b"--line\r\n%s\r\n\r\n%s\r\n" % (head.encode(), content) for head, content in of) + b"--line--\r\n"


# --- multipart --------------------------------------------------------------------------------------------------------


async def test_a_file_of_a_form_reaches_the_agent_as_it_is_with_the_other_fields_by_their_types(files: Served) -> None:
    response = await files.client.post(
        "/photos/4?tags=query",
        files={"image": ("a.png", PIXEL, "image/png")},
        data={"note": "grün & blau", "stars": "1", "tags": ["body"]},
    )

    assert response.json() == {"image": PIXEL.hex(), "note": "grün & blau", "stars": 4, "tags": ["query"]}


async def test_several_files_come_with_their_names_and_kinds_and_an_object_as_json(files: Served) -> None:
    several = [
        ("files", ("ä b.png", PIXEL, "image/png")),
        ("files", ("empty", b"", "text/plain")),
        ("about", (None, b'{"a": [1]}', "application/json")),
    ]
    response = await files.client.post("/agents/files/album", files=several, data={"title": "T"})

    assert response.json() == ["T", {"a": [1]}, [["ä b.png", "image/png", PIXEL.hex()], ["empty", "text/plain", ""]]]


async def test_a_field_for_a_file_in_which_nobody_chose_one_is_left_out(files: Served) -> None:
    body = parts(
        (PART.format("file") + '; filename=""\r\ncontent-type: application/octet-stream', b""), (PART.format("comment"), b"c")
    )
    response = await files.client.post("/agents/files/one", content=body, headers={"content-type": LINES})

    assert response.json() == [None, "c"]


async def test_none_of_two_files_for_one_member_gets_lost_in_silence(files: Served) -> None:
    problem = is_problem(
        await files.client.post("/agents/files/one", files=[("file", ("a", b"1")), ("file", ("b", b"2"))]), 422, "contract-violated"
    )

    assert problem["errors"][0]["path"].startswith("/file")


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", parts((PART.format("note"), b"x"))),
        (LINES, b""),
        (LINES, b"--line\r\n"),
        (LINES, parts((PART.format("note"), b"x"))[:-8]),
        (LINES, b"--other\r\n" + PART.format("note").encode() + b"\r\n\r\nx\r\n--other--\r\n"),
        (LINES, parts(("content-disposition: form-data", b"x"))),
        (LINES, parts(("x: y", b"x"))),
        (LINES, parts((PART.format("note"), b"\xff"))),
        (LINES, parts((PART.format("note") + "\r\nx: " + "y" * 5000, b"x"))),
        (LINES, parts(*[(PART.format("tags"), b"x")] * 1001)),
        (LINES, parts((PART.format("note") + "\r\ncontent-type: application/json", b"{"))),
    ],
    ids=["no boundary", "nothing", "begun", "cut", "foreign", "no name", "no disposition", "utf-8", "header", "parts", "json"],
)
async def test_a_form_that_is_none_is_refused(files: Served, kind: str, body: bytes) -> None:
    response = await files.client.post("/agents/files/photo", content=body or b"\r\n", headers={"content-type": kind})

    is_problem(response, 400, "malformed-body")


async def test_a_fault_in_a_form_has_its_path(files: Served) -> None:
    response = await files.client.post("/agents/files/photo", files={"image": b"x"}, data={"stars": "six"})

    assert is_problem(response, 422, "contract-violated")["errors"][0]["path"] == "/stars"


async def test_a_form_over_the_limit_is_refused() -> None:
    async with served(Files("files", expose=True), body_limit=1000) as gateway:
        response = await gateway.client.post("/agents/files/photo", files={"image": b"x" * 1000})

    is_problem(response, 413, "body-too-large")


# --- urlencoded -------------------------------------------------------------------------------------------------------


async def test_what_an_html_form_sends_becomes_the_members_by_their_types(files: Served) -> None:
    response = await files.client.post("/agents/files/plain", data={"text": "a b+ü&", "times": "3", "on": "true"})

    assert response.request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert response.json() == ["a b+ü&", 3, True]


@pytest.mark.parametrize("body", [b"text=%ff", b"text=%zz", b"text=\xff"])
async def test_a_form_that_is_not_percent_encoded_utf_8_is_refused(files: Served, body: bytes) -> None:
    kind = {"content-type": "application/x-www-form-urlencoded"}

    is_problem(await files.client.post("/agents/files/plain", content=body, headers=kind), 400, "malformed-body")


async def test_a_form_of_very_many_fields_is_refused_before_they_are_read(files: Served) -> None:
    kind = {"content-type": "application/x-www-form-urlencoded"}
    most = await files.client.post("/agents/files/plain", content=b"&".join([b"text=x"] * 1000), headers=kind)
    more = await files.client.post("/agents/files/plain", content=b"&".join([b"text=x"] * 1001), headers=kind)

    assert most.status_code != 400
    is_problem(more, 400, "malformed-body")


# --- bytes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["application/octet-stream", "image/png", "text/plain", "application/x-www-form-urlencoded"])
@pytest.mark.parametrize("body", [PIXEL, b"", b"\0"])
async def test_where_the_contract_is_bytes_any_body_is_taken_as_it_is(files: Served, kind: str, body: bytes) -> None:
    response = await files.client.post("/agents/files/turned", content=body, headers={"content-type": kind})

    assert (response.content, response.headers["content-type"]) == (body[::-1], "application/octet-stream")


async def test_a_body_as_it_is_goes_to_the_only_member_that_takes_bytes(files: Served) -> None:
    photo = await files.client.post("/photos/2?note=n", content=PIXEL, headers={"content-type": "image/png"})
    one = await files.client.post("/agents/files/one", content=PIXEL, headers={"content-type": "image/png; q=x"})

    assert (photo.json()["image"], photo.json()["note"], photo.json()["stars"]) == (PIXEL.hex(), "n", 2)
    assert one.json() == [[None, "image/png; q=x", PIXEL.hex()], ""]


@pytest.mark.parametrize(
    ("operation", "payload", "reply"),
    [
        ("turned", "/wA=", b"\x00\xff"),
        ("turned", "_wA", b"\x00\xff"),
        ("photo", {"image": "/wA="}, b'"image":"ff00"'),
        ("nested", {"inner": {"image": "/wA="}}, b'"ff00"'),
        ("one", {"file": {"filename": "f", "content": "/wA="}}, b'["f",null,"ff00"]'),
    ],
)
async def test_in_json_bytes_are_base64(files: Served, operation: str, payload: Any, reply: bytes) -> None:
    assert reply in (await files.client.post(f"/agents/files/{operation}", json=payload)).content


@pytest.mark.parametrize("payload", ["no base64!", 7, None, {}])
async def test_what_is_no_base64_breaks_the_contract(files: Served, payload: Any) -> None:
    is_problem(await files.client.post("/agents/files/photo", json={"image": payload}), 422, "contract-violated")


async def test_a_file_is_a_reply_with_its_media_type_and_name(files: Served) -> None:
    response = await files.client.post("/agents/files/export", headers={"accept": "image/png"})

    assert (response.content, response.headers["content-type"]) == (PIXEL, "image/png")
    assert response.headers["content-disposition"] == 'attachment; filename="a.png"'


async def test_an_upload_is_stored_with_its_run_and_can_be_replayed(files: Served) -> None:
    key = {"idempotency-key": "upload"}
    for replayed in (None, "true"):
        whole = await files.client.post("/agents/files/turned", content=PIXEL, headers={**key, "content-type": "image/png"})
        part = await files.client.post("/agents/files/photo", files={"image": PIXEL}, headers=key)

        assert whole.content == PIXEL[::-1]
        assert part.json()["image"] == PIXEL.hex()
        assert [one.headers.get("idempotency-replayed") for one in (whole, part)] == [replayed] * 2


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "kind", "accepted"),
    [
        ("plain", "text/csv", "application/json, application/x-www-form-urlencoded, multipart/form-data"),
        ("photo", "application/x-www-form-urlencoded", "application/json, multipart/form-data, application/octet-stream"),
        ("album", "image/png", "application/json, multipart/form-data"),
        ("nested", LINES, "application/json"),
        ("turned", LINES, "application/json, application/octet-stream"),
        ("photo", "", "application/json, multipart/form-data, application/octet-stream"),
    ],
)
async def test_a_kind_that_an_operation_does_not_take_is_told_which_it_does(
    files: Served, operation: str, kind: str, accepted: str
) -> None:
    response = await files.client.post(f"/agents/files/{operation}", content=b"x", headers={"content-type": kind})

    is_problem(response, 415, "unsupported-media-type")
    assert response.headers["accept"] == response.headers["accept-post"] == accepted


@pytest.mark.parametrize("path", ["/agents/files/plain", "/agents/files/turned", "/runs"])
async def test_a_compressed_body_is_refused_and_an_identical_one_is_not(files: Served, path: str) -> None:
    kind = {"content-type": "application/json"}
    response = await files.client.post(path, content=b"\x1f\x8b", headers={**kind, "content-encoding": "gzip"})
    identical = await files.client.post(path, content=b'"', headers={**kind, "content-encoding": "Identity"})

    is_problem(response, 415, "unsupported-encoding")
    assert response.headers["accept-encoding"] == "identity"
    is_problem(identical, 400, "malformed-body")
