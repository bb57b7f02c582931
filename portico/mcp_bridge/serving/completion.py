"""Completion: `completion/complete`: what a half-written argument of a prompt, or variable of an address, could become.

What its type enumerates, its examples, the names of agents, the caller's runs, or what an operation of the agent says
(`complete=`). Above: `server.py`. Below: `prompts.py` and `resources.py`, which know what there is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from mcp.types import CompleteResult, Completion, PromptReference

from portico.errors import CallerCannotAnswer, UnknownResource
from portico.mcp_bridge.serving.caller import call_of, principal_of, scopes_of
from portico.mcp_bridge.serving.errors import refused
from portico.mcp_bridge.serving.own_resources import TEMPLATES
from portico.runs.store import RunQuery

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mcp.server.context import ServerRequestContext
    from mcp.types import CompleteRequestParams

    from portico.mcp_bridge.serving.prompts import Prompts
    from portico.mcp_bridge.serving.resources import Resources
    from portico.mcp_bridge.serving.served import Served
    from portico.operations.catalogue import Endpoint
    from portico.runs.run import Run

MOST_VALUES: Final = 100
"""How many values one answer may have (MCP, utilities/completion)."""
RUNS_LOOKED_AT: Final = 500
"""How many of the caller's newest runs are looked at for one that begins so."""


class Completions:
    """The handler of completions."""

    def __init__(self, served: Served, prompts: Prompts, resources: Resources) -> None:
        self._served = served
        self._prompts = prompts
        self._resources = resources

    async def on_complete(self, context: ServerRequestContext[Any], params: CompleteRequestParams) -> CompleteResult:
        """`completion/complete`. An argument of which nothing is known has no values."""
        with refused(context, "a completion"):
            values = list(dict.fromkeys(await self._values(context, params)))
        return CompleteResult(
            completion=Completion(values=values[:MOST_VALUES], total=len(values), has_more=len(values) > MOST_VALUES)
        )

    async def _values(self, context: ServerRequestContext[Any], params: CompleteRequestParams) -> Sequence[str]:
        name, begun = params.argument.name, params.argument.value
        others = (params.context.arguments if params.context is not None else None) or {}
        if isinstance(params.ref, PromptReference):
            prompt = self._prompts.find(params.ref.name, context)
            return await self._of_member(context, prompt.endpoint, name, begun, others)
        uri = params.ref.uri
        if uri in TEMPLATES:
            return await self._own(context, name, begun)
        resource = self._resources.declared.visible_to(scopes_of(context)).get(uri)
        if resource is None:
            raise UnknownResource(uri)
        return await self._of_member(context, resource.endpoint, name, begun, others)

    async def _own(self, context: ServerRequestContext[Any], name: str, begun: str) -> Sequence[str]:
        dispatcher = self._served.dispatcher
        if name == "name":
            return _beginning(begun, sorted(dispatcher.catalogue.agents))
        if name == "run_id":
            runs = await dispatcher.book.page(RunQuery(principal=principal_of(context), limit=RUNS_LOOKED_AT))
            return _beginning(begun, [run.run_id for run in runs])
        return ()

    async def _of_member(
        self,
        context: ServerRequestContext[Any],
        endpoint: Endpoint,
        name: str,
        begun: str,
        others: Mapping[str, str],
    ) -> Sequence[str]:
        completer = endpoint.operation.completed_by.get(name)
        if completer is None:
            return _beginning(begun, endpoint.operation.members.suggestions(name))
        dispatcher = self._served.dispatcher
        by = dispatcher.catalogue.find(endpoint.agent, completer)
        members = by.operation.members
        known = {other: members.read(other, text) for other, text in others.items() if other in members.about}
        payload = {**known, "value": begun}
        call = call_of(by, payload, context, timeout=self._served.options.run_timeout)
        call.on_wait = _refuse_to_wait
        reply = await dispatcher.ask(call)
        said: Any = reply.payload
        return [str(value) for value in cast("list[Any]", said)] if isinstance(said, list) else ()


def _refuse_to_wait(run: Run) -> None:
    """The protocol lets nobody be asked while something is completed."""
    if run.delivery is not None and run.waiting is not None:
        run.delivery.fail(CallerCannotAnswer(run.waiting["prompt"], "What completes an argument can ask nobody."))


def _beginning(begun: str, values: Sequence[str]) -> list[str]:
    """Those that begin so, in whatever case."""
    return [value for value in values if value.lower().startswith(begun.lower())]
