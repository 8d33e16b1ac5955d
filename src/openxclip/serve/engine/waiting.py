"""The tasks of a station: those that wait in the queue of a lane, and those that run."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from openxclip.serve.engine.process import ChildProcess
from openxclip.serve.engine.tasks import Lane, Task

OnProgress = Callable[[float, float], None]


@dataclass(eq=False)
class Request:
    """A task that waits or runs.

    Attributes:
        future: gets the result for the caller.
        reply: gets the answer of the process; None while the task waits.
        process: the process that does it.
        is_abandoned: whether nobody wants the result any more.
    """

    number: int
    task: Task
    on_progress: OnProgress | None
    future: asyncio.Future[Any]
    since: float = field(default_factory=time.monotonic)
    reply: asyncio.Future[tuple[Any, ...]] | None = None
    process: ChildProcess | None = None
    is_abandoned: bool = False


@dataclass(eq=False)
class Waiting:
    """The queue of a lane.

    Attributes:
        name: the lane.
        slots: how many run at once.
        waiting: those that wait.
        arrived: set when one arrives.
        seconds: mean time of a task; None before the first.
        running: how many run.
    """

    name: Lane
    slots: int
    waiting: deque[Request] = field(default_factory=deque)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    seconds: float | None = None
    running: int = 0
