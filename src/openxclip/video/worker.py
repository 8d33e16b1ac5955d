"""Reading in a process of its own: a file that makes a decoder crash, hang or grow ends that process, not the program.

The child is a bare interpreter that imports `openxclip.video` alone (neither PyTorch nor the user's script) and stays
for one file after the other. Requests and answers are lines of JSON on its standard input and output, never pickles,
which a decoder taken over by a hostile file could fill with programs. Pixels come back through a file that both map:
it has no name, so that nothing can be left behind (on Windows, which has no such files, it is a temporary one).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import uuid
import warnings
import weakref
from collections.abc import Generator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openxclip.errors import VideoError
from openxclip.video.clips import Clip, ClipPiece, ClipPlan, read_planned
from openxclip.video.decoding import read_clips
from openxclip.video.frames import Frames
from openxclip.video.inspection import VideoReport, inspect
from openxclip.video.limits import DEFAULT_LIMITS, GRACE_S, Limits, too_slow
from openxclip.video.opening import VideoSource, check_protocols, source_name
from openxclip.video.sampling import Short
from openxclip.video.sharing import SharedFile
from openxclip.video.streams import is_pipe, read_pipe

_START_S = 60.0  # to import what it needs, on a machine that is busy

# What a new interpreter runs: as the parent's own path was, for `-m` would put the current folder first.
_BOOTSTRAP = (
    "import sys; sys.path[:] = sys.argv.pop(1).split('\\n'); from openxclip.video.worker_child import main; main()"
)

_Parcel = tuple[str, str | None, bytes | memoryview]  # name, path or None, data where there is no path
_Answer = tuple[dict[str, Any], NDArray[np.uint8] | None]


class NoWorkerError(Exception):
    """No child process can be started here."""


class DecodeWorker:
    """Reads videos in a child process, which is started at once, killed at the time limit, and started again.

    What can't travel there (an open file) is read in the calling process, and so is everything where no child can be
    started (an application that is frozen into one file): then one warning says so. Threads may share a worker, whose
    reads come one after the other. Close it, or use it as a context manager; else it ends with the program.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: _Child | None = None
        self._finalizer: weakref.finalize[..., DecodeWorker] | None = None
        self._unable = self._closed = False
        self._start()

    def read_clips(
        self,
        source: VideoSource,
        *,
        num_frames: int,
        num_clips: int,
        start: float | None = None,
        end: float | None = None,
        short: Short = "repeat_last",
        fps: float = 25.0,
        num_threads: int = 0,
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
            "fps": fps,
            "num_threads": num_threads,
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
        fps: float = 25.0,
        num_threads: int = 0,
        limits: Limits = DEFAULT_LIMITS,
        allow_protocols: Sequence[str] = (),
    ) -> Generator[ClipPiece, None, None]:
        """As `openxclip.video.clips.read_planned`; the child keeps the video open from one piece to the next.

        Raises:
            VideoError, ValueError: as `read_clips`.
        """
        opening: dict[str, Any] = {"fps": fps, "num_threads": num_threads}
        how = {"plan": asdict(plan), "token": uuid.uuid4().hex, **opening}
        parcel = None if self._unable else _parcel(source, limits)  # once: a pipe gives nothing a second time
        while True:
            got = self._ask("planned", source, {**how, "first": first}, limits, allow_protocols, parcel)
            if got is None:
                yield from read_planned(
                    source, plan, first=first, **opening, limits=limits, allow_protocols=allow_protocols
                )
                return
            try:
                clips = [Clip(float(s), float(e), tuple(i)) for s, e, i in got[0]["clips"]]
                if not clips:
                    return
                frames, duration = _frames_of(*got, source), float(got[0]["duration"])
                if any(len(clip.indices) != plan.num_frames or {*clip.indices} - {*frames.indices} for clip in clips):
                    raise ValueError("clips are not of these frames")
            except (KeyError, TypeError, ValueError) as error:  # as below
                raise VideoError(source_name(source), f"its clips can't be had from its reader: {error}") from None
            yield ClipPiece(tuple(clips), frames, duration)
            first += len(clips)

    def inspect(
        self,
        source: VideoSource,
        *,
        full: bool = False,
        limits: Limits = DEFAULT_LIMITS,
        allow_protocols: Sequence[str] = (),
    ) -> VideoReport:
        """As `openxclip.video.inspect`: errors are in the report, those of a crash or a hang too."""
        try:
            got = self._ask("inspect", source, {"full": full}, limits, allow_protocols)
        except VideoError as error:
            return VideoReport(path=source_name(source), error=error.with_traceback(None))
        if got is None:
            return inspect(source, full=full, limits=limits, allow_protocols=allow_protocols)
        try:
            return VideoReport.from_dict(got[0]["report"])
        except (KeyError, TypeError, ValueError):  # as above
            unclear = VideoError(source_name(source), "what is said of it can't be had from its reader")
            return VideoReport(path=source_name(source), error=unclear)

    def close(self) -> None:
        """End the child, in the middle of a read too: that read raises a `VideoError`."""
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
        try:
            self._child = child = _Child()
        except NoWorkerError as error:
            self._give_up(error)
            return
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
        with self._lock:
            if self._closed:
                raise VideoError(name, "the worker that was to read it has been closed")
            try:
                if self._child is None or not self._child.is_ready():
                    self._start()
                    if self._closed:  # meanwhile, by another thread, which ended the child that was there then
                        self.close()
                        raise VideoError(name, "the worker that was to read it has been closed")
                    if self._child is None or not self._child.is_ready():
                        raise NoWorkerError("a process was started, but ended at once")
                answer, frames = self._child.ask(request, data, name, limits.seconds)
            except NoWorkerError as error:
                self._give_up(error)
                return None
        if "invalid" in answer:
            raise ValueError(answer["invalid"])
        if "error" in answer:
            of, reason = answer["error"]
            raise VideoError(name if of == path else of, reason)
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
    if isinstance(source, bytes):
        return name, None, source
    if not isinstance(source, str | os.PathLike):
        return None
    path = os.fspath(source)
    if not path or "://" in path:
        return name, path, b""
    with contextlib.suppress(OSError, ValueError):  # what is wrong with it, the reader says
        if is_pipe(Path(path)):
            return name, None, read_pipe(Path(path), name=name, limits=limits).getbuffer()
        path = os.path.join(os.getcwd(), path)  # noqa: PTH109, PTH118 (as it is: Path would change it)
        if path.startswith(("/dev/", "/proc/")):  # /dev/stdin, say: another process has another one
            path = os.path.realpath(path)
            if path.startswith(("/dev/", "/proc/")):
                return None
    return name, path, b""


