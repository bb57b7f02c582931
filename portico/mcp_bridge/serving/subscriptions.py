"""Subscriptions: `resources/subscribe`, `resources/unsubscribe` (old era) and `subscriptions/listen` (new era).

Nobody subscribes to what he may not read. What a client subscribed to is forgotten with its session, or its stream. Above:
`server.py`. Below: `news.py`, which keeps who is told, and `watch.py`, which finds out what is new.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from mcp.types import EmptyResult

from portico.errors import UnknownAgent, UnknownResource, UnknownRun
from portico.mcp_bridge.serving.caller import connection_of, principal_of
from portico.mcp_bridge.serving.errors import refusal
from portico.mcp_bridge.serving.news import MAX_RESOURCES
from portico.mcp_bridge.serving.own_resources import is_own, place_of
from portico.mcp_bridge.serving.watch import Watch

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext
    from mcp.types import (
        SubscribeRequestParams,
        SubscriptionsListenRequestParams,
        SubscriptionsListenResult,
        UnsubscribeRequestParams,
    )

    from portico.mcp_bridge.serving.resources import Resources
    from portico.mcp_bridge.serving.served import Served
    from portico.runs.run import Run

_KEY: Final = "portico.watched"
"""Under which a connection of the old era keeps what is watched for it."""


class Subscriptions:
    """The handlers of what clients want to be told of."""

    def __init__(self, served: Served, resources: Resources) -> None:
        self._news = served.news
        self._resources = resources
        self.watch = Watch(served.dispatcher, served.news)

    async def on_subscribe(self, context: ServerRequestContext[Any], params: SubscribeRequestParams) -> EmptyResult:
        """`resources/subscribe`."""
        uri = params.uri
        try:
            run = await self._known(uri, context)
        except UnknownResource as error:
            raise refusal(error, context) from None
        self._news.subscribe(context, uri)
        watched = self._watched_for(context)
        if uri not in watched:
            watched.add(uri)
            self.watch.add(uri, run)
        return EmptyResult()

    async def on_unsubscribe(self, context: ServerRequestContext[Any], params: UnsubscribeRequestParams) -> EmptyResult:
        """`resources/unsubscribe`. Harmless where the session did not subscribe."""
        self._news.unsubscribe(context, params.uri)
        watched = self._watched_for(context)
        if params.uri in watched:
            watched.discard(params.uri)
            self.watch.drop([params.uri])
        return EmptyResult()

    async def on_listen(
        self, context: ServerRequestContext[Any], params: SubscriptionsListenRequestParams
    ) -> SubscriptionsListenResult:
        """`subscriptions/listen`: what is acknowledged is what the caller may read."""
        asked = list(dict.fromkeys(params.notifications.resource_subscriptions or ()))
        if len(asked) > MAX_RESOURCES:
            return await self._news.on_listen(context, params)  # which refuses it
        known: dict[str, Run | None] = {}
        for uri in asked:
            try:
                known[uri] = await self._known(uri, context)
            except UnknownResource:
                continue
        told = params.notifications.model_copy(update={"resource_subscriptions": list(known) or None})
        for uri, run in known.items():
            self.watch.add(uri, run)
        try:
            return await self._news.on_listen(context, params.model_copy(update={"notifications": told}))
        finally:
            self.watch.drop(known)

    def _watched_for(self, context: ServerRequestContext[Any]) -> set[str]:
        connection = connection_of(context)
        watched: set[str] | None = connection.state.get(_KEY)
        if watched is None:
            watched = connection.state[_KEY] = set[str]()
            connection.exit_stack.callback(self.watch.drop, watched)
        return watched

    async def _known(self, uri: str, context: ServerRequestContext[Any]) -> Run | None:
        """The run whose address it is, if it is one. Raises `UnknownResource` for what the caller cannot read, or is never news."""
        place = place_of(uri)
        if place is None:
            if is_own(uri) or self._resources.find(uri, context) is None:
                raise UnknownResource(uri)
            return None
        if place.kind == "runs":
            raise UnknownResource(uri, "that would be another with every call: subscribe to a run.")
        try:
            await self._resources.own.check(place, principal_of(context))
            return await self._resources.own.run_at(place, principal_of(context))
        except (UnknownAgent, UnknownRun) as error:
            raise UnknownResource(uri, error.detail) from None
