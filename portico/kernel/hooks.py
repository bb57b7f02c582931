"""Hooks: an observer's context manager, made harmless. What it raises is logged and forgotten, and it can swallow nothing."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager, ExitStack

T = TypeVar("T")

logger = logging.getLogger("portico.kernel")


def enter(stack: ExitStack, hook: Callable[[T], AbstractContextManager[str | None] | None], about: T) -> str | None:
    """Enter what `hook(about)` returns, until the stack unwinds. Returns the `traceparent` that it yields, if any."""
    try:
        manager = hook(about)
        if manager is None:
            return None
        traceparent = manager.__enter__()
    except Exception:
        logger.exception("an observer failed: %r", hook)
        return None

    def leave(*raised: Any) -> None:
        try:
            manager.__exit__(*raised)
        except Exception:
            logger.exception("an observer failed: %r", hook)

    stack.push(leave)
    return traceparent
