"""AgentRoute: one route to one operation, compiled once. From a request's bytes to a `Call`, from a reply to a response's bytes.

It stands in front of FastAPI's machinery: contract, headers and limits are known before the first request, and a request passes
no dependency injection. It translates and decides nothing: everything else happens behind the dispatcher's door.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from pydantic_core import to_json

from portico.errors import (
    Cancelled,
    ContractViolation,
    InvalidReply,
    KeyInProgress,
    MalformedHeader,
    NotAcceptable,
    PorticoError,
    QuotaExceeded,
)
from portico.operations.members import Members
from portico.routes.accept import accepted, preferred
from portico.routes.allowances import allowance_headers
from portico.routes.bodies import Bodies
from portico.routes.compression import LEAST, compressed
from portico.routes.event_stream import EventStream
from portico.routes.exchange import (
    CALL,
    JSON,
    PRINCIPAL,
    REPLAYED,
    REQUEST_ID,
    SCOPES,
    ClientLeftError,
    idempotency_key,
    parse,
    prefix,
    read_body,
    respond,
    respond_with_problem,
)
from portico.routes.overhead import timed
from portico.routes.parameters import Parameters
from portico.routes.reply_hints import BODILESS, hints_of
from portico.runs.call import Call
from portico.runs.run_view import reference
from portico.traceparent import well_formed
from portico.webhooks.guard import ClosedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import ASGIApp, Receive, Scope, Send

    from portico.kernel.messages import Message
    from portico.operations.catalogue import Endpoint
    from portico.operations.operation import RouteSpec
    from portico.routes.disconnects import Disconnects
    from portico.routes.event_form import EventForm
    from portico.routes.face import Face
    from portico.runs.run import Run

JSON_HEADER: Final = (b"content-type", JSON)
JSON_TYPE: Final = JSON.decode()
_ANY_JSON: Final = frozenset({b"*/*", b"application/json", b"application/*"})
_VARIES: Final = (b"vary", b"Accept, Prefer")
_ZERO: Final = (b"agent-attempt", b"0")


class AgentRoute:
    """Serves one `RouteSpec`."""

    __slots__ = (
        "_any_kind",
        "_bodies",
        "_disconnects",
        "_face",
        "_limit",
        "_operation",
        "_parameters",
        "_varies",
        "around",
        "endpoint",
        "spec",
        "takes_body",
    )

    def __init__(self, spec: RouteSpec, endpoint: Endpoint, face: Face) -> None:
        """Compile it. Raises `InvalidOperation` where the contract cannot be compiled."""
        self.spec = spec
        self.endpoint = endpoint
        self.takes_body = spec.method in ("POST", "PUT", "PATCH")
        self._face = face
        self._operation = endpoint.operation
        members = Members(endpoint.operation.request_schema)
        self._bodies = Bodies(members)
        self._parameters = Parameters(endpoint.operation.name, members, in_query=not self.takes_body)
        self._disconnects: Disconnects = face.disconnects
        ask_limit = spec.timeout if spec.timeout is not None else face.request_timeout
        self._limit = face.run_timeout if spec.mode == "send" else ask_limit
        # A GET may be kept by caches, and they must know what its reply depended on (RFC 9110 §12.5.5).
        self._varies = spec.method == "GET"
        # Where no contract says that the reply is JSON, what kind it is shows only when it is there.
        self._any_kind = not endpoint.operation.response_schema or endpoint.operation.contract.replies_bytes
        _ = endpoint.operation.contract
        self.around: ASGIApp | None = None
        """What its requests pass instead of `serve`: its own middlewares; None where it has none."""
        if spec.middleware:
            self.around = self._enter
            for middleware in reversed(spec.middleware):
                self.around = middleware(self.around)

    async def _enter(self, scope: Scope, receive: Receive, send: Send) -> None:
        """From the innermost of its own middlewares."""
        await self.serve(scope, receive, send, scope.get("path_params"))

    async def serve(self, scope: Scope, receive: Receive, send: Send, path: Mapping[str, str] | None) -> None:
        """Answer one request. `path`: its path parameters."""
        call = timing = None
        try:
            headers: dict[bytes, bytes] = dict(scope["headers"])
            accept = headers.get(b"accept")
            form = self._negotiate(scope) if accept is not None and accept not in _ANY_JSON else None
            if b"x-overhead-ms" in headers:
                timing, send = timed(scope, headers, send)
            call = await self._call(scope, receive, headers, path)
            call.timing = timing
            scope[CALL] = call
            if self.spec.mode == "send":
                self._call_back(call, headers)
                await self._refer(scope, send, await self._face.dispatcher.submit(call), call)
            elif form is not None:
                await self._stream(scope, receive, send, call, form)
            elif b"prefer" in headers:
                self._call_back(call, headers)
                await self._prefer(scope, receive, send, call, headers)
            elif self._stored(call):
                await self._ask_stored(receive, send, call, headers)
            else:
                await self._ask(receive, send, call, headers)
        except PorticoError as caught:
            run = call.run if call is not None else None
            error = caught
            if isinstance(error, ContractViolation) and run is None:
                error = self._parameters.located(error, scope["query_string"], path)
            replayed = call is not None and call.replayed
            left = allowance_headers(call.allowance) if call is not None and not isinstance(error, QuotaExceeded) else []
            run_id = run.run_id if run is not None else None
            await respond_with_problem(scope, send, error, run_id, replayed=replayed, headers=left, receive=receive)

    # --- the request --------------------------------------------------------------------------------------------------

    async def _call(self, scope: Scope, receive: Receive, headers: Mapping[bytes, bytes], path: Mapping[str, str] | None) -> Call:
        raw: bytes | None = None
        payload: Any = {}
        if self.takes_body:
            body = await read_body(receive, headers, self._face.body_limit)
            kind = headers.get(b"content-type", b"")
            if body and kind == JSON:
                raw, payload = body, parse(body)
            elif body or (kind and self._bodies.takes_bytes):
                raw, payload = self._bodies.read(kind, body)
        query: bytes = scope["query_string"]
        if query or path:
            merged = self._parameters.merge(payload, query, path)
            if merged is not payload:
                raw, payload = None, merged
        client = scope.get("client")
        return Call(
            self.endpoint,
            payload,
            raw,
            one_way=self.spec.mode == "send",
            timeout=_timeout(headers.get(b"request-timeout"), self._limit),
            principal=scope.get(PRINCIPAL),
            scopes=scope.get(SCOPES),
            address=client[0] if client else None,
            request_id=scope.get(REQUEST_ID),
            traceparent=well_formed(headers.get(b"traceparent")),
            idempotency_key=idempotency_key(headers.get(b"idempotency-key")),
        )

    def _call_back(self, call: Call, headers: Mapping[bytes, bytes]) -> None:
        """Where the end of what is stored is to be told. Raises `MalformedHeader` where it cannot be."""
        url = headers.get(b"callback-url")
        if url is not None:
            call.callback_url = url.decode("latin-1")
            try:
                self._face.callbacks.check(call.callback_url)
            except ClosedError as error:
                raise MalformedHeader(f"Callback-Url: {error}") from None

    def _stored(self, call: Call) -> bool:
        """Whether an ask is stored before it is handled, and outlives the program."""
        return self.spec.durable or call.idempotency_key is not None

    def _negotiate(self, scope: Scope) -> EventForm | None:
        """In which form the client wants a stream, if at all. Raises `NotAcceptable` where it wants neither that nor JSON."""
        accept, forms = accepted(scope) or "", self._face.event_forms
        wanted = preferred(accept, (JSON_TYPE, *forms))
        if wanted is None and not self._any_kind:
            raise NotAcceptable(accept, (JSON_TYPE, *forms))
        return forms.get(wanted) if wanted is not None else None

    # --- the response -------------------------------------------------------------------------------------------------

    async def _ask(self, receive: Receive, send: Send, call: Call, asked: Mapping[bytes, bytes]) -> None:
        if self.spec.on_disconnect == "continue":
            await self._replied(send, call, await self._face.dispatcher.ask_regardless(call), asked)
            return
        asking = asyncio.current_task()
        watch = self._disconnects.watch(call, receive, asking)
        try:
            reply = await self._face.dispatcher.ask(call)
        except asyncio.CancelledError:
            if asking is None or not watch.left:
                raise
            asking.uncancel()
            raise ClientLeftError from None
        finally:
            watch.end()
        await self._replied(send, call, reply, asked)

    async def _ask_stored(self, receive: Receive, send: Send, call: Call, asked: Mapping[bytes, bytes]) -> None:
        """An ask that outlives its connection: unless the route says otherwise, it goes on when the client leaves."""
        run = await self._face.dispatcher.submit(call)
        watch = self._disconnects.watch(call, receive) if self.spec.on_disconnect == "cancel" and not call.replayed else None
        try:
            reply = await run.outcome()
        except Cancelled:
            if watch is not None and watch.left:
                raise ClientLeftError from None
            raise
        finally:
            if watch is not None:
                watch.end()
        await self._replied(send, call, reply, asked)

    async def _stream(self, scope: Scope, receive: Receive, send: Send, call: Call, form: EventForm) -> None:
        dispatcher = self._face.dispatcher
        stored = self._stored(call)
        run = await dispatcher.submit(call) if stored else await dispatcher.start(call)
        cancels = self.spec.on_disconnect == "cancel" or (self.spec.on_disconnect is None and not stored)
        headers = [*allowance_headers(call.allowance), *([REPLAYED] if call.replayed else [])]
        stream = EventStream(scope, run, self._face, form, asks=True, cancels=cancels and not call.replayed, headers=headers)
        await stream.serve(receive, send)

    async def _replied(
        self, send: Send, call: Call, reply: Message, asked: Mapping[bytes, bytes], applied: str | None = None
    ) -> None:
        """Send a reply. `asked`: the headers of its request. `applied`: which preference was heeded."""
        status, body = 200, b""
        mailbox = self._face.dispatcher.runtime.router.registry.get(self.endpoint.agent)
        incarnation = mailbox.incarnations if mailbox is not None else 0
        attempt = _ZERO if reply.attempt == 0 else (b"agent-attempt", b"%d" % reply.attempt)
        headers = [REPLAYED if call.replayed else (b"agent-incarnation", b"%d" % incarnation), attempt]
        if call.allowance:
            headers += allowance_headers(call.allowance)
        meta, payload = reply.meta, reply.payload
        if meta is not None:
            status, hinted, media_type = hints_of(meta, self.endpoint)
            headers += hinted
            if status not in BODILESS:
                body, media_type = self._hinted(payload, media_type)
                headers.append((b"content-type", media_type.encode("latin-1")))
        elif payload is None and self._operation.returns_nothing:
            status = 204
        elif isinstance(payload, bytes):
            body = payload
            headers.append((b"content-type", b"application/octet-stream"))
        else:
            body = self._json(payload)
            headers.append(JSON_HEADER)
        if self._varies:
            headers.append(_VARIES)
        if applied is not None:
            headers.append(_applied(applied))
        if len(body) >= LEAST and self._face.compression:
            body = await compressed(body, headers, asked.get(b"accept-encoding"))
        await respond(send, status, body, headers)

    def _hinted(self, payload: Any, media_type: str | None) -> tuple[bytes, str]:
        if isinstance(payload, bytes):
            return payload, media_type or "application/octet-stream"
        if isinstance(payload, str) and media_type is not None and not media_type.partition(";")[0].strip().endswith("json"):
            return payload.encode(errors="replace"), media_type
        return self._json(payload), media_type or "application/json"

    def _json(self, payload: Any) -> bytes:
        try:
            return to_json(payload, inf_nan_mode="null")
        except ValueError as error:
            raise InvalidReply.not_json(self.endpoint.agent, self._operation.name, error) from error

    async def _refer(self, scope: Scope, send: Send, run: Run, call: Call, applied: str | None = None) -> None:
        location = f"{prefix(scope)}/runs/{run.run_id}"
        headers = [JSON_HEADER, (b"location", location.encode("latin-1")), *allowance_headers(call.allowance)]
        if call.replayed:
            headers.append(REPLAYED)
        if applied is not None:
            headers.append(_applied(applied))
        await respond(send, 202, to_json(reference(run)), headers)

    async def _prefer(self, scope: Scope, receive: Receive, send: Send, call: Call, asked: Mapping[bytes, bytes]) -> None:
        """`Prefer: respond-async` and `Prefer: wait=n` (RFC 7240 §4.1, §4.3); a client may send the header several times."""
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        wishes = _preferences(b",".join(value for name, value in headers if name == b"prefer"))
        if "respond-async" not in wishes and "wait" not in wishes:
            await (self._ask_stored if self._stored(call) else self._ask)(receive, send, call, asked)
            return
        patience = seconds("Prefer: wait", wishes.get("wait", "0").encode("latin-1"), least=0.0)
        waited = f"wait={wishes['wait']}" if "wait" in wishes else None
        call.timeout = _timeout(asked.get(b"request-timeout"), self._face.run_timeout)
        run = await self._face.dispatcher.submit(call)
        if (patience and await self._face.ended_within(run, patience)) or (call.replayed and run.done):
            await self._replied(send, call, await run.outcome(), asked, waited)
        elif call.replayed and not patience and "respond-async" not in wishes:
            call.replayed = False
            raise KeyInProgress(run.run_id)
        else:
            heeded = ["respond-async"] if "respond-async" in wishes else []
            await self._refer(scope, send, run, call, ", ".join([*heeded, *([waited] if waited else [])]))


def _applied(preferences: str) -> tuple[bytes, bytes]:
    """Which preferences were heeded (RFC 7240 §3)."""
    return (b"preference-applied", preferences.encode("latin-1"))


def _preferences(prefer: bytes) -> dict[str, str]:
    """What the client prefers, by name; parameters of a preference are none of ours."""
    parts = (part.partition(";")[0].partition("=") for part in prefer.decode("latin-1").split(","))
    return {name.strip().lower(): value.strip().strip('"') for name, _, value in parts}


def _timeout(given: bytes | None, limit: float) -> float:
    """The seconds that a call may take: what the client says, capped."""
    return limit if given is None else min(seconds("Request-Timeout", given), limit)


def seconds(header: str, value: bytes, *, least: float = 0.001) -> float:
    """A number of seconds out of a header. Raises `MalformedHeader`."""
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if not least <= number < 1e9:  # noqa: PLR2004  # also false for NaN
        raise MalformedHeader(f"{header} is {value.decode('latin-1')!r}: it must be a number of seconds, at least {least:g}.")
    return number
