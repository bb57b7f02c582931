"""Screenshots: takes the pictures of the live page that the documentation shows. No test; `scripts/screenshots` runs it.

The demo is served and used a little; then every view is photographed as people see it, on a desk and on a phone, light and dark.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import httpx

from tests.console.browser import DESKTOP, PHONE, ROOT, Visit, launched
from tests.console.program import running

if TYPE_CHECKING:
    from playwright.sync_api import Browser

DEMO = ROOT / "examples" / "demo" / "topology.yaml"
PICTURES = ROOT / "docs" / "images"
BUSY = 14.0
"""Seconds for which the demo is used before the pictures are taken, and on."""
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


def use(url: str, enough: threading.Event) -> None:
    """Ask the demo's agents, some of which crash, until it is enough."""
    asks: tuple[tuple[str, Any], ...] = (
        ("echo", {"text": "hello"}),
        ("echo", {"text": "once more"}),
        ("counter", {"add": 1}),
        ("flaky", {"number": 21}),
        ("notebook", {"visitor": "ada"}),
        ("notebook", {"visitor": "grace"}),
    )
    with httpx.Client(base_url=url, timeout=20) as client:
        for number in range(6):
            client.post("/agents/worker", json={"steps": 3 + number}, headers={"Prefer": "respond-async"})
        client.post("/runs", json={"agent": "worker", "payload": {"steps": 400}})
        client.post("/runs", json={"agent": "clerk", "payload": {"item": "A chair", "price": 900}})
        number = 0
        while not enough.wait(0.03):
            agent, payload = asks[number % len(asks)]
            client.post(f"/agents/{agent}", json=payload)
            number += 1


def photograph(browser: Browser, console: str, views: dict[str, str], folder: Path) -> None:
    """Every view, in each size and scheme."""
    for device, size in (("desktop", DESKTOP), ("phone", PHONE)):
        for scheme in SCHEMES:
            visit = Visit(browser)
            page = visit.show(console, size=size, scheme=scheme)
            page.wait_for_timeout(BUSY * 1000 if device == "desktop" else 4000)
            for name, address in views.items():
                page.evaluate("(address) => { location.hash = address }", address)
                page.wait_for_timeout(1500)
                page.screenshot(path=folder / f"console-{name}-{device}-{scheme}.png")
            visit.end()


def main(folder: Path = PICTURES) -> None:
    """Take them all."""
    folder.mkdir(parents=True, exist_ok=True)
    enough = threading.Event()
    with running(DEMO) as program:
        question = {"message": "Which documents are there?"}
        told = httpx.post(f"{program.url}/agents/librarian", json=question, headers={"Prefer": "respond-async"}, timeout=20)
        user = threading.Thread(target=use, args=(program.url, enough))
        user.start()
        try:
            views = {
                "tree": "#/tree",
                "agent": "#/tree/flaky",
                "traffic": "#/traffic",
                "runs": "#/runs",
                "run": f"#/runs/{told.json()['run_id']}",
                "waiting": "#/waiting",
                "dead-letters": "#/dead-letters",
                "upstreams": "#/upstreams",
                "usage": "#/usage",
                "audit": "#/audit",
            }
            with launched() as browser:
                photograph(browser, program.console, views, folder)
        finally:
            enough.set()
            user.join()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
