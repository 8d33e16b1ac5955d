"""Answer a `DecodeWorker`'s requests in its child process."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import time
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from PIL import Image

from openxclip.errors import VideoError
from openxclip.video.assumptions import collect_assumptions
from openxclip.video.clips import ClipPlan, PlannedClips, next_indices
from openxclip.video.decoding import VideoReader
from openxclip.video.failures import cannot_be_read
from openxclip.video.inspection import inspect
from openxclip.video.limits import GRACE_S, Limits
from openxclip.video.options import ReadOptions
from openxclip.video.reading import planned_indices
from openxclip.video.sharing import SharedFile
from openxclip.video.streams import NamedBytes
from openxclip.video.sweeping import Sweep

_BASE_BYTES = 2 << 30  # address space for threads, decoders and libraries, besides the limits
_BYTES_PER_PIXEL = 64  # the most that a decoder takes for its reference frames and threads
_PROGRESS_EVERY_S = 0.5


def main(requests: queue.SimpleQueue[bytes], answers: BinaryIO, frames_address: str, inbox_address: str) -> NoReturn:
    """Answer requests, one after the other; called by `child._BOOTSTRAP`.

    Args:
        requests: lines of JSON. The thread that fills the queue ends this process when the parent ends.
        answers: the file to which answers are written, one line per request.
        frames_address: address of the `SharedFile` for the frames of an answer.
        inbox_address: address of the `SharedFile` with the content of a source without a path.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    server = _Server(answers, frames=SharedFile(frames_address), inbox=SharedFile(inbox_address))
    guard = _MemoryGuard()
    Image.MAX_IMAGE_PIXELS = None  # each request has its own limit of pixels
    with open(os.devnull, "r+b") as nothing:  # noqa: PTH123
        for stream in range(3):  # so that no library reads requests or prints between answers
            os.dup2(nothing.fileno(), stream)
    server.send({"ready": True, "limits_memory": guard.is_working})
    while True:
        request = json.loads(requests.get())
        read = ReadOptions.from_dict(request["read"])
        guard.set(read.limits)
        if read.limits.seconds is not None and hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, read.limits.seconds + 2 * GRACE_S)  # if the parent can't kill it
        with collect_assumptions() as assumed:
            answer = server.answer(request, read)
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)
        server.send({**answer, "assumed": assumed})


