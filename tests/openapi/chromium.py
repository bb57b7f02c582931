"""Chromium without a window and without a network, driven over its DevTools protocol. For tests that look at a page."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import pytest
from websockets.sync.client import connect

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from websockets.sync.client import ClientConnection

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
PATIENCE = 30.0


class Page:
    """A page that is being shown. `asked` has the addresses it requested, `complaints` what its console says."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._number = 0
        self.asked: list[str] = []
        self.complaints: list[str] = []

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """One command and its result."""
        self._number += 1
        self._connection.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            message = json.loads(self._connection.recv(timeout=PATIENCE))
            if message.get("id") == self._number:
                return cast("dict[str, Any]", message.get("result", {}))
            self._note(message.get("method", ""), message.get("params", {}))

    def _note(self, method: str, params: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.asked.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(str(params["exceptionDetails"].get("exception", params)))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.complaints.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")

    def show(self, url: str) -> None:
        """Go to an address."""
        for domain in ("Network", "Runtime", "Log", "Page"):
            self.send(f"{domain}.enable")
        self.send("Page.navigate", url=url)

    def evaluate(self, script: str) -> Any:
        """What a JavaScript expression says."""
        done = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        return done.get("result", {}).get("value")

    def wait_for(self, script: str) -> Any:
        """Until an expression says something true."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            value = self.evaluate(f"new Promise((done) => setTimeout(() => done({script}), 20))")
            if value:
                return value
        text = self.evaluate("document.body && document.body.innerText")
        pytest.fail(f"{script} did not come true. The page says: {text!r}; its console: {self.complaints}")


@contextmanager
def new_page(profile: Path) -> Generator[Page]:
    """A page of a new browser that reaches this machine only. Skips the test where there is no Chromium."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium on this machine: install it to see the documentation pages rendered")
    command = [
        found,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        "--no-proxy-server",
        "--remote-debugging-port=0",
        f"--user-data-dir={profile}",
        "about:blank",
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as browser:
        try:
            with connect(_page_address(browser), max_size=None, proxy=None) as connection:
                yield Page(connection)
        finally:
            browser.terminate()


def _page_address(browser: subprocess.Popen[str]) -> str:
    for line in browser.stderr or ():
        match = re.search(r"DevTools listening on (ws://\S+?)/devtools/", line)
        if match:
            with connect(line.rpartition(" ")[2].strip(), proxy=None) as connection:
                connection.send(json.dumps({"id": 1, "method": "Target.getTargets"}))
                targets = json.loads(connection.recv(timeout=PATIENCE))["result"]["targetInfos"]
            target = next(one["targetId"] for one in targets if one["type"] == "page")
            return f"{match[1]}/devtools/page/{target}"
    pytest.fail("Chromium ended before it listened")
