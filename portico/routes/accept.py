"""Accept: which of the kinds of response that there are a client wants most (RFC 9110 §12.5.1).

Above: the routes that have more than one kind. A header that cannot be read in a part counts as far as it can.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import Scope


class _Range(NamedTuple):
    """One media range of the header."""

    kind: str
    quality: float


def accepted(scope: Scope) -> str | None:
    """The whole header, of which a request may have several lines (RFC 9110 §5.3); None where there is none."""
    lines = [value for name, value in scope["headers"] if name == b"accept"]
    return b",".join(lines).decode("latin-1") if lines else None


def preferred(accept: str, offers: Sequence[str]) -> str | None:
    """The offer that the client wants most; None where it wants none of them.

    Of several that it wants equally, the one that it names, and then the earliest. An empty header wants anything.
    """
    ranges = [_range(part) for part in accept.lower().split(",") if part.strip()]
    if not ranges:
        return offers[0]
    best, found = (0.0, 0), None
    for offer in offers:
        weight = _weight(offer, ranges)
        if weight[0] > 0 and weight > best:
            best, found = weight, offer
    return found


def _range(part: str) -> _Range:
    kind, *parameters = (piece.strip() for piece in part.split(";"))
    quality = 1.0
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            quality = _quality(value.strip())
    return _Range(kind, quality)


def _quality(text: str) -> float:
    try:
        quality = float(text)
    except ValueError:
        return 1.0
    return quality if 0 <= quality <= 1 else 1.0


def _weight(offer: str, ranges: Sequence[_Range]) -> tuple[float, int]:
    """How much an offer is wanted, by the range that names it most exactly, and how exactly that is."""
    exact, quality = 0, 0.0
    for one in ranges:
        how = _exactness(offer, one.kind)
        if how > exact:
            exact, quality = how, one.quality
        elif how and how == exact:
            quality = max(quality, one.quality)
    return quality, exact


def _exactness(offer: str, kind: str) -> int:
    """0: the range does not mean this offer. A structured suffix is taken as its base: `application/hal+json` reads JSON."""
    if kind == offer:
        return 4
    family, _, rest = offer.partition("/")
    if kind.startswith(f"{family}/") and kind.endswith(f"+{rest}"):
        return 3
    if kind == f"{family}/*":
        return 2
    return int(kind == "*/*")
