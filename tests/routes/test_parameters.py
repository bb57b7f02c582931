"""Path and query parameters: which of them become members of the payload, as what, and which wins."""

from __future__ import annotations

from datetime import date  # type hints become contracts
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from portico.errors import InvalidOperation
from portico.kernel.messages import Message  # type hints become contracts
from portico.kernel.process import AgentProcess
from portico.operations.decorators import operation, route
from portico.routes.parameters import path_pattern
from tests.app.serving import head, is_problem, raw, served

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.app.serving import Served

pytestmark = pytest.mark.anyio


class Search(BaseModel):
    shelf: str
    words: list[str] = []
    limit: int = 10
    exact: bool = False
    colour: str | None = None


class Shelves(AgentProcess):
    @route("POST", "/shelves/{shelf}/search")
    @route("GET", "/shelves/{shelf}")
    @operation
    async def search(self, request: Search) -> Search:
        return request

    @route("GET", "/files/{path:path}")
    @operation
    async def file(self, path: str) -> str:
        return path

    @route("PUT", "/numbers/{index}")
    @operation
    async def numbers(self, request: list[int]) -> list[int]:
        return request

    @route("POST", "/anything/{name}")
    async def handle(self, message: Message) -> Any:
        return message.payload


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Strict(BaseModel):
    """JSON of these types alone will do."""

    model_config = ConfigDict(strict=True)

    count: int = 0
    ratio: float = 0.0
    on: bool = False
    perhaps: int | None = None
    either: int | str = 0
    level: Literal[1, 2] = 1
    step: Level = Field(Level.LOW, strict=False)
    day: date | None = None
    numbers: list[int] = []
    size: int = Field(0, alias="the size")


class Typed(AgentProcess):
    @route("GET", "/typed/{count}")
    @operation
    async def typed(self, request: Strict) -> Strict:
        return request


@pytest.fixture(scope="module")
async def shelves(anyio_backend: object) -> AsyncGenerator[Served]:
    async with served(Shelves("shelves", expose=True), Typed("typed"), patience=None) as one:
        yield one


async def test_path_wins_over_query_and_query_over_body(shelves: Served) -> None:
    response = await shelves.client.post(
        "/shelves/path/search?shelf=query&limit=2", json={"shelf": "body", "limit": 3, "colour": "body"}
    )

    assert response.json() == {"shelf": "path", "words": [], "limit": 2, "exact": False, "colour": "body"}


async def test_parameters_become_the_types_of_the_contract(shelves: Served) -> None:
    response = await shelves.client.get("/shelves/a?limit=7&exact=true")

    assert (response.json()["limit"], response.json()["exact"]) == (7, True)


async def test_a_repeated_parameter_is_a_list_where_the_contract_wants_one(shelves: Served) -> None:
    response = await shelves.client.get("/shelves/a?words=x&words=y&limit=1&limit=2")

    assert response.json()["words"] == ["x", "y"]
    assert response.json()["limit"] == 2


async def test_parameters_are_decoded(shelves: Served) -> None:
    response = await shelves.client.get("/shelves/caf%C3%A9%20%26%20bar%3F?colour=gr%C3%BCn+%2B+blau&words=a%26b&words=")

    assert response.json()["shelf"] == "café & bar?"
    assert response.json()["colour"] == "grün + blau"
    assert response.json()["words"] == ["a&b", ""]


async def test_what_the_contract_does_not_name_is_left_out(shelves: Served) -> None:
    response = await shelves.client.get("/shelves/a?utm_source=mail&limit=1")

    assert response.status_code == 200
    assert "utm_source" not in response.json()


async def test_a_parameter_that_does_not_fit_names_its_path(shelves: Served) -> None:
    problem = is_problem(await shelves.client.get("/shelves/a?limit=many"), 422, "contract-violated")

    assert (problem["errors"][0]["path"], problem["errors"][0]["in"]) == ("/limit", "query")


@pytest.mark.parametrize(
    ("query", "member", "value"),
    [
        ("ratio=2", "ratio", 2.0),
        ("ratio=-1.5e3", "ratio", -1500.0),
        ("on=true", "on", True),
        ("on=1", "on", True),
        ("on=false", "on", False),
        ("on=0", "on", False),
        ("perhaps=7", "perhaps", 7),
        ("either=7", "either", "7"),
        ("level=2", "level", 2),
        ("step=2", "step", 2),
        ("day=2026-11-28", "day", "2026-11-28"),
        ("numbers=1&numbers=-2", "numbers", [1, -2]),
        ("the%20size=3", "the size", 3),
        ("the+size=3", "the size", 3),
    ],
)
async def test_a_text_becomes_what_the_contract_takes_also_where_that_is_strict(
    shelves: Served, query: str, member: str, value: Any
) -> None:
    assert (await shelves.client.get(f"/typed/5?{query}")).json()[member] == value


