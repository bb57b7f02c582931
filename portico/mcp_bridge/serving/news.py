"""News: what changed, told to every client that wants to know, in both protocol eras.

A client of the new era asks with `subscriptions/listen`, whose answer is a stream. One of the old era hears of changed lists in its
session (over HTTP on its GET stream), and of the resources that it subscribed to. News only says that something is another now:
whoever has not taken it yet is told once, however often it happened. Above: whatever changes. Below: the SDK's sessions.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import (
    SUBSCRIPTION_ID_META_KEY,
    PromptsListChanged,
    ResourcesListChanged,
    ResourceUpdated,
    ServerEvent,
    ToolsListChanged,
    event_matches,
    event_to_notification,
)
from mcp.types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    SubscriptionFilter,
    SubscriptionsAcknowledgedNotification,
    SubscriptionsAcknowledgedNotificationParams,
    SubscriptionsListenResult,
)

from portico.mcp_bridge.serving.caller import connection_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from mcp.server.context import ServerRequestContext
    from mcp.server.session import ServerSession
    from mcp.types import NotificationParams, SubscriptionsListenRequestParams

    from portico.kernel.router import Router

MAX_STREAMS: Final = 1000
"""Streams of `subscriptions/listen` at once."""
MAX_RESOURCES: Final = 1000
"""Resources that one client may subscribe to."""

_KEY: Final = "portico.news"
"""Under which a connection of the old era keeps its audience."""


class News:
    """Tells clients what changed. To be called on the event loop of the runtime.

    Args:
        router: of the runtime, in whose tasks the clients of the old era are told.
    """

    def __init__(self, router: Router) -> None:
        self._router = router
        self._streams: set[_Audience] = set()
        self._sessions: set[_Session] = set()
        self._closed = False

    # --- what changed -------------------------------------------------------------------------------------------------

    def tools_changed(self) -> None:
        """The list of tools is another."""
        self._tell(ToolsListChanged())

    def prompts_changed(self) -> None:
        """The list of prompts is another."""
        self._tell(PromptsListChanged())

    def resources_changed(self) -> None:
        """The list of resources, or that of their templates, is another."""
        self._tell(ResourcesListChanged())

    def resource_updated(self, uri: str) -> None:
        """A resource reads otherwise now. Only who subscribed to exactly this URI is told."""
        self._tell(ResourceUpdated(uri))

    def is_wanted(self, uri: str) -> bool:
        """Whether anybody subscribed to the resource."""
        event = ResourceUpdated(uri)
        return any(audience.wants(event) for audience in (*self._streams, *self._sessions))

    def _tell(self, event: ServerEvent) -> None:
        for stream in self._streams:
            stream.tell(event)
        for session in self._sessions:
            if session.tell(event) and not session.being_told and self._router.tasks is not None:
                session.being_told = True
                self._router.start_task(session.deliver(), "mcp news")

    @property
    def sessions(self) -> int:
        """How many sessions of the old era are told."""
        return len(self._sessions)

    # --- who listens --------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Serve listeners (again)."""
        self._closed = False

    def close(self) -> None:
        """End every stream of the new era, each with its result, and open no other."""
        self._closed = True
        for stream in self._streams:
            stream.close()

    async def on_listen(
        self, context: ServerRequestContext[Any], params: SubscriptionsListenRequestParams
    ) -> SubscriptionsListenResult:
        """`subscriptions/listen`: acknowledges what it will tell, then tells it until the client leaves or the gateway drains."""
        if context.request_id is None:
            raise MCPError(INVALID_REQUEST, "subscriptions/listen needs a request id.")
        if len(self._streams) >= MAX_STREAMS:
            raise MCPError(INTERNAL_ERROR, "Too many clients listen already. Try again later.")
        wanted = _honoured(params.notifications)
        uris = frozenset(wanted.resource_subscriptions or ())
        _refuse_too_many(len(uris))
        meta: dict[str, Any] = {SUBSCRIPTION_ID_META_KEY: context.request_id}
        acknowledged = SubscriptionsAcknowledgedNotificationParams(notifications=wanted, _meta=meta)
        stream = _Audience(lambda event: event_matches(wanted, uris, event))
        self._streams.add(stream)  # before it is acknowledged: nothing that happens meanwhile is lost
        try:
            if self._closed:
                stream.close()
            await context.session.send_notification(
                SubscriptionsAcknowledgedNotification(params=acknowledged), related_request_id=context.request_id
            )
            while (event := await stream.next()) is not None:
                await context.session.send_notification(event_to_notification(event, meta), related_request_id=context.request_id)
        finally:
            self._streams.discard(stream)
        return SubscriptionsListenResult(_meta=meta)

    async def on_initialized(self, context: ServerRequestContext[Any], params: NotificationParams) -> None:
        """`notifications/initialized`: from now on the session is told."""
        del params
        self._session(context)

    def subscribe(self, context: ServerRequestContext[Any], uri: str) -> None:
        """Tell a session of the old era of this resource. Raises `MCPError` where it subscribed to too many."""
        uris = self._session(context).uris
        _refuse_too_many(len(uris | {uri}))
        uris.add(uri)

    def unsubscribe(self, context: ServerRequestContext[Any], uri: str) -> None:
        """Tell it no more. Harmless where it did not subscribe."""
        self._session(context).uris.discard(uri)

    def _session(self, context: ServerRequestContext[Any]) -> _Session:
        connection = connection_of(context)
        session: _Session | None = connection.state.get(_KEY)
        if session is None:
            session = connection.state[_KEY] = _Session(context.session)
            self._sessions.add(session)
            connection.exit_stack.callback(self._sessions.discard, session)
        return session


