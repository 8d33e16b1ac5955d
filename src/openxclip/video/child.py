"""Start and end the child process of a `DecodeWorker`, and exchange messages with it."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import PIL
from numpy.typing import NDArray

from openxclip.common.forking import watch_forks
from openxclip.errors import DecoderCrashError, VideoError
from openxclip.video import sharing
from openxclip.video.failures import error_text
from openxclip.video.limits import GRACE_S, timeout_error
from openxclip.video.sharing import SharedFile, move_above_standard_streams

_START_TIMEOUT_S = 60.0  # importing modules is slow on a busy machine
_CHUNK = 1 << 16
_SHOWN_LINES, _SHOWN_CHARACTERS = 3, 400  # of the child's standard error, if it can't be started

# After these errors, starting a process may succeed for the next video.
_TEMPORARY = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT, errno.EINTR}
)

# Signals that a crashing decoder raises
_CRASH_SIGNALS = frozenset("SIGSEGV SIGBUS SIGILL SIGFPE SIGABRT SIGSYS SIGTRAP".split())  # noqa: SIM905
_WINDOWS_CRASH = 0x80000000  # the lowest exit status of a crash

# The code of the child. With -S, `sys.path` has only the standard library at first, so it comes before all other
# entries, and no sitecustomize or .pth file runs. The thread ends the child when its parent ends; it is started before
# the slow imports.
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

_OWN_GROUP: dict[str, Any] = (  # so that Ctrl-C doesn't reach the child
    {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}  # type: ignore[attr-defined,unused-ignore]
    if os.name == "nt"
    else {"start_new_session": True}
)


class NoWorkerError(Exception):
    """No child process can be started on this system."""


class NoWorkerNowError(Exception):
    """No child process can be started at the moment."""


class Child:
    """A child process, its pipes and its shared files."""

    def __init__(self) -> None:
        if getattr(sys, "frozen", False) or not sys.executable:
            raise NoWorkerError("there is no Python interpreter to start")
        self._pid = os.getpid()
        self._is_ready = self._timed_out = False
        self._stderr = b""  # the child's standard error, if it failed to start
        self._pending = b""  # the beginning of the next answer
        self._files, self._childs_files = contextlib.ExitStack(), contextlib.ExitStack()
        watch_forks(self)
        try:
            self._frames, self._inbox, self._errors = (
                self._files.enter_context(contextlib.closing(SharedFile())) for _ in range(3)
            )
            self._process = self._launch()
        except (OSError, ValueError) as error:
            self._files.close()
            if isinstance(error, OSError) and error.errno in _TEMPORARY:
                raise NoWorkerNowError(error_text(error)) from None
            raise NoWorkerError(f"no process can be started ({error_text(error)})") from None

    def _launch(self) -> subprocess.Popen[bytes]:
        flags = ["-S", "-E"] if sys.flags.ignore_environment else ["-S"]
        addresses = [self._frames.address, self._inbox.address]
        env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # `_import_path` has it
        env |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # the child does no arithmetic
        command = [sys.executable, *flags, "-c", _BOOTSTRAP, _import_path()]
        options: dict[str, Any] = {"stderr": self._errors.fd, "env": env, **_OWN_GROUP}
        self._requests: Any
        self._answers: Any
        if not sharing.BY_DESCRIPTOR:
            pipe = subprocess.PIPE
            process = subprocess.Popen([*command, "0", "1", *addresses], bufsize=0, stdin=pipe, stdout=pipe, **options)
            assert process.stdin is not None
            assert process.stdout is not None
            self._requests = self._files.enter_context(process.stdin)
            self._answers = self._files.enter_context(process.stdout)
            return process
        with self._childs_files as theirs:
            requests, self._requests = _open_pipe(theirs, self._files)
            self._answers, answers = _open_pipe(self._files, theirs)
            pipes = [requests.fileno(), answers.fileno()]
            return subprocess.Popen(
                [*command, *map(str, pipes), *addresses],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[*pipes, self._frames.fd, self._inbox.fd],
                **options,
            )

    def is_gone(self) -> bool:
        """Return whether the child has ended after it was ready, or belongs to another process (after a fork)."""
        return self._pid != os.getpid() or (self._is_ready and self._process.poll() is not None)

    def wait_until_ready(self) -> None:
        """Wait until the child is ready for requests.

        Raises:
            NoWorkerError: the child ended, or took too long.
        """
        if self._is_ready:
            return
        answer = self._wait_for_answer(_START_TIMEOUT_S, is_start=True)
        if answer is None:
            ended = f"ended at once (status {self._process.returncode})"
            failure = f"did not respond within {_START_TIMEOUT_S:g} s" if self._timed_out else ended
            raise NoWorkerError(f"a process was started, but {failure}{self._stderr_tail()}")
        self._is_ready = True
        if not answer.get("limits_memory"):
            _warn_once("this system sets no limit to the memory of the process that reads videos")

    def _stderr_tail(self) -> str:
        lines = [line.strip() for line in self._stderr.decode(errors="replace").splitlines() if line.strip()]
        text = " | ".join(lines[-_SHOWN_LINES:])[-_SHOWN_CHARACTERS:]
        return f": {text}" if text else ""

    def ask(
        self,
        request: dict[str, Any],
        data: bytes | memoryview,
        name: str,
        seconds: float | None,
        on_time: Callable[[float, float], object],
    ) -> tuple[dict[str, Any], NDArray[np.uint8] | None]:
        """Send a request, and return the answer and its frames.

        Args:
            request: a JSON object.
            data: the content of a source without a path.
            name: name of the source in errors.
            seconds: the time limit; None is no limit.
            on_time: called with the time up to which the video has been read and its duration, in seconds.

        Raises:
            DecoderCrashError: the child ended: it crashed, or was killed from outside.
            VideoError: the child was killed at the time limit, or its frames can't be received.
        """
        try:
            if len(data):
                self._inbox.write(data)
            self._send(request)
            answer = self._wait_for_answer(None if seconds is None else seconds + GRACE_S, on_time=on_time)
            frames = self._frames.take(tuple(answer["shape"])) if answer and "shape" in answer else None
        except (OSError, ValueError, TypeError) as error:
            self.end()
            reason = f"its frames can't be received from the process that reads it: {error_text(error)}"
            raise VideoError(name, reason) from None
        except BaseException:  # after Ctrl-C, the rest of this answer would be taken for the next answer
            self.end()
            raise
        if answer is None:
            if self._timed_out and seconds is not None:
                raise timeout_error(name, seconds)
            raise DecoderCrashError(name, describe_exit(self._process.wait()))
        self._inbox.shrink()
        return answer, frames

    def end(self) -> None:
        """Kill the child and close its files; a thread that waits for an answer gets None."""
        if self._pid != os.getpid():
            return  # the child belongs to the process that this one was forked from: see `after_fork`
        self._kill()
        self._process.wait()
        if not self._is_ready:
            with contextlib.suppress(OSError, ValueError):  # it is closed already
                self._stderr = self._errors.tail(_CHUNK)
        self._files.close()

    def after_fork(self) -> None:
        """See `forking`. The pipes are closed: while copies are open, the child doesn't see its parent end."""
        self._files.close()
        self._childs_files.close()
        if hasattr(self, "_process"):
            self._process.returncode = 0  # not a child of this process, which must not wait for it

    def _send(self, request: dict[str, Any]) -> None:
        left = memoryview(json.dumps(request).encode() + b"\n")
        with contextlib.suppress(BrokenPipeError):  # the child has ended, which `_wait_for_answer` reports
            while left:
                left = left[self._requests.write(left) :]

    def _wait_for_answer(
        self,
        seconds: float | None,
        *,
        is_start: bool = False,
        on_time: Callable[[float, float], object] = lambda end, duration: None,
    ) -> dict[str, Any] | None:
        """Return the next answer; None if the child ended, or was killed because it took too long.

        With `is_start`, lines before the message "ready" are ignored: a wrapper script may print some.
        """
        timer = None if seconds is None else threading.Timer(seconds, self._time_out)
        if timer is not None:
            timer.daemon = True
            timer.start()
        try:
            answer = self._read_message()
            while is_start and answer is not None and answer.get("ready") is not True:
                answer = self._read_message()
            while answer is not None and "time" in answer:
                end, duration = answer["time"]
                on_time(float(end), float(duration))
                answer = self._read_message()
        except (ValueError, TypeError):  # the pipe was closed by another thread
            answer = None
        finally:
            if timer is not None:
                timer.cancel()
        if not answer:
            self.end()
        return answer or None

    def _read_message(self) -> dict[str, Any] | None:
        """Return the next line as a JSON object; {} if it isn't one, None if the pipe was closed."""
        line = self._read_line()
        try:
            answer = json.loads(line) if line else None
        except (ValueError, RecursionError):
            return {}
        return answer if answer is None or isinstance(answer, dict) else {}

    def _read_line(self) -> bytes:
        """Return the next line; b"" if the pipe was closed before its end."""
        parts = [self._pending]
        while b"\n" not in parts[-1]:
            parts.append(self._answers.read(_CHUNK))
            if not parts[-1]:
                return b""
        line, _, self._pending = b"".join(parts).partition(b"\n")
        return line

    def _time_out(self) -> None:
        self._timed_out = True
        self._kill()

    def _kill(self) -> None:
        if hasattr(os, "killpg") and self._process.poll() is None:
            with contextlib.suppress(OSError):  # the whole group, because a wrapper script may have started Python
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()