@pytest.mark.parametrize(
    "query",
    ["ratio=", "ratio=much", "on=yes", "on=", "perhaps=null", "perhaps=", "level=3", "step=9", "day=monday", "numbers=1&numbers=x"],
)
async def test_a_text_that_the_contract_does_not_take_is_refused_in_the_query(shelves: Served, query: str) -> None:
    problem = is_problem(await shelves.client.get(f"/typed/5?{query}"), 422, "contract-violated")

    assert [fault["in"] for fault in problem["errors"]] == ["query"]
    assert problem["errors"][0]["path"].startswith("/" + query.partition("=")[0])


async def test_each_fault_says_in_which_part_of_the_request_it_is(shelves: Served) -> None:
    one = is_problem(await shelves.client.get("/typed/x?ratio=y"), 422, "contract-violated")
    other = is_problem(await shelves.client.post("/shelves/a/search?limit=x", json={"words": 1}), 422, "contract-violated")

    assert {(fault["path"], fault["in"]) for fault in one["errors"]} == {("/count", "path"), ("/ratio", "query")}
    assert {(fault["path"], fault["in"]) for fault in other["errors"]} == {("/limit", "query"), ("/words", "body")}


@pytest.mark.parametrize(
    "path", ["/shelves/%", "/shelves/%4", "/shelves/%zz", "/shelves/%ff", "/shelves/%c3%28", "/nowhere/%ed%a0%80"]
)
async def test_a_path_that_is_not_percent_encoded_utf_8_is_refused(shelves: Served, path: str) -> None:
    is_problem(await raw(shelves.port, head("GET", path)), 400, "malformed-address")


@pytest.mark.parametrize("query", ["limit=%", "limit=%zz", "colour=%ff", "%ff=1"])
async def test_a_query_that_is_not_percent_encoded_utf_8_is_refused(shelves: Served, query: str) -> None:
    is_problem(await raw(shelves.port, head("GET", f"/shelves/a?{query}")), 400, "malformed-address")


@pytest.mark.parametrize(
    ("sent", "read"), [("a%2Fb", "a/b"), ("a%252Fb", "a%2Fb"), ("%2F", "/"), ("a%3Fb%23", "a?b#"), ("%2B+", "++")]
)
async def test_a_segment_is_decoded_once_and_keeps_an_encoded_slash(shelves: Served, sent: str, read: str) -> None:
    response = await raw(shelves.port, head("GET", f"/shelves/{sent}"))

    assert response.json()["shelf"] == read


async def test_a_default_route_takes_query_parameters_too(shelves: Served) -> None:
    assert (await shelves.client.post("/agents/shelves/search?shelf=b")).json()["shelf"] == "b"


async def test_a_path_parameter_takes_one_segment_unless_it_says_path(shelves: Served) -> None:
    assert (await shelves.client.get("/files/a/b/c.txt")).json() == "a/b/c.txt"
    assert (await shelves.client.get("/files/a%2Fb")).json() == "a/b"
    assert (await shelves.client.get("/files/a%2Fb/c/")).json() == "a/b/c/"
    is_problem(await shelves.client.get("/shelves/a/b"), 404, "not-found")


async def test_where_nothing_describes_the_payload_path_parameters_merge_and_the_query_does_not(shelves: Served) -> None:
    response = await shelves.client.post("/anything/thing?colour=red", json={"size": 1})

    assert response.json() == {"size": 1, "name": "thing"}


async def test_parameters_that_the_contract_does_not_name_leave_a_body_that_is_no_object_alone(shelves: Served) -> None:
    assert (await shelves.client.put("/numbers/4?x=1", json=[1, 2])).json() == [1, 2]


async def test_an_object_is_needed_where_parameters_merge_with_it(shelves: Served) -> None:
    is_problem(await shelves.client.post("/anything/thing", json=[1]), 422, "contract-violated")


@pytest.mark.parametrize("path", ["/a/{", "/a/}", "/a/{}", "/a/{b c}", "/a/{x}/{x}", "/a/{x:int}"])
def test_a_path_that_is_no_template_is_refused(path: str) -> None:
    with pytest.raises(InvalidOperation, match="The path"):
        path_pattern(path)
