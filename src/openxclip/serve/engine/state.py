"""What the engine is doing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Loading = Literal["unloaded", "loading", "ready", "failed"]


@dataclass(frozen=True, kw_only=True)
class EngineState:
    """What the engine is doing.

    Attributes:
        state: "unloaded" (the next request loads the model), "loading", "ready", or "failed" (it can't be loaded).
        model: the model's name in the settings.
        error: why the model can't be loaded; None unless "failed".
        problem: why the index can't be searched, although the model is loaded; None if it can be, or isn't known.
        queue: number of requests that wait.
        running: number of requests in the model's process.
        precision, device: how the model computes; None unless "ready".
        pid: process that holds the model; None if there is none.
        rss: memory of this process and its decoders in bytes; None if it is unknown.
        media_queue: number of frames and previews that wait.
    """

    state: Loading
    model: str
    error: str | None = None
    problem: str | None = None
    queue: int = 0
    running: int = 0
    precision: str | None = None
    device: str | None = None
    pid: int | None = None
    rss: int | None = None
    media_queue: int = 0
