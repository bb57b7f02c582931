"""ABUSE: what no honest client would send to an MCP endpoint over HTTP, as raw bytes, and what may come back. Data, not a test.

The endpoint serves the `Echo` of `tests/routes/agents.py` as the tool `echo`. Whoever runs these opens a session of the old era
first (`opening`), puts its id into `At`, sends `case.request(at)`, and holds the first response against the case (`Abuse.allows`).
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MODERN: Final = "2026-07-28"
LEGACY: Final = "2025-11-25"
LIMIT: Final = 256 * 1024
"""Bytes that a body may have at the gateway that is abused (`body_limit`)."""


@dataclass(frozen=True, slots=True)
class At:
    """Where an endpoint is."""

    host: str
    """What its `Host` header says."""
    session: str = "0" * 32
    """A session of the old era that is open."""
    path: str = "/mcp"
    """Its path."""
    lines: tuple[str, ...] = ()
    """More header lines, such as a credential."""


@dataclass(frozen=True, slots=True)
class Abuse:
    """One request that must not work."""

    name: str
    """What is wrong with it."""
    request: Callable[[At], bytes]
    """The bytes to send."""
    statuses: frozenset[int]
    """Which HTTP statuses may come back."""
    codes: frozenset[int | None] = frozenset()
    """Which JSON-RPC error codes may be in the body; empty: any, or another kind of body; None among them: none has to be."""
    attack: int | None = None
    """The number of the attack in the notes on MCP that it belongs to."""

    def allows(self, status: int, body: bytes) -> bool:
        """Whether this is an answer that may come back."""
        if status not in self.statuses:
            return False
        try:
            code: int | None = json.loads(body)["error"]["code"]
        except (ValueError, KeyError, TypeError):
            code = None
        return not self.codes or code in self.codes


# --- how requests are made --------------------------------------------------------------------------------------------


def body_of(message: Any) -> bytes:
    """A message as bytes."""
    return message if isinstance(message, bytes) else json.dumps(message).encode()


def post(at: At, message: Any, *lines: str, without: str = "", framing: str = "by length") -> bytes:
    """A POST with the headers that every one has, without the line `without`, and these beside."""
    body = body_of(message)
    usual = ["Content-Type: application/json", "Accept: application/json, text/event-stream", *at.lines, *lines]
    usual = [line for line in usual if not (without and line.lower() == without)]
    if framing == "in chunks":
        usual.append("Transfer-Encoding: chunked")
        pieces = [body[begin : begin + 8192] for begin in range(0, len(body), 8192)]
        body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    else:
        usual.append(f"Content-Length: {len(body)}")
    host = [] if without == "host" else [f"Host: {at.host}"]
    return "\r\n".join([f"POST {at.path} HTTP/1.1", *host, *usual, "", ""]).encode("latin-1") + body


def envelope(**more: Any) -> dict[str, Any]:
    """The `_meta` of a request of the new era."""
    about: dict[str, Any] = {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "abuse", "version": "1"},
    }
    return {key: value for key, value in {**about, **more}.items() if value is not None}


def call(arguments: Any = None, *, id_: Any = 1, name: Any = "echo", meta: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A `tools/call` of the new era, as a message."""
    params = {"name": name, "arguments": {"text": "hello"} if arguments is None else arguments}
    params["_meta"] = envelope() if meta is None else dict(meta)
    return {"jsonrpc": "2.0", "id": id_, "method": "tools/call", "params": params}


def old_call(arguments: Any = None, *, id_: Any = 1, name: Any = "echo") -> dict[str, Any]:
    """A `tools/call` of the old era, as a message."""
    params = {"name": name, "arguments": {"text": "hello"} if arguments is None else arguments}
    return {"jsonrpc": "2.0", "id": id_, "method": "tools/call", "params": params}


ROUTING: Final = (f"MCP-Protocol-Version: {MODERN}", "Mcp-Method: tools/call", "Mcp-Name: echo")
"""The headers that tell a proxy what a request of the new era is."""


def modern(message: Any, *lines: str, routing: tuple[str, ...] = ROUTING, **how: Any) -> Callable[[At], bytes]:
    """A request of the new era."""
    return lambda at: post(at, message, *routing, *lines, **how)


def legacy(message: Any, *lines: str, **how: Any) -> Callable[[At], bytes]:
    """A request in a session of the old era."""
    return lambda at: post(at, message, f"Mcp-Session-Id: {at.session}", f"MCP-Protocol-Version: {LEGACY}", *lines, **how)


