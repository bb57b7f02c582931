"""Redaction: a text without what must not be written down: credentials that it is told of, and whatever looks like one.

Above: the formatters of log lines. It rather takes away too much than too little, and keeps what helps to find a key again: its
public id, the user of an address.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import quote

from portico.kernel.current import current

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from portico.kernel.delivery import Delivery
    from portico.kernel.router import Router
    from portico.operations.contract import Contract

MASK: Final = "***"
"""What stands in place of a secret."""
SHORTEST: Final = 4
"""Characters that a secret has which is looked for as it is: a shorter one would be found in every word."""
SECRET_NAME: Final = re.compile(
    r"(?i)(?:pass(?:word|wd|phrase)?|pwd|secrets?|tokens?|api[-_]?keys?|private[-_]?keys?|credentials?|authorization|cookie)$"
)
"""How names end whose values are secrets: of environment variables, and of keys in settings."""

_NAMES: Final = (
    r"(?<![\w.-])[\w.-]*(?:authorization|cookie|passw(?:or)?d|passphrase|pwd|secret|token|api[-_]?key|private[-_]?key|credentials?)"
)
"""How names end before a value that is a secret. It only begins where a word does: else a long text would be gone through again
and again."""
_PATTERNS: Final = (
    # a PEM block
    (r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", MASK),
    # a header as a pair of bytes or texts, as ASGI has it
    (rf"(?P<pair>{_NAMES}['\"]\s*,\s*b?(?P<mark>['\"]))(?:(?!(?P=mark)).)*", rf"\g<pair>{MASK}"),
    # name: "value", name=value, "name": "value", Authorization: Scheme value
    (rf"(?P<named>{_NAMES}\\?['\"]?\s*[:=]\s*)b?(?P<quote>\\?['\"])(?:(?!(?P=quote)).)*", rf"\g<named>\g<quote>{MASK}"),
    (rf"(?P<bare>{_NAMES}\\?['\"]?\s*[:=]\s*)(?:(?:bearer|basic|digest|token)\s+)?[^\s'\"]+", rf"\g<bare>{MASK}"),
    # a credential in its usual place
    (r"(?P<bearer>\bbearer\s+)[^\s'\"]+", rf"\g<bearer>{MASK}"),
    (r"(?P<user>://[^/\s:@'\"]*:)[^/\s'\"]*@", rf"\g<user>{MASK}@"),
    # what is recognised by its form
    (r"(?P<own>portico(?:_|\.bearer\.portico_)[0-9a-f]{12}_)[\w-]+", rf"\g<own>{MASK}"),
    (r"(?P<bearer_protocol>portico\.bearer\.)[^\s,'\"]+", rf"\g<bearer_protocol>{MASK}"),
    (
        r"(?P<form>\b(?:sk|pk|rk)[-_]|\bwhsec_|\bgh[a-z]_|\bgithub_pat_|\bglpat-|\bxox[a-z]-|\bAKIA|\bAIza|\bhf_)[\w+/=-]{8,}",
        rf"\g<form>{MASK}",
    ),
    (r"(?<![\w-])eyJ[\w-]{5,}\.[\w-]+\.[\w-]*", MASK),
)
"""Each with what takes its place."""


class Redaction:
    """Call it with a text. `secrets`: credentials that are known, as they are."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._patterns = [(re.compile(pattern, re.IGNORECASE | re.DOTALL), to) for pattern, to in _PATTERNS]
        known = spellings(secrets)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None

    def __call__(self, text: str, more: Iterable[str] = ()) -> str:
        """The text without secrets. `more`: others that are known for this text alone."""
        if self._known is not None:
            text = self._known.sub(MASK, text)
        for secret in spellings(more):
            text = text.replace(secret, MASK)
        for pattern, to in self._patterns:
            text = pattern.sub(to, text)
        return text

    def plain(self, value: Any, more: Iterable[str] = ()) -> Any:
        """The same for plain data: every text in it. What is none of it becomes its text."""
        if isinstance(value, str):
            return self(value, more)
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, dict):
            pairs = cast("dict[Any, Any]", value).items()
            return {self(str(name), more): MASK if SECRET_NAME.search(str(name)) else self.plain(one, more) for name, one in pairs}
        if isinstance(value, list | tuple):
            return [self.plain(one, more) for one in cast("list[Any]", value)]
        return self(str(value), more)


def secrets_in(settings: Mapping[Any, Any]) -> Iterator[str]:
    """The values in settings, or in an environment, whose names say that they are secrets, however deep they are."""
    for name, value in settings.items():
        if isinstance(value, str) and SECRET_NAME.search(str(name)):
            yield value
        elif isinstance(value, dict):
            yield from secrets_in(cast("dict[Any, Any]", value))
        elif isinstance(value, list):
            yield from secrets_in(dict(enumerate(cast("list[Any]", value))))


def secrets_in_hand(router: Router | None = None) -> Iterator[str]:
    """The values of the secret fields of the message that is handled here and now. `router`: its runtime's, once it is not held."""
    delivery = current.get()
    if delivery is not None:
        yield from secrets_of(delivery, router)


def secrets_of(delivery: Delivery, router: Router | None = None) -> Iterator[str]:
    """The same of a message. `router`: its runtime's, once it is not held."""
    if delivery.holder is not None:
        router = delivery.holder.router
    if router is None:
        return
    message = delivery.message
    # Not asked whether it is an `Operation`: that loads pydantic, and a program that only logs need not.
    contract: Any = getattr(router.runtime.operations_of(message.recipient).get(message.type), "contract", None)
    if contract is not None:
        yield from secrets_by(contract, message.payload)


def secrets_by(contract: Contract, payload: Any) -> Iterator[str]:
    """What in a payload its contract calls secret."""
    shown, masked = contract.without_secrets(payload)
    if masked:
        yield from differences(payload, shown)


def differences(value: Any, shown: Any) -> Iterator[str]:
    """The texts in a value that stand no more in what is shown of it."""
    if value is shown:
        return
    if isinstance(value, dict) and isinstance(shown, dict):
        whole, rest = cast("dict[str, Any]", value), cast("dict[str, Any]", shown)
        for name, one in whole.items():
            yield from differences(one, rest.get(name))
    elif isinstance(value, list) and isinstance(shown, list):
        for one, other in zip(cast("list[Any]", value), cast("list[Any]", shown), strict=False):
            yield from differences(one, other)
    else:
        yield from _texts(value)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for one in cast("dict[str, Any]", value).values():
            yield from _texts(one)
    elif isinstance(value, list):
        for one in cast("list[Any]", value):
            yield from _texts(one)
    elif isinstance(value, str | int | float) and not isinstance(value, bool):
        yield str(value)


def spellings(secrets: Iterable[str]) -> list[str]:
    """Each secret as texts may have it: as it is, in JSON, in Python, in an address. The longest first."""
    found: set[str] = set()
    for secret in secrets:
        for line in (secret, *secret.splitlines()):
            one = line.strip()
            written = (one, json.dumps(one)[1:-1], repr(one)[1:-1], ascii(one)[1:-1], quote(one, safe=""), quote(one))
            found.update(spelling for spelling in written if len(spelling) >= SHORTEST)
    return sorted(found, key=len, reverse=True)
