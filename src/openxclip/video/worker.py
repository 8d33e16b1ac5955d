"""Reading in a process of its own: a file that makes a decoder crash, hang or grow ends that process, not the program.

The child is a bare interpreter that imports `openxclip.video` alone (neither PyTorch nor the user's script) and stays
for one file after the other. Requests and answers are lines of JSON on two pipes, never pickles, which a decoder taken
over by a hostile file could fill with programs. Pixels come back through a file that both map: it has no name, so that
nothing can be left behind. (On Windows, where a child inherits no open files, the pipes are its standard input and
output, and the file is a temporary one.)
"""

from __future__ import annotations

import contextlib
import errno
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

import av
import numpy as np
import PIL
from numpy.typing import NDArray

from openxclip.errors import VideoError
from openxclip.forking import ForkSafeLock, watch_forks
from openxclip.video import sharing
from openxclip.video.clips import Clip, ClipPiece, ClipPlan, read_planned
from openxclip.video.decoding import read_clips
from openxclip.video.failures import plain
from openxclip.video.frames import Frames
from openxclip.video.inspection import VideoReport, inspect
from openxclip.video.limits import DEFAULT_LIMITS, GRACE_S, Limits, too_slow
from openxclip.video.opening import VideoSource, check_protocols, content, is_buffer, located, source_name
from openxclip.video.sampling import Short
from openxclip.video.sharing import SharedFile, clear_of_standard_streams
from openxclip.video.streams import is_pipe, read_pipe

_START_S = 60.0  # to import what it needs, on a machine that is busy
_CHUNK = 1 << 16
_SHOWN_LINES, _SHOWN_CHARACTERS = 3, 400  # of what the child wrote to its standard error before it failed

# Temporary errors: starting a process may succeed for the next video
_TEMPORARY = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT, errno.EINTR}
)

# Signals that a decoder gets for what it does itself
_OF_CRASHES = frozenset("SIGSEGV SIGBUS SIGILL SIGFPE SIGABRT SIGSYS SIGTRAP".split())  # noqa: SIM905
_WINDOWS_CRASH = 0x80000000  # exit statuses from here on are of exceptions of the processor or the system

# What a new interpreter runs. It starts without `site` (-S): its path holds only the standard library, which therefore
# comes first, and no sitecustomize or .pth file runs. The thread starts before the slow imports: it ends the child when
# the parent ends.
_BOOTSTRAP = """
import sys
entries, requests, answers, *files = sys.argv[1:]
own = [entry for entry in sys.path if entry]
sys.path[:] = own + [entry for entry in entries.split('\\n') if entry not in own]
import os, queue, threading
try:
    requests, answers = os.fdopen(os.dup(int(requests)), 'rb'), os.fdopen(os.dup(int(answers)), 'wb')
except OSError:
    sys.exit('its pipes were closed before Python started: a wrapper script must pass all open files on')
arrived = queue.SimpleQueue()
def receive():
    for line in requests:
        arrived.put(line)
    os._exit(0)
threading.Thread(target=receive, daemon=True).start()
from openxclip.video.worker_child import main
main(arrived, answers, *files)
"""

_OWN_GROUP: dict[str, Any] = (  # Ctrl-C is not for it
    {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}  # type: ignore[attr-defined,unused-ignore]
    if os.name == "nt"
    else {"start_new_session": True}
)
_warned: set[str] = set()

_Parcel = tuple[str, str | None, bytes | memoryview]  # name, path or None, data where there is no path
_Answer = tuple[dict[str, Any], NDArray[np.uint8] | None]


class NoWorkerError(Exception):
    """No child process can be started here."""


class _NoWorkerNowError(Exception):
    """No child process can be started at the moment."""


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
        self._child: _Child | None = None
        self._finalizer: weakref.finalize[..., DecodeWorker] | None = None
        self._unable = self._closed = False
        try:
            self._start()
        except _NoWorkerNowError:
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
            self._child = child = _Child()
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
        closed = VideoError(name, "the worker that was to read it has been closed")
        with self._lock:
            try:
                if self._child is None or self._child.is_gone():
                    self._start()
                child = self._child
                if self._closed or child is None:
                    raise closed
                child.wait_until_ready()
                answer, frames = child.ask(request, data, name, limits.seconds)
            except _NoWorkerNowError as error:
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


