"""Input requests: what a run waits for, as what MCP asks a client for, and the client's responses as the run's input.

    requests = input_requests(run.waiting)          # {"input": ElicitRequest(…)}; raises CallerCannotAnswer
    answered = answer_of(run.waiting, responses)    # an Answer, or a Refusal; raises ContractViolation, Missing
    await answered.give(book, run)

Above: `answering.py` and whatever else talks with a client while a run waits (tasks, prompts). Below: `runs/waiting.py`, whose data
this reads, and `elicitation_form.py`. It sends nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from mcp.types import (
    ClientCapabilities,
    CreateMessageRequest,
    CreateMessageRequestParams,
    ElicitationCapability,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitRequestURLParams,
    FormElicitationCapability,
    ListRootsRequest,
    RootsCapability,
    SamplingCapability,
    SamplingToolsCapability,
    UrlElicitationCapability,
)
from pydantic import BaseModel, ValidationError

from portico.errors import CallerCannotAnswer, ContractViolation
from portico.kernel.questions import INPUT, ROOTS, SAMPLE, VISIT
from portico.mcp_bridge.serving.elicitation_form import Form, form_of
from portico.operations.contract import faults_of
from portico.runs.waiting import questions_of, together

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp.types import InputRequest

    from portico.runs.book import RunBook
    from portico.runs.run import Run

ACCEPT: Final = "accept"


class MissingResponse(Exception):  # it is no fault: the rest may come later
    """Not every question has a response. `names`: of those that have none."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(f"no response for: {', '.join(names)}")
        self.names = names


