"""Contract: the request and reply types of an operation, compiled to pydantic-core validators on first use.

A payload is JSON: what a validator accepts does not depend on whether the payload came over a wire or from the next agent.
Importing this module does not import pydantic; compiling a contract does.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Protocol, cast, get_origin

from portico.errors import ContractViolation, InvalidOperation, InvalidReply
from portico.operations.secrets import Place, masked, places_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pydantic import TypeAdapter
    from pydantic_core import ErrorDetails

ANYTHING: Final = object()
"""The type of a payload that no contract describes."""
UNREAD: Final = Place()
"""Stands for the secrets of a type that nobody has looked for yet."""


class _Details(Protocol):
    def errors(self, *, include_url: bool, include_context: bool, include_input: bool) -> list[ErrorDetails]: ...


def faults_of(error: _Details) -> list[dict[str, Any]]:
    """One mapping per fault of a pydantic error: `path` (a JSON Pointer, RFC 6901), `message`, `type`."""
    return [
        {"path": pointer(detail["loc"]), "message": detail["msg"], "type": detail["type"]}
        for detail in error.errors(include_url=False, include_context=False, include_input=False)
    ]


def pointer(location: Sequence[str | int]) -> str:
    """A JSON Pointer (RFC 6901) to a place in a payload; empty for the payload itself."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in location)


def _as_it_is(value: Any, **_: Any) -> Any:
    """How bytes are dumped that are a whole reply: they need no text around them."""
    return value


def _written_schema(kind: Any, mode: str) -> Mapping[str, Any] | None:
    """The schema that somebody wrote for a type as a whole: `Annotated[dict, WithJsonSchema({…})]`. It is handed on as it is.

    Pydantic's own generator would look for what its references lead to among the definitions that it has made itself.
    """
    from pydantic import WithJsonSchema  # noqa: PLC0415  # `import portico` stays light

    notes: tuple[Any, ...] = getattr(kind, "__metadata__", ()) if get_origin(kind) is Annotated else ()
    for note in reversed(notes):
        if isinstance(note, WithJsonSchema) and note.json_schema is not None and note.mode in (None, mode):
            return note.json_schema
    return None


