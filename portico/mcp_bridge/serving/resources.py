"""Resources: `resources/list`, `resources/templates/list` and `resources/read`.

What agents declare with `@resource`, and what the gateway has of its own. Above: `server.py`. Below: `served_resource.py`, which
translates, `own_resources.py`, and `following.py`, which asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from mcp.types import (
    InputRequiredResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    ReadResourceResult,
    Resource,
    ResourceTemplate,
)

from portico.errors import UnknownResource
from portico.mcp_bridge.serving.caller import call_of, principal_of, scopes_of
from portico.mcp_bridge.serving.declared import Declared
from portico.mcp_bridge.serving.errors import refused
from portico.mcp_bridge.serving.following import outcome_of
from portico.mcp_bridge.serving.own_resources import TEMPLATES, OwnResources, is_own
from portico.mcp_bridge.serving.pages import cursor_of, hints, page_of
from portico.mcp_bridge.serving.served_resource import served_resource

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext
    from mcp.types import PaginatedRequestParams, ReadResourceRequestParams

    from portico.mcp_bridge.serving.served import Served
    from portico.mcp_bridge.serving.served_resource import Contents, ServedResource


class Found(NamedTuple):
    """What is read at an address."""

    resource: ServedResource
    payload: dict[str, Any]


class Resources:
    """The handlers of what can be read."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self.own = OwnResources(served.dispatcher)
        self.declared = Declared(served.dispatcher, lambda catalogue: catalogue.resources, served_resource)
        """What agents declare, by address."""

    async def on_list(self, context: ServerRequestContext[Any], params: PaginatedRequestParams | None) -> ListResourcesResult:
        """`resources/list`: what this caller may read and has an address without variables, in the order of addresses."""
        visible = self.declared.visible_to(scopes_of(context)).items()
        listed = {uri: one.listed for uri, one in visible if isinstance(one.listed, Resource)} | self.own.listed()
        page, following = page_of(dict(sorted(listed.items())), cursor_of(params), self._served.options.page_size)
        return ListResourcesResult(resources=page, next_cursor=following, **hints(context))

    async def on_list_templates(
        self, context: ServerRequestContext[Any], params: PaginatedRequestParams | None
    ) -> ListResourceTemplatesResult:
        """`resources/templates/list`: what has variables."""
        visible = self.declared.visible_to(scopes_of(context)).items()
        listed = {uri: one.listed for uri, one in visible if isinstance(one.listed, ResourceTemplate)} | TEMPLATES
        page, following = page_of(dict(sorted(listed.items())), cursor_of(params), self._served.options.page_size)
        return ListResourceTemplatesResult(resource_templates=page, next_cursor=following, **hints(context))

    async def on_read(
        self, context: ServerRequestContext[Any], params: ReadResourceRequestParams
    ) -> ReadResourceResult | InputRequiredResult:
        """`resources/read`. What an agent declares is asked of it, as any other call. It may ask its client something first."""
        with refused(context, f"the reading of {params.uri!r}"):
            read = await self._read(params.uri, context, params)
        return read if isinstance(read, InputRequiredResult) else ReadResourceResult(contents=[read])

    def find(self, uri: str, context: ServerRequestContext[Any]) -> Found | None:
        """What an agent declares at an address; None where nobody does, or not for this caller. An address as it is comes first."""
        visible = self.declared.visible_to(scopes_of(context))
        exact = visible.get(uri)
        for resource in visible.values() if exact is None else (exact, *visible.values()):
            payload = resource.payload(uri)
            if payload is not None:
                return Found(resource, payload)
        return None

    async def _read(
        self, uri: str, context: ServerRequestContext[Any], params: ReadResourceRequestParams
    ) -> Contents | InputRequiredResult:
        if is_own(uri):
            return await self.own.read(uri, principal_of(context))
        found = self.find(uri, context)
        if found is None:
            raise UnknownResource(uri)
        resource, payload = found
        call = call_of(resource.endpoint, payload, context, timeout=self._served.options.run_timeout)
        reply = await outcome_of(self._served, call, context, params)
        return reply if isinstance(reply, InputRequiredResult) else resource.contents(uri, reply)
