"""Wait for processes, and call functions in forked ones."""

from __future__ import annotations

import gc
import os
import select
import signal
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

PATIENCE = 60.0
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")


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


def in_fork(call: Callable[[], object]) -> str:
    """Return the result or error of a call in a forked process; fail if that process doesn't end."""
    out, into = os.pipe()
    gc.collect()  # a child that freed decoders of earlier tests would wait for threads that it doesn't have
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forks beside threads are intended here
        pid = os.fork()
    if pid == 0:
        result = "nothing"
        try:
            result = str(call())
        except BaseException as error:
            result = f"{type(error).__name__}: {error}"
        finally:
            os.write(into, result.encode())
            os._exit(0)
    os.close(into)
    try:
        if not select.select([out], [], [], PATIENCE)[0]:
            os.kill(pid, signal.SIGKILL)
            pytest.fail("the forked process hangs")
        return os.read(out, 10_000).decode()
    finally:
        os.waitpid(pid, 0)
        os.close(out)
