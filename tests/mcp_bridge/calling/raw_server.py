"""An external MCP server that is written by hand, so that it can do what no library does: `raw_server.py [--new] [--tools FILE]`.

Not a test. Speaks JSON-RPC over stdio, one thread for each call; `--new` is the revision of 2026-07-28, else 2025-11-25.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import queue
import socket
import sys
import threading
from pathlib import Path
from typing import Any

parser = argparse.ArgumentParser()
parser.add_argument("--new", action="store_true")
parser.add_argument("--tools", type=Path)
parser.add_argument("--notes", type=Path)
options = parser.parse_args()

lock = threading.Lock()
numbers = itertools.count(1)
answers: dict[str, queue.Queue[Any]] = {}
FORM = {"type": "object", "properties": {"color": {"type": "string"}}, "required": ["color"]}
ANY = {"type": "object"}


def write(message: dict[str, Any]) -> None:
    with lock:
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        sys.stdout.flush()


def note(line: str) -> None:
    if options.notes is not None:
        with options.notes.open("a", encoding="utf-8") as notes:
            notes.write(line + "\n")


def listing() -> list[dict[str, Any]]:
    if options.tools is not None:
        return json.loads(options.tools.read_text())
    names = ("big", "ask", "ask_url", "sample", "roots", "look", "wait", "tell", "ask_often", "late_ask")
    return [{"name": name, "inputSchema": ANY} for name in names]


def request(method: str, params: dict[str, Any]) -> Any:
    """A request to the client, as the old era has it."""
    number = f"s{next(numbers)}"
    answers[number] = queue.Queue()
    write({"id": number, "method": method, "params": params})
    return answers[number].get(timeout=60)


def input_of(kind: str, arguments: dict[str, Any]) -> dict[str, Any]:
    if kind == "sample":
        said = arguments.get("said", "What is 2 + 3?")
        content = {"type": "text", "text": said} if isinstance(said, str) else said
        params: dict[str, Any] = {"messages": [{"role": "user", "content": content}], "maxTokens": 100, "systemPrompt": "Be brief."}
        return {"method": "sampling/createMessage", "params": params}
    if kind == "roots":
        return {"method": "roots/list"}
    if kind == "ask_url":
        params = {"mode": "url", "message": "Please pay.", "url": "https://pay.example/1", "elicitationId": "e1"}
        return {"method": "elicitation/create", "params": params}
    params = {"message": arguments.get("message", "Which colour?"), "requestedSchema": arguments.get("schema", FORM)}
    return {"method": "elicitation/create", "params": params}


def ask(kind: str, params: dict[str, Any]) -> dict[str, Any]:
    """One question to the client, by the way of its era; the answer is the result."""
    arguments = params.get("arguments", {})
    wanted = input_of(kind, arguments)
    if not options.new:
        return text(json.dumps(request(wanted["method"], wanted.get("params", {}))))
    responses = params.get("inputResponses")
    if kind == "ask_often" or responses is None:
        round_ = int(params.get("requestState") or 0) + 1
        return {"resultType": "input_required", "inputRequests": {"one": wanted}, "requestState": str(round_)}
    return text(json.dumps({"result": responses["one"], "state": params["requestState"]}))


def text(said: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": said}], **({"resultType": "complete"} if options.new else {})}


def look(arguments: dict[str, Any]) -> dict[str, Any]:
    """What the server can reach from where it runs."""
    seen: dict[str, Any] = {"environment": dict(os.environ), "cwd": str(Path.cwd()), "uid": os.getuid()}
    for path in arguments.get("read", []):
        try:
            seen[path] = sorted(map(str, Path(path).iterdir())) if Path(path).is_dir() else Path(path).read_text()
        except OSError as error:
            seen[path] = type(error).__name__
    for path in arguments.get("write", []):
        try:
            Path(path).write_text("written")
            seen[f"write {path}"] = "done"
        except OSError as error:
            seen[f"write {path}"] = type(error).__name__
    if "port" in arguments:
        try:
            socket.create_connection(("127.0.0.1", arguments["port"]), timeout=5).close()
            seen["port"] = "connected"
        except OSError as error:
            seen["port"] = type(error).__name__
    seen["processes"] = [entry.name for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    seen["descriptors"] = sorted(entry.name for entry in Path("/proc/self/fd").iterdir())
    return text(json.dumps(seen))


def called(params: dict[str, Any]) -> dict[str, Any]:
    name, arguments = params["name"], params.get("arguments", {})
    note(f"called {name}")
    if name == "big":
        return text("x" * arguments["size"])
    if name == "look":
        return look(arguments)
    if name == "wait":
        threading.Event().wait(30)
    if name == "late_ask":
        threading.Thread(target=request, args=("elicitation/create", input_of("ask", {})["params"]), daemon=True).start()
        return text("answered")
    if name in {"ask", "ask_url", "sample", "roots", "ask_often"}:
        return ask(name, params)
    return text("done")


def answer(message: dict[str, Any]) -> None:
    method, params = message["method"], message.get("params", {})
    stamp = {"_meta": {"io.modelcontextprotocol/serverInfo": {"name": "raw", "version": "1"}}}
    if method == "server/discover" and options.new:
        kept = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private", **stamp}
        result: dict[str, Any] = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, **kept}
    elif method == "initialize":
        note("capabilities " + json.dumps(params["capabilities"]))
        info = {"serverInfo": {"name": "raw", "version": "1"}, "capabilities": {"tools": {"listChanged": True}}}
        result = {"protocolVersion": "2025-11-25", **info}
    elif method == "tools/list":
        extra = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private", **stamp} if options.new else {}
        result = {"tools": listing(), **extra}
    elif method == "tools/call":
        if options.new:
            note("capabilities " + json.dumps(params["_meta"]["io.modelcontextprotocol/clientCapabilities"]))
        result = called(params)
        if params["name"] == "tell":
            write({"method": "notifications/tools/list_changed"})
    else:
        write({"id": message["id"], "error": {"code": -32601, "message": "Method not found"}})
        return
    write({"id": message["id"], "result": result})


for line in sys.stdin:
    arrived = json.loads(line)
    if "method" not in arrived:
        answers[arrived["id"]].put(arrived.get("result", {"error": arrived.get("error")}))
    elif "id" in arrived:
        threading.Thread(target=answer, args=(arrived,), daemon=True).start()
