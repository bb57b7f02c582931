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
from portico.kernel.current import current
from portico.kernel.questions import Question
from portico.mcp_bridge.calling.admission import schema_fault
from portico.mcp_bridge.calling.sampling import Sampling

if TYPE_CHECKING:
    from mcp.client.session import ClientRequestContext
    from mcp.types import CreateMessageRequestParams, CreateMessageResult, ElicitRequestParams

    from portico.kernel.delivery import Delivery
    from portico.kernel.protocols import Journal
    from portico.mcp_bridge.calling.call_in_hand import CallInHand, CallsInHand
    from portico.mcp_bridge.config import MCPServerConfig

MOST_ASKED: Final = 16
"""How often a server may ask people during one call."""
LONGEST_MESSAGE: Final = 4000
"""Characters of what it asks."""


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
        return await self._ask(call, call.delivery, call.delivery.journal, params)

    async def _ask(self, call: CallInHand, delivery: Delivery, journal: Journal, params: ElicitRequestParams) -> ElicitResult:
        asked = self._question(call, params)
        if asked is None:
            return self._declined(f"{call.tool} asked for an answer that cannot be described")
        if journal.answerable is not None and asked.asks not in journal.answerable:
            return self._declined(f"{call.tool} asked people, and the caller's program cannot ask them")
        token = current.set(delivery)  # over pipes it arrives in a task of the connection's own
        try:
            with call.paused():
                return _result(await journal.wait_here(asked, timeout=self._config.input_timeout))
        except InputTimeout:
            return ElicitResult(action="cancel")
        except InputDeclined as error:
            dismissed = "cancel" in error.extra["actions"].values()
            return ElicitResult(action="cancel" if dismissed else "decline")
        except InvalidOperation as error:
            return self._declined(error.detail)
        finally:
            current.reset(token)

    async def sample(self, context: ClientRequestContext, params: CreateMessageRequestParams) -> CreateMessageResult | ErrorData:
        """Ask the agent's model."""
        del context
        call = self._calls.whose()
        if call is None:
            self._declined("it wants a model, and belongs to no call for certain")
            return ErrorData(code=-1, message="Sampling was declined.")
        with call.paused():
            return await self._sampling.answer(call, params)

    def _question(self, call: CallInHand, params: ElicitRequestParams) -> Question | None:
        """What people are asked, with whose words it is; None where the answer cannot be described."""
        whose = f"The MCP server {self._config.name!r} asks (its tool {call.tool!r}; its words are not checked):"
        message = _shown(params.message)
        if isinstance(params, ElicitRequestFormParams):
            schema = params.requested_schema
            sound = schema_fault(schema) is None and schema.get("type") == "object"
            return Question.input(f"{whose} {message} [null declines]", schema) if sound else None
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


def _shown(text: str) -> str:
    """A stranger's words without what could hide something: no controls, no marks of direction."""
    plain = "".join(sign if sign == "\n" or unicodedata.category(sign) not in {"Cc", "Cf"} else " " for sign in text)
    return plain if len(plain) <= LONGEST_MESSAGE else f"{plain[:LONGEST_MESSAGE]} [cut]"
