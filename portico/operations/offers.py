"""Offers: what the decorators `resource` and `prompt` say of an operation: something to read at an address, or words for a model.

Above: decorators, which check and attach them; faces that serve them. Below: nothing. They know no protocol: an address is text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from portico.errors import InvalidOperation

if TYPE_CHECKING:
    from collections.abc import Mapping

OWN_SCHEME: Final = "portico:"
"""The scheme of what the gateway itself serves: no agent's address has it."""

_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_EXPRESSION: Final = re.compile(r"\{([+#./;?&]?)([A-Za-z][A-Za-z0-9_]*(?:,[A-Za-z][A-Za-z0-9_]*)*)\}")
_WHOLE_REST: Final = frozenset("+#")


@dataclass(frozen=True, slots=True)
class ResourceSpec:
    """That an operation is something to read. Where its address has variables, it is one thing for each value of them."""

    uri: str
    """The address: a URI, or a template of RFC 6570 whose variables are members of the request."""
    name: str
    """What it is called in lists."""
    title: str = ""
    """For people; empty for the operation's."""
    description: str = ""
    """For people and models; empty for the operation's."""
    mime_type: str | None = None
    """Of what is read; None to tell it by its type."""
    complete: Mapping[str, str] = field(default_factory=dict[str, str])
    """The operation that completes a variable, by the variable's name."""

    @property
    def variables(self) -> tuple[str, ...]:
        """The variables of the address."""
        return variables_of(self.uri)


@dataclass(frozen=True, slots=True)
class PromptSpec:
    """That an operation gives words for a model."""

    name: str
    """What it is called."""
    title: str = ""
    """For people; empty for the operation's."""
    description: str = ""
    """For people and models; empty for the operation's."""
    complete: Mapping[str, str] = field(default_factory=dict[str, str])
    """The operation that completes an argument, by the argument's name."""


def variables_of(template: str) -> tuple[str, ...]:
    """The variables of a template of RFC 6570, in order."""
    return tuple(name for match in _EXPRESSION.finditer(template) for name in match[2].split(","))


def checked_uri(uri: Any) -> str:
    """An address that can be served.

    RFC 6570 says how a template is filled in, not how it is read. Read can be what is unambiguous: no two variables side by side,
    one at most that takes slashes, no modifiers (`*`, `:3`).

    Raises:
        InvalidOperation: it is none.
    """
    if not isinstance(uri, str) or not _SCHEME.match(uri) or re.search(r"\s", uri):
        raise InvalidOperation(f"The address {uri!r} of a resource must be a URI with a scheme, such as 'notes://{{topic}}'.")
    if uri.lower().startswith(OWN_SCHEME):
        raise InvalidOperation(f"The address {uri!r} of a resource has the scheme of the gateway's own: choose another.")
    rest = _EXPRESSION.sub("", uri)
    if "{" in rest or "}" in rest:
        raise InvalidOperation(
            f"The address {uri!r} of a resource is no template that can be read: variables are names in braces, "
            "with one of + # . / ; ? & before them or none, and without modifiers."
        )
    names = variables_of(uri)
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        raise InvalidOperation(f"The address {uri!r} of a resource has the variable {double!r} twice.")
    if sum(match[1] in _WHOLE_REST for match in _EXPRESSION.finditer(uri) if match[1]) > 1 or re.search(r"\}\{[+A-Za-z]", uri):
        raise InvalidOperation(f"The address {uri!r} of a resource is ambiguous: nobody could say where one variable ends.")
    return uri
