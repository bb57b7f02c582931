"""ServerRequests: what an external server asks back during a call: people, by the run that calls; the agent's model, where allowed.

A server's words are a stranger's: people are shown whose they are, and a model is told. Whatever cannot be served, or belongs to no
run for certain, is declined, and the server goes on without. Above: the client of either era, which answers with what comes of it.
"""

from __future__ import annotations

import logging
import unicodedata
from typing import TYPE_CHECKING, Any, Final, cast

from mcp.types import ElicitRequestFormParams, ElicitResult, ErrorData

from portico.errors import InputDeclined, InputTimeout, InvalidOperation
from portico.kernel.questions import Question
from portico.mcp_bridge.calling.admission import schema_fault
from portico.mcp_bridge.calling.sampling import Sampling

if TYPE_CHECKING:
    from mcp.client.session import ClientRequestContext
    from mcp.types import CreateMessageRequestParams, CreateMessageResult, ElicitRequestParams

    from portico.kernel.protocols import Journal
    from portico.mcp_bridge.calling.call_in_hand import CallInHand, CallsInHand
    from portico.mcp_bridge.config import MCPServerConfig

MOST_ASKED: Final = 16
"""How often a server may ask people during one call."""
LONGEST_MESSAGE: Final = 4000
"""Characters of what it asks."""
MOST_FIELDS: Final = 500
"""Fields of a form, with the options that they have."""
_OF_A_FORM: Final = ("$schema", "type", "title", "description", "required")
_OF_A_FIELD: Final = (
    *("type", "title", "description", "default", "format", "writeOnly", "enum", "enumNames", "const", "minLength", "maxLength"),
    *("minimum", "maximum", "minItems", "maxItems"),
)
_OF_OPTIONS: Final = ("oneOf", "anyOf")


class ServerRequests:
    """Answers what one server asks.

    Args:
        config: the server's settings: what is served at all.
        calls: those that are under way.
    """

    def __init__(self, config: MCPServerConfig, calls: CallsInHand) -> None:
        self._config = config
        self._calls = calls
        self._log = logging.getLogger(f"portico.mcp.{config.name}")
        self._sampling = Sampling(config)

    def callbacks(self) -> dict[str, Any]:
        """What a client is given: one for each capability that is served, so that no other is declared. Roots are not."""
        served: dict[str, Any] = {}
        if self._config.elicitation:
            served["elicitation_callback"] = self.elicit
        if self._config.sampling:
            served["sampling_callback"] = self.sample
        return served

    async def elicit(self, context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult | ErrorData:
        """Ask people: the run waits for input until somebody answers. `null` declines."""
        del context
        call = self._calls.whose()
        if call is None:
            return self._declined("it belongs to no call for certain")
        call.asked += 1
        if call.asked > MOST_ASKED:
            return self._declined(f"{call.tool} asked more than {MOST_ASKED} times")
        if call.delivery is None or call.delivery.journal is None:
            return self._declined(f"{call.tool} was called outside a run, so nobody could answer")
        return await self._ask(call, call.delivery.journal, params)

    async def _ask(self, call: CallInHand, journal: Journal, params: ElicitRequestParams) -> ElicitResult:
        asked = self._question(call, params)
        if asked is None:
            return self._declined(f"{call.tool} asked for an answer that cannot be described")
        if journal.answerable is not None and asked.asks not in journal.answerable:
            return self._declined(f"{call.tool} asked people, and the caller's program cannot ask them")
        try:
            with call.served():
                return _result(await journal.wait_here(asked, timeout=self._config.input_timeout))
        except InputTimeout:
            return ElicitResult(action="cancel")
        except InputDeclined as error:
            dismissed = "cancel" in error.extra["actions"].values()
            return ElicitResult(action="cancel" if dismissed else "decline")
        except InvalidOperation as error:
            return self._declined(error.detail)

    async def sample(self, context: ClientRequestContext, params: CreateMessageRequestParams) -> CreateMessageResult | ErrorData:
        """Ask the agent's model."""
        del context
        call = self._calls.whose()
        if call is None:
            self._declined("it wants a model, and belongs to no call for certain")
            return ErrorData(code=-1, message="Sampling was declined.")
        with call.served():
            return await self._sampling.answer(call, params)

    def _question(self, call: CallInHand, params: ElicitRequestParams) -> Question | None:
        """What people are asked, with whose words it is; None where the answer cannot be described."""
        whose = f"The MCP server {self._config.name!r} asks (its tool {call.tool!r}; its words are not checked):"
        message = _shown(params.message)
        if isinstance(params, ElicitRequestFormParams):
            schema = params.requested_schema
            form = _form(schema) if schema_fault(schema) is None and schema.get("type") == "object" else None
            return None if form is None else Question.input(f"{whose} {message} [null declines]", form)
        return Question.visit(params.url, f"{whose} {message} It wants you to open {_shown(params.url)} [null declines]")

    def _declined(self, why: str) -> ElicitResult:
        self._log.warning("a request of the server is declined: %s", why)
        return ElicitResult(action="decline")


def _result(answer: Any) -> ElicitResult:
    """What was answered, in the protocol's words (2025-11-25, client/elicitation)."""
    if answer is True:
        return ElicitResult(action="accept")
    if isinstance(answer, dict):
        return ElicitResult(action="accept", content=cast("dict[str, Any]", answer))
    return ElicitResult(action="decline")


def _form(schema: dict[str, Any]) -> dict[str, Any] | None:
    """What the protocol has for forms, a flat object: an answer is held against nothing that could take for ever. None: too large.

    What else a server says of a field, such as a pattern, it sees to by itself.
    """
    listed: Any = schema.get("properties", {})
    if not isinstance(listed, dict):
        return None
    fields = cast("dict[str, Any]", listed)
    if sum(map(_size, fields.values())) > MOST_FIELDS:
        return None
    form = {key: schema[key] for key in _OF_A_FORM if key in schema}
    return {**form, "properties": {name: _field(field) for name, field in fields.items()}}


def _size(field: Any) -> int:
    options = [*_options(field).values(), *_options(_items(field)).values()]
    return 1 + sum(map(len, options))


def _field(field: Any) -> dict[str, Any]:
    return {**_plain(field), **_plain_options(field), **_plain_items(field)}


def _plain_items(field: Any) -> dict[str, Any]:
    items = _items(field)
    return {} if items is None else {"items": {**_plain(items), **_plain_options(items)}}


def _plain_options(field: Any) -> dict[str, Any]:
    return {key: [_plain(one) for one in options] for key, options in _options(field).items()}


def _plain(said: Any) -> dict[str, Any]:
    return {key: said[key] for key in _OF_A_FIELD if key in said} if isinstance(said, dict) else {}


def _items(field: Any) -> Any:
    return cast("dict[str, Any]", field).get("items") if isinstance(field, dict) else None


def _options(field: Any) -> dict[str, list[Any]]:
    said = cast("dict[str, Any]", field) if isinstance(field, dict) else {}
    return {key: said[key] for key in _OF_OPTIONS if isinstance(said.get(key), list)}


def _shown(text: str) -> str:
    """A stranger's words without what could hide something: no controls, no marks of direction."""
    plain = "".join(sign if sign == "\n" or unicodedata.category(sign) not in {"Cc", "Cf"} else " " for sign in text)
    return plain if len(plain) <= LONGEST_MESSAGE else f"{plain[:LONGEST_MESSAGE]} [cut]"
