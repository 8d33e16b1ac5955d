"""The process of a job, which does what the job's first path says."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from openxclip.serve.engine.wire import Channel


def serve(channel: Channel, messages: SimpleQueue[tuple[Any, ...]]) -> None:
    _, _, arguments, settings = messages.get()
    what = Path(arguments["paths"][0]).name
    try:
        channel.send(("progress", {"done": 0, "total": 2, "pid": os.getpid()}))
        if what == "killed" or (what == "killed once" and not _has_run(settings.data)):
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "fails":
            channel.send(("error", "video_index", "the index is being written by another process."))
            return
        channel.send(("note", "2.mp4: is damaged"))
        channel.send(("progress", {"done": 1, "total": 2, "pid": os.getpid()}))
        while what == "waits" and not (settings.data / "go").exists():
            time.sleep(0.005)
        channel.send(("result", {"added": 1}))
    except KeyboardInterrupt:
        channel.send(("interrupted",))


def _has_run(folder: Path) -> bool:
    mark = folder / "has run"
    ran = mark.exists()
    mark.touch()
    return ran
