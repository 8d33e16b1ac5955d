"""Read videos in a child process, so that a file that crashes or hangs the decoder doesn't end the program.

The child is a bare interpreter that imports only `openxclip.video` (neither PyTorch nor the user's script) and reads
one file after the other. Requests and answers are lines of JSON on two pipes, not pickles, with which a decoder that a
malicious file took over could run code here. Pixels come back through a memory-mapped file without a name, so that it
can't be left behind. (On Windows, where a child inherits no open files, the pipes are its standard input and output,
and the file is a temporary one.)
"""

from __future__ import annotations

import contextlib
import os
import uuid
import warnings
import weakref
from collections.abc import Generator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openxclip.common.forking import ForkSafeLock
from openxclip.errors import DecoderCrashError, VideoError
from openxclip.video.answers import ReceivedClips, parse_frames
from openxclip.video.assumptions import Assumption, warn_of_assumptions
from openxclip.video.child import Child, NoWorkerError, NoWorkerNowError
from openxclip.video.clips import ClipPlan
from openxclip.video.frames import Frames
from openxclip.video.inspection import OnTime, VideoReport, inspect
from openxclip.video.limits import Limits
from openxclip.video.opening import VideoSource, absolute_path, buffer_bytes, is_buffer, source_name
from openxclip.video.options import ReadOptions
from openxclip.video.reading import ClipPiece, read_clips, read_planned, split_clips
from openxclip.video.streams import is_pipe, read_pipe

# A source as it is sent: its name; its path; its content if the path is None.
_SentSource = tuple[str, str | None, bytes | memoryview]
_Reply = tuple[dict[str, Any], NDArray[np.uint8] | None]