class _Child:
    """One child process and its channels."""

    def __init__(self) -> None:
        if getattr(sys, "frozen", False) or not sys.executable:
            raise NoWorkerError("there is no Python interpreter to start")
        self._pid = os.getpid()
        self._frames, self._inbox = SharedFile(), SharedFile()
        self._timed_out = False
        self._ready: bool | None = None
        # not the current folder, which has no name there: it may be another by now, with a json.py in it
        entries = [entry for entry in sys.path if isinstance(entry, str) and os.path.isabs(entry)]  # noqa: PTH117
        path = "\n".join([*entries, str(Path(__file__).parents[2])])
        command = [sys.executable, "-c", _BOOTSTRAP, path, self._frames.address, self._inbox.address]
        system: dict[str, Any] = (
            {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}  # type: ignore[attr-defined,unused-ignore]
            if os.name == "nt"
            else {"start_new_session": True, "pass_fds": [self._frames.fd, self._inbox.fd]}  # Ctrl-C is not for it
        )
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},  # no arithmetic is done there
                **system,
            )
        except (OSError, ValueError) as error:
            self._frames.close()
            self._inbox.close()
            raise NoWorkerError(f"no process can be started ({error})") from None

    def is_ready(self) -> bool:
        """Whether it lives, and has said that it can work (the first time this is waited for)."""
        if self._pid != os.getpid() or self._process.poll() is not None:
            return False
        if self._ready is None:
            self._ready = self._answer(_START_S) == {"ready": True}
        return self._ready

    def ask(
        self, request: dict[str, Any], data: bytes | memoryview, name: str, seconds: float | None
    ) -> tuple[dict[str, Any], NDArray[np.uint8] | None]:
        """Send a request and wait for its answer."""
        try:
            if len(data):
                self._inbox.write(data)
            self._send(request)
            answer = self._answer(None if seconds is None else seconds + GRACE_S)
            frames = self._frames.take(tuple(answer["shape"])) if answer and "shape" in answer else None
        except (OSError, ValueError, TypeError) as error:
            self.end()
            raise VideoError(name, f"its frames can't be had from the process that reads it: {error}") from None
        except BaseException:  # Ctrl-C in the middle of it: the rest of the answer would be taken for the next one
            self.end()
            raise
        if answer is None:
            if self._timed_out and seconds is not None:
                raise too_slow(name, seconds)
            raise VideoError(name, _how_it_died(self._process.wait()))
        self._inbox.shrink()
        return answer, frames

    def end(self) -> None:
        """Kill it, and let go of everything; whoever is waiting for its answer (another thread) gets none."""
        if self._pid != os.getpid():
            return  # a fork of the process whose child this is
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError, RuntimeError):
                if pipe is not None:
                    pipe.close()
        self._frames.close()
        self._inbox.close()

    def _send(self, request: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has died: that is what its answer will tell
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()

    def _answer(self, seconds: float | None) -> dict[str, Any] | None:
        """What it says within this time, after which it is killed; None if it has ended."""
        timer = None if seconds is None else threading.Timer(seconds, self._stop)
        if timer is not None:
            timer.daemon = True
            timer.start()
        assert self._process.stdout is not None
        try:
            line = self._process.stdout.readline()
            answer = json.loads(line) if line.endswith(b"\n") else None
        except ValueError:  # no JSON; or the pipe was closed by another thread
            answer = None
        finally:
            if timer is not None:
                timer.cancel()
        if not isinstance(answer, dict):
            self.end()
            return None
        return answer

    def _stop(self) -> None:
        self._timed_out = True
        self._process.kill()


def _how_it_died(status: int) -> str:
    if status == -getattr(signal, "SIGKILL", 9):
        return "the process that read it was killed, by the system for want of memory or by somebody"
    how = signal.Signals(-status).name if -status in set(signal.Signals) else f"status {status}"
    return f"reading it crashed the decoder ({how}): it is damaged, or made to do harm"
