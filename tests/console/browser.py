"""Chromium without a window, driven by Playwright: for tests that look at the live page as its users do.

Installed by `scripts/install-chromium` on first use. Where that cannot be done, the tests are skipped aloud; under CI they fail.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest
from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Generator

    from playwright.sync_api import Browser, ConsoleMessage, Page

ROOT = Path(__file__).parents[2]
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
PATIENCE = 600
"""Seconds that installing may take."""
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP gateway.example 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    "--no-proxy-server",
)
ELSEWHERE = "gateway.example"
"""Another name of this machine: to the gateway, whoever asks by it comes from another one."""
DESKTOP = (1280, 800)
PHONE = (390, 844)
SMALL_PHONE = (320, 640)


@functools.cache
def installed() -> str | None:
    """Install what is not there. Returns why that cannot be done, or None."""
    done = subprocess.run([ROOT / "scripts" / "install-chromium"], capture_output=True, text=True, timeout=PATIENCE, check=False)
    return None if done.returncode == 0 else done.stdout + done.stderr


def required() -> str:
    """Where Chromium is. Skips the test that calls this where there is none; fails it under CI."""
    if (why := installed()) is not None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"Chromium cannot be installed: {why}")
    return next(path for name in NAMES if (path := shutil.which(name)))


@contextmanager
def launched() -> Generator[Browser]:
    """A browser of its own, which reaches this machine only. Close it before anything asynchronous runs in this thread."""
    path = required()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Visit:
    """Pages that one test opens. At its end nothing may have complained and nothing may have come from elsewhere."""

    browser: Browser
    complaints: list[str] = field(default_factory=list[str])
    elsewhere: list[str] = field(default_factory=list[str])
    expected: list[str] = field(default_factory=list[str])

    def show(
        self,
        address: str,
        *,
        size: tuple[int, int] = DESKTOP,
        scheme: Literal["light", "dark"] = "light",
        expected: str | None = None,
        key: str | None = None,
        script: str | None = None,
    ) -> Page:
        """Go to an address in a new window.

        Args:
            address: the URL.
            size: of the window, in pixels; a narrow one is a phone's.
            scheme: what the system prefers.
            expected: complaints that are part of the test, as a pattern: a server that is killed, a key that is refused.
            key: signed in with this key.
            script: runs before the page's own.
        """
        if expected is not None:
            self.expected.append(expected)
        phone = size[0] < 600
        context = self.browser.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, has_touch=phone, locale="en-GB", timezone_id="UTC"
        )
        if key is not None:
            context.add_init_script(f"sessionStorage.setItem('portico.key', {key!r})")
        if script is not None:
            context.add_init_script(script)
        page = context.new_page()
        origin = re.match(r"https?://[^/]+", address)
        own = (origin[0] if origin else address, "data:", "blob:")
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: None if request.url.startswith(own) else self.elsewhere.append(request.url))
        page.goto(address, wait_until="domcontentloaded")
        return page

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(f"{message.text} {message.location.get('url', '')}")

    def end(self) -> None:
        """Close every window, and fail where a page complained."""
        for context in list(self.browser.contexts):
            context.close()
        left = [one for one in self.complaints if not any(re.search(pattern, one) for pattern in self.expected)]
        assert left == []
        assert self.elsewhere == []
