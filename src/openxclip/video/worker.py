"""Reading in a process of its own: a file that makes a decoder crash, hang or grow ends that process, not the program.

The child is a bare interpreter that imports `openxclip.video` alone (neither PyTorch nor the user's script) and stays
for one file after the other. Requests and answers are lines of JSON on two pipes, never pickles, which a decoder taken
over by a hostile file could fill with programs. Pixels come back through a file that both map: it has no name, so that
nothing can be left behind. (On Windows, where a child inherits no open files, the pipes are its standard input and
output, and the file is a temporary one.)
"""

from __future__ import annotations

import contextlib
import os
import uuid
import warnings
import weakref
from collections.abc import Generator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openxclip.common.forking import ForkSafeLock
from openxclip.errors import VideoError
from openxclip.video.assumptions import Assumption, warn_of
from openxclip.video.child import Child, NoWorkerError, NoWorkerNowError
from openxclip.video.clips import Clip, ClipPiece, ClipPlan, needed, read_planned
from openxclip.video.decoding import read_clips
from openxclip.video.frames import Frames
from openxclip.video.inspection import OnTime, VideoReport, inspect
from openxclip.video.limits import DEFAULT_LIMITS, Limits
from openxclip.video.opening import VideoSource, check_protocols, content, is_buffer, located, source_name
from openxclip.video.sampling import Sampling, Short
from openxclip.video.streams import is_pipe, read_pipe

_Parcel = tuple[str, str | None, bytes | memoryview]  # name, path or None, data where there is no path
_Answer = tuple[dict[str, Any], NDArray[np.uint8] | None]


class DecodeWorker:
    """Reads videos in a child process, which is started at once, killed at the time limit, and started again.

    What can't travel there (an open file) is read in the calling process, and so is everything where no child can be
    started (an application that is frozen into one file): then one warning says so. Threads may share a worker, whose
    reads come one after the other; a forked or spawned process that uses it starts a child of its own. Close it, or use
    it as a context manager; else it ends with the program.
    """

    def __init__(self) -> None:
        self._lock = ForkSafeLock()  # held by whoever waits for an answer
        self._starting = ForkSafeLock()  # so that no child is started after `close`
        self._child: Child | None = None
        self._finalizer: weakref.finalize[..., DecodeWorker] | None = None
        self._unable = self._closed = False
        try:
            self._start()
        except NoWorkerNowError:
            pass  # the next read tries again, and says why if it can't be done then
        except NoWorkerError as error:
            self._give_up(error)

    def read_clips(
        self,
        source: VideoSource,
        *,
        num_frames: int,
        num_clips: int,
        start: float | None = None,
        end: float | None = None,
        short: Short = "spread",
        sampling: Sampling = "time",
        fps: float | None = None,
        num_threads: int = 0,
        track: int | None = None,
        limits: Limits = DEFAULT_LIMITS,
        allow_protocols: Sequence[str] = (),
    ) -> list[Frames]:
        """As `openxclip.video.read_clips`.

        Raises:
            VideoError: as there, or reading it crashed, or took longer than its limit and had to be ended.
            ValueError: as there.
        """
        how: dict[str, Any] = {
            "num_frames": num_frames,
            "num_clips": num_clips,
            "start": start,
            "end": end,
            "short": short,
            "sampling": sampling,
            "fps": fps,
            "num_threads": num_threads,
            "track": track,
        }
        got = self._ask("clips", source, how, limits, allow_protocols)
        if got is None:
            return read_clips(source, **how, limits=limits, allow_protocols=allow_protocols)
        frames = _frames_of(*got, source)
        return [frames.take(slice(c * num_frames, (c + 1) * num_frames)) for c in range(num_clips)]

    def read_planned(
        self,
        source: VideoSource,
        plan: ClipPlan,
        *,
        first: int = 0,
        bytes_kept: int | None = None,
        start: float | None = None,
        end: float | None = None,
        fps: float | None = None,
        num_threads: int = 0,
        track: int | None = None,
        limits: Limits = DEFAULT_LIMITS,
        allow_protocols: Sequence[str] = (),
    ) -> Generator[ClipPiece, None, None]:
        """As `openxclip.video.clips.read_planned`; the child keeps the video open from one piece to the next.

        Raises:
            VideoError, ValueError: as `read_clips`.
        """
        opening: dict[str, Any] = {"start": start, "end": end, "fps": fps, "num_threads": num_threads, "track": track}
        how = {"plan": asdict(plan), "token": uuid.uuid4().hex, "bytes_kept": bytes_kept, **opening}
        parcel = None if self._unable else _parcel(source, limits)  # once: a pipe gives nothing a second time
        sent = 0  # frames of the present piece
        while True:
            got = self._ask("planned", source, {**how, "first": first, "sent": sent}, limits, allow_protocols, parcel)
            if got is None:
                yield from read_planned(
                    source,
                    plan,
                    first=first,
                    bytes_kept=bytes_kept,
                    **opening,
                    limits=limits,
                    allow_protocols=allow_protocols,
                )
                return
            try:
                clips = [Clip(float(s), float(e), tuple(i)) for s, e, i in got[0]["clips"]]
                if not clips:
                    return
                frames, duration = _frames_of(*got, source), float(got[0]["duration"])
                wanted, upto = needed(clips), sent + len(frames.indices)
                if any(len(clip.indices) != plan.num_frames for clip in clips):
                    raise ValueError("clips have another number of frames")
                if not len(frames.indices) or wanted[sent:upto] != [*frames.indices]:
                    raise ValueError("clips are not of these frames")
                left = len(wanted) - upto
            except (KeyError, TypeError, ValueError) as error:  # as below
                raise VideoError(source_name(source), f"its clips can't be had from its reader: {error}") from None
            yield ClipPiece(tuple(clips), frames, duration, left)
            if got[0].get("is_last"):
                return
            sent, first = (upto, first) if left else (0, first + len(clips))
            del got, frames  # before the next ones are read

    def inspect(
        self,
        source: VideoSource,
        *,
        full: bool = False,
        fps: float | None = None,
        track: int | None = None,
        limits: Limits = DEFAULT_LIMITS,
        allow_protocols: Sequence[str] = (),
        on_time: OnTime = lambda end, duration: None,
    ) -> VideoReport:
        """As `openxclip.video.inspect`: errors are in the report, those of a crash or a hang too."""
        try:
            how: dict[str, Any] = {"full": full, "fps": fps, "track": track}
            got = self._ask("inspect", source, how, limits, allow_protocols, on_time=on_time)
        except VideoError as error:
            return VideoReport(path=source_name(source), error=error.with_traceback(None))
        if got is None:
            return inspect(source, **how, limits=limits, allow_protocols=allow_protocols, on_time=on_time)
        try:
            return VideoReport.from_dict(got[0]["report"])
        except (KeyError, TypeError, ValueError):  # as above
            unclear = VideoError(source_name(source), "what is said of it can't be had from its reader")
            return VideoReport(path=source_name(source), error=unclear)

    def close(self) -> None:
        """End the child, in the middle of a read too: that read raises a `VideoError`."""
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
            self._finalizer = weakref.finalize(self, child.end)  # when this is forgotten, and when the program ends

    def _give_up(self, error: NoWorkerError) -> None:
        self._child, self._unable = None, True
        text = f"videos are read in this process, where a hostile one could crash it: {error}"
        warnings.warn(text, RuntimeWarning, stacklevel=4)

    def _ask(
        self,
        what: str,
        source: VideoSource,
        how: dict[str, Any],
        limits: Limits,
        allow_protocols: Sequence[str],
        parcel: _Parcel | None = None,
        on_time: OnTime = lambda end, duration: None,
    ) -> _Answer | None:
        """The child's answer with its frames; None where the caller has to read by itself."""
        if self._unable:
            return None
        parcel = _parcel(source, limits) if parcel is None else parcel
        if parcel is None:
            return None
        name, path, data = parcel
        request = {
            "what": what,
            "how": how,
            "name": name,
            "path": path,
            "size": len(data),
            "limits": asdict(limits),
            "allow_protocols": check_protocols(allow_protocols),
        }
        closed = VideoError(name, "the worker that was to read it has been closed")
        with self._lock:
            try:
                if self._child is None or self._child.is_gone():
                    self._start()
                child = self._child
                if self._closed or child is None:
                    raise closed
                child.wait_until_ready()
                answer, frames = child.ask(request, data, name, limits.seconds, on_time)
            except NoWorkerNowError as error:
                raise VideoError(name, f"it cannot be read: no process can be started for it ({error})") from None
            except NoWorkerError as error:
                if self._closed:
                    raise closed from None
                self._give_up(error)
                return None
        if "invalid" in answer:
            raise ValueError(answer["invalid"])
        if "error" in answer:
            of, reason = answer["error"]
            if path is not None and (of == path or of.startswith(path + os.sep)):  # as the user named it
                of = name + of[len(path) :]
            raise VideoError(of, reason)
        assumed = answer.get("assumed")
        if isinstance(assumed, list):
            warn_of((Assumption(note) for note in assumed), stacklevel=4)
        return answer, frames


