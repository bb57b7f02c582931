"""Memory: how much of it a process holds."""

from __future__ import annotations

import re
from pathlib import Path


def resident(pid: int) -> int:
    """Resident memory in KiB."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) if found else 0
