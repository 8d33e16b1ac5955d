"""Wait for processes."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path


def is_gone(pid: int, timeout_s: float = 60) -> bool:
    """Tell whether a process, not necessarily a child of this one, ends in time."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        with suppress(OSError):
            stat = Path(f"/proc/{pid}/stat").read_text()
            if stat.rpartition(")")[2].split()[0] == "Z":
                return True  # a zombie: it has ended, but nobody collects its status
        time.sleep(0.02)
    return False
