"""Failure: an error as plain data, and back: what a run has ended with outlives the program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pydantic_core import from_json, to_json

from portico.errors import AgentError, CallError, PorticoError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

INTERNAL = "Something went wrong inside the gateway. The log has the reason under this run id."
"""What the outside reads of an error that is not of the family."""


def stored(error: BaseException) -> dict[str, Any]:
    """An error as JSON data: `slug`, `title`, `detail`, `extra`; of a declared error its `status`; `retry_after` in seconds."""
    if not isinstance(error, PorticoError):
        return {"slug": PorticoError.slug, "title": PorticoError.title, "detail": INTERNAL, "extra": {}}
    data = {"slug": error.slug, "title": error.title, "detail": error.detail, "extra": _plain(error.extra)}
    if isinstance(error, AgentError):
        data["status"] = error.status
    retry_after = getattr(error, "retry_after", None)
    if retry_after is not None:
        data["retry_after"] = retry_after
    return data


def restored(data: Mapping[str, Any]) -> PorticoError:
    """The error again: of its own class where that can be made of the sentence alone, else a `CallError` with the same slug."""
    slug, detail, extra = str(data["slug"]), str(data["detail"]), dict(data.get("extra") or {})
    if "status" in data:
        return AgentError(slug, detail, status=int(data["status"]), **extra)
    error = _bare(_CLASSES.get(slug, CallError), detail)
    error.extra = extra
    error.slug = slug  # pyright: ignore[reportAttributeAccessIssue]  # of a class that this version does not know
    error.title = str(data.get("title") or error.title)  # pyright: ignore[reportAttributeAccessIssue]
    if "retry_after" in data:
        error.retry_after = data["retry_after"]  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    return error


def _bare(kind: type[PorticoError], detail: str) -> PorticoError:
    """An error of that class with this sentence, without the nouns that its constructor takes."""
    error = kind.__new__(kind)
    PorticoError.__init__(error, detail)
    return error


def _plain(value: Any) -> Any:
    return from_json(to_json(value, inf_nan_mode="null", fallback=str))


def _family(kind: type[PorticoError]) -> Iterator[type[PorticoError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _family(below)


_CLASSES: Final[Mapping[str, type[PorticoError]]] = {
    kind.slug: kind for kind in _family(PorticoError) if not issubclass(kind, AgentError)
}
"""The class of each slug."""