def at_host(host: str, build: Callable[[At], bytes]) -> Callable[[At], bytes]:
    """The same, to an endpoint that it calls by another name."""
    return lambda at: build(replace(at, host=host.replace("PORT", at.host.rpartition(":")[2])))


def plain(method: str, *lines: str) -> Callable[[At], bytes]:
    """A request without a body."""
    return lambda at: (
        "\r\n".join([f"{method} {at.path} HTTP/1.1", f"Host: {at.host}", *at.lines, *lines, "", ""])
        .replace("SESSION", at.session)
        .encode("latin-1")
    )


GOOD_MODERN: Final = modern(call())
GOOD_LEGACY: Final = legacy(old_call())
"""What must work before and after all of this."""


def opening(at: At, *lines: str) -> bytes:
    """The `initialize` that opens a session of the old era."""
    params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "abuse", "version": "1"}}
    return post(at, {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}, *lines)


# --- the corpus -------------------------------------------------------------------------------------------------------

PARSE, INVALID, NO_METHOD, PARAMS, MISMATCH, VERSION = -32700, -32600, -32601, -32602, -32020, -32022
_400: Final = frozenset({400})
_DEEP = b"[" * 100_000 + b"]" * 100_000
_SHALLOW = b"[" * 20_000 + b"]" * 20_000


def _raw_call(arguments: bytes, *, id_: bytes = b"1") -> bytes:
    meta = json.dumps(envelope()).encode()
    text = b'{"jsonrpc":"2.0","id":%s,"method":"tools/call","params":{"name":"echo","arguments":%s,"_meta":%s}}'
    return text % (id_, arguments, meta)


def _both(name: str, body: Any, codes: set[int | None], *, statuses: frozenset[int] = _400, attack: int | None = 7) -> list[Abuse]:
    """A bad body, in either era and either framing."""
    return [
        Abuse(f"{name}, {era}, {framing}", build(body, framing=framing), statuses, frozenset(codes), attack)
        for era, build in (("new era", modern), ("old era", legacy))
        for framing in ("by length", "in chunks")
    ]


