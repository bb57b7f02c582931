"""Every operation of a whole gateway, its agents' and its own: each says all that a reader, a page and a generator need."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from portico.app.factory import create_app
from portico.app.settings import GatewayConfig
from portico.version import __version__
from tests.openapi.hostile import runtime

if TYPE_CHECKING:
    from collections.abc import Iterator

DEMO = Path(__file__).parents[2] / "examples" / "demo" / "topology.yaml"
SOURCES = {
    "the demo": lambda: create_app(DEMO, GatewayConfig()),
    "the demo with a key": lambda: create_app(DEMO, GatewayConfig(api_key="open sesame")),
    "hostile contracts": lambda: create_app(runtime(), GatewayConfig()),
}
OPEN = ("/livez", "/readyz", "/startupz", "/healthz")
CALLS = ("ask_", "send_", "post_", "get_", "put_", "delete_", "patch_")


@pytest.fixture(scope="module", params=SOURCES)
def document(request: pytest.FixtureRequest) -> dict[str, Any]:
    return SOURCES[request.param]().openapi()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, about in item.items():
            yield f"{method.upper()} {path}", about


def resolved(document: dict[str, Any], one: Any) -> dict[str, Any]:
    while "$ref" in one:
        place: Any = document
        for part in one["$ref"].removeprefix("#/").split("/"):
            place = place[part]
        one = place
    return cast("dict[str, Any]", one)


def responses(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for name, about in operations(document):
        for status, response in about["responses"].items():
            yield name, status, resolved(document, response)


def examples(media: dict[str, Any]) -> list[Any]:
    return [media["example"]] if "example" in media else [one["value"] for one in media.get("examples", {}).values()]


def test_the_official_validator_finds_nothing(document: dict[str, Any]) -> None:
    OpenAPIV31SpecValidator(document).validate()  # pyright: ignore[reportArgumentType]


def test_it_says_what_it_is_and_where(document: dict[str, Any]) -> None:
    info = document["info"]

    assert info["version"] == __version__
    assert info["license"]["identifier"] == "Apache-2.0"
    assert info["description"]
    assert [one["url"] for one in document["servers"]] == ["."]


def test_every_operation_has_its_words_and_an_id_that_is_a_name(document: dict[str, Any]) -> None:
    ids: list[str] = []
    tags = {tag["name"] for tag in document["tags"]}
    for name, about in operations(document):
        assert about["summary"], name
        assert about["description"], name
        assert about["tags"], name
        assert set(about["tags"]) <= tags, name
        assert re.fullmatch(r"[a-z][a-z0-9_]*", about["operationId"]), name
        ids.append(about["operationId"])

    assert len(set(ids)) == len(ids)
    assert {"list_agents", "start_run", "list_runs", "list_dead_letters", "readyz", "list_problems", "read_openapi"} <= set(ids)


def test_every_tag_is_described(document: dict[str, Any]) -> None:
    for tag in document["tags"]:
        assert tag["description"], tag


def test_every_request_body_and_needed_parameter_has_an_example_that_fits(document: dict[str, Any]) -> None:
    for name, about in operations(document):
        for media in about.get("requestBody", {}).get("content", {}).values():
            found = examples(media)
            assert found, name
            for one in found:
                fits(document, media["schema"], one, name)
        for parameter in (resolved(document, one) for one in about["parameters"]):
            if parameter["in"] == "header" or not about["operationId"].startswith(CALLS):
                assert parameter["description"], (name, parameter)
            if "example" in parameter:
                fits(document, parameter["schema"], parameter["example"], name)
            else:
                assert not parameter["required"], (name, parameter)


def test_every_answer_has_an_example_that_fits(document: dict[str, Any]) -> None:
    for name, status, response in responses(document):
        assert response["description"], (name, status)
        assert "x-problems" not in response
        assert "content" in response or status == "204", (name, status)
        for kind, media in response.get("content", {}).items():
            found = examples(media)
            assert found, (name, status, kind)
            for one in found:
                fits(document, media["schema"], one, f"{name} {status}")


def test_every_refusal_is_a_problem_with_an_example_of_each(document: dict[str, Any]) -> None:
    for name, status, response in responses(document):
        if int(status) < 400 or name.removeprefix("GET ") in OPEN:
            continue
        assert list(response["content"]) == ["application/problem+json"], (name, status)
        for slug, shown in response["content"]["application/problem+json"]["examples"].items():
            value = shown["value"]
            assert {"type", "title", "status", "detail", "request_id"} <= set(value)
            assert value["type"] == f"/problems/{slug}"
            assert value["status"] == int(status)


def test_every_answer_tells_its_headers(document: dict[str, Any]) -> None:
    for name, status, response in responses(document):
        known = set(response["headers"])
        assert "X-Request-ID" in known, (name, status)
        for header in response["headers"].values():
            assert resolved(document, header)["description"]
        if status == "202":
            assert {"Location", "Idempotency-Replayed"} <= known, name
        if status in ("429", "503") and name.removeprefix("GET ") not in OPEN:
            assert "Retry-After" in known, name
        if status == "401":
            assert "WWW-Authenticate" in known, name


def test_every_call_to_an_agent_tells_what_its_headers_do(document: dict[str, Any]) -> None:
    agents = 0
    for name, about in operations(document):
        sent = {one["name"] for one in (resolved(document, one) for one in about["parameters"]) if one["in"] == "header"}
        assert "X-Request-ID" in sent, name
        if not about["operationId"].startswith(CALLS):
            continue
        agents += 1
        assert {"Request-Timeout", "Idempotency-Key", "traceparent"} <= sent, name
        if "200" in about["responses"]:
            known = about["responses"]["200"]
            assert "Prefer" in sent
            assert {"Agent-Incarnation", "Agent-Attempt", "Idempotency-Replayed", "RateLimit", "RateLimit-Policy"} <= set(
                known["headers"]
            )
            assert {"text/event-stream", "application/jsonl"} <= set(known["content"])
    assert agents


def test_only_what_has_a_body_can_have_a_wrong_one(document: dict[str, Any]) -> None:
    for name, about in operations(document):
        assert ("415" in about["responses"]) == (
            "requestBody" in about or (name[:3] in ("POS", "PUT") and "429" in about["responses"] and not name.endswith("redrive"))
        ), name


def test_a_key_is_asked_for_everywhere_but_at_the_probes() -> None:
    described = SOURCES["the demo with a key"]().openapi()
    for name, about in operations(described):
        is_open = name.removeprefix("GET ") in OPEN
        assert ("401" in about["responses"]) != is_open, name
        assert (about.get("security") == []) == is_open, name
    assert "401" not in str([list(about["responses"]) for _, about in operations(SOURCES["the demo"]().openapi())])


def fits(document: dict[str, Any], schema: dict[str, Any], value: Any, where: str) -> None:
    whole = {**schema, "components": document["components"]}
    faults = list(Draft202012Validator(whole).iter_errors(value))  # pyright: ignore[reportUnknownMemberType]
    assert faults == [], (where, value)
