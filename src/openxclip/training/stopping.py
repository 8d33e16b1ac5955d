"""How a training ends before its last step: it is asked to, its loss is not a number, or memory runs out."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from openxclip.errors import OpenXCLIPError
from openxclip.recipes import Recipe


class DivergedError(OpenXCLIPError):
    """The loss or the model's outputs are not finite numbers any more."""


class StoppedError(OpenXCLIPError):
    """A training can't go on at present: memory has run out, or a process that reads videos was killed."""


class NothingReadError(OpenXCLIPError):
    """Not one video of the training data could be read."""


@contextmanager
def asked_to_stop() -> Iterator[threading.Event]:
    """Set by SIGTERM, and by the first Ctrl-C: the step that runs is finished and saved."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def ask(number: int, _: Any) -> None:
        event.set()
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, before[signal.SIGINT])  # a second one doesn't wait

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def what_is_saved(folder: Path, step: int) -> str:
    """One sentence on the state from which the same command resumes."""
    return f"The state after step {step} is saved in {folder}." if step else "No state had been saved yet."


def diverged(recipe: Recipe, folder: Path, what: str, saved: int) -> DivergedError:
    """The error of a loss or an output that is not finite.

    Args:
        recipe: of the training.
        folder: with its state.
        what: isn't finite, as the beginning of a sentence.
        saved: after how many steps the state was saved; 0 if it wasn't.
    """
    advice = f"a lower lr (it is {recipe.lr:g})"
    advice += "" if recipe.clip_grad else ", or clip_grad=1"
    advice += "" if recipe.precision == "fp32" else ", or precision=fp32"
    return DivergedError(
        f"{what}: the training diverged, and was stopped. {what_is_saved(folder, saved)} "
        f"Train again in another folder with {advice}."
    )


def no_memory(recipe: Recipe, folder: Path, step: int, saved: int) -> StoppedError:
    """The error of a step for which there is no memory; arguments as for `diverged`."""
    smaller = f"batch_per_pass={max(1, recipe.batch_per_pass // 2)} (it is {recipe.batch_per_pass})"
    options = [smaller] if recipe.batch_per_pass > 1 and recipe.loss == "classes" else []
    options += [] if recipe.checkpoint_gradients else ["checkpoint_gradients=true"]
    advice = " or ".join(options) or "fewer frames or a smaller model, in another folder,"
    return StoppedError(
        f"memory ran out in step {step + 1}. {what_is_saved(folder, saved)} "
        f"Run the same command with {advice} to resume."
    )


def no_reader(folder: Path, failure: str, workers: int, saved: int) -> StoppedError:
    """The error of a process that reads videos and has died; `workers` is how many there were."""
    fewer = f"fewer workers (workers={max(1, workers // 2)}, now {workers})" if workers > 1 else "workers=0"
    return StoppedError(
        f"{failure or 'a process that reads videos has failed on another rank'}, perhaps because memory or shared "
        f"memory (/dev/shm) ran out. {what_is_saved(folder, saved)} Run the same command to resume, with {fewer} "
        "if it happens again."
    )
