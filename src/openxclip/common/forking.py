"""Handle what a forked process inherits but can't use: locked locks, and decoders without their threads.

A fork copies only the thread that called it. A lock that another thread held stays locked in the child. FFmpeg waits
for ever for the threads of an inherited decoder, even when it frees the decoder.
"""

from __future__ import annotations

import ctypes
import gc
import os
import threading
import weakref
from typing import Any, Protocol


class Inherited(Protocol):
    """An object that has to know that it is a copy in a forked process."""

    def after_fork(self) -> None:
        """Adapt to the child process. It is called before anything else runs there, and must not wait."""


_watched: weakref.WeakSet[Any] = weakref.WeakSet()
_leaked: list[Any] = []


def watch_forks(inherited: Inherited) -> None:
    """Call the object's `after_fork` in every forked child, for as long as the object lives."""
    _watched.add(inherited)


class ForkSafeLock:
    """A re-entrant lock that is free in a forked child, whoever held it in the parent."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        watch_forks(self)

    def after_fork(self) -> None:
        """See `Inherited`."""
        if not self._lock._is_owned():  # type: ignore[attr-defined]  # the forking thread still holds it
            self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def leak(*objects: Any) -> None:
    """Never free these objects, not even when the interpreter ends."""
    _leaked.extend(objects)
    for item in objects:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(item))  # the list is emptied when the interpreter ends


_is_paused = False  # whether a fork has turned the garbage collector off


def _before_fork() -> None:
    """Turn the garbage collector off: it must not free a decoder in the child before `after_fork` was called."""
    global _is_paused
    if gc.isenabled():  # else the program or another thread's fork has turned it off
        _is_paused = True
        gc.disable()


def _resume_collection() -> None:
    global _is_paused
    if _is_paused:
        _is_paused = False
        gc.enable()


def _after_fork() -> None:
    for inherited in list(_watched):
        inherited.after_fork()
    _resume_collection()


if hasattr(os, "register_at_fork"):  # Windows has neither this nor forks
    os.register_at_fork(before=_before_fork, after_in_parent=_resume_collection, after_in_child=_after_fork)
