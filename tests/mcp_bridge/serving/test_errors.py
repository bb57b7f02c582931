"""Every error of the family has its MCP form: as a tool's result, and as a JSON-RPC error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from mcp.types import INTERNAL_ERROR, INVALID_PARAMS, TextContent

from portico import errors
from portico.errors import AgentCrashed, AgentError, ContractViolation, InvalidReply, PorticoError, QuotaExceeded, UnknownTool
from portico.mcp_bridge.serving.errors import CODES, INTERNAL, META, error_result, protocol_error
from portico.routes.problems import STATUSES

if TYPE_CHECKING:
    from mcp.types import CallToolResult

FAMILY = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, PorticoError)]


def text(result: CallToolResult) -> str:
    (part,) = result.content
    assert isinstance(part, TextContent)
    return part.text


def about(result: CallToolResult) -> dict[str, Any]:
    assert result.is_error
    assert result.structured_content is None
    assert result.meta is not None
    return result.meta[META]


def made(kind: type[PorticoError]) -> PorticoError:
    """One of that class, whatever it is made of."""
    error = kind.__new__(kind)
    PorticoError.__init__(error, "What happened, and what to do.", number=float("nan"), thing=object())
    if isinstance(error, ContractViolation):
        vars(error)["faults"] = [{"path": "/name", "message": "Field required", "type": "missing"}]
    if isinstance(error, AgentError):
        vars(error).update(slug="too-much", title="Too much")
    return error


@pytest.mark.parametrize("kind", FAMILY)
def test_every_error_of_the_family_has_both_forms(kind: type[PorticoError]) -> None:
    assert kind.slug in CODES, f"{kind.__name__} is new: say in serving/errors.py whether another request would help"

    error = made(kind)
    result, refusal = error_result(error), protocol_error(error)

    assert about(result)["slug"] == error.slug
    assert about(result)["title"]
    assert text(result)
    assert refusal.error.code in (INVALID_PARAMS, INTERNAL_ERROR)
    assert refusal.error.message == (text(result) if isinstance(error, ContractViolation) else error.detail)
    assert refusal.error.data["slug"] == error.slug
    result.model_dump_json()
    refusal.error.model_dump_json()


def test_no_code_stands_for_an_error_that_there_is_not() -> None:
    assert set(CODES) == {kind.slug for kind in FAMILY}


def test_what_http_blames_on_the_request_is_blamed_on_it_here_too() -> None:
    """As far as another request would help: a wait, or somebody else, is no fault of this one."""
    blamed = {slug for slug, status in STATUSES.items() if status in (400, 401, 403, 404, 405, 406, 413, 415, 421, 422, 431)}
    assert {slug for slug in blamed if CODES[slug] != INVALID_PARAMS} == set()


def test_an_error_of_an_agents_own_has_the_code_of_its_kind() -> None:
    assert protocol_error(AgentError("too-much", "I have enough.", limit=3)).error.code == INTERNAL_ERROR


def test_a_broken_contract_says_where_and_what_was_expected_one_fault_a_line() -> None:
    faults = [
        {"path": "/times", "message": "Input should be less than or equal to 3", "type": "less_than_equal"},
        {"path": "", "message": "Input should be an object", "type": "model_type"},
    ]
    result = error_result(ContractViolation("greet", faults), below="/payload")
    assert text(result).splitlines() == [
        "The arguments are not valid:",
        "- /payload/times: Input should be less than or equal to 3",
        "- /payload: Input should be an object",
    ]
    assert [fault["path"] for fault in about(result)["errors"]] == ["/payload/times", "/payload"]


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("the secret"),
        AgentCrashed("a", RuntimeError("the secret"), attempts=1, incarnation=1, restarts=0),
        KeyError("the secret"),
    ],
)
def test_the_text_of_an_exception_is_told_to_nobody(error: BaseException) -> None:
    result, refusal = error_result(error), protocol_error(error)
    assert "the secret" not in result.model_dump_json() + refusal.error.model_dump_json()
    if not isinstance(error, PorticoError):
        assert text(result) == refusal.error.message == INTERNAL


def test_a_client_is_told_when_to_come_again() -> None:
    error = made(QuotaExceeded)
    vars(error)["retry_after"] = 7.0
    assert about(error_result(error))["retry_after"] == 7.0
    assert protocol_error(error).error.data["retry_after"] == 7.0


def test_an_invalid_reply_is_no_fault_of_the_arguments() -> None:
    error = InvalidReply("a", "b", [{"path": "/x", "message": "Field required", "type": "missing"}])
    assert "The arguments" not in text(error_result(error))
    assert protocol_error(error).error.code == INTERNAL_ERROR


def test_an_unknown_tool_is_a_wrong_parameter() -> None:
    refusal = protocol_error(UnknownTool("greter", ["greeter"]))
    assert (refusal.error.code, refusal.error.data["slug"]) == (INVALID_PARAMS, "tool-not-found")
    assert "Did you mean 'greeter'?" in refusal.error.message
