"""The processes of the server: receive tasks, do them in threads, and send the results back."""

from __future__ import annotations

import _thread
import importlib
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NoReturn, Protocol, TextIO

import openxclip
from openxclip.errors import OpenXCLIPError
from openxclip.serve.engine.tasks import Lane, Task, lane_of
from openxclip.serve.engine.wire import Channel
from openxclip.serve.engine.work import CancelledWorkError, Work, current_work, in_this_thread

_PACKAGE = str(Path(openxclip.__file__).parent)
_EXPECTED = (OpenXCLIPError, ValueError, TypeError, OSError, MemoryError)  # without a traceback in the log


class Handler(Protocol):
    """Does the tasks of a process."""

    lanes: Mapping[Lane, int]  #: number of threads by lane
    hidden: Mapping[str, str]  #: what messages show instead of paths, by path

    def describe(self) -> dict[str, Any]:
        """Return facts for the server."""

    def do(self, task: Task, work: Work) -> Any:
        """Do a task and return its result."""

    def prepare(self) -> str | None:
        """Do what makes later tasks faster, in a thread beside the first ones; return what the log should say."""


def main(module: str) -> NoReturn:
    """Run a process of the server, until the server closes the pipe or ends.

    Args:
        module: name of the module whose `serve(channel, messages)` does the work. It is imported by name, so that a
            process loads only what it needs.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
    channel = _take_standard_streams()
    messages: SimpleQueue[tuple[Any, ...]] = SimpleQueue()

    def receive() -> None:
        while (message := channel.receive()) is not None:
            if message[0] == "interrupt":  # Ctrl-C for work in the main thread
                if hasattr(signal, "pthread_kill"):  # ends a wait for a lock too
                    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                else:  # Windows
                    _thread.interrupt_main()
            else:
                messages.put(message)
        os._exit(0)  # the server has ended, or wants this process to end: at once, whatever it does

    threading.Thread(target=receive, name="receive", daemon=True).start()
    try:
        importlib.import_module(module).serve(channel, messages)
    except KeyboardInterrupt:
        os._exit(130)
    os._exit(0)  # without waiting for threads that read ahead


def _take_standard_streams() -> Channel:
    """Keep the pipes for messages only: what is printed goes to the standard error."""
    reading, writing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return Channel(reading, writing)


def serve_tasks(
    channel: Channel,
    messages: SimpleQueue[tuple[Any, ...]],
    load: Callable[[dict[str, Any]], Handler],
) -> None:
    """Load a handler, and do tasks in the threads of their lanes until the process ends.

    Messages from the server: ("load", settings), then ("run", number, task) and ("cancel", number). Messages to it:
    ("ready", facts) or ("failed", text), then ("problem", text) if something is wrong that only some tasks need,
    ("progress", number, done, total) and for each task one of ("result", number, value, counts), ("error", number,
    error, counts) and ("cancelled", number, None, counts).
    """
    works: dict[int, Work] = {}
    _turn_warnings_into_notes(works)
    _, settings = messages.get()
    try:
        handler = load(settings)
        facts = handler.describe()
    except Exception as error:
        if not isinstance(error, _EXPECTED):
            traceback.print_exc()
        channel.send(("failed", _text_of(error)))
        return
    threads = {lane: ThreadPoolExecutor(number, thread_name_prefix=lane) for lane, number in handler.lanes.items()}
    channel.send(("ready", facts))
    threading.Thread(target=_prepare, args=(handler, channel), name="prepare", daemon=True).start()
    while True:
        kind, number, *tasks = messages.get()
        if kind == "run":
            work = works[number] = Work(number, tasks[0], channel.send, handler.hidden)
            threads[lane_of(tasks[0])].submit(_do, handler, work, works, channel)
        elif (running := works.get(number)) is not None:
            running.cancel()


def _prepare(handler: Handler, channel: Channel) -> None:
    try:
        problem = handler.prepare()
    except Exception:
        traceback.print_exc()
        return
    if problem is not None:
        with suppress(OSError):  # the server has ended
            channel.send(("problem", problem))


def _do(handler: Handler, work: Work, works: dict[int, Work], channel: Channel) -> None:
    answer: tuple[str, Any]
    with in_this_thread(work):
        try:
            work.check()
            answer = ("result", handler.do(work.task, work))
        except CancelledWorkError:
            answer = ("cancelled", None)
        except BaseException as error:
            if not isinstance(error, _EXPECTED) and not work.is_cancelled:
                traceback.print_exc()
            answer = ("cancelled", None) if work.is_cancelled else ("error", work.shown_error(error))
    del works[work.number]
    try:
        channel.send((answer[0], work.number, answer[1], work.counts))
    except OSError:
        os._exit(0)  # the server has ended
    except Exception as error:  # a result that can't be pickled
        traceback.print_exc()
        channel.send(("error", work.number, RuntimeError(f"its result can't be sent: {error}"), work.counts))


def _text_of(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text if isinstance(error, _EXPECTED) else f"{type(error).__name__}: {text}"


def _turn_warnings_into_notes(works: dict[int, Work]) -> None:
    """Add warnings of this package to the notes of the task that they are about; others go to the standard error."""
    show = warnings.showwarning

    def note(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        text, work = str(message), current_work()
        if work is None:  # a thread that reads ahead: the text names the video
            running = list(works.values())
            named = [each for each in running if str(getattr(each.task, "path", None)) in text]
            work = named[0] if named else running[0] if len(running) == 1 else None
        if work is None or not (filename.startswith(_PACKAGE) or category.__module__.startswith("openxclip.")):
            show(message, category, filename, lineno, file, line)
        else:
            work.note(text)

    warnings.simplefilter("always")  # for each request again
    for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
        warnings.simplefilter("ignore", category)
    warnings.showwarning = note
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