def _frames_of(answer: dict[str, Any], frames_THWC: NDArray[np.uint8] | None, source: VideoSource) -> Frames:
    try:
        times = np.array(answer["times"], dtype=np.float64)
        indices = tuple(answer["indices"])
        if frames_THWC is None or frames_THWC.ndim != 4 or not len(frames_THWC) == len(times) == len(indices):
            raise ValueError("frames and times are not equally many")
        return Frames.from_arrays(frames_THWC, times, indices)
    except (KeyError, TypeError, ValueError) as error:  # a decoder that was taken over may say anything
        raise VideoError(source_name(source), f"its frames can't be had from its reader: {error}") from None


def _parcel(source: VideoSource, limits: Limits) -> _Parcel | None:
    """Name, path, and content of a source that has no path; None if it can't travel to another process."""
    name = source_name(source)
    if is_buffer(source):
        return name, None, content(source, name=name, limits=limits)
    if not isinstance(source, str | os.PathLike):
        return None
    path = os.fspath(source)
    if not path or "://" in path:
        return name, path, b""
    path = located(path)
    if not os.path.isabs(path):  # noqa: PTH117
        return None  # the child has another current folder
    with contextlib.suppress(OSError, ValueError):  # what is wrong with it, the reader says
        if is_pipe(Path(path)):
            return name, None, read_pipe(Path(path), name=name, limits=limits).getbuffer()
        if path.startswith(("/dev/", "/proc/")):  # /dev/stdin, say: another process has another one
            path = os.path.realpath(path)
            if path.startswith(("/dev/", "/proc/")):
                return None
    return name, path, b""
