"""Waiting for processes."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path


def is_gone(pid: int, patience: float = 60) -> bool:
    """Whether a process, of which this one may not be the parent, ends in time."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        with suppress(OSError):
            stat = Path(f"/proc/{pid}/stat").read_text()
            if stat.rpartition(")")[2].split()[0] == "Z":
                return True  # it has ended, and nobody collects its status
        time.sleep(0.02)
    return False
