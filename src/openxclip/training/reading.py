"""Clips that other processes read ahead, and what happens when one of these processes dies."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.data import DataLoader

from openxclip.training.loading import Pass


class Reader:
    """The passes of this process, one after the other.

    A reading process may be killed. Several training processes must all finish the step together, so that is no
    exception here: `failure` says it, and from then on passes have no clips and count for nothing.

    Args:
        batches: what the DataLoader gives.

    Attributes:
        failure: why no more clips come; "" while they do.
    """

    def __init__(self, batches: Iterator[Pass]) -> None:
        self._batches: Iterator[Pass] | None = batches
        self.failure = ""

    def next(self, step: int) -> Pass:
        """The next pass of this step."""
        if self._batches is not None and not self.failure:
            try:
                batch = next(self._batches)
            except MemoryError:  # raised in a reading process, and again here
                self.failure = "a process that reads videos ran out of memory"
            except RuntimeError as error:
                if not _is_of_a_reader(error):
                    raise
                self.failure = "a process that reads videos was killed or crashed"
            else:
                assert batch.step == step
                return batch
        return Pass(step, 0, False, (), torch.empty(0, 0, 3, 0, 0, dtype=torch.uint8, device="cpu"))

    def close(self) -> None:
        """End the processes that read."""
        self._batches = None  # it ends them when nothing refers to it


def _is_of_a_reader(error: RuntimeError) -> bool:
    """Whether the DataLoader says so that a process has died, or that there is no shared memory for a clip."""
    said = str(error)
    return said.startswith("DataLoader worker") or ("torch_" in said and "No space left" in said)


@contextmanager
def reading(loader: DataLoader[Pass]) -> Iterator[Reader]:
    """Read ahead while the block runs.

    PyTorch's DataLoader raises an error wherever the program is when one of its processes dies: within an optimizer
    step, too, which leaves half of the weights changed. Inside the block it doesn't; the death is noticed when the next
    clips are asked for, where the weights are those of the last whole step.
    """
    before = _handler()
    reader = Reader(iter(loader))
    torchs = _handler()
    if torchs is not None:
        is_torchs_already = getattr(before, "__module__", "").startswith("torch.")
        signal.signal(signal.SIGCHLD, signal.SIG_DFL if is_torchs_already or before is None else before)
    try:
        yield reader
    finally:
        reader.close()
        if torchs is not None:
            signal.signal(signal.SIGCHLD, torchs)


def _handler() -> Any:
    """What is done when a child process ends; None where that can't be changed (another thread, Windows)."""
    if not hasattr(signal, "SIGCHLD") or threading.current_thread() is not threading.main_thread():
        return None
    return signal.getsignal(signal.SIGCHLD)
