"""A station whose process has no model, and what tests need to use it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from openxclip.serve.engine.metrics import Metrics
from openxclip.serve.engine.settings import EngineSettings
from openxclip.serve.engine.station import Station
from openxclip.serve.engine.tasks import Lane

Value = TypeVar("Value")
PATIENCE_S = 60.0


@asynccontextmanager
async def station(
    folder: Path,
    *,
    model: str = "fake",
    lanes: Mapping[Lane, int] | None = None,
    queue_size: int = 4,
    time_limit: float = PATIENCE_S,
    idle: float | None = None,
    metrics: Metrics | None = None,
) -> AsyncIterator[Station]:
    """A station with the process of `station_child`."""
    settings = EngineSettings(
        model=model, precision="auto", device=None, max_duration=60.0, concurrency=1, index=folder / "index",
        data=folder,
    )  # fmt: skip
    made = Station(
        "model", "station_child", lanes or {"videos": 1, "texts": 1}, settings, queue_size=queue_size,
        time_limit=time_limit, idle=idle, metrics=metrics or Metrics(),
    )  # fmt: skip
    made.start()
    try:
        yield made
    finally:
        await made.stop(0.0)


def run(work: Awaitable[Value]) -> Value:
    """Run a coroutine to its end."""

    async def limited() -> Value:
        return await asyncio.wait_for(work, PATIENCE_S)

    return asyncio.run(limited())


async def until(condition: Callable[[], object]) -> None:
    """Wait until something is true."""
    while not condition():
        await asyncio.sleep(0.005)


def value_of(metrics: Metrics, name: str, **labels: str) -> float | None:
    """The value of a counter."""
    return metrics.registry.get_sample_value(f"openxclip_{name}", labels)
