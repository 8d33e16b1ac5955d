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
    server = _Server(answers, frames=SharedFile(frames_address), inbox=SharedFile(inbox_address))
    guard = _MemoryGuard()
    _lift_pillow_limit()
    with open(os.devnull, "r+b") as nothing:  # noqa: PTH123
        for stream in range(3):  # so that no library reads requests or prints among the answers
            os.dup2(nothing.fileno(), stream)
    server.send({"ready": True, "limits_memory": guard.works})
    while True:
        request = json.loads(requests.get())
        read = ReadOptions.from_dict(request["read"])
        guard.set(read.limits)
        if read.limits.seconds is not None and hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, read.limits.seconds + 2 * GRACE_S)  # in case the parent can't kill it
        with collect_assumptions() as assumed:
            answer = server.answer(request, read)
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)
        server.send({**answer, "assumed": assumed})


class _Server:
    """Answers requests.

    Args:
        answers: where to write lines of JSON.
        frames: where to put frames.
        inbox: the content of a source that has no path.
    """

    def __init__(self, answers: BinaryIO, *, frames: SharedFile, inbox: SharedFile) -> None:
        self._answers, self._frames, self._inbox = answers, frames, inbox
        self._next_progress = 0.0
        # The video that stays open from one piece to the next
        self._token: str | None = None
        self._reader: VideoReader
        self._clips: PlannedClips

    def send(self, message: dict[str, Any]) -> None:
        """Write a line to the parent."""
        self._answers.write(json.dumps(message).encode() + b"\n")
        self._answers.flush()

    def _send_progress(self, end: float, duration: float) -> None:
        """Tell the parent, now and then, that the video is read until `end`, in seconds."""
        if (now := time.monotonic()) >= self._next_progress:
            self._next_progress = now + _PROGRESS_EVERY_S
            self.send({"time": [end, duration]})

    def answer(self, request: dict[str, Any], read: ReadOptions) -> dict[str, Any]:
        """Return the answer to a request of a `DecodeWorker`."""
        name, path, how = request["name"], request["path"], request["how"]
        try:
            source = NamedBytes(self._inbox.read(request["size"]), name) if path is None else path
            if request["what"] == "planned":
                return self._next_piece(source, how, read)
            self._close()
            if request["what"] == "inspect":
                self._next_progress = time.monotonic() + _PROGRESS_EVERY_S
                report = inspect(source, full=how["full"], read=read, on_time=self._send_progress)
                return {"report": report.as_dict() | {"path": name}}
            with VideoReader(source, read=read) as reader:
                plan = ClipPlan(**how["plan"])
                array_THWC, times_T, indices = read_arrays(reader, plan, make_room=self._frames.make_room)
            return {"shape": array_THWC.shape, "times": times_T.tolist(), "indices": indices}
        except VideoError as error:
            return {"error": [error.source, error.reason]}
        except (MemoryError, OSError) as error:  # not from the reading itself, which raises video errors
            return {"error": [name, cannot_be_read(error)]}
        except (ValueError, TypeError) as error:
            return {"invalid": str(error)}

    def _next_piece(self, source: str | NamedBytes, how: dict[str, Any], read: ReadOptions) -> dict[str, Any]:
        first, sent, bytes_kept = how["first"], how["sent"], how["bytes_kept"]
        try:
            self._open(how["token"], source, ClipPlan(**how["plan"]), read)
            clips = self._clips.piece(first, self._reader, bytes_kept=bytes_kept)
            if not clips:
                self._close()
                return {"clips": []}
            run, left = next_run(clips, self._reader, sent=sent, bytes_kept=bytes_kept)
            array_THWC, times_T, indices = self._reader.get_arrays(run, make_room=self._frames.make_room)
            is_last = not left and first + len(clips) >= len(self._clips)
            duration = self._reader.duration
            if is_last:
                self._close()
        except BaseException:
            self._close()
            raise
        return {
            "shape": array_THWC.shape,
            "times": times_T.tolist(),
            "indices": indices,
            "clips": clips,
            "duration": duration,
            "is_last": is_last,
        }

    def _open(self, token: str, source: str | NamedBytes, plan: ClipPlan, read: ReadOptions) -> None:
        """Open the video of this token, unless it is open."""
        if token == self._token:
            self._reader.restart_clock()
            return
        self._close()
        self._reader = VideoReader(source, read=read)
        self._token = token
        self._clips = PlannedClips(plan, self._reader)

    def _close(self) -> None:
        if self._token is not None:
            self._token = None
            self._reader.close()


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
