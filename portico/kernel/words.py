"""Words: reads one of a few words that an option can have. Upper case is accepted, the nearest right word is offered."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from portico.errors import ConfigurationError, did_you_mean, nearest

if TYPE_CHECKING:
    from enum import StrEnum

Word = TypeVar("Word", bound="StrEnum")


def word(kind: type[Word], value: str, what: str) -> Word:
    """The member of `kind` that `value` means. Raises `ConfigurationError`, whose sentence begins with `what`."""
    try:
        return kind(value.lower())
    except ValueError:
        names = [member.value for member in kind]
        hint = did_you_mean(nearest(value.lower(), names)) or f" Known: {', '.join(names)}."
        raise ConfigurationError(f"{what} {value!r} is unknown.{hint}") from None


def not_negative(owner: str, **values: float | None) -> None:
    """Raises `ConfigurationError` for the first value below zero."""
    for name, value in values.items():
        if value is not None and value < 0:
            raise ConfigurationError(f"{name} of {owner} is {value}: it cannot be negative.")
