"""Bodies: how the body of a request becomes a payload, by its media type. Compiled once per route.

JSON always; what HTML forms send where the contract's members can be told from it; bytes as they are where the contract is bytes,
or has one member for them. Below: `Members`, which knows what a contract takes. Plain JSON asks do not come here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from portico.errors import MalformedAddress, MalformedBody, UnsupportedMediaType
from portico.operations.members import BINARY, FORM, MULTIPART
from portico.routes.address import query_of
from portico.routes.exchange import is_json, parse

if TYPE_CHECKING:
    from portico.operations.members import Members

MOST_PARTS: Final = 1000
"""How many parts, or fields, a form may have."""
HEADER_BYTES: Final = 4096
"""Bytes that one header of a part may have, with its name."""
HEADERS: Final = 8
"""How many headers a part may have."""


class Bodies:
    """What one operation takes as a body."""

    __slots__ = ("_members", "takes_bytes")

    def __init__(self, members: Members) -> None:
        self._members = members
        self.takes_bytes = members.whole
        """Whether no bytes at all are a body too."""

    @property
    def accepted(self) -> list[str]:
        """The media types that it takes."""
        return self._members.media_types

    def read(self, content_type: bytes, body: bytes) -> tuple[bytes | None, Any]:
        """The body as JSON text, where it is that, and the payload.

        Raises:
            UnsupportedMediaType: the operation does not take this kind.
            MalformedBody: it is not what it says it is.
        """
        media_type = content_type.partition(b";")[0].strip().lower().decode("latin-1")
        if is_json(media_type):
            return body, parse(body)
        members = self._members
        if members.whole and media_type and media_type != MULTIPART:
            return None, body
        if media_type == FORM and FORM in self.accepted:
            return None, self._form(body)
        if media_type == MULTIPART and MULTIPART in self.accepted:
            return None, self._multipart(content_type, body)
        if members.direct is not None and media_type not in ("", FORM, MULTIPART):
            shown = None if media_type == BINARY else content_type.decode("latin-1")
            return None, {members.direct: members.encoded(members.direct, body, shown)}
        raise UnsupportedMediaType(content_type.decode("latin-1"), self.accepted)

    def _form(self, body: bytes) -> dict[str, Any]:
        if body.count(b"&") >= MOST_PARTS:
            raise MalformedBody(f"The body has more than {MOST_PARTS} fields.")
        payload: dict[str, Any] = {}
        try:
            for name, text in query_of(body):
                self._members.put(payload, name, self._members.read(name, text))
        except MalformedAddress:
            raise MalformedBody(f"The body is not {FORM}: it is not percent-encoded UTF-8.") from None
        return payload

    def _multipart(self, content_type: bytes, body: bytes) -> dict[str, Any]:
        boundary = parse_options_header(content_type)[1].get(b"boundary")
        if not boundary:
            raise MalformedBody(f"The body is not {MULTIPART}: its Content-Type names no boundary.")
        payload: dict[str, Any] = {}
        several: set[str] = set()
        for part in _Parts(boundary).of(body):
            self._put(payload, several, part)
        return payload

    def _put(self, payload: dict[str, Any], several: set[str], part: _Part) -> None:
        members, name = self._members, part.name
        if name in members.binary:
            if not part.filename and part.filename is not None and not part.content:
                return  # a form's field for a file in which nobody chose one
            value = members.encoded(name, bytes(part.content), part.media_type, part.filename)
            if name in payload and name not in members.lists:  # none of two files may get lost
                payload[name] = [*payload[name], value] if name in several else [payload[name], value]
                several.add(name)
                return
        elif part.media_type is not None and is_json(part.media_type.partition(";")[0].strip().lower()):
            value = parse(bytes(part.content))
        else:
            try:
                value = members.read(name, part.content.decode())
            except UnicodeDecodeError:
                raise MalformedBody(f"The part {name!r} of the form is not UTF-8.") from None
        members.put(payload, name, value)


class _Part:
    """One part of a multipart body."""

    __slots__ = ("content", "filename", "media_type", "name")

    def __init__(self) -> None:
        self.name = ""
        self.filename: str | None = None
        self.media_type: str | None = None
        self.content = bytearray()


class _Parts:
    """Takes a multipart body apart, within limits."""

    def __init__(self, boundary: bytes) -> None:
        self._parts: list[_Part] = []
        self._field = b""
        self._value = b""
        self._ended = False
        self._named = False
        self._boundary = boundary

    def of(self, body: bytes) -> list[_Part]:
        """Its parts. Raises `MalformedBody`."""
        try:
            parser = MultipartParser(
                self._boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._on_field,
                    "on_header_value": self._on_value,
                    "on_header_end": self._on_header,
                    "on_headers_finished": self._on_headers,
                    "on_part_data": self._on_data,
                    "on_end": self._on_end,
                },
                max_header_count=HEADERS,
                max_header_size=HEADER_BYTES,
            )
            parser.write(body)
            parser.finalize()
        except FormParserError as error:
            raise MalformedBody(f"The body is not {MULTIPART}: {error}") from None
        except UnicodeDecodeError:
            raise MalformedBody(f"The body is not {MULTIPART}: the name of a part is not UTF-8.") from None
        if not self._ended:
            raise MalformedBody(f"The body is not {MULTIPART}: it is cut short, or its boundary is another.")
        return self._parts

    def _begin(self) -> None:
        if len(self._parts) == MOST_PARTS:
            raise MalformedBody(f"The body has more than {MOST_PARTS} parts.")
        self._parts.append(_Part())
        self._named = False

    def _on_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header(self) -> None:
        part, field = self._parts[-1], self._field.lower()
        if field == b"content-disposition":
            kind, options = parse_options_header(self._value)
            name, filename = options.get(b"name"), options.get(b"filename")
            self._named = kind == b"form-data" and name is not None
            part.name = (name or b"").decode()
            part.filename = filename.decode() if filename is not None else None
        elif field == b"content-type":
            part.media_type = self._value.decode()
        self._field = self._value = b""

    def _on_headers(self) -> None:
        if not self._named:
            raise MalformedBody(f"The body is not {MULTIPART}: a part has no name (Content-Disposition: form-data; name=…).")

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        self._parts[-1].content += data[start:end]

    def _on_end(self) -> None:
        self._ended = True
