"""Declared: what agents declare of one kind, such as prompts, as the catalogue is now, and as one caller sees it.

Above: the handlers of that kind. Below: the dispatcher's catalogue.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from portico.errors import InvalidOperation
from portico.runs.call import permits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from portico.operations.catalogue import Catalogue, Endpoint
    from portico.runs.dispatcher import Dispatcher

logger = logging.getLogger("portico.mcp")


class _Served(Protocol):
    @property
    def endpoint(self) -> Endpoint: ...


T = TypeVar("T", bound=_Served)


class Declared(Generic[T]):
    """Everything of one kind, by the key under which it is listed, and in the order of keys.

    Args:
        dispatcher: whose catalogue.
        find: what there is of it in a catalogue.
        make: what is served of an endpoint, under its key.

    Raises:
        InvalidOperation: a type that cannot become a contract.
    """

    def __init__(
        self, dispatcher: Dispatcher, find: Callable[[Catalogue], Mapping[str, Endpoint]], make: Callable[[str, Endpoint], T]
    ) -> None:
        self._dispatcher = dispatcher
        self._find = find
        self._make = make
        self._made_from = dispatcher.catalogue
        self._all = {key: make(key, endpoint) for key, endpoint in sorted(find(self._made_from).items())}

    def all(self) -> Mapping[str, T]:
        """Made anew when the catalogue is another. An agent that came, and whose types make no contract, has none."""
        catalogue = self._dispatcher.catalogue
        if catalogue is not self._made_from:
            self._all, self._made_from = self._remade(catalogue), catalogue
        return self._all

    def visible_to(self, scopes: frozenset[str] | None) -> Mapping[str, T]:
        """The same for one caller: without those for which it lacks a scope. None: no callers are known, and everybody may."""
        every = self.all()
        return every if scopes is None else {key: one for key, one in every.items() if permits(scopes, one.endpoint.scopes)}

    def _remade(self, catalogue: Catalogue) -> dict[str, T]:
        made: dict[str, T] = {}
        for key, endpoint in sorted(self._find(catalogue).items()):
            former = self._all.get(key)
            try:
                made[key] = former if former is not None and former.endpoint == endpoint else self._make(key, endpoint)
            except InvalidOperation as error:
                logger.error("%r is not served: %s", key, error)  # noqa: TRY400  # one line says it all
        return made