_BODIES: Final = [
    *_both("nothing at all", b"", {PARSE}),
    *_both("no JSON", b"what?", {PARSE}),
    *_both("half of a message", body_of(call())[:-7], {PARSE}),
    *_both("two messages", body_of(call()) * 2, {PARSE}),
    *_both("nothing but nulls", b"\x00" * 64, {PARSE}),
    *_both("invalid UTF-8", _raw_call(b'{"text":"\xff\xfe"}'), {PARSE, INVALID}),
    *_both("UTF-16", json.dumps(call()).encode("utf-16"), {PARSE, INVALID}),
    *_both("a lone surrogate", _raw_call(b'{"text":"\\ud800"}'), {PARSE, INVALID}),
    *_both("NaN", _raw_call(b'{"text":NaN}'), {PARSE}),
    *_both("Infinity", _raw_call(b'{"text":-Infinity}'), {PARSE}),
    *_both("a number beyond doubles", _raw_call(b'{"text":"a","times":1e999}'), {PARSE, None}, statuses=frozenset({400, 200})),
    *_both("a number of many digits", _raw_call(b'{"text":"a","times":%s}' % (b"9" * 50_000)), {PARSE, None}),
    *_both("nested a hundred thousand deep", _DEEP, {PARSE, INVALID}),
    *_both("nested deep", _SHALLOW, {PARSE, INVALID}),
    *_both("arguments nested deep", _raw_call(_SHALLOW), {PARSE, INVALID}),
    *_both("a text", b'"tools/call"', {INVALID}),
    *_both("a number", b"7", {INVALID}),
    *_both("null", b"null", {INVALID}),
    *_both("an empty list", b"[]", {INVALID}),
    *_both("a batch", [call(), call(id_=2)], {INVALID}),
    *_both("an empty object", b"{}", {INVALID}),
    *_both("no jsonrpc", {"id": 1, "method": "tools/list"}, {INVALID}),
    *_both("jsonrpc 1.0", {**call(), "jsonrpc": "1.0"}, {INVALID}),
    *_both("a method that is a number", {"jsonrpc": "2.0", "id": 1, "method": 7}, {INVALID}),
    *_both("params that are a list", {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": [1]}, {INVALID}),
    *_both("id null", {**call(), "id": None}, {INVALID}),
    *_both("id a fraction", _raw_call(b'{"text":"a"}', id_=b"1.5"), {INVALID}),
    *_both("id a truth value", {**call(), "id": True}, {INVALID}),
    *_both("id a list", {**call(), "id": [1]}, {INVALID}),
    *_both("id an object", {**call(), "id": {}}, {INVALID}),
]

_SIZES: Final = [
    *_both("a body beyond the limit", call({"text": "x" * (2 * LIMIT)}), {INVALID}, statuses=frozenset({413}), attack=5),
    Abuse(
        "a length beyond the limit, and no body",
        plain("POST", "Content-Type: application/json", f"Content-Length: {LIMIT + 1}"),
        frozenset({413}),
        attack=5,
    ),
    *(
        Abuse(
            f"a body as gzip, {era}",
            build(gzip.compress(body_of(call({"text": "x" * 1000}))), "Content-Encoding: gzip"),
            frozenset({400, 415}),
            attack=5,
        )
        for era, build in (("new era", modern), ("old era", legacy))
    ),
]

_ERAS: Final = (("new era", modern, call()), ("old era", legacy, old_call()))
"""How a call is made in each."""

_TYPES: Final = [
    Abuse(
        f"content type {kind or 'missing'}, {era}",
        build(message, *([f"Content-Type: {kind}"] if kind else []), without="content-type: application/json"),
        frozenset({400, 415}),
        attack=19,
    )
    for era, build, message in _ERAS
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=a", "application/jsonx", "")
]

_ACCEPTS: Final = [
    Abuse(
        f"accepts {accept}",
        modern(call(), f"Accept: {accept}", without="accept: application/json, text/event-stream"),
        frozenset({406, 400}),
    )
    for accept in ("text/html", "image/png")
]

_HEADERS: Final = [
    Abuse(
        name,
        modern(call(), routing=routing),
        _400,
        frozenset({MISMATCH} if code is None else {code}),
        8,
    )
    for name, routing, code in (
        ("another method in the header", (ROUTING[0], "Mcp-Method: tools/list", ROUTING[2]), None),
        ("another tool in the header", (*ROUTING[:2], "Mcp-Name: mirror"), None),
        ("no method in the header", (ROUTING[0], ROUTING[2]), None),
        ("no tool in the header", ROUTING[:2], None),
        ("the method in another case", (ROUTING[0], "Mcp-Method: Tools/Call", ROUTING[2]), None),
        ("the method twice", (*ROUTING, "Mcp-Method: tools/call"), None),
        ("the method twice, once another", (*ROUTING, "Mcp-Method: tools/list"), None),
        ("the tool twice", (*ROUTING, "Mcp-Name: echo"), None),
        ("the version twice", (ROUTING[0], *ROUTING), None),
        ("a tool as base64 that is none", (*ROUTING[:2], "Mcp-Name: =?base64?@@@?="), None),
        ("a tool as base64 of another", (*ROUTING[:2], "Mcp-Name: =?base64?bWlycm9y?="), None),
        ("a version that there is not", ("MCP-Protocol-Version: 2099-01-01", *ROUTING[1:]), MISMATCH),
        ("a version of letters", ("MCP-Protocol-Version: newest", *ROUTING[1:]), MISMATCH),
    )
] + [
    Abuse(
        "a version that there is not, in header and body",
        modern(
            call(meta=envelope(**{"io.modelcontextprotocol/protocolVersion": "2099-01-01"})),
            routing=("MCP-Protocol-Version: 2099-01-01", *ROUTING[1:]),
        ),
        _400,
        frozenset({VERSION}),
        8,
    ),
    Abuse("no envelope", modern(call(meta={})), _400, frozenset({PARAMS, INVALID, MISMATCH}), 8),
    Abuse(
        "no version in the envelope",
        modern(call(meta=envelope(**{"io.modelcontextprotocol/protocolVersion": None}))),
        _400,
        frozenset({PARAMS, INVALID, MISMATCH}),
        8,
    ),
    Abuse(
        "no capabilities in the envelope",
        modern(call(meta=envelope(**{"io.modelcontextprotocol/clientCapabilities": None}))),
        _400,
        frozenset({PARAMS, INVALID}),
        8,
    ),
    Abuse("an old version without a session", lambda at: post(at, old_call(), f"MCP-Protocol-Version: {LEGACY}"), _400, attack=3),
    Abuse("no version and no session", lambda at: post(at, old_call()), _400, attack=3),
]

_CALLS: Final = [
    Abuse(
        "a method that there is not",
        modern(
            {"jsonrpc": "2.0", "id": 1, "method": "agents/kill", "params": {"_meta": envelope()}},
            routing=(ROUTING[0], "Mcp-Method: agents/kill"),
        ),
        frozenset({404}),
        frozenset({NO_METHOD}),
    ),
    Abuse(
        "initialize in the new era",
        modern(
            {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"_meta": envelope()}},
            routing=(ROUTING[0], "Mcp-Method: initialize"),
        ),
        frozenset({404, 400}),
    ),
    Abuse(
        "a tool that there is not",
        modern(call(name="none"), routing=(*ROUTING[:2], "Mcp-Name: none")),
        _400,
        frozenset({PARAMS}),
    ),
    Abuse(
        "a tool whose name is a number",
        modern(call(name=7), routing=(*ROUTING[:2], "Mcp-Name: 7")),
        _400,
        frozenset({PARAMS, MISMATCH}),
    ),
    Abuse("arguments that are a list", modern(call([1])), _400, frozenset({PARAMS})),
    Abuse("arguments that are a text", modern(call("text")), _400, frozenset({PARAMS})),
    Abuse("an answer to nothing, new era", modern({"jsonrpc": "2.0", "id": 1, "result": {}}), _400, frozenset({INVALID})),
    Abuse(
        "a request state that was made up",
        modern({**call(), "params": {**call()["params"], "requestState": "bWFkZSB1cA", "inputResponses": {}}}),
        frozenset({400, 200}),
        attack=10,
    ),
]

_SESSIONS: Final = (
    [
        Abuse(
            f"{method} with {name}",
            plain(
                method,
                f"Mcp-Session-Id: {session}",
                f"MCP-Protocol-Version: {LEGACY}",
                "Accept: text/event-stream",
                "Content-Length: 0",
            ),
            frozenset({404, 400}),
            attack=3,
        )
        for method in ("GET", "DELETE")
        for name, session in (
            ("a session that there is not", "f" * 32),
            ("a session of rubbish", "../../etc/passwd"),
            ("a long session", "a" * 4000),
        )
    ]
    + [
        Abuse(
            f"a call with {name}",
            lambda at, session=session: post(at, old_call(), f"Mcp-Session-Id: {session}", f"MCP-Protocol-Version: {LEGACY}"),
            frozenset({404, 400}),
            attack=3,
        )
        for name, session in (
            ("a session that there is not", "f" * 32),
            ("a session of rubbish", "' OR 1=1 --"),
            ("a session of no letters", ""),
        )
    ]
    + [
        Abuse(f"{method}, which there is not", plain(method, "Content-Length: 0"), frozenset({405}))
        for method in ("PUT", "PATCH", "TRACE")
    ]
    + [
        Abuse(
            "GET in the new era",
            plain("GET", f"MCP-Protocol-Version: {MODERN}", "Accept: text/event-stream"),
            frozenset({405}),
        ),
    ]
)

_HOSTS: Final = [
    *(
        Abuse(
            f"Host {host}, {era}",
            at_host(host, build(message)),
            frozenset({421, 403, 400}),
            attack=2 if "localhost" in host or "127" in host else 1,
        )
        for era, build, message in _ERAS
        for host in (
            "evil.example",
            "evil.example:PORT",
            "localhost.evil.example",
            "localhost:1.evil.com",
            "127.0.0.1:PORT@evil.example",
            "evil.example@127.0.0.1:PORT",
            "127.0.0.1:PORT:80",
            "127.0.0.1:",
            "localhost:http",
            "[::1]evil",
            "2130706433",
            "0.0.0.0:PORT",
            "",
        )
    ),
    *(
        Abuse(
            f"Origin {origin}, {era}",
            build(message, f"Origin: {origin}"),
            frozenset({403, 421}),
            attack=2 if "localhost" in origin or "127" in origin else 1,
        )
        for origin in (
            "null",
            "http://evil.example",
            "https://evil.example",
            "http://localhost:1.evil.com",
            "http://127.0.0.1.evil.example",
            "http://127.0.0.1:80@evil.example",
            "http://localhost@evil.example",
            "file://",
            "chrome-extension://abcdef",
            "http://",
            "//127.0.0.1",
            "http://127.0.0.1/path",
        )
        for era, build, message in _ERAS
    ),
]

ABUSE: Final[list[Abuse]] = [*_BODIES, *_SIZES, *_TYPES, *_ACCEPTS, *_HEADERS, *_CALLS, *_SESSIONS, *_HOSTS]
"""Every case."""
