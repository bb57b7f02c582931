"""The live page in Chromium: how long until it is painted, until what happened is seen, and until the last of many runs is.

Targets: first paint below a second, also with ten thousand agents or a hundred thousand runs; of a thousand events a second, each
on the page less than 200 ms after it happened (the 99th percentile). Both ends share the machine: the browser, the gateway and
this program.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway import served
from playwright.sync_api import sync_playwright
from stored_runs import filled

if TYPE_CHECKING:
    from collections.abc import Generator

    from playwright.sync_api import Browser

PAINT = 1000.0
SEEN = 200.0
RATE = 1000
AGENTS = (20, 10_000)
SECONDS = 10
RUNS = 100_000
MOST_ROWS = 100
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]

WATCH = """
new Promise((done) => {
  const news = document.querySelector("main");
  const seen = new Map();
  const look = () => {
    const now = Date.now() / 1000;
    for (const one of document.querySelectorAll(".news li span")) {
      const at = one.textContent.match(/RuntimeError: (\\d+\\.\\d+)/)?.[1];
      if (at && !seen.has(at)) seen.set(at, (now - Number(at)) * 1000);
    }
  };
  look();
  seen.clear();
  const first = performance.now();
  new MutationObserver(look).observe(news, { subtree: true, childList: true, characterData: true });
  setTimeout(() => done({ delays: [...seen.values()].slice(60), seconds: (performance.now() - first) / 1000 }), SECONDS * 1000);
})
"""
"""How old each event was when it came to stand on the page, in milliseconds; without those that stood there at the beginning."""

TO_THE_END = """
new Promise((done) => {
  const box = document.querySelector("#runs");
  const begun = performance.now();
  let [rows, last, longest] = [0, begun, 0];
  const step = (now) => {
    longest = Math.max(longest, now - last);
    last = now;
    rows = Math.max(rows, box.querySelectorAll("[data-run]").length);
    if (document.querySelector(".list-foot").textContent.trim() === "TOTAL runs")
      return done({ seconds: (performance.now() - begun) / 1000, rows, longest });
    box.scrollTop = box.scrollHeight;
    requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
})
"""
"""Scroll until the last run is there: seconds, rows in the document at most, and the longest time between two frames (ms)."""


@contextmanager
def crier(rate: int, agents: int) -> Generator[str]:
    """A gateway in which things happen."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, str(Path(__file__).with_name("crier.py")), str(port), str(rate), str(agents)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield f"http://127.0.0.1:{port}/console"
        finally:
            process.kill()


def painted(browser: Browser, address: str) -> tuple[float, float]:
    """Milliseconds to the first contentful paint, and until the tree stands there."""
    page = browser.new_context().new_page()
    page.goto(address)
    page.wait_for_selector("[role=treegrid]")
    tree = page.evaluate("performance.now()")
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    page.context.close()
    return paint, tree


def delays(browser: Browser, address: str) -> tuple[list[float], float]:
    """How old events were when they were seen, and how many were seen in a second."""
    page = browser.new_context().new_page()
    page.goto(f"{address}#/traffic")
    page.wait_for_selector(".news li")
    found: Any = page.evaluate(WATCH.replace("SECONDS", str(SECONDS)))
    page.context.close()
    return sorted(found["delays"]), len(found["delays"]) / found["seconds"]


def scrolled(browser: Browser, address: str, runs: int) -> bool:
    """Measure the list of many runs, and print. Returns whether it was there within the target."""
    page = browser.new_context().new_page()
    page.goto(f"{address}#/runs")
    page.wait_for_selector("[data-run]")
    first = page.evaluate("performance.now()")
    end: Any = page.evaluate(TO_THE_END.replace("TOTAL", f"{runs:,}"))
    begun = page.evaluate("performance.now()")
    page.get_by_label("Run id").fill("finished-0000000")
    page.wait_for_selector("[data-run=finished-0000000]")
    found = page.evaluate("performance.now()") - begun
    heap = page.evaluate("performance.memory.usedJSHeapSize") / 2**20
    page.context.close()
    print(
        f"console: of {runs:,} runs the first stand there after {first:.0f} ms (target {PAINT:.0f}); the last is scrolled to after"
        f" {end['seconds']:.1f} s, with {end['rows']} rows in the document (target {MOST_ROWS}), no frame later than"
        f" {end['longest']:.0f} ms (target {SEEN:.0f}); the oldest is found by its id after {found:.0f} ms (target {PAINT:.0f});"
        f" {heap:.0f} MiB of heap"
    )
    return first < PAINT and end["rows"] < MOST_ROWS and end["longest"] < SEEN and found < PAINT


def main() -> bool:
    """Measure and print. Returns whether the targets were met."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        print("console: there is no Chromium here, nothing is measured")
        return True
    good, data = True, filled(RUNS)  # before the browser, which keeps an event loop of its own in this thread
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        for agents in AGENTS:
            with crier(0, agents) as address:
                painted(browser, address)  # the browser's own first time
                rounds = [painted(browser, address) for _ in range(3)]
            paint, tree = sorted(rounds)[1]
            good = good and paint < PAINT
            print(
                f"console: {agents:,} agents: first paint after {paint:.0f} ms (target {PAINT:.0f}), the tree after {tree:.0f} ms"
            )
        with crier(RATE, AGENTS[0]) as address:
            found, rate = delays(browser, address)
        with served(data) as gateway:
            good = scrolled(browser, f"http://127.0.0.1:{gateway.port}/console", RUNS) and good
        browser.close()
    if not found:
        print("console: no event was seen")
        return False
    middle, high = found[len(found) // 2], found[int(len(found) * 0.99)]
    good = good and high < SEEN
    shares = f"{middle:.0f} ms, 99 % within {high:.0f} ms (target {SEEN:.0f})"
    print(f"console: of {RATE} events/s, {rate:.0f} each second were seen after {shares}")
    return good


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
