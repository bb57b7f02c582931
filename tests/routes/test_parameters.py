"""Path and query parameters: which of them become members of the payload, as what, and which wins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from portico.errors import InvalidOperation
from portico.kernel.messages import Message  # type hints become contracts
from portico.kernel.process import AgentProcess
from portico.operations.decorators import operation, route
from portico.routes.parameters import path_pattern
from tests.app.serving import is_problem, served

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


@pytest.fixture(scope="module")
async def shelves(anyio_backend: object) -> AsyncGenerator[Served]:
    async with served(Shelves("shelves", expose=True), patience=None) as one:
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

    assert problem["errors"][0]["path"] == "/limit"


async def test_a_default_route_takes_query_parameters_too(shelves: Served) -> None:
    assert (await shelves.client.post("/agents/shelves/search?shelf=b")).json()["shelf"] == "b"


async def test_a_path_parameter_takes_one_segment_unless_it_says_path(shelves: Served) -> None:
    assert (await shelves.client.get("/files/a/b/c.txt")).json() == "a/b/c.txt"
    assert (await shelves.client.get("/files/a%2Fb")).json() == "a/b"
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