class Contract:
    """Validates requests and replies of one operation, and describes both as JSON Schema (2020-12)."""

    __slots__ = (
        "_binary",
        "_dump",
        "_printed",
        "_reply",
        "_reply_class",
        "_reply_secrets",
        "_request",
        "_secrets",
        "_validate_bytes",
        "_validate_json",
        "_validate_reply",
        "_written",
        "name",
        "replies_bytes",
        "replies_content",
        "takes_bytes",
    )

    def __init__(self, name: str, request: Any, reply: Any) -> None:
        """Compile both types; `ANYTHING` for a side that no type describes. Raises whatever pydantic raises on a bad type."""
        from pydantic import TypeAdapter  # noqa: PLC0415  # `import portico` stays light
        from pydantic_core import to_json  # noqa: PLC0415

        from portico.operations.binary import compiled, has_bytes, is_bytes  # noqa: PLC0415  # it imports pydantic
        from portico.operations.content import is_content  # noqa: PLC0415  # as above

        self.name = name
        self._request: TypeAdapter[Any] | None = None if request is ANYTHING else TypeAdapter(request)
        self._reply: TypeAdapter[Any] | None = None if reply is ANYTHING else TypeAdapter(reply)
        self._reply_class: Any = reply if isinstance(reply, type) and hasattr(reply, "model_fields") else None
        self.takes_bytes = self._request is not None and is_bytes(self._request)
        self.replies_bytes = self._reply is not None and is_bytes(self._reply)
        self.replies_content = self._reply is not None and is_content(reply)
        self._binary = frozenset(adapter for adapter in (self._request, self._reply) if adapter is not None and has_bytes(adapter))
        self._printed: Callable[..., bytes] = partial(to_json, bytes_mode="base64") if self._request in self._binary else to_json
        self._validate_json = self._validate_bytes = self._validate_reply = self._dump = None
        if self._request is not None:
            validator = compiled(self._request)[0] if self._request in self._binary else self._request.validator
            self._validate_json = validator.validate_json
            self._validate_bytes = validator.validate_python if self.takes_bytes else None
        if self._reply is not None:
            self._validate_reply = self._reply.validator.validate_python
            serializer = compiled(self._reply)[1] if self._reply in self._binary else self._reply.serializer
            self._dump = _as_it_is if self.replies_bytes else serializer.to_python
        self._written = {
            "validation": _written_schema(request, "validation"),
            "serialization": _written_schema(reply, "serialization"),
        }
        self._secrets: Place | None = UNREAD
        self._reply_secrets: Place | None = UNREAD

    @property
    def typed_request(self) -> bool:
        """Whether a type describes the request."""
        return self._request is not None

    @property
    def takes_none(self) -> bool:
        """Whether a reply type is given and None satisfies it."""
        if self._validate_reply is None:
            return False
        try:
            self._validate_reply(None)
        except ValueError:
            return False
        return True

    def accept(self, payload: Any, raw: bytes | None = None) -> Any:
        """The validated request; the payload itself where no type describes it. `raw`: the payload as JSON text, if at hand.

        Raises:
            ContractViolation: with every fault.
        """
        validate = self._validate_json
        if validate is None:
            return payload
        try:
            if isinstance(payload, bytes) and self._validate_bytes is not None:
                return self._validate_bytes(payload)
            return validate(raw if raw is not None else self._printed(payload, inf_nan_mode="constants"))
        except ValueError as error:
            if hasattr(error, "errors"):
                raise ContractViolation(self.name, faults_of(cast("Any", error))) from None
            raise ContractViolation(self.name, [{"path": "", "message": f"not JSON: {error}", "type": "json"}]) from None

    def reply(self, agent: str, value: Any) -> Any:
        """The reply as plain data, by aliases as its schema says. Raises `InvalidReply` where it breaks the contract."""
        if self._dump is None or self._validate_reply is None:
            dump = getattr(value, "model_dump", None)
            return dump(mode="json", by_alias=True) if dump is not None else value
        try:
            if self._reply_class is None or type(value) is not self._reply_class:
                value = self._validate_reply(value)
            return self._dump(value, mode="json", by_alias=True, warnings="error")
        except ValueError as error:
            unprintable = [{"path": "", "message": str(error), "type": "json"}]
            faults = faults_of(cast("Any", error)) if hasattr(error, "errors") else unprintable
            raise InvalidReply(agent, self.name, faults) from None

    def without_secrets(self, payload: Any) -> tuple[Any, bool]:
        """The payload of a request as it may be written down, and whether a secret in it was masked. Raises `InvalidOperation`."""
        if self._secrets is UNREAD:
            self._secrets = self._places(self._request, "validation")
        return masked(payload, self._secrets)

    def reply_without_secrets(self, value: Any) -> tuple[Any, bool]:
        """The same for a reply as `reply` gives it. A secret type stays secret where its model prints it openly."""
        if self._reply_secrets is UNREAD:
            self._reply_secrets = self._places(self._reply, "validation", "serialization")
        return masked(value, self._reply_secrets)

    def request_schema(self) -> Mapping[str, Any]:
        """JSON Schema of the request; `{}` where anything goes. Raises `InvalidOperation` for a type that has none."""
        return self._schema(self._request, "validation")

    def reply_schema(self) -> Mapping[str, Any]:
        """JSON Schema of the reply; `{}` where anything goes. Raises `InvalidOperation` for a type that has none."""
        return self._schema(self._reply, "serialization")

    def _places(self, adapter: TypeAdapter[Any] | None, *modes: Literal["validation", "serialization"]) -> Place | None:
        if adapter is None:
            return None
        from portico.operations.every_name import schema_by_every_name  # noqa: PLC0415  # it imports pydantic

        try:
            return places_of(*(schema_by_every_name(adapter, mode) for mode in modes))
        except Exception as error:
            raise InvalidOperation(f"The secrets of the operation {self.name!r} cannot be found: {error}") from error

    def _schema(self, adapter: TypeAdapter[Any] | None, mode: Literal["validation", "serialization"]) -> Mapping[str, Any]:
        if adapter is None:
            return {}
        written = self._written[mode]
        if written is not None:
            return written
        try:
            if adapter in self._binary:
                from portico.operations.binary import BinarySchema, without_encoded_secrets  # noqa: PLC0415  # it imports pydantic

                return without_encoded_secrets(adapter.json_schema(mode=mode, schema_generator=BinarySchema))
            return adapter.json_schema(mode=mode)
        except Exception as error:
            raise InvalidOperation(f"A type of the operation {self.name!r} has no JSON Schema: {error}") from error
