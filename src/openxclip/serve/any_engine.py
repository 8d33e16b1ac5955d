"""What the routes need of an engine; tests have another one than `Engine`."""

from __future__ import annotations

from typing import Any, Protocol

from openxclip.serve.engine.engine import OnProgress
from openxclip.serve.engine.state import EngineState
from openxclip.serve.engine.tasks import Task


class AnyEngine(Protocol):
    """Runs tasks in other processes, as `Engine` does."""

    async def start(self) -> None:
        """See `Engine.start`."""

    async def stop(self) -> None:
        """See `Engine.stop`."""

    async def run(self, task: Task, *, on_progress: OnProgress | None = None) -> Any:
        """See `Engine.run`."""

    def check_room(self) -> None:
        """See `Engine.check_room`."""

    @property
    def state(self) -> EngineState:
        """See `Engine.state`."""
