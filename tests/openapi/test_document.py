"""The document of a gateway: valid, typed, stable, and tried out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import BaseModel

from portico.kernel.process import AgentProcess
from portico.openapi.document import build_document
from portico.operations.catalogue import Catalogue
from portico.operations.decorators import contract, operation, route
from portico.operations.upload import Upload
from tests.openapi.sample import Assistant, Echo, catalogue, document

METHODS = {"get", "post", "put", "patch", "delete"}


def operations(described: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Every operation by method and path."""
    return {f"{m.upper()} {path}": about for path, item in described["paths"].items() for m, about in item.items() if m in METHODS}


def parameters(about: dict[str, Any], where: str) -> dict[str, Any]:
    return {one["name"]: one for one in about["parameters"] if one.get("in") == where}


def body(about: dict[str, Any]) -> dict[str, Any]:
    return about["requestBody"]["content"]["application/json"]


def component(described: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    return described["components"]["schemas"][schema["$ref"].removeprefix("#/components/schemas/")]


@pytest.mark.parametrize("secured", [True, False])
def test_the_document_is_valid_openapi_3_1(*, secured: bool) -> None:
    OpenAPIV31SpecValidator(document(secured=secured)).validate()  # pyright: ignore[reportArgumentType]


def test_an_empty_gateway_has_a_valid_document() -> None:
    described = build_document(Catalogue([]), title="T", version="1", base={}, statuses={}, secured=False)

    OpenAPIV31SpecValidator(described).validate()  # pyright: ignore[reportArgumentType]


def test_every_operation_of_every_agent_has_an_ask_and_a_send() -> None:
    found = operations(document())

    for endpoint in catalogue():
        path = endpoint.path.replace(" ", "%20")
        assert {"200", "202"} <= set(found[f"POST {path}"]["responses"])
        assert "202" in found[f"POST {path}/cast"]["responses"]
        assert "200" not in found[f"POST {path}/cast"]["responses"]


def test_declared_routes_stand_beside_the_default_ones() -> None:
    found = operations(document())

    assert {"POST /chat/{session_id}", "GET /chat/{session_id}/search", "DELETE /chat/{session_id}", "POST /log/{rest}"} <= set(
        found
    )
    assert found["PUT /say/{word}"]["tags"] == ["echo"]


def test_a_path_parameter_leaves_the_body_and_keeps_its_schema() -> None:
    about = operations(document())["POST /chat/{session_id}"]
    schema = body(about)["schema"]

    (parameter,) = parameters(about, "path").values()
    assert parameter["schema"]["type"] == "string"
    assert parameter["required"]
    assert parameter["description"] == "Which conversation."
    assert "session_id" not in schema["properties"]
    assert schema["required"] == ["turns"]
    assert "session_id" not in body(about)["example"]


def test_a_get_takes_the_other_members_from_the_query() -> None:
    about = operations(document())["GET /chat/{session_id}/search"]

    query = parameters(about, "query")
    assert list(query) == ["words", "limit"]
    assert query["words"]["required"]
    assert query["words"]["schema"]["type"] == "array"
    assert not query["limit"]["required"]
    assert query["limit"]["schema"] == {"type": "integer", "minimum": 1, "default": 10, "title": "Limit"}
    assert "requestBody" not in about


def test_two_routes_of_one_shape_are_one_path_with_one_name_for_its_parameter() -> None:
    described = document()

    assert set(described["paths"]["/chat/{session_id}"]) == {"post", "delete"}
    assert list(parameters(described["paths"]["/chat/{session_id}"]["delete"], "path")) == ["session_id"]


def test_models_are_components_and_equal_ones_are_shared() -> None:
    described = document()
    found = operations(described)
    request = body(found["POST /agents/assistant/chat"])["schema"]
    reply = found["POST /agents/assistant/chat"]["responses"]["200"]["content"]["application/json"]["schema"]

    assert request == {"$ref": "#/components/schemas/ChatRequest"}
    assert reply == {"$ref": "#/components/schemas/ChatResponse"}
    turns = component(described, request)["properties"]["turns"]["items"]
    assert component(described, turns)["properties"]["role"]["enum"] == ["user", "assistant"]


def test_different_models_of_one_name_do_not_meet() -> None:
    described = document()

    schema = body(operations(described)["POST /agents/counter%201"])["schema"]
    of_counter = component(described, schema)
    assert schema["$ref"] != "#/components/schemas/Turn"
    assert set(of_counter["properties"]) == {"by"}
    assert set(described["components"]["schemas"]["Turn"]["properties"]) == {"role", "text", "at"}


def test_no_reference_leads_nowhere() -> None:
    described = document()
    text = json.dumps(described)

    assert "$defs" not in text
    for part in text.split('"$ref": "#/')[1:]:
        here: Any = described
        for name in part.partition('"')[0].split("/"):
            here = here[name]


def test_a_discriminator_leads_to_the_components() -> None:
    about = operations(document())["POST /agents/zoo/pet"]

    assert body(about)["schema"]["discriminator"]["mapping"] == {
        "cat": "#/components/schemas/Cat",
        "dog": "#/components/schemas/Dog",
    }


def test_every_example_is_valid_against_its_schema() -> None:
    described = document()
    shown = 0
    for about in operations(described).values():
        media = about.get("requestBody", {}).get("content", {}).get("application/json", {})
        for place in (media, *parameters(about, "path").values(), *parameters(about, "query").values()):
            if "example" in place:
                shown += 1
                schema = {**place["schema"], "components": described["components"]}
                Draft202012Validator(schema).validate(place["example"])  # pyright: ignore[reportUnknownMemberType]
    assert shown > 15


def test_whole_requests_are_examples_that_the_contract_accepts() -> None:
    found = operations(document())
    for endpoint in catalogue():
        media = body(found[f"POST {endpoint.path.replace(' ', '%20')}"])
        if endpoint.operation.name == "measure":
            assert "example" not in media, "a pattern that nothing in reach matches has no example rather than a wrong one"
        else:
            endpoint.operation.contract.accept(media["example"])


def test_an_operation_that_returns_nothing_answers_204() -> None:
    responses = operations(document())["DELETE /chat/{session_id}"]["responses"]

    assert "204" in responses
    assert list(responses["200"]["content"]) == ["application/jsonl", "text/event-stream"]


def test_asks_can_be_streamed_and_sends_refer_to_their_run() -> None:
    described = document()
    found = operations(described)

    assert "text/event-stream" in found["POST /agents/echo"]["responses"]["200"]["content"]
    sent = found["POST /agents/echo/cast"]["responses"]["202"]
    assert "Location" in sent["headers"]
    assert "run_id" in component(described, sent["content"]["application/json"]["schema"])["properties"]


def test_problems_are_described_with_the_slugs_that_the_gateway_gives_them() -> None:
    described = document()
    responses = operations(described)["POST /agents/echo"]["responses"]

    assert set(responses) == {"200", "202", *map(str, (400, 401, 404, 406, 409, 413, 415, 422, 429, 500, 502, 503, 504))}
    problem = described["components"]["responses"]["Problem404"]
    assert problem["description"] == "No such agent (`agent-not-found`)"
    assert problem["content"]["application/problem+json"]["schema"] == {"$ref": "#/components/schemas/Problem"}
    assert "502" not in operations(described)["POST /agents/echo/cast"]["responses"]


def test_declared_errors_are_responses_of_their_own() -> None:
    responses = operations(document())["POST /agents/assistant/chat"]["responses"]

    assert "`out-of-words`" in responses["418"]["description"]
    assert responses["409"]["description"] == "Busy (`busy`); Wrong state (`wrong-state`)"


def test_without_authentication_nothing_speaks_of_it() -> None:
    described = document(secured=False)

    assert "security" not in described
    assert "401" not in operations(described)["POST /agents/echo"]["responses"]
    assert document()["security"] == [{"bearer": []}, {"apiKey": []}]


def test_operation_ids_are_unique_and_words() -> None:
    ids = [about["operationId"] for about in operations(document()).values()]

    assert len(set(ids)) == len(ids)
    assert all(one.isidentifier() for one in ids)
    assert {"ask_assistant_chat", "send_assistant_chat", "post_chat_session_id", "post_log_rest", "ask_echo"} <= set(ids)


def test_the_operation_id_of_an_agent_does_not_depend_on_the_others() -> None:
    alone = Assistant("assistant")
    alone.expose = True
    described = build_document(Catalogue([alone]), title="T", version="1", base={}, statuses={}, secured=False)

    ids = {key: about["operationId"] for key, about in operations(document()).items()}
    for key, about in operations(described).items():
        assert ids[key] == about["operationId"]


def test_ids_that_would_meet_get_a_number() -> None:
    described = build_document(Catalogue([Echo("a-b"), Echo("a.b")]), title="T", version="1", base={}, statuses={}, secured=False)

    ids = [about["operationId"] for about in operations(described).values()]
    assert ids == ["ask_a_b", "send_a_b", "ask_a_b_2", "send_a_b_2"]


def test_the_gateways_own_routes_stay_and_answer_problems() -> None:
    described = document()

    about = described["paths"]["/runs/{run_id}"]["get"]
    assert "application/problem+json" in about["responses"]["422"]["content"]
    assert "HTTPValidationError" not in described["components"]["schemas"]
    assert described["info"]["title"] == "T"


def test_summary_and_description_are_the_docstring() -> None:
    found = operations(document())

    assert found["POST /agents/assistant/search"]["summary"] == "Search a conversation"
    assert found["POST /agents/assistant/chat"]["summary"] == "Chat"
    assert found["POST /agents/assistant/chat"]["description"] == "Answer the user. Remembers the conversation."


def test_the_same_input_gives_the_same_text() -> None:
    assert json.dumps(document()) == json.dumps(document())


# --- forms and bytes --------------------------------------------------------------------------------------------------


class Letter(BaseModel):
    to: str
    scan: bytes
    more: list[Upload] = []


class Post(AgentProcess):
    @route("POST", "/letters/{to}")
    @operation
    async def take(self, request: Letter) -> str:
        return request.to

    @operation
    async def weigh(self, scan: bytes, fast: bool = False) -> int:  # noqa: FBT001, FBT002  # a member
        return len(scan) + fast

    @operation
    async def note(self, text: str) -> str:
        return text

    @contract(request=bytes, response=bytes)
    async def copy(self, data: bytes) -> bytes:
        return data


def post_office() -> dict[str, Any]:
    agents = Catalogue([Post("post", expose=True)])
    return build_document(agents, title="T", version="1", base={}, statuses={}, secured=False)


def test_an_operation_says_in_which_forms_its_request_can_be_sent() -> None:
    described = post_office()
    found = operations(described)

    def kinds(of: str) -> list[str]:
        return list(found[of]["requestBody"]["content"])

    OpenAPIV31SpecValidator(described).validate()  # pyright: ignore[reportArgumentType]
    assert kinds("POST /agents/post/note") == [
        "application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
    ]
    assert kinds("POST /agents/post/weigh") == ["application/json", "multipart/form-data", "application/octet-stream"]
    assert kinds("POST /agents/post/take") == ["application/json", "multipart/form-data"]
    assert kinds("POST /agents/post/copy") == ["application/json", "application/octet-stream"]


def test_a_file_is_bytes_in_a_form_and_base64_in_json() -> None:
    described = post_office()
    content = operations(described)["POST /letters/{to}"]["requestBody"]["content"]
    form, plain = content["multipart/form-data"]["schema"], content["application/json"]["schema"]
    file = {"type": "string", "format": "binary", "contentMediaType": "application/octet-stream"}

    assert form["properties"]["scan"] == {**file, "title": "Scan"}
    assert form["properties"]["more"]["items"] == file
    assert "to" not in form["properties"]
    assert plain["properties"]["scan"] == {"type": "string", "contentEncoding": "base64", "title": "Scan"}
    assert component(described, plain["properties"]["more"]["items"])["required"] == ["content"]
    assert content["application/json"]["example"]["scan"] == "aGVsbG8="


def test_a_reply_of_bytes_is_described_as_such() -> None:
    reply = operations(post_office())["POST /agents/post/copy"]["responses"]["200"]["content"]

    assert sorted(reply) == ["application/jsonl", "application/octet-stream", "text/event-stream"]
