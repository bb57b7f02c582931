"""Secrets: where the secret values of a contract are, and a value without them, which may be written down.

`places_of` reads JSON Schemas (2020-12) once; `masked` follows only the ways that lead to a secret, and so costs nothing where
there is none. A union is taken for all its members at once: what may be secret is masked. Above: `contract.py`, which has the
schemas. Nothing here knows pydantic, or what a store is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MASK: Final = "**********"
"""What stands in place of a secret. The text that pydantic prints for one, so that a printed secret is no secret any more."""

ALTERNATIVES: Final = ("anyOf", "oneOf", "allOf")
"""Lists of schemas for the same value."""
CONDITIONS: Final = ("if", "then", "else")
"""Schemas for the same value."""
REST: Final = ("additionalProperties", "unevaluatedProperties")
"""Schemas of the members that `properties` does not name."""
ITEMS: Final = ("items", "contains", "unevaluatedItems")
"""Schemas of the items after those of `prefixItems`."""


@dataclass(slots=True, eq=False)
class Place:
    """A place in a JSON value, with a secret there or somewhere below. Places of recursive types lead to themselves."""

    secret: bool = False
    """Whether the value itself is secret, as a whole."""
    named: dict[str, Place | None] = field(default_factory=dict[str, "Place | None"])
    """Members by name; None where nothing below is secret."""
    rest: Place | None = None
    """Every other member."""
    first: tuple[Place | None, ...] = ()
    """The first items; None where nothing below is secret."""
    items: Place | None = None
    """Every item after them."""

    def ways(self) -> Iterator[Place]:
        """The places directly below."""
        ways = (*self.named.values(), self.rest, *self.first, self.items)
        return (place for place in ways if place is not None)


def masked(value: Any, where: Place | None) -> tuple[Any, bool]:
    """The value with a `MASK` for every secret, and whether there was any; the very same value where there was none.

    The value given is not changed. What has no secret below is shared with it and not copied. None is no secret, and neither is
    what is masked already.
    """
    if where is None:
        return value, False
    try:
        found = _without(value, where)
    except RecursionError:
        return MASK, True  # too deep to be looked at
    return found, found is not value


def _without(value: Any, where: Place) -> Any:
    if where.secret:
        return value if value is None or value == MASK else MASK
    if isinstance(value, dict):
        members = cast("dict[Any, Any]", value)
        changed: dict[Any, Any] = {}
        for name in members if where.rest is not None else where.named.keys() & members.keys():
            place = where.named.get(name, where.rest)
            if place is not None and (found := _without(members[name], place)) is not members[name]:
                changed[name] = found
        return {**members, **changed} if changed else members
    if isinstance(value, list | tuple):
        items = cast("list[Any]", value)
        found = [
            _without(item, place) if place is not None else item for item, place in zip(items, _places(items, where), strict=True)
        ]
        return found if any(new is not old for new, old in zip(found, items, strict=True)) else items
    return value


def _places(items: list[Any], where: Place) -> Iterator[Place | None]:
    yield from where.first[: len(items)]
    for _ in range(len(where.first), len(items)):
        yield where.items


# --- from schemas to places -------------------------------------------------------------------------------------------


def places_of(*schemas: Any) -> Place | None:
    """Where values that one of these schemas describes have secrets; None where nowhere.

    Secret is what a schema calls so: `secret: true`, `writeOnly: true`, or `format: password`.
    """
    compiler = _Compiler()
    top = compiler.place(_Part(schema, schema) for schema in schemas)
    compiler.prune()
    return top if top in compiler.leading else None


@dataclass(frozen=True, slots=True)
class _Part:
    """A schema, and the document in which its references lead somewhere."""

    schema: Any
    document: Any

    @property
    def secret(self) -> bool:
        about = self.schema
        return about.get("secret") is True or about.get("writeOnly") is True or about.get("format") == "password"

    def one(self, *keywords: str) -> Iterator[_Part]:
        """The schemas that stand under these keywords."""
        return (_Part(self.schema[keyword], self.document) for keyword in keywords if keyword in self.schema)

    def many(self, *keywords: str) -> Iterator[_Part]:
        """The schemas that stand in the lists or mappings under these keywords."""
        for keyword in keywords:
            found: Any = self.schema.get(keyword, ())
            schemas: Iterable[Any] = cast("dict[str, Any]", found).values() if isinstance(found, dict) else found
            yield from (_Part(schema, self.document) for schema in schemas)

    def same(self) -> Iterator[_Part]:
        """The schemas that describe the same value as this one."""
        for keyword in ("$ref", "$dynamicRef"):
            if keyword in self.schema:
                yield _Part(_target(self.document, str(self.schema[keyword])), self.document)
        yield from self.many(*ALTERNATIVES, "dependentSchemas")
        yield from self.one(*CONDITIONS)

    def member(self, name: str) -> Iterator[_Part]:
        """The schemas of a member of this name."""
        named: dict[str, Any] = self.schema.get("properties", {})
        yield from (_Part(named[name], self.document),) if name in named else self.one(*REST)
        yield from self.many("patternProperties")

    def item(self, index: int) -> Iterator[_Part]:
        """The schemas of the item at an index."""
        first: list[Any] = self.schema.get("prefixItems", [])
        yield from (_Part(first[index], self.document),) if index < len(first) else self.one(*ITEMS)


def _target(document: Any, reference: str) -> Any:
    """What a reference within the document leads to; True, which describes anything, where it leads nowhere."""
    found = document
    for step in unquote(reference.removeprefix("#")).split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict):
            found = cast("dict[str, Any]", found).get(key, True)
        else:
            return True
    return found if reference.startswith("#") else True


class _Compiler:
    """Makes one place for each set of schemas that can describe the same value, as an automaton is made deterministic."""

    def __init__(self) -> None:
        self.leading: set[Place] = set()
        """The places with a secret there or below; known after `prune`."""
        self._made: dict[frozenset[int], Place] = {}
        self._hidden: list[tuple[Place, Place]] = []

    def place(self, parts: Iterable[_Part]) -> Place:
        """The place that these schemas describe together."""
        found = _closure(parts)
        key = frozenset(found)
        if key in self._made:
            return self._made[key]
        place = self._made[key] = Place()
        together = list(found.values())
        place.secret = any(part.secret for part in together)
        names: set[str] = {name for part in together for name in part.schema.get("properties", ())}
        place.named = {name: self.place(below for part in together for below in part.member(name)) for name in sorted(names)}
        place.rest = self.place(below for part in together for below in (*part.one(*REST), *part.many("patternProperties")))
        length = max((len(part.schema.get("prefixItems", ())) for part in together), default=0)
        place.first = tuple(self.place(below for part in together for below in part.item(index)) for index in range(length))
        place.items = self.place(below for part in together for below in part.one(*ITEMS))
        # JSON inside of a text, and the names of members, cannot be masked one by one: with a secret there, the whole is secret.
        self._hidden.append((place, self.place(below for part in together for below in part.one("contentSchema", "propertyNames"))))
        return place

    def prune(self) -> None:
        """Leave only the ways that lead to a secret."""
        above: dict[Place, set[Place]] = {}
        for place in self._made.values():
            for below in place.ways():
                above.setdefault(below, set()).add(place)
        for place, below in self._hidden:
            above.setdefault(below, set()).add(place)
        waiting = [place for place in self._made.values() if place.secret]
        while waiting:
            place = waiting.pop()
            if place not in self.leading:
                self.leading.add(place)
                waiting += above.get(place, ())
        for place, below in self._hidden:
            place.secret = place.secret or below in self.leading
        for place in self.leading:
            self._prune(place)

    def _prune(self, place: Place) -> None:
        place.rest = self._leading(place.rest)
        place.items = self._leading(place.items)
        place.first = tuple(self._leading(below) for below in place.first)
        named = {name: self._leading(below) for name, below in place.named.items()}
        place.named = {name: below for name, below in named.items() if below is not None or place.rest is not None}

    def _leading(self, place: Place | None) -> Place | None:
        return place if place in self.leading else None


def _closure(parts: Iterable[_Part]) -> dict[int, _Part]:
    """These schemas and all that describe the same value, each once: references may go round in circles."""
    found: dict[int, _Part] = {}
    waiting = list(parts)
    while waiting:
        part = waiting.pop()
        schema = id(part.schema)
        if isinstance(part.schema, dict) and schema not in found:  # the others, true and false, say nothing
            found[schema] = part
            waiting += part.same()
    return found
