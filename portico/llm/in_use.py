"""InUse: which model speaks in this task, for what is called on its behalf: an external server may ask that very model.

Set around each conversation of an agent; empty where no model speaks. It holds nothing beyond the task.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

    from portico.kernel.protocols import ModelProvider

model_in_use: ContextVar[tuple[ModelProvider, str] | None] = ContextVar("portico_model_in_use", default=None)
"""The provider and the model of the conversation in hand; None outside any."""


@contextmanager
def using(provider: ModelProvider, model: str) -> Generator[None]:
    """That model speaks meanwhile."""
    token = model_in_use.set((provider, model))
    try:
        yield
    finally:
        model_in_use.reset(token)
