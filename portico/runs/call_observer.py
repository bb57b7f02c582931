"""CallObserver: who sees every call on its way through the door. The port; `telemetry` implements it.

It does not decide: what may change or refuse a call is an `Interceptor`. A face whose protocol has requests of its own inside, or
instead of, those of HTTP tells about each of them by an `Exchange`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from portico.runs.call import Call

EXCHANGE = "portico.exchange"
"""The ASGI scope key under which the `Exchange` of an HTTP request is; it is there where somebody wants to be told."""


class CallObserver(Protocol):
    """Sees calls. It may also have `exchanging(words)`: see `ExchangesObserved`."""

    def dispatching(self, call: Call) -> AbstractContextManager[str | None] | None:
        """Around one call. The context manager may yield the `traceparent` that its message then carries.

        None where nothing is to be done around it; the `traceparent` of the call may be set even so.
        """
        ...


class ExchangesObserved(Protocol):
    """What an observer of calls may have besides; it is asked for by name."""

    def exchanging(self, **words: Any) -> AbstractContextManager[Exchange]:
        """Around one request that comes over no HTTP; `words` as of `Exchange.tell`."""
        ...


class Exchange(Protocol):
    """One request of a face, for those who are told about it."""

    def tell(self, **words: Any) -> None:
        """What is known by now: `method`, `request_id`, `protocol_version`, `session_id`, `transport`.

        With these what it is about: `tool`, `prompt`, `resource`; and the trace that its sender names: `traceparent`,
        `tracestate`. In the end `error_code`, or `failed=True` for an answer that is
        an error of what was asked.
        """
        ...

    def within(self) -> AbstractContextManager[None]:
        """Around what answers it, where that runs in another task than the request came in."""
        ...
