"""Why a training can't start, or stops early."""

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
    smaller = f"batch_per_pass={max(1, recipe.batch_per_pass // 2)} (it is {recipe.batch_per_pass})"
    options = [smaller] if recipe.batch_per_pass > 1 and recipe.loss == "classes" else []
    options += [] if recipe.checkpoint_gradients else ["checkpoint_gradients=true"]
    advice = " or ".join(options) or "fewer frames or a smaller model, in another folder,"
    return StoppedError(
        f"memory ran out in step {step + 1}. {_saved_state(folder, saved)} "
        f"Run the same command with {advice} to resume."
    )


def worker_error(folder: Path, failure: str, workers: int, saved: int) -> StoppedError:
    """Return the error for the death of one of `workers` worker processes; `failure` is "" if another rank lost it."""
    fewer = f"fewer workers (workers={max(1, workers // 2)}, now {workers})" if workers > 1 else "workers=0"
    return StoppedError(
        f"{failure or 'a process that reads videos has failed on another rank'}, perhaps because memory or shared "
        f"memory (/dev/shm) ran out. {_saved_state(folder, saved)} Run the same command to resume, with {fewer} "
        "if it happens again."
    )


def _saved_state(folder: Path, saved: int) -> str:
    return f"The state after step {saved} is saved in {folder}." if saved else "No state had been saved yet."