class _Child:
    """One child process and its channels."""

    def __init__(self) -> None:
        if getattr(sys, "frozen", False) or not sys.executable:
            raise NoWorkerError("there is no Python interpreter to start")
        self._pid = os.getpid()
        self._is_ready = self._timed_out = False
        self._told = b""  # on its standard error, before it was ready
        self._pending = b""  # of its answers, after the last line
        self._files, self._given = contextlib.ExitStack(), contextlib.ExitStack()  # the latter: the child's ends
        watch_forks(self)
        try:
            self._frames, self._inbox, self._errors = (self._shared_file() for _ in range(3))
            self._process = self._launch()
        except OSError as error:
            self._files.close()
            if error.errno in _TEMPORARY:
                raise _NoWorkerNowError(plain(error)) from None
            raise NoWorkerError(f"no process can be started ({plain(error)})") from None
        except ValueError as error:
            self._files.close()
            raise NoWorkerError(f"no process can be started ({error})") from None

    def _shared_file(self) -> SharedFile:
        file = SharedFile()
        self._files.callback(file.close)
        return file

    def _launch(self) -> subprocess.Popen[bytes]:
        flags = ["-S", "-E"] if sys.flags.ignore_environment else ["-S"]
        addresses = [self._frames.address, self._inbox.address]
        env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # it is in the path below
        env |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # no arithmetic is done there
        if not sharing.BY_DESCRIPTOR:
            process = subprocess.Popen(
                [sys.executable, *flags, "-c", _BOOTSTRAP, _import_path(), "0", "1", *addresses],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors.fd,
                env=env,
                **_OWN_GROUP,
            )
            assert process.stdin is not None
            assert process.stdout is not None
            self._requests: Any = self._files.enter_context(process.stdin)
            self._answers: Any = self._files.enter_context(process.stdout)
            return process
        with self._given as theirs:
            requests, self._requests = _pipe(theirs, self._files)
            self._answers, answers = _pipe(self._files, theirs)
            return subprocess.Popen(
                [
                    *(sys.executable, *flags, "-c", _BOOTSTRAP, _import_path()),
                    *(str(requests.fileno()), str(answers.fileno()), *addresses),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors.fd,
                pass_fds=[requests.fileno(), answers.fileno(), self._frames.fd, self._inbox.fd],
                env=env,
                **_OWN_GROUP,
            )

    def is_gone(self) -> bool:
        """Whether it was ready once and has ended, or is the child of the process that this one was forked from."""
        return self._pid != os.getpid() or (self._is_ready and self._process.poll() is not None)

    def wait_until_ready(self) -> None:
        """Wait until it can work.

        Raises:
            NoWorkerError: it can't.
        """
        if self._is_ready:
            return
        answer = self._answer(_START_S, is_start=True)
        if answer is None:
            raise NoWorkerError(self._why_not_ready())
        self._is_ready = True
        if not answer.get("limits_memory"):
            _warn_once("this system sets no limit to the memory of the process that reads videos")

    def _why_not_ready(self) -> str:
        ended = f"ended at once (status {self._process.returncode})"
        what = f"said nothing for {_START_S:g} s" if self._timed_out else ended
        return f"a process was started, but {what}{self._last_words()}"

    def _last_words(self) -> str:
        """What it wrote to its standard error, the end of it."""
        lines = [line.strip() for line in self._told.decode(errors="replace").splitlines() if line.strip()]
        text = " | ".join(lines[-_SHOWN_LINES:])[-_SHOWN_CHARACTERS:]
        return f": {text}" if text else ""

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
            raise VideoError(name, f"its frames can't be had from the process that reads it: {plain(error)}") from None
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
            return  # a fork of the process whose child this is: see `after_fork`
        self._kill()
        self._process.wait()
        if not self._is_ready:
            with contextlib.suppress(OSError, ValueError):  # closed already
                self._told = self._errors.tail(_CHUNK)
        self._files.close()

    def after_fork(self) -> None:
        """See `forking`: with the other end of its pipe open in a third process, it wouldn't see its parent end."""
        self._files.close()
        self._given.close()
        if hasattr(self, "_process"):
            self._process.returncode = 0  # it is not the child of this process, which is not to wait for it

    def _send(self, request: dict[str, Any]) -> None:
        left = memoryview(json.dumps(request).encode() + b"\n")
        with contextlib.suppress(BrokenPipeError):  # it has died: that is what its answer will tell
            while left:
                left = left[self._requests.write(left) :]

    def _answer(self, seconds: float | None, *, is_start: bool = False) -> dict[str, Any] | None:
        """What it says within this time, after which it is killed; None if it has ended.

        Before it is ready, a wrapper script may print as well where the answers come on its standard output.
        """
        timer = None if seconds is None else threading.Timer(seconds, self._stop)
        if timer is not None:
            timer.daemon = True
            timer.start()
        try:
            answer = self._parsed()
            while is_start and answer is not None and answer.get("ready") is not True:
                answer = self._parsed()
        except ValueError:  # the pipe was closed by another thread
            answer = None
        finally:
            if timer is not None:
                timer.cancel()
        if not answer:
            self.end()
        return answer or None

    def _parsed(self) -> dict[str, Any] | None:
        """The next line; empty if it is no answer, None if there is no whole line any more."""
        line = self._line()
        try:
            answer = json.loads(line) if line else None
        except (ValueError, RecursionError):
            return {}
        return answer if answer is None or isinstance(answer, dict) else {}

    def _line(self) -> bytes:
        """The next line; nothing if there is no whole one any more."""
        parts = [self._pending]
        while b"\n" not in parts[-1]:
            parts.append(self._answers.read(_CHUNK))
            if not parts[-1]:
                return b""
        line, _, self._pending = b"".join(parts).partition(b"\n")
        return line

    def _stop(self) -> None:
        self._timed_out = True
        self._kill()

    def _kill(self) -> None:
        if hasattr(os, "killpg") and self._process.poll() is None:
            with contextlib.suppress(OSError):  # the group of a wrapper script, in which Python is another process
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()


def _pipe(keeps_out: contextlib.ExitStack, keeps_in: contextlib.ExitStack) -> tuple[Any, Any]:
    """The two ends of a new pipe, each closed with its stack."""
    out, into = (clear_of_standard_streams(fd) for fd in os.pipe())
    return (
        keeps_out.enter_context(os.fdopen(out, "rb", buffering=0)),
        keeps_in.enter_context(os.fdopen(into, "wb", buffering=0)),
    )


def _import_path() -> str:
    """Where the child finds openxclip and what it imports: as in this process, and before anything of the user's."""
    ours = [str(Path(__file__).parents[2]), *(str(Path(str(module.__file__)).parents[1]) for module in (av, np, PIL))]
    # not the current folder, which has no name there: it may be another by now, with a json.py in it
    others = [entry for entry in sys.path if isinstance(entry, str) and os.path.isabs(entry)]  # noqa: PTH117
    return "\n".join(dict.fromkeys([*reversed(ours), *others]))


def _how_it_died(status: int) -> str:
    if 128 < status < 256:  # what a shell that started it says of a signal
        status = 128 - status
    if status == -getattr(signal, "SIGKILL", 9):
        return "the process that read it was killed, by the system for want of memory or by somebody"
    how = signal.Signals(-status).name if -status in set(signal.Signals) else f"status {status}"
    if how in _OF_CRASHES or status >= _WINDOWS_CRASH:
        return f"reading it crashed the decoder ({how}): it is damaged, or made to do harm"
    return f"it cannot be read: the process that read it ended before it was done ({how})"


def _warn_once(text: str) -> None:
    if text not in _warned:
        _warned.add(text)
        warnings.warn(text, RuntimeWarning, stacklevel=2)
