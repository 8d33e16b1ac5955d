"""The errors of a training that can't start or that stops early."""

from __future__ import annotations

from pathlib import Path

from openxclip.errors import OpenXCLIPError
from openxclip.recipes import Recipe


class TrainingError(OpenXCLIPError):
    """A training can't start or resume with these arguments."""


class StateError(OpenXCLIPError):
    """A training can't resume from the files in its folder."""


class DivergedError(OpenXCLIPError):
    """The loss or the model's outputs are not finite."""


class StoppedError(OpenXCLIPError):
    """Memory ran out, or a process that reads videos was killed. The training can be resumed."""


class NothingReadError(OpenXCLIPError):
    """Not one video of the training data could be read."""


def diverged_error(recipe: Recipe, folder: Path, problem: str, saved: int) -> DivergedError:
    """Return the error for a loss or an output that is not finite.

    Args:
        recipe: recipe of the training.
        folder: folder with the training's state.
        problem: what is not finite, as a clause.
        saved: number of steps after which the state was last saved; 0 if it wasn't.
    """
    advice = f"a lower lr (it is {recipe.lr:g})"
    advice += "" if recipe.clip_grad else ", or clip_grad=1"
    advice += "" if recipe.precision == "fp32" else ", or precision=fp32"
    return DivergedError(
        f"{problem}: the training diverged, and was stopped. {_saved_state(folder, saved)} "
        f"Train again in another folder with {advice}."
    )


def out_of_memory_error(recipe: Recipe, folder: Path, step: int, saved: int) -> StoppedError:
    """Return the error for a step that needs too much memory; for the arguments see `diverged_error`."""
    changes = []
    if recipe.batch_per_pass > 1 and recipe.loss == "classes":
        changes.append(f"batch_per_pass={recipe.batch_per_pass // 2} (it is {recipe.batch_per_pass})")
    if not recipe.checkpoint_gradients:
        changes.append("checkpoint_gradients=true")
    advice = "Train again in another folder with fewer frames or a smaller model."
    if changes:
        advice = f"Run the same command with {' or '.join(changes)} to resume."
    return StoppedError(f"memory ran out in step {step + 1}. {_saved_state(folder, saved)} {advice}")


def worker_error(folder: Path, failure: str, workers: int, saved: int) -> StoppedError:
    """Return the error for a failed worker; `failure` says what happened, or is "" if the worker is another rank's."""
    fewer = f"fewer workers (workers={max(1, workers // 2)}, now {workers})" if workers > 1 else "workers=0"
    return StoppedError(
        f"{failure or 'a process that reads videos has failed on another rank'}, perhaps because memory or shared "
        f"memory (/dev/shm) ran out. {_saved_state(folder, saved)} Run the same command to resume, with {fewer} "
        "if it happens again."
    )


def _saved_state(folder: Path, saved: int) -> str:
    return f"The state after step {saved} is saved in {folder}." if saved else "No state had been saved yet."