class _Audience:
    """One client that is told, and what it is to be told next."""

    def __init__(self, wants: Callable[[ServerEvent], bool]) -> None:
        self.wants = wants
        self._pending: dict[ServerEvent, None] = {}
        self._closed = False
        self._changed = asyncio.Event()

    def tell(self, event: ServerEvent) -> bool:
        """Note it, where it is wanted. Returns whether it is."""
        wanted = self.wants(event)
        if wanted:
            self._pending[event] = None
            self._changed.set()
        return wanted

    def take(self) -> ServerEvent | None:
        """The oldest that is not told; None where there is none."""
        event = next(iter(self._pending), None)
        if event is not None:
            del self._pending[event]
        return event

    async def next(self) -> ServerEvent | None:
        """The same, but it waits for one. None when it is closed."""
        while (event := self.take()) is None and not self._closed:
            self._changed.clear()
            await self._changed.wait()
        return event

    def close(self) -> None:
        """What is noted is still told, and nothing after that."""
        self._closed = True
        self._changed.set()


class _Session(_Audience):
    """A session of the old era."""

    def __init__(self, session: ServerSession) -> None:
        super().__init__(self._is_subscribed)
        self.uris: set[str] = set()
        self.being_told = False
        self._session = session

    def _is_subscribed(self, event: ServerEvent) -> bool:
        return not isinstance(event, ResourceUpdated) or event.uri in self.uris

    async def deliver(self) -> None:
        """Tell all that is noted. A client that does not read holds up nobody else."""
        try:
            while (event := self.take()) is not None:
                await self._send(event)
        finally:
            self.being_told = False

    async def _send(self, event: ServerEvent) -> None:
        match event:
            case ToolsListChanged():
                await self._session.send_tool_list_changed()
            case PromptsListChanged():
                await self._session.send_prompt_list_changed()
            case ResourcesListChanged():
                await self._session.send_resource_list_changed()
            case ResourceUpdated(uri):
                await self._session.send_resource_updated(uri)


def _honoured(asked: SubscriptionFilter) -> SubscriptionFilter:
    """What was asked for, without what says nothing."""
    return SubscriptionFilter(
        tools_list_changed=asked.tools_list_changed or None,
        prompts_list_changed=asked.prompts_list_changed or None,
        resources_list_changed=asked.resources_list_changed or None,
        resource_subscriptions=asked.resource_subscriptions or None,
    )


def _refuse_too_many(uris: int) -> None:
    if uris > MAX_RESOURCES:
        raise MCPError(INVALID_PARAMS, f"One client may subscribe to {MAX_RESOURCES} resources at most.")
