"""What the child process of a `DecodeWorker` runs: it answers requests, one after the other."""

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
from openxclip.video.assumptions import collected
from openxclip.video.choosing import choose_clips
from openxclip.video.clips import ClipPlan, PlannedClips, next_run
from openxclip.video.decoding import VideoReader
from openxclip.video.failures import cannot_be_read
from openxclip.video.inspection import inspect
from openxclip.video.limits import GRACE_S, Limits
from openxclip.video.sharing import SharedFile
from openxclip.video.streams import NamedBytes

_BASE_BYTES = 2 << 30  # of address space that it may take beside its limits: threads, decoders, libraries
_BYTES_A_PIXEL = 64  # that a decoder may take for its reference frames and threads, at most

_TELLS_EVERY_S = 0.5


def main(requests: queue.SimpleQueue[bytes], answers: BinaryIO, frames_address: str, inbox_address: str) -> NoReturn:
    """Answer requests, one after the other: what the child process runs (see `child._BOOTSTRAP`).

    Args:
        requests: lines of JSON. The thread that fills it ends this process when the parent is gone.
        answers: where to write one line for each.
        frames_address, inbox_address: of the `SharedFile`s.
    """
    if hasattr(signal, "SIGINT"):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    frames, inbox = SharedFile(frames_address), SharedFile(inbox_address)
    guard, kept = _MemoryGuard(), _Kept()
    _trust_own_limits()
    with open(os.devnull, "r+b") as nothing:  # noqa: PTH123
        for stream in range(3):  # so that no library reads requests or prints into the answers
            os.dup2(nothing.fileno(), stream)
    answer: dict[str, Any] = {"ready": True, "limits_memory": guard.works}
    while True:
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()
        request = json.loads(requests.get())
        limits = Limits(**request["limits"])
        guard.set(limits)
        if limits.seconds is not None and hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, limits.seconds + 2 * GRACE_S)  # should nobody be there to kill it
        with collected() as assumed:
            answer = _answer_to(request, limits, frames, inbox, kept, _Teller(answers))
        answer["assumed"] = assumed
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)


class _Teller:
    """Says now and then how far a long request has come."""

    def __init__(self, answers: BinaryIO) -> None:
        self._answers, self._next = answers, time.monotonic() + _TELLS_EVERY_S

    def __call__(self, end: float, duration: float) -> None:
        """So many seconds are done, of so many."""
        if (now := time.monotonic()) >= self._next:
            self._next = now + _TELLS_EVERY_S
            self._answers.write(json.dumps({"time": [end, duration]}).encode() + b"\n")
            self._answers.flush()


class _Kept:
    """The reader that stays open from one piece of a video to the next."""

    def __init__(self) -> None:
        self._token: str | None = None
        self.reader: VideoReader
        self.clips: PlannedClips

    def open(
        self,
        token: str,
        source: str | NamedBytes,
        plan: ClipPlan,
        *,
        start: float | None,
        end: float | None,
        **how: Any,
    ) -> None:
        """Have the reader of this token, which is opened if there is another or none."""
        if token == self._token:
            self.reader.restart_clock()
            return
        self.close()
        self.reader = VideoReader(source, **how)
        self._token = token
        self.clips = PlannedClips(plan, self.reader, start=start, end=end)

    def close(self) -> None:
        """Let go of it."""
        if self._token is not None:
            self._token = None
            self.reader.close()


def _answer_to(
    request: dict[str, Any], limits: Limits, frames: SharedFile, inbox: SharedFile, kept: _Kept, tell: _Teller
) -> dict[str, Any]:
    name, path = request["name"], request["path"]
    how, common = request["how"], {"limits": limits, "allow_protocols": request["allow_protocols"]}
    try:
        source = NamedBytes(inbox.read(request["size"]), name) if path is None else path
        if request["what"] == "planned":
            return _next_piece(kept, source, how, common, frames)
        kept.close()
        if request["what"] == "inspect":
            report = inspect(source, **how, **common, on_time=tell)
            return {"report": report.as_dict() | {"path": name}}
        opening = {name: how.pop(name) for name in ("fps", "num_threads", "track")}
        with VideoReader(source, **opening, **common) as reader:
            clips = choose_clips(reader, **how)
            order = [i for clip in clips for i in clip]
            array_THWC, times_T, indices = reader.get_arrays(order, make_room=frames.make_room)
        return {"shape": array_THWC.shape, "times": times_T.tolist(), "indices": indices}
    except VideoError as error:
        return {"error": [error.source, error.reason]}
    except (MemoryError, OSError) as error:  # of what lies around the reading itself, which makes video errors
        return {"error": [name, cannot_be_read(error)]}
    except (ValueError, TypeError) as error:
        return {"invalid": str(error)}


def _next_piece(
    kept: _Kept, source: str | NamedBytes, how: dict[str, Any], common: dict[str, Any], frames: SharedFile
) -> dict[str, Any]:
    try:
        first, sent, bytes_kept = how.pop("first"), how.pop("sent"), how.pop("bytes_kept")
        kept.open(how.pop("token"), source, ClipPlan(**how.pop("plan")), **how, **common)
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
    """A limit of address space, where the system keeps one: what a decoder allocates is refused, not killed."""

    def __init__(self) -> None:
        self._used: int | None = None  # bytes; None where the system cannot limit or report it
        with contextlib.suppress(OSError, ImportError, ValueError):
            import resource

            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            self._used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()

    @property
    def works(self) -> bool:
        """Whether memory is limited on this system."""
        return self._used is not None

    def set(self, limits: Limits) -> None:
        """Allow what these limits and a decoder within them may take."""
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


def _trust_own_limits() -> None:
    """Pillow has a limit of pixels for the whole process; in this one there are those that are sent."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None
