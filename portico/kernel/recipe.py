"""Recipe: how an instance was made, so that a restart makes a fresh one and nothing poisoned survives.

Shared by all incarnations of one place in the tree: replacing the class here replaces it for every later life, also for one
that an ancestor's restart begins.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Recipe:
    """A class, what its constructor was given, and what was set afterwards."""

    kind: type[Any]
    """The class."""
    args: tuple[Any, ...]
    """The constructor's positional arguments."""
    kwargs: dict[str, Any]
    """The constructor's keyword arguments."""
    adjusted: dict[str, Any] = field(default_factory=dict[str, Any])
    """What `adjust` has set."""

    def make(self) -> Any:
        """A fresh instance. Raises whatever its constructor raises."""
        made = self.kind(*self.args, **self.kwargs)
        if self.adjusted:
            made.adjust(**self.adjusted)
        made.recipe = self
        return made

    def replace(self, first: str, value: Any) -> None:
        """Give the constructor another first argument from now on; `first` is its name, for where it was given as a keyword."""
        if self.args:
            self.args = (value, *self.args[1:])
        else:
            self.kwargs = {**self.kwargs, first: value}