class _Server:
    """Answers requests; the arguments are as for `main`."""

    def __init__(self, answers: BinaryIO, *, frames: SharedFile, inbox: SharedFile) -> None:
        self._answers, self._frames, self._inbox = answers, frames, inbox
        self._next_progress = 0.0
        # The video that stays open between two pieces of its clips
        self._token: str | None = None
        self._reader: VideoReader
        self._clips: PlannedClips
        self._sweep: Sweep | None = None

    def send(self, message: dict[str, Any]) -> None:
        """Write a line to the parent."""
        self._answers.write(json.dumps(message).encode() + b"\n")
        self._answers.flush()

    def _send_progress(self, end: float, duration: float) -> None:
        """Tell the parent, at most twice a second, that the video has been read up to `end`, in seconds."""
        if (now := time.monotonic()) >= self._next_progress:
            self._next_progress = now + _PROGRESS_EVERY_S
            self.send({"time": [end, duration]})

    def answer(self, request: dict[str, Any], read: ReadOptions) -> dict[str, Any]:
        """Return the answer to a request of a `DecodeWorker`."""
        name, path, arguments = request["name"], request["path"], request["arguments"]
        try:
            if request["task"] == "planned" and self._is_open(arguments):
                self._reader.restart_clock()
                return self._next_piece(arguments)
            self._close()
            source = NamedBytes(self._inbox.read(request["size"]), name) if path is None else path
            if request["task"] == "planned":
                self._open(source, arguments, read)
                return self._next_piece(arguments)
            if request["task"] == "inspect":
                self._next_progress = time.monotonic() + _PROGRESS_EVERY_S
                report = inspect(source, full=arguments["full"], read=read, on_time=self._send_progress)
                return {"report": report.as_dict() | {"path": name}}
            with VideoReader(source, read=read) as reader:
                return self._read(reader, planned_indices(ClipPlan(**arguments["plan"]), reader))
        except VideoError as error:
            answer: dict[str, Any] = {"error": [error.source, error.reason]}
        except (MemoryError, OSError) as error:  # from the shared files; reading raises a VideoError
            answer = {"error": [name, cannot_be_read(error)]}
        except (ValueError, TypeError) as error:
            answer = {"invalid": str(error)}
        self._close()
        return answer

    def _read(self, reader: VideoReader, indices: list[int]) -> dict[str, Any]:
        """Write frames to the shared file, and return what the parent needs to take them from there."""
        frames_THWC, times_T, _ = reader.get_arrays(indices, allocate=self._frames.allocate)
        return {"shape": frames_THWC.shape, "times": times_T.tolist(), "indices": indices}

    def _open(self, source: str | NamedBytes, arguments: dict[str, Any], read: ReadOptions) -> None:
        plan = ClipPlan(**arguments["plan"])
        self._reader = VideoReader(source, read=read)
        self._token = arguments["token"]
        self._clips, self._sweep = PlannedClips(plan, self._reader), None
        if self._clips.can_sweep(self._reader, bytes_kept=arguments["bytes_kept"]):
            first, after = arguments["first"], arguments["after"]
            self._sweep = Sweep(self._reader, self._clips, first=first, after=after, every=plan.all_frames)

    def _is_open(self, arguments: dict[str, Any]) -> bool:
        """Return whether a piece is the next one of the video that is open."""
        if self._token != arguments["token"]:
            return False
        return self._sweep is None or (self._sweep.first, self._sweep.after) == (arguments["first"], arguments["after"])

    def _next_piece(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Read the next frames of the open video."""
        answer = self._next_of_group(arguments) if self._sweep is None else self._next_of_sweep(self._sweep)
        answer |= {"duration": self._reader.duration, "fps": self._reader.fps}
        if answer["is_last"]:
            if self._reader.cut_off is not None:
                answer["cut_off"] = self._reader.cut_off.reason
            self._close()
        return answer

    def _next_of_sweep(self, sweep: Sweep) -> dict[str, Any]:
        piece = sweep.next_piece(self._frames.allocate)
        if piece is None:
            return {"is_last": True}
        answer: dict[str, Any] = {"shape": piece.frames_THWC.shape, "times": piece.times_T.tolist()}
        answer |= {"indices": piece.indices, "clips": piece.clips, "keep_from": piece.keep_from}
        return answer | {"is_last": piece.is_last}

    def _next_of_group(self, arguments: dict[str, Any]) -> dict[str, Any]:
        first, sent, bytes_kept = arguments["first"], arguments["sent"], arguments["bytes_kept"]
        clips = self._clips.group(first, self._reader, bytes_kept=bytes_kept)
        if not clips:
            return {"is_last": True}
        indices, left = next_indices(clips, self._reader, sent=sent, bytes_kept=bytes_kept)
        answer = self._read(self._reader, indices)
        if left:
            return answer | {"clips": [], "keep_from": 0, "is_last": False}
        return answer | {"clips": clips, "keep_from": None, "is_last": first + len(clips) >= len(self._clips)}

    def _close(self) -> None:
        if self._token is not None:
            self._token = self._sweep = None
            self._reader.close()


class _MemoryGuard:
    """Limits the address space, if the system can, so that a large allocation fails before the process is killed."""

    def __init__(self) -> None:
        self._used: int | None = None  # bytes in use now; None if the system can't limit or report them
        with contextlib.suppress(OSError, ImportError, ValueError):
            import resource

            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            self._used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        self.is_working = self._used is not None

    def set(self, limits: Limits) -> None:
        """Limit the address space to what a decoder needs within these limits."""
        if self._used is None:
            return
        import resource

        highest = resource.getrlimit(resource.RLIMIT_AS)[1]
        needed = resource.RLIM_INFINITY
        if limits.memory is not None and limits.pixels is not None:
            needed = self._used + _BASE_BYTES + limits.memory + limits.pixels * _BYTES_PER_PIXEL
        finite = [size for size in (needed, highest) if size != resource.RLIM_INFINITY]
        resource.setrlimit(resource.RLIMIT_AS, (min(finite, default=resource.RLIM_INFINITY), highest))
