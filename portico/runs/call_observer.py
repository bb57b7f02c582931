"""CallObserver: who sees every call on its way through the door. The port; `telemetry` implements it.

It does not decide: what may change or refuse a call is an `Interceptor`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from portico.runs.call import Call


class CallObserver(Protocol):
    """Sees calls."""

    def dispatching(self, call: Call) -> AbstractContextManager[str | None] | None:
        """Around one call. The context manager may yield the `traceparent` that its message then carries.

        None where nothing is to be done around it; the `traceparent` of the call may be set even so.
        """
        ...
