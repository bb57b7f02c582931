"""Words: reads one of a few words that an option can have. Upper case is accepted, the nearest right word is offered."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from portico.errors import SettingOutOfRange, UnknownWord

if TYPE_CHECKING:
    from enum import StrEnum

Word = TypeVar("Word", bound="StrEnum")


def word(kind: type[Word], value: str, what: str) -> Word:
    """The member of `kind` that `value` means. Raises `UnknownWord`, whose sentence begins with `what`."""
    try:
        return kind(value.lower())
    except ValueError:
        raise UnknownWord(what, value, [member.value for member in kind]) from None


def not_negative(owner: str, **values: float | None) -> None:
    """Raises `SettingOutOfRange` for the first value below zero."""
    at_least(0, owner, **values)


def at_least(least: float, owner: str, **values: float | None) -> None:
    """Raises `SettingOutOfRange` for the first value below `least`, and for one that is no number at all (NaN)."""
    for name, value in values.items():
        if value is not None and not value >= least:
            raise SettingOutOfRange(owner, name, value, least)
