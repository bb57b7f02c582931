"""Interceptor: `async (call, next)` around a call, once it is let in: what a cache, a guardrail, an audit or a retry is made of.

Around a plain ask, until its reply; around what is stored (a send, a keyed ask, `POST /runs`), until it is accepted. It may change
the payload (`call.put`), refuse by raising an error of the family, or answer an ask itself without calling `next`. The call that
it hands on is the one that it was given.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from portico.runs.call import Call

Next: TypeAlias = "Callable[[Call], Awaitable[Any]]"
"""What is further in: for a plain ask it gives the reply, a `Message`; for what is stored, its `Run`."""


class Interceptor(Protocol):
    """What stands around calls. A function will do."""

    async def __call__(self, call: Call, next: Next, /) -> Any:  # noqa: A002  # the word of the field
        """What `await next(call)` gave; for a plain ask also another reply, a `Message` or a payload. Its errors are the call's."""
        ...


def wrapped(interceptors: Sequence[Interceptor], innermost: Next) -> Next:
    """What the outermost of these leads to; `innermost` where there are none."""
    for interceptor in reversed(interceptors):
        innermost = partial(_through, interceptor, innermost)
    return innermost


def _through(interceptor: Interceptor, further: Next, call: Call) -> Awaitable[Any]:
    return interceptor(call, further)
