"""Locks on files, which are released when the process ends."""

from __future__ import annotations

import errno
from typing import IO, Any


def take_lock(file: IO[Any]) -> bool:
    """Lock an open file until it is closed; False if another process holds the lock.

    True is also returned on systems and file systems without locks.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:  # or a file system without locks
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    return True
