"""The server's end of a process: start it, exchange messages with it in threads, and see it end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, BinaryIO, cast

from openxclip.serve.engine.wire import Channel, encode

OnMessage = Callable[[tuple[Any, ...]], None]

#: The modules that the processes run, by what they do.
MODEL = "openxclip.serve.engine.model_child"
MEDIA = "openxclip.serve.engine.media_child"
JOB = "openxclip.serve.engine.job_child"

_END_TIMEOUT_S = 5.0  # for a process that was asked to end

# The child has the import path of this process, without the current folder, in which a file could hide a module. Its
# thread that ends it with this process is started before the slow imports.
_BOOTSTRAP = """
import sys
sys.path[:] = sys.argv[2].split('\\n')
from openxclip.serve.engine.child import main
main(sys.argv[1])
"""

# PyTorch's threads wait without spinning: otherwise they take the cores from decoders and other requests.
_ENVIRONMENT = {"OMP_WAIT_POLICY": "PASSIVE"}

_OWN_GROUP: dict[str, Any] = (  # so that Ctrl-C doesn't reach the child: the server ends it in order
    {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}  # type: ignore[attr-defined,unused-ignore]
    if os.name == "nt"
    else {"start_new_session": True}
)


class ChildProcess:
    """A process of the server. It ends by itself when this process ends, however that happens.

    Args:
        module: the module that it runs: `MODEL`, `MEDIA` or `JOB`. See `openxclip.serve.engine.child`.
        on_message: called in the event loop with each message.
        on_end: called in the event loop with the exit status, after the last message.

    Raises:
        OSError: no process can be started.
    """

    def __init__(
        self, module: str, on_message: Callable[[tuple[Any, ...]], None], on_end: Callable[[int], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_message, self._on_end = on_message, on_end
        self._ended = asyncio.Event()
        self._was_asked = False
        entries = [entry for entry in sys.path if isinstance(entry, str) and os.path.isabs(entry)]  # noqa: PTH117
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BOOTSTRAP, module, "\n".join(entries)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**_ENVIRONMENT, **os.environ},
            **_OWN_GROUP,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._channel = Channel(cast("BinaryIO", self._process.stdout), cast("BinaryIO", self._process.stdin))
        self._outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        for target in (self._send_all, self._receive_all):
            threading.Thread(target=target, name=module.rpartition(".")[2], daemon=True).start()

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    @property
    def was_asked_to_end(self) -> bool:
        """Whether `end` or `kill` was called."""
        return self._was_asked

    def send(self, *message: Any) -> None:
        """Send a message; it is lost if the process has ended. Raises an error if it can't be pickled."""
        self._outbox.put(encode(message))

    async def end(self) -> None:
        """Let the process end, kill it if it doesn't, and wait for it."""
        self._was_asked = True
        self._outbox.put(None)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._ended.wait(), _END_TIMEOUT_S)
            return
        self.kill()
        await self._ended.wait()

    async def wait(self, seconds: float) -> bool:
        """Wait until the process has ended; return whether it has."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._ended.wait(), seconds)
        return self._ended.is_set()

    def kill(self) -> None:
        """Kill the process at once; `on_end` is called soon."""
        self._was_asked = True
        with contextlib.suppress(OSError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()

    # -- in threads --------------------------------------------------------------------------------------------------

    def _send_all(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # it has ended, which the other thread reports
            while (data := self._outbox.get()) is not None:
                self._channel.write(data)
        with contextlib.suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()  # the process ends itself when this closes

    def _receive_all(self) -> None:
        assert self._process.stdout is not None
        with contextlib.closing(self._process.stdout):
            while (message := self._channel.receive()) is not None:
                self._call(self._on_message, message)
        status = self._process.wait()
        self._outbox.put(None)
        self._call(self._note_end, status)

    def _note_end(self, status: int) -> None:
        self._ended.set()
        self._on_end(status)

    def _call(self, function: Callable[[Any], None], argument: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(function, argument)


def describe_end(status: int) -> str:
    """Describe the end of a process from its exit status, as a clause without a subject."""
    if status < 0:
        with contextlib.suppress(ValueError):
            name = signal.Signals(-status).name
            return f"was killed ({name})" + (", perhaps for lack of memory" if name == "SIGKILL" else "")
    return f"ended by itself (status {status})"


def resident_bytes(pid: int | None) -> int | None:
    """Return the memory of a process and its children in bytes; None if it is unknown (not on Linux)."""
    if pid is None:
        return None
    try:
        total = _resident(pid)
        with open(f"/proc/{pid}/task/{pid}/children") as file:  # noqa: PTH123 (called at every scrape)
            children = file.read().split()
    except (OSError, ValueError):
        return None
    for child in children:
        with contextlib.suppress(OSError, ValueError):  # it has just ended
            total += _resident(int(child))
    return total


def _resident(pid: int) -> int:
    with open(f"/proc/{pid}/statm") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
