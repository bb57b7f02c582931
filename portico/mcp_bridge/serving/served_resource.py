"""ServedResource: one endpoint of the catalogue as something to read. URI in, payload out; reply in, contents out.

Above: `resources.py`, which speaks the protocol. Below: operations. It neither calls anything nor knows who calls.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from mcp.shared.uri_template import UriTemplate
from mcp.types import BlobResourceContents, Resource, ResourceTemplate, TextResourceContents
from pydantic_core import PydanticSerializationError, to_json

from portico.errors import InvalidReply
from portico.operations.offers import ResourceSpec

if TYPE_CHECKING:
    from portico.kernel.messages import Message
    from portico.operations.catalogue import Endpoint
    from portico.operations.operation import Operation

TEXT: Final = "text/plain"
JSON: Final = "application/json"
BYTES: Final = "application/octet-stream"

Contents = TextResourceContents | BlobResourceContents


@dataclass(frozen=True, slots=True)
class ServedResource:
    """What the lists show of an endpoint, and how `resources/read` translates."""

    endpoint: Endpoint
    """What is called."""
    template: UriTemplate
    """Its address."""
    listed: Resource | ResourceTemplate
    """As it is listed: as a template where it is one thing for each value of its variables."""
    media_type: str | None
    """What it says of what is read."""

    def payload(self, uri: str) -> dict[str, Any] | None:
        """The payload that a URI stands for; None where it is not one of its own."""
        found = self.template.match(uri)
        if found is None:
            return None
        members = self.endpoint.operation.members
        return {name: members.read(name, text) for name, text in found.items() if isinstance(text, str)}

    def contents(self, uri: str, reply: Message) -> Contents:
        """What is read. Raises `InvalidReply` for a reply that is not JSON-able."""
        media_type = (reply.meta or {}).get("media_type") or self.media_type
        try:
            return contents_of(uri, reply.payload, media_type)
        except PydanticSerializationError as error:
            raise InvalidReply.not_json(self.endpoint.agent, self.endpoint.operation.name, error) from error


def served_resource(uri: str, endpoint: Endpoint) -> ServedResource:
    """What is read at an address. Raises `InvalidOperation` for types that cannot become a contract."""
    operation = endpoint.operation
    spec = operation.resource or ResourceSpec(uri, operation.name)
    about: dict[str, Any] = {
        "name": spec.name,
        "title": spec.title or operation.title or None,
        "description": spec.description or endpoint.description or None,
        "mime_type": spec.mime_type or _media_type_of(operation),
    }
    listed = ResourceTemplate(uri_template=uri, **about) if spec.variables else Resource(uri=uri, **about)
    return ServedResource(endpoint, UriTemplate.parse(uri), listed, spec.mime_type)


def contents_of(uri: str, value: Any, media_type: str | None = None) -> Contents:
    """A value as what is read at an address: text and bytes as they are, anything else as JSON.

    Raises:
        PydanticSerializationError: it is not JSON-able.
    """
    if isinstance(value, bytes):
        return BlobResourceContents(uri=uri, mime_type=media_type or BYTES, blob=b64encode(value).decode())
    if isinstance(value, str):
        return TextResourceContents(uri=uri, mime_type=media_type or TEXT, text=value)
    return TextResourceContents(uri=uri, mime_type=media_type or JSON, text=_json(value))


def _json(value: Any) -> str:
    return to_json(value, inf_nan_mode="null", bytes_mode="base64").decode()


def _media_type_of(operation: Operation) -> str | None:
    """What its reply type says; None where that says nothing."""
    if operation.contract.replies_bytes:
        return BYTES
    schema = operation.response_schema
    if not schema:
        return None
    return TEXT if schema.get("type") == "string" else JSON
