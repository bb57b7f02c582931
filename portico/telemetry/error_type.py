"""ErrorType: what `error.type` is, on a span and in a metric alike: the slug of the problem, or the class of a foreign exception.

Above: whoever makes spans, and the meters. It says nothing of what an exception says: that may hold anything.
"""

from __future__ import annotations

import asyncio

from portico.errors import Cancelled, PorticoError


def error_type_of(error: BaseException) -> str:
    """The word for one error. Who wanted no more of an answer has cancelled it."""
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        return Cancelled.slug
    return error.slug if isinstance(error, PorticoError) else type(error).__qualname__
