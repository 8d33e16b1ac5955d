"""What a forked process inherits and cannot use: locks that nobody will release, decoders whose threads are missing.

A fork copies only the thread that called it. A lock that another thread held stays locked in the child, and FFmpeg
waits for ever for the decoding threads of a decoder that the child inherited, even to free it.
"""

from __future__ import annotations

import ctypes
import gc
import os
import threading
import weakref
from typing import Any, Protocol


class Inherited(Protocol):
    """What has to be told that it is a copy in a forked process."""

    def after_fork(self) -> None:
        """Called in the child, before anything else runs there. It must not wait."""


_watched: weakref.WeakSet[Any] = weakref.WeakSet()
_leaked: list[Any] = []


def watch_forks(inherited: Inherited) -> None:
    """Call its `after_fork` in every forked child, for as long as it lives."""
    _watched.add(inherited)


class ForkSafeLock:
    """A re-entrant lock that is free in a forked child, whoever held it in the parent."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        watch_forks(self)

    def after_fork(self) -> None:
        """See `Inherited`."""
        if not self._lock._is_owned():  # type: ignore[attr-defined]  # the thread that forked goes on holding it
            self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def leak(*things: Any) -> None:
    """Never free these, not even when the interpreter ends."""
    _leaked.extend(things)
    for thing in things:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))  # the list is emptied when the interpreter ends


_is_paused = False  # whether the garbage collector is off because of a fork


def _before_fork() -> None:
    """Until `after_fork` was called, the collector must not free a decoder in the child."""
    global _is_paused
    if gc.isenabled():  # if not, a program has it off, or another thread is forking
        _is_paused = True
        gc.disable()


def _collect_again() -> None:
    global _is_paused
    if _is_paused:
        _is_paused = False
        gc.enable()


def _after_fork() -> None:
    for inherited in list(_watched):
        inherited.after_fork()
    _collect_again()


if hasattr(os, "register_at_fork"):  # Windows has neither this nor forks
    os.register_at_fork(before=_before_fork, after_in_parent=_collect_again, after_in_child=_after_fork)
