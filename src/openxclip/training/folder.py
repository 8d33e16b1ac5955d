"""Check and create the folder of a training, and write the trained model into it.

Its subfolder `training` holds what the training needs to resume, and the log.
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from openxclip.checkpoints.folder import atomic_model_folder
from openxclip.common.files import atomic_file, cannot_read
from openxclip.datasets import Dataset
from openxclip.evaluation.results import Results
from openxclip.model import XCLIPModel
from openxclip.processing import XCLIPProcessor
from openxclip.recipes import Recipe
from openxclip.training.errors import TrainingError
from openxclip.training.model_card import recipe_lines

# Keys that may change when a training resumes, because no step depends on them
_CHANGEABLE = frozenset({"workers", "save_every", "eval_every", "clips", "crops", "patience", "checkpoint_gradients"})


def check_folder(out: Path, recipe: Recipe, dataset: Dataset) -> bool:
    """Return whether this training was already started in the folder. Nothing is written.

    Raises:
        TrainingError: the folder holds another training or other files, or this training is finished.
    """
    record = out / "training" / "training.json"
    try:
        if not record.exists():
            if os.path.lexists(out) and (not out.is_dir() or any(out.iterdir())):
                raise TrainingError(f"{out}: exists already, and is not the folder of a training: choose another.")
            return False
        before = json.loads(record.read_text(encoding="utf-8"))
        old_recipe, old_data = Recipe.model_validate(before["recipe"]).model_dump(mode="json"), before["data"]
    except OSError as error:
        raise TrainingError(cannot_read(record, error)) from error
    except (ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{record}: is damaged: choose another folder, or delete {out} to start over.") from error
    identity = _identity(recipe, dataset)
    changeable = _CHANGEABLE | ({"batch_per_pass"} if recipe.loss == "classes" else set())
    differences = [
        f"{key}={value!r}, was {old_recipe.get(key)!r}"
        for key, value in identity["recipe"].items()
        if key not in changeable and old_recipe.get(key) != value
    ]
    if old_data != identity["data"]:
        differences.append("the videos")
    if differences:
        raise TrainingError(
            f"{out}: a different training was started there ({'; '.join(differences)}): choose another folder, or "
            "delete this one to start over."
        )
    if (out / "config.json").exists():
        raise TrainingError(f"{out}: this training is finished: choose another folder, or delete it to start over.")
    return True


def create_folder(out: Path, recipe: Recipe, dataset: Dataset) -> None:
    """Create the folder and record which training it is for; if that fails, remove what was created."""
    folder = out / "training"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(folder / "recipe.yaml") as partial:
            partial.write_text("\n".join(recipe_lines(recipe)) + "\n", "utf-8", "surrogateescape")
        with atomic_file(folder / "training.json") as partial:
            partial.write_text(json.dumps(_identity(recipe, dataset), indent=1) + "\n", encoding="utf-8")
    except BaseException:
        (folder / "recipe.yaml").unlink(missing_ok=True)
        for created in (folder, out):
            with suppress(OSError):
                created.rmdir()
        raise


def remove_folder(out: Path) -> None:
    """Remove the files of a training that took no step, and the folder itself unless it has other files."""
    shutil.rmtree(out / "training", ignore_errors=True)
    with suppress(OSError):
        out.rmdir()


def write_model(out: Path, model: XCLIPModel, processor: XCLIPProcessor, card: str, results: Results | None) -> None:
    """Write a complete model folder, and delete the state."""
    with atomic_model_folder(out) as partial:
        model.save_pretrained(partial)
        processor.save_pretrained(partial)
        (partial / "README.md").write_text(card, "utf-8", "surrogateescape")
        if results is not None:
            results.save(partial / "results.json")
    (out / "training" / "state.safetensors").unlink(missing_ok=True)


def _identity(recipe: Recipe, dataset: Dataset) -> dict[str, Any]:
    """Return what must be the same when a training resumes."""
    return {"recipe": recipe.model_dump(mode="json"), "data": dataset.hash()}
