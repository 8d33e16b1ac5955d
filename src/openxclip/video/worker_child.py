"""The program of a `DecodeWorker`'s child process: it answers requests, one after the other."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import time
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from openxclip.errors import VideoError
from openxclip.video.assumptions import collect_assumptions
from openxclip.video.clips import ClipPlan, PlannedClips, next_run
from openxclip.video.decoding import VideoReader
from openxclip.video.failures import cannot_be_read
from openxclip.video.inspection import inspect
from openxclip.video.limits import GRACE_S, Limits
from openxclip.video.options import ReadOptions
from openxclip.video.reading import read_arrays
from openxclip.video.sharing import SharedFile
from openxclip.video.streams import NamedBytes

_BASE_BYTES = 2 << 30  # address space that it may take besides its limits: threads, decoders, libraries
_BYTES_A_PIXEL = 64  # the most that a decoder takes for its reference frames and threads
_PROGRESS_EVERY_S = 0.5


def main(requests: queue.SimpleQueue[bytes], answers: BinaryIO, frames_address: str, inbox_address: str) -> NoReturn:
    """Answer requests, one after the other; `child._BOOTSTRAP` calls it.

    Args:
        requests: lines of JSON. The thread that fills the queue ends this process when the parent is gone.
        answers: where to write one line per request.
        frames_address, inbox_address: the addresses of the `SharedFile`s.
    """
    if hasattr(signal, "SIGINT"):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    frames, inbox = SharedFile(frames_address), SharedFile(inbox_address)
    guard, kept = _MemoryGuard(), _KeptReader()
    _lift_pillow_limit()
    with open(os.devnull, "r+b") as nothing:  # noqa: PTH123
        for stream in range(3):  # so that no library reads requests or prints among the answers
            os.dup2(nothing.fileno(), stream)
    answer: dict[str, Any] = {"ready": True, "limits_memory": guard.works}
    while True:
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()
        request = json.loads(requests.get())
        read = ReadOptions.from_dict(request["read"])
        guard.set(read.limits)
        if read.limits.seconds is not None and hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, read.limits.seconds + 2 * GRACE_S)  # in case the parent can't kill it
        with collect_assumptions() as assumed:
            answer = _answer_to(request, read, frames, inbox, kept, _ProgressSender(answers))
        answer["assumed"] = assumed
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)


class _ProgressSender:
    """Sends the progress of a long request to the parent."""

    def __init__(self, answers: BinaryIO) -> None:
        self._answers, self._next = answers, time.monotonic() + _PROGRESS_EVERY_S

    def __call__(self, end: float, duration: float) -> None:
        """Send that the video is read until `end`, in seconds."""
        if (now := time.monotonic()) >= self._next:
            self._next = now + _PROGRESS_EVERY_S
            self._answers.write(json.dumps({"time": [end, duration]}).encode() + b"\n")
            self._answers.flush()


class _KeptReader:
    """The reader that stays open from one piece of a video to the next."""

    def __init__(self) -> None:
        self._token: str | None = None
        self.reader: VideoReader
        self.clips: PlannedClips

    def open(self, token: str, source: str | NamedBytes, plan: ClipPlan, read: ReadOptions) -> None:
        """Open the reader of this token, unless it is open."""
        if token == self._token:
            self.reader.restart_clock()
            return
        self.close()
        self.reader = VideoReader(source, read=read)
        self._token = token
        self.clips = PlannedClips(plan, self.reader)

    def close(self) -> None:
        """Close the reader."""
        if self._token is not None:
            self._token = None
            self.reader.close()


def _answer_to(
    request: dict[str, Any],
    read: ReadOptions,
    frames: SharedFile,
    inbox: SharedFile,
    kept: _KeptReader,
    send_progress: _ProgressSender,
) -> dict[str, Any]:
    name, path, how = request["name"], request["path"], request["how"]
    try:
        source = NamedBytes(inbox.read(request["size"]), name) if path is None else path
        if request["what"] == "planned":
            return _next_piece(kept, source, how, read, frames)
        kept.close()
        if request["what"] == "inspect":
            report = inspect(source, full=how["full"], read=read, on_time=send_progress)
            return {"report": report.as_dict() | {"path": name}}
        with VideoReader(source, read=read) as reader:
            array_THWC, times_T, indices = read_arrays(reader, ClipPlan(**how["plan"]), make_room=frames.make_room)
        return {"shape": array_THWC.shape, "times": times_T.tolist(), "indices": indices}
    except VideoError as error:
        return {"error": [error.source, error.reason]}
    except (MemoryError, OSError) as error:  # not from the reading itself, which raises video errors
        return {"error": [name, cannot_be_read(error)]}
    except (ValueError, TypeError) as error:
        return {"invalid": str(error)}


def _next_piece(
    kept: _KeptReader, source: str | NamedBytes, how: dict[str, Any], read: ReadOptions, frames: SharedFile
) -> dict[str, Any]:
    try:
        first, sent, bytes_kept = how["first"], how["sent"], how["bytes_kept"]
        kept.open(how["token"], source, ClipPlan(**how["plan"]), read)
        clips = kept.clips.piece(first, kept.reader, bytes_kept=bytes_kept)
        if not clips:
            kept.close()
            return {"clips": []}
        run, left = next_run(clips, kept.reader, sent=sent, bytes_kept=bytes_kept)
        array_THWC, times_T, indices = kept.reader.get_arrays(run, make_room=frames.make_room)
        shown = {"times": times_T.tolist(), "indices": indices, "clips": clips, "left": left}
        shown["duration"] = kept.reader.duration
        if not left and first + len(clips) >= len(kept.clips):
            shown["is_last"] = True
            kept.close()
    except BaseException:
        kept.close()
        raise
    return {"shape": array_THWC.shape, **shown}


class _MemoryGuard:
    """Limits address space, if the system can, so that a decoder's allocation fails before its process is killed."""

    def __init__(self) -> None:
        self._used: int | None = None  # bytes; None if the system can't limit or report them
        with contextlib.suppress(OSError, ImportError, ValueError):
            import resource

            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            self._used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()

    @property
    def works(self) -> bool:
        """Whether memory is limited on this system."""
        return self._used is not None

    def set(self, limits: Limits) -> None:
        """Limit address space to what a decoder may take within these limits."""
        if self._used is None:
            return
        import resource

        highest = resource.getrlimit(resource.RLIMIT_AS)[1]
        allowed = resource.RLIM_INFINITY
        if limits.memory is not None and limits.pixels is not None:
            allowed = self._used + _BASE_BYTES + limits.memory + limits.pixels * _BYTES_A_PIXEL
        if highest != resource.RLIM_INFINITY:
            allowed = highest if allowed == resource.RLIM_INFINITY else min(allowed, highest)
        resource.setrlimit(resource.RLIMIT_AS, (allowed, highest))


def _lift_pillow_limit() -> None:
    """Lift Pillow's limit of pixels for the whole process, because each request brings its own."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None