@dataclass(frozen=True, slots=True)
class Answer:
    """The input that the responses make up."""

    value: Any
    """As `POST /runs/{id}/input` takes it."""

    async def give(self, book: RunBook, run: Run) -> None:
        """Let the run go on with it. Raises `ContractViolation`, `NotWaiting`, `StoreUnavailable`."""
        await book.answer(run, self.value)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Somebody declined."""

    actions: Mapping[str, str]
    """How, by the name of the question: `decline`, `cancel`, or what went wrong."""

    async def give(self, book: RunBook, run: Run) -> None:
        """Let the run go on: its handler gets `InputDeclined`. Raises `NotWaiting`, `StoreUnavailable`."""
        await book.decline(run, self.actions)


def input_requests(waiting: Mapping[str, Any], *, run_id: str = "", fault: str | None = None) -> dict[str, InputRequest]:
    """What a client is to be asked, by the names of the questions.

    Args:
        waiting: what the run waits for: of kind `input`.
        run_id: for clients that want an id of each address that a person is to open.
        fault: what was wrong with the responses that came before; shown to the person.

    Raises:
        CallerCannotAnswer: a question that has no form in MCP.
    """
    asked = questions_of(waiting)
    return {name: _request(question, f"{run_id}/{waiting['key']}/{name}", fault) for name, question in asked.items()}


def needed(waiting: Mapping[str, Any]) -> ClientCapabilities:
    """The capabilities that a client must have declared to be asked this."""
    asks = {question["asks"] for question in questions_of(waiting).values()}
    params: list[Mapping[str, Any]] = [question.get("params") or {} for question in questions_of(waiting).values()]
    tools = any("tools" in one or "tool_choice" in one for one in params)
    form = FormElicitationCapability() if INPUT in asks else None
    url = UrlElicitationCapability() if VISIT in asks else None
    return ClientCapabilities(
        elicitation=ElicitationCapability(form=form, url=url) if form or url else None,
        sampling=SamplingCapability(tools=SamplingToolsCapability() if tools else None) if SAMPLE in asks else None,
        roots=RootsCapability() if ROOTS in asks else None,
    )


def lacking(waiting: Mapping[str, Any], declared: ClientCapabilities | None) -> ClientCapabilities | None:
    """What of that the client has not declared; None where nothing is in the way. A bare `elicitation: {}` means forms."""
    need, kinds = needed(waiting), answerable(declared)
    sampling = declared.sampling if declared is not None else None
    elicitation = None
    if need.elicitation is not None:
        form = need.elicitation.form if INPUT not in kinds else None
        url = need.elicitation.url if VISIT not in kinds else None
        elicitation = ElicitationCapability(form=form, url=url) if form or url else None
    no_tools = need.sampling is not None and need.sampling.tools is not None and (sampling is None or sampling.tools is None)
    missing = ClientCapabilities(
        elicitation=elicitation,
        sampling=need.sampling if need.sampling is not None and (SAMPLE not in kinds or no_tools) else None,
        roots=need.roots if ROOTS not in kinds else None,
    )
    return missing if missing.elicitation or missing.sampling or missing.roots else None


def answerable(declared: ClientCapabilities | None) -> frozenset[str]:
    """Which kinds of questions a client with these capabilities answers."""
    kinds: set[str] = set()
    if declared is not None and declared.elicitation is not None:
        if declared.elicitation.form is not None or declared.elicitation.url is None:
            kinds.add(INPUT)
        if declared.elicitation.url is not None:
            kinds.add(VISIT)
    if declared is not None and declared.sampling is not None:
        kinds.add(SAMPLE)
    if declared is not None and declared.roots is not None:
        kinds.add(ROOTS)
    return frozenset(kinds)


def answer_of(waiting: Mapping[str, Any], responses: Mapping[str, Any]) -> Answer | Refusal:
    """What a client's responses mean for the run. Responses to what was not asked are ignored.

    Args:
        waiting: what the run waits for.
        responses: by the names of the questions: models of the SDK, or the same as JSON data.

    Raises:
        MissingResponse: something has no response yet.
        ContractViolation: a response of the wrong kind, or with content that was not asked for.
    """
    asked = questions_of(waiting)
    missing = [name for name in asked if name not in responses]
    if missing:
        raise MissingResponse(missing)
    said = {name: _plain(name, responses[name]) for name in asked}
    refused = {
        name: str(response.get("action"))
        for name, response in said.items()
        if asked[name]["asks"] in {INPUT, VISIT} and response.get("action") in {"decline", "cancel"}
    }
    if refused:
        return Refusal(refused)
    return Answer(together(waiting, {name: _value(name, asked[name], response) for name, response in said.items()}))


# --- inside -----------------------------------------------------------------------------------------------------------


def _request(question: Mapping[str, Any], elicitation_id: str, fault: str | None) -> InputRequest:
    asks, prompt = question["asks"], question["prompt"]
    if asks == ROOTS:
        return ListRootsRequest()
    if asks == SAMPLE:
        try:
            return CreateMessageRequest(params=CreateMessageRequestParams.model_validate(question["params"], by_name=True))
        except ValidationError as error:
            faults = "; ".join(f"{fault['path']}: {fault['message']}" for fault in faults_of(error)[:5])
            raise CallerCannotAnswer(prompt, f"The messages are none that a client's model takes: {faults}.") from None
    if asks == VISIT:
        return ElicitRequest(
            params=ElicitRequestURLParams(message=prompt, url=question["params"]["url"], elicitation_id=elicitation_id)
        )
    form = _form(question)
    message = prompt if fault is None else f"{prompt}\n(The last answer was not valid: {fault})"
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=form.schema))


def _form(question: Mapping[str, Any]) -> Form:
    try:
        return form_of(question.get("schema"))
    except ValueError as error:
        raise CallerCannotAnswer(question["prompt"], f"The answer does not fit into a form of an MCP client: {error}.") from None


def _plain(name: str, response: Any) -> dict[str, Any]:
    if isinstance(response, BaseModel):
        return response.model_dump(by_alias=True, mode="json", exclude_none=True)
    if isinstance(response, dict):
        return cast("dict[str, Any]", response)
    raise _violation(name, "is no response: an object is expected")


def _value(name: str, question: Mapping[str, Any], response: dict[str, Any]) -> Any:
    asks = question["asks"]
    if asks in {SAMPLE, ROOTS}:
        members = ("role", "content", "model") if asks == SAMPLE else ("roots",)
        absent = [member for member in members if member not in response]
        if absent:
            raise _violation(name, f"lacks {' and '.join(absent)}")
        return {member: value for member, value in response.items() if member not in {"_meta", "resultType"}}
    if response.get("action") != ACCEPT:
        raise _violation(name, "is no answer to a question: it has no `action`")
    if asks == VISIT:
        return True
    content: Any = response.get("content") or {}
    if not isinstance(content, dict):
        raise _violation(name, "has no object as its content")
    return _form(question).value(cast("dict[str, Any]", content))


def _violation(name: str, message: str) -> ContractViolation:
    return ContractViolation("input", [{"path": f"/{name}", "message": f"The response {message}", "type": "response"}])
