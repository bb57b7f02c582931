"""Resources: `resources/list`, `resources/templates/list` and `resources/read`.

What agents declare with `@resource`, and what the gateway has of its own. Above: `server.py`. Below: `served_resource.py`, which
translates, `own_resources.py`, and `following.py`, which asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from mcp.types import InputRequiredResult, ListResourcesResult, ListResourceTemplatesResult, ReadResourceResult

from portico.errors import UnknownResource
from portico.mcp_bridge.serving.caller import call_of, principal_of, scopes_of
from portico.mcp_bridge.serving.errors import refused
from portico.mcp_bridge.serving.following import outcome_of
from portico.mcp_bridge.serving.own_resources import TEMPLATES, OwnResources, is_own
from portico.mcp_bridge.serving.pages import cursor_of, hints, page_of
from portico.mcp_bridge.serving.served_resource import ServedResource
from portico.runs.call import permits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mcp.server.context import ServerRequestContext
    from mcp.types import PaginatedRequestParams, ReadResourceRequestParams

    from portico.mcp_bridge.serving.served import Served
    from portico.mcp_bridge.serving.served_resource import Contents
    from portico.operations.catalogue import Catalogue


class Found(NamedTuple):
    """What is read at an address."""

    resource: ServedResource
    payload: dict[str, Any]


class Resources:
    """The handlers of what can be read."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self.own = OwnResources(served.dispatcher)
        self._made_from: Catalogue | None = None
        self._declared: dict[str, ServedResource] = {}

    @property
    def declared(self) -> Mapping[str, ServedResource]:
        """What agents declare, by address and in that order; made anew when the catalogue is another."""
        catalogue = self._served.dispatcher.catalogue
        if catalogue is not self._made_from:
            self._declared = {
                uri: ServedResource(endpoint, endpoint.operation.resource)
                for uri, endpoint in sorted(catalogue.resources.items())
                if endpoint.operation.resource is not None
            }
            self._made_from = catalogue
        return self._declared

    async def on_list(self, context: ServerRequestContext[Any], params: PaginatedRequestParams | None) -> ListResourcesResult:
        """`resources/list`: what this caller may read and has an address without variables."""
        listed = [*(one.listed for one in self._visible(context) if not one.is_template), *self.own.listed()]
        by_address = {one.uri: one for one in sorted(listed, key=lambda one: one.uri)}
        page, following = page_of(by_address, cursor_of(params), self._served.options.page_size)
        return ListResourcesResult(resources=page, next_cursor=following, **hints(context))

    async def on_list_templates(
        self, context: ServerRequestContext[Any], params: PaginatedRequestParams | None
    ) -> ListResourceTemplatesResult:
        """`resources/templates/list`: what has variables."""
        listed = [*(one.listed_template for one in self._visible(context) if one.is_template), *TEMPLATES]
        by_address = {one.uri_template: one for one in sorted(listed, key=lambda one: one.uri_template)}
        page, following = page_of(by_address, cursor_of(params), self._served.options.page_size)
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
        exact = self.declared.get(uri)
        candidates = [exact, *self.declared.values()] if exact is not None else self.declared.values()
        for resource in candidates:
            payload = resource.payload(uri)
            if payload is not None and permits(scopes_of(context), resource.endpoint.scopes):
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

    def _visible(self, context: ServerRequestContext[Any]) -> list[ServedResource]:
        held = scopes_of(context)
        return [one for one in self.declared.values() if permits(held, one.endpoint.scopes)]