class DecodeWorker:
    """Reads videos in a child process, which is started at once, killed at the time limit, and started again.

    A source that can't be sent to the child (an open file) is read in the calling process. If no child can be started
    (in an application that is frozen into one file), all sources are read there, after a warning. Threads may share a
    worker: they read one after the other. A forked or spawned process that uses a worker starts a child of its own.
    Close the worker, or use it as a context manager; otherwise it ends with the program.

    Args:
        only_in_child: never read in the calling process; what would be read there is an error.
    """

    def __init__(self, *, only_in_child: bool = False) -> None:
        self._only_in_child = only_in_child
        self._lock = ForkSafeLock()  # held while waiting for an answer
        self._starting = ForkSafeLock()  # so that no child is started after `close`
        self._child: Child | None = None
        self._finalizer: weakref.finalize[..., DecodeWorker] | None = None
        self._cannot_start = self._closed = False
        # the child that keeps a video open, and the token of the video
        self._continued: tuple[Child, str] | None = None
        try:
            self._start()
        except NoWorkerNowError:
            pass  # the next read tries again, and raises an error if that fails
        except NoWorkerError as error:
            if not only_in_child:  # otherwise the next read tries again
                self._read_here(error, stacklevel=4)

    def read_clips(self, source: VideoSource, plan: ClipPlan, *, read: ReadOptions | None = None) -> list[Frames]:
        """Read all clips of a plan, as `openxclip.video.read_clips`.

        Raises:
            VideoError: as `openxclip.video.read_clips`; or the child crashed, or was killed at the time limit.
            ValueError: as `openxclip.video.read_clips`.
        """
        reply = self._ask("clips", self._prepare(source, read), {"plan": asdict(plan)}, read)
        if reply is None:
            return read_clips(source, plan, read=read)
        return split_clips(parse_frames(*reply, source_name(source)), plan)

    def read_planned(
        self,
        source: VideoSource,
        plan: ClipPlan,
        *,
        first: int = 0,
        bytes_kept: int | None = None,
        read: ReadOptions | None = None,
    ) -> Generator[ClipPiece, None, None]:
        """Yield the clips of a plan a piece at a time, as `openxclip.video.reading.read_planned`.

        The child keeps the video open from one piece to the next.

        Raises:
            VideoError, ValueError: as `read_clips`.
        """
        arguments = {"plan": asdict(plan), "token": uuid.uuid4().hex, "bytes_kept": bytes_kept}
        to_send = self._prepare(source, read)  # only once, because a pipe can't be read a second time
        received = ReceivedClips(source_name(source), plan, first=first)
        while True:
            reply = self._ask("planned", to_send, {**arguments, **received.place()}, read)
            if reply is None:
                place = received.place()
                yield from read_planned(
                    source, plan, first=place["first"], after=place["after"], bytes_kept=bytes_kept, read=read
                )
                return
            piece = received.add(*reply)
            if piece is not None:
                yield piece
            if piece is None or reply[0].get("is_last"):
                if (reason := reply[0].get("cut_off")) is not None:
                    raise VideoError(source_name(source), str(reason))
                return
            del reply, piece  # frees the frames before the next ones are read

    def inspect(
        self,
        source: VideoSource,
        *,
        full: bool = False,
        read: ReadOptions | None = None,
        on_time: OnTime = lambda end, duration: None,
    ) -> VideoReport:
        """Inspect a video, as `openxclip.video.inspect`; a crash or a hang is an error in the report too."""
        name = source_name(source)
        try:
            reply = self._ask("inspect", self._prepare(source, read), {"full": full}, read, on_time)
        except VideoError as error:
            return VideoReport(path=name, error=error.with_traceback(None))
        if reply is None:
            return inspect(source, full=full, read=read, on_time=on_time)
        try:
            return VideoReport.from_dict(reply[0]["report"])
        except (KeyError, TypeError, ValueError):  # see `answers.parse_frames`
            return VideoReport(path=name, error=VideoError(name, "the process that reads it sent an invalid report"))

    def close(self) -> None:
        """Kill the child; a read in another thread raises a `VideoError`."""
        with self._starting:
            self._closed = True
            child = self._child
        if child is not None:
            child.end()

    def __enter__(self) -> DecodeWorker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[type[DecodeWorker], tuple[()]]:
        return DecodeWorker, ()  # a copy has a child of its own

    # -- the child ---------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        with self._starting:
            if self._closed:
                return
            self._child = child = Child()
            if self._finalizer is not None:
                self._finalizer()
            self._finalizer = weakref.finalize(self, child.end)  # on garbage collection, and when the program ends

    def _read_here(self, error: NoWorkerError, *, stacklevel: int) -> None:
        """Read all videos in this process from now on, after a warning."""
        self._child, self._cannot_start = None, True
        text = f"videos are read in this process, which a malicious one could crash: {error}"
        warnings.warn(text, RuntimeWarning, stacklevel=stacklevel)

    def _prepare(self, source: VideoSource, read: ReadOptions | None) -> _SentSource | None:
        """Return a source in the form in which it is sent; None if it must be read in this process."""
        return None if self._cannot_start else _sent_form(source, (read or ReadOptions()).limits)

    def _ask(
        self,
        task: str,
        source: _SentSource | None,
        arguments: dict[str, Any],
        read: ReadOptions | None,
        on_time: OnTime = lambda end, duration: None,
    ) -> _Reply | None:
        """Return the child's answer with its frames; None if the source must be read in this process."""
        if source is None and self._only_in_child:
            raise VideoError("the video", "it can only be read as a file, by its path")
        if source is None or self._cannot_start:
            return None
        name, path, data = source
        read = read or ReadOptions()
        request = {"task": task, "name": name, "path": path, "size": len(data), "read": asdict(read)}
        reply = self._exchange({**request, "arguments": arguments}, data, name, read.limits.seconds, on_time)
        if reply is None:
            return None
        answer, frames_THWC = reply
        if "invalid" in answer:
            raise ValueError(answer["invalid"])
        if "error" in answer:
            failed, reason = answer["error"]
            if path is not None and (failed == path or failed.startswith(path + os.sep)):
                failed = name + failed[len(path) :]  # the path as the user gave it
            raise VideoError(failed, reason)
        assumptions = answer.get("assumed")
        if isinstance(assumptions, list):
            warn_of_assumptions((Assumption(note) for note in assumptions), stacklevel=4)
        return answer, frames_THWC

    def _exchange(
        self, request: dict[str, Any], data: bytes | memoryview, name: str, seconds: float | None, on_time: OnTime
    ) -> _Reply | None:
        """Send a request to the child, after starting one if necessary; None if no child can be started."""
        closed = VideoError(name, "its worker has been closed")
        with self._lock:
            try:
                if self._child is None or self._child.is_gone():
                    self._start()
                child = self._child
                if self._closed or child is None:
                    raise closed
                child.wait_until_ready()
                token = request["arguments"].get("token")
                if self._continued == (child, token):
                    data, request = b"", {**request, "size": 0}  # the child has it
                self._continued = None
                reply = child.ask(request, data, name, seconds, on_time)
                self._continued = None if token is None else (child, token)
                return reply
            except NoWorkerNowError as error:
                raise VideoError(name, f"it cannot be read: no process can be started for it ({error})") from None
            except NoWorkerError as error:
                if self._closed:
                    raise closed from None
                if self._only_in_child:
                    self._child = None  # the next read starts another
                    raise DecoderCrashError(name, f"no process could be started to read it ({error})") from None
                self._read_here(error, stacklevel=5)
                return None


def _sent_form(source: VideoSource, limits: Limits) -> _SentSource | None:
    """Return a source in the form in which it is sent; None if it can't be sent to another process."""
    name = source_name(source)
    if is_buffer(source):
        return name, None, buffer_bytes(source, name=name, limits=limits)
    if not isinstance(source, str | os.PathLike):
        return None
    path = os.fspath(source)
    if not path or "://" in path:
        return name, path, b""
    path = absolute_path(path)
    if not os.path.isabs(path):  # noqa: PTH117
        return None  # the child has another current folder
    with contextlib.suppress(OSError, ValueError):  # the reader reports what is wrong with it
        if is_pipe(Path(path)):
            return name, None, read_pipe(Path(path), name=name, limits=limits).getbuffer()
        if path.startswith(("/dev/", "/proc/")):  # such as /dev/stdin, which differs between processes
            path = os.path.realpath(path)
            if path.startswith(("/dev/", "/proc/")):
                return None
    return name, path, b""
