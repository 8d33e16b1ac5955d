"""A process without a model, whose tasks wait, fail and die as they are told. It imports little, so it starts soon."""

from __future__ import annotations

import os
import signal
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any, ClassVar

from openxclip.errors import CheckpointError, DecoderCrashError
from openxclip.serve.engine.child import serve_tasks
from openxclip.serve.engine.settings import EngineSettings
from openxclip.serve.engine.tasks import Lane, Task
from openxclip.serve.engine.wire import Channel
from openxclip.serve.engine.work import Work


@dataclass(frozen=True, kw_only=True)
class Return(Task):
    value: Any = None


@dataclass(frozen=True, kw_only=True)
class Texts(Return):
    lane: ClassVar[Lane] = "texts"


@dataclass(frozen=True, kw_only=True)
class Pid(Task):
    pass


@dataclass(frozen=True, kw_only=True)
class Wait(Task):
    """Waits for a file, step by step as a video is read clip by clip; with `deaf`, without looking whether it may."""

    until: Path
    deaf: bool = False


@dataclass(frozen=True, kw_only=True)
class Die(Task):
    pass


@dataclass(frozen=True, kw_only=True)
class Fail(Task):
    error: BaseException
    path: Path | None = None
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Crash(Task):
    """Reads a video whose decoder dies some times."""

    times: int
    path: Path = Path("/data/uploads/1")
    name: str = "mine.mp4"


@dataclass(frozen=True, kw_only=True)
class Warn(Task):
    text: str
    path: Path = Path("/data/uploads/1")
    name: str = "mine.mp4"


@dataclass(frozen=True, kw_only=True)
class Progress(Task):
    steps: int


@dataclass
class FakeHandler:
    settings: EngineSettings
    lanes: Mapping[Lane, int] = field(default_factory=lambda: {"videos": 2, "texts": 1})
    hidden: Mapping[str, str] = field(default_factory=lambda: {"/data": "the data folder"})

    def describe(self) -> dict[str, Any]:
        return {"model": self.settings.model}

    def prepare(self) -> str | None:
        return "the index is another model's." if self.settings.model == "wrong index" else None

    def do(self, task: Any, work: Work) -> Any:
        if isinstance(task, Wait):
            while not task.until.exists():
                if not task.deaf:
                    work.check()
                time.sleep(0.005)
        elif isinstance(task, Die):
            os.kill(os.getpid(), signal.SIGKILL)
        elif isinstance(task, Fail):
            raise task.error
        elif isinstance(task, Crash):
            left = [DecoderCrashError(str(task.path), f"{task.path} crashed the decoder")] * task.times

            def read() -> str:
                if left:
                    raise left.pop()
                return "read"

            return work.read_twice(read)
        elif isinstance(task, Warn):
            warnings.warn_explicit(task.text, UserWarning, __import__("openxclip").__file__, 1)
            return work.notes
        elif isinstance(task, Progress):
            for step in range(task.steps):
                time.sleep(0.11)  # progress is sent some times a second
                work.progress(step, task.steps)
        elif isinstance(task, Pid):
            return os.getpid()
        return getattr(task, "value", None)


def load(settings: dict[str, Any]) -> FakeHandler:
    """Make a handler; the model's name says what happens meanwhile, and counts in a file how often it did."""
    own: EngineSettings = settings["engine"]
    starts = own.data / "starts"
    with starts.open("a") as file:
        file.write("start\n")
    if own.model == "missing":
        raise CheckpointError("missing: there is no such model: check the name.")
    if own.model == "broken":
        raise KeyError("what")
    if own.model == "dies once" and starts.read_text().count("start") == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if own.model == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    return FakeHandler(own)


def serve(channel: Channel, messages: SimpleQueue[tuple[Any, ...]]) -> None:
    serve_tasks(channel, messages, load)