def _open_pipe(readers: contextlib.ExitStack, writers: contextlib.ExitStack) -> tuple[Any, Any]:
    """Return the reading and the writing end of a new pipe, each closed with its stack."""
    read_fd, write_fd = (move_above_standard_streams(fd) for fd in os.pipe())
    return (
        readers.enter_context(os.fdopen(read_fd, "rb", buffering=0)),
        writers.enter_context(os.fdopen(write_fd, "wb", buffering=0)),
    )


def _import_path() -> str:
    """Return the child's import path, first with the folders from which openxclip and its dependencies came here."""
    ours = [str(Path(__file__).parents[2]), *(str(Path(str(module.__file__)).parents[1]) for module in (av, np, PIL))]
    # without the current folder (an empty entry), which may have changed to one with a json.py in it
    others = [entry for entry in sys.path if isinstance(entry, str) and os.path.isabs(entry)]  # noqa: PTH117
    return "\n".join(dict.fromkeys([*reversed(ours), *others]))


def describe_exit(status: int) -> str:
    """Describe the end of the process that read a video, from its exit status."""
    if 128 < status < 256:  # a shell reports signal n as status 128 + n
        status = 128 - status
    if status == -getattr(signal, "SIGKILL", 9):
        return "the process that read it was killed, by the system for lack of memory or by a user"
    cause = signal.Signals(-status).name if -status in set(signal.Signals) else f"status {status}"
    if cause in _CRASH_SIGNALS or status >= _WINDOWS_CRASH:
        return f"reading it crashed the decoder ({cause}): it is damaged or malicious"
    return f"it cannot be read: the process that read it ended before it was done ({cause})"


@cache  # so that a text is shown once
def _warn_once(text: str) -> None:
    warnings.warn(text, RuntimeWarning, stacklevel=2)
