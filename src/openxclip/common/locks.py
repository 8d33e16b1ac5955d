"""Locks on files, which end with the process that holds them."""

from __future__ import annotations

import errno
from typing import IO, Any


def take_lock(file: IO[Any]) -> bool:
    """Whether the file is now locked for this process, until it is closed or the process ends; or can't be locked."""
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:  # or a file system without locks
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    return True
