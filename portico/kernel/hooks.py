"""Hooks: an observer's context manager, made harmless. What it raises is logged and forgotten, and it can swallow nothing."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager, ExitStack
    from types import TracebackType

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

    stack.push(_Harmless(manager, hook))
    return traceparent


class _Harmless:
    """Leaves what was entered. An object and no function: a stack takes those up faster, and this is on the way of every call."""

    __slots__ = ("_hook", "_manager")

    def __init__(self, manager: AbstractContextManager[Any], hook: Any) -> None:
        self._manager = manager
        self._hook = hook

    def __enter__(self) -> None:
        """It was entered already."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self._manager.__exit__(kind, error, trace)
        except Exception:
            logger.exception("an observer failed: %r", self._hook)
