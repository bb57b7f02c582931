"""`make bench`: every benchmark, in one run. The exit code is 0 when every target was met."""

from __future__ import annotations

import sys

import http_asks
import in_process

if __name__ == "__main__":
    results = [in_process.main(), http_asks.main()]
    sys.exit(0 if all(results) else 1)
