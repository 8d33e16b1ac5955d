"""The process of a job, which ends with it. The work is done in the main thread, which the server can interrupt."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, cast

from openxclip.common.counting import counted
from openxclip.common.files import reason_of
from openxclip.errors import OpenXCLIPError, VideoError
from openxclip.serve.engine.settings import EngineSettings, name_of_folder
from openxclip.serve.engine.wire import Channel
from openxclip.serve.engine.work import with_names

if TYPE_CHECKING:
    from openxclip.engine import Precision
    from openxclip.search import VideoIndex

_PROGRESS_EVERY_S = 0.5
_LISTED_ERRORS = 1000  # videos that can't be read, in the result of a job

Send = Callable[[tuple[Any, ...]], None]


@dataclass
class JobWork:
    """A running job.

    Attributes:
        arguments: what to do, see `JobRunner.submit`.
        settings: settings of the engine.
        send: sends a message to the server.
        progress: the progress so far, see `JobEvent`.
        hidden: what messages show instead of more paths, by path.
    """

    arguments: dict[str, Any]
    settings: EngineSettings
    send: Send
    progress: dict[str, Any] = field(default_factory=lambda: {"done": 0, "total": None})
    hidden: dict[str, str] = field(default_factory=dict)
    _sent: float = 0.0

    def report(self, *, now: bool = False, **changes: Any) -> None:
        """Change the progress, and send it some times a second."""
        self.progress |= changes
        time_now = time.monotonic()
        if now or time_now - self._sent >= _PROGRESS_EVERY_S:
            self._sent = time_now
            self.send(("progress", dict(self.progress)))

    def note(self, text: str) -> None:
        """Send a sentence for the user."""
        self.send(("note", self.shown(text)))

    def shown(self, text: str) -> str:
        """Return a text with the names of folders in place of their paths."""
        return with_names(text, {**self.settings.hidden, **self.hidden, **self.arguments.get("names", {})})


def serve(channel: Channel, messages: SimpleQueue[tuple[Any, ...]]) -> None:
    """Do one job.

    Messages from the server: ("run", kind, arguments, settings), and "interrupt", which raises KeyboardInterrupt.
    Messages to it: ("progress", data), ("note", text), and at the end one of ("result", data), ("error", code, text)
    and ("interrupted",).
    """
    _, kind, arguments, settings = messages.get()
    work = JobWork(arguments, settings, channel.send)
    try:
        result = {"index": index_videos, "train": train_model}[kind](work)
        channel.send(("interrupted",) if result is None else ("result", result))
    except KeyboardInterrupt:
        channel.send(("interrupted",))
    except OSError as error:
        is_explained = isinstance(error, OpenXCLIPError)  # such as a CheckpointError
        text = error.args[0] if is_explained else f"{error.filename or 'a file'}: {reason_of(error)}."
        channel.send(("error", _code(error), work.shown(str(text))))
    except (OpenXCLIPError, ValueError, MemoryError) as error:
        text = work.shown(str(error).strip() or type(error).__name__)
        channel.send(("error", _code(error), text))
    except Exception as error:
        traceback.print_exc()
        channel.send(("error", "internal", f"{type(error).__name__}: {work.shown(str(error))}"))


def _code(error: BaseException) -> str:
    name = type(error).__name__.removesuffix("Error")
    return {"ValueError": "invalid", "MemoryError": "out_of_memory"}.get(
        type(error).__name__,
        "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_") or "failed",
    )


def index_videos(work: JobWork) -> dict[str, Any]:
    """Add videos to the index, remove deleted ones of the same folders, and return what was done.

    A second call resumes.
    """
    from openxclip.search import VideoIndex
    from openxclip.video import find_videos

    paths = [Path(path) for path in work.arguments["paths"]]
    folders = [str(path) for path in paths if path.is_dir()]
    found = [str(path) for path in find_videos(paths)]
    files = [path for path in found if not (path in folders and _is_empty(path))]
    empty = [work.shown(path) for path in found if path not in files]
    for name in empty:
        work.note(f"{name}: has no videos.")
    work.report(now=True, total=len(files))
    settings, done = work.settings, set[str]()

    def on_video(path: str, error: VideoError | None) -> None:
        if error is not None:
            work.note(str(error))
        done.add(path)
        work.report(done=len(done), current=None, current_done=None, current_duration=None)

    def on_clip(path: str, end: float, duration: float) -> None:
        work.report(current=work.shown(path), current_done=end, current_duration=duration)

    nothing = {"added": 0, "unchanged": 0, "moved": 0, "removed": 0, "unreadable": 0, "errors": [], "empty": empty}
    if not files and not settings.index.exists():
        return nothing
    settings.index.parent.mkdir(parents=True, exist_ok=True)
    index = VideoIndex.open(
        settings.index,
        model=settings.model,  # refused if the index was made with another: it could not be searched here
        device=settings.device,
        precision=cast("Precision", settings.precision),
    )
    work.hidden |= name_of_folder(index.info.model if index.info else None)
    added = index.add(files, retry=bool(work.arguments.get("retry")), on_video=on_video, on_clip=on_clip)
    work.report(now=True, done=len(files))
    return nothing | {
        "added": len(added.added),
        "unchanged": len(added.unchanged),
        "moved": len(added.moved),
        "removed": remove_deleted(work, index, folders),
        "unreadable": len(added.errors),
        "errors": [
            {"path": work.shown(error.source), "reason": work.shown(error.reason)}
            for error in added.errors[:_LISTED_ERRORS]
        ],
    }


def _is_empty(folder: str) -> bool:
    """Return whether a folder, which `find_videos` returns if it has no videos, has no images either."""
    from openxclip.video.finding import require_videos

    try:
        require_videos([Path(folder)])
    except ValueError:
        return True
    return False


def remove_deleted(work: JobWork, index: VideoIndex, folders: list[str]) -> int:
    """Remove deleted videos below these folders from the index, and return their number.

    They stay, and a note says so, if so many are missing that a disk may not be mounted.
    """
    from openxclip.search.paths import is_missing, may_remove

    known = index.files()
    missing = [path for path in known if any(Path(path).is_relative_to(each) for each in folders) and is_missing(path)]
    if not missing:
        return 0
    if not may_remove(missing, known, folders, None):
        work.note(
            f"{counted(len(missing), 'video')} of the index can't be found, but stay in it, because a disk may not be "
            f"mounted. If they were deleted, run openxclip index --update --allow-removing {len(missing)}."
        )
        return 0
    index.remove(missing)
    return len(missing)


def train_model(work: JobWork) -> dict[str, Any] | None:
    """Train a model on a list of labels, and return its folder's name and results; None if it was interrupted."""
    from openxclip.training import train

    arguments, models = work.arguments, work.settings.data / "models"
    models.mkdir(parents=True, exist_ok=True)
    if (models / arguments["name"] / "config.json").exists():  # the server was killed just before it heard of the end
        return {"model": arguments["name"], "steps": None, "epoch": None, "metrics": {}}
    changes = {"model": work.settings.model, "data": arguments["labels"]} | dict(arguments.get("changes", {}))
    recipe = arguments.get("recipe", "my-videos")
    if recipe == "my-videos" and "hold_out" not in changes and (alone := _classes_with_one_video(arguments["labels"])):
        changes["hold_out"] = 0
        work.note(
            f"no videos are held out, so the accuracy of the new model isn't known: {', '.join(alone[:5])} "
            f"{'has' if len(alone) == 1 else 'have'} labels in only one video each. Label another video of each class."
        )

    def on_step(step: Any) -> None:
        note = f"epoch {step.epoch + 1}, loss {step.loss:.3f}"
        work.report(done=step.step + 1, total=step.total, note=note)

    result = train(
        recipe,
        *(f"{key}={value}" for key, value in changes.items()),
        out=models / arguments["name"],
        device=work.settings.device,
        on_step=on_step,
        say=lambda text: work.note(str(text)),
    )
    for path, reason in list(result.unreadable.items())[:_LISTED_ERRORS]:
        work.note(f"{path}: {reason}")
    if not result.finished:
        return None
    metrics = {} if result.results is None else dict(result.results.metrics)
    return {"model": arguments["name"], "steps": result.steps, "epoch": result.epoch, "metrics": metrics}


def _classes_with_one_video(labels: str) -> list[str]:
    """Return the classes of a list of labels that are seen in one video only."""
    from openxclip.datasets import open_dataset

    dataset = open_dataset(labels)
    videos: dict[int, set[str]] = {}
    for sample in dataset.samples:
        if sample.label is not None:
            videos.setdefault(sample.label, set()).add(sample.source)
    return [dataset.classes[label] for label, paths in sorted(videos.items()) if len(paths) == 1]
