"""Which model an index is of: how it is named and known, and that another is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openxclip.checkpoints.fingerprints import fingerprint, fingerprint_by_name
from openxclip.hub import DEFAULT_MODEL
from openxclip.pipeline import VideoPipeline


def named_model(
    given: str | Path | VideoPipeline | None, about: Mapping[str, Any] | None, uri: str
) -> str | Path | VideoPipeline:
    """The model that is meant: the one given, or the index's, or of a new index the default.

    Raises:
        ValueError: the index's was in no file.
    """
    model = given
    if model is None:
        model = about["model"] if about else DEFAULT_MODEL
    if model is None:
        raise ValueError(f"{uri}: the index is of a model that was in no file: give it as model=.")
    return model


def about_model(pipeline: VideoPipeline, *, by_name: bool) -> dict[str, Any]:
    """What an index keeps of its model: `model`, its name from any folder, `weights` and `transforms`.

    Args:
        pipeline: of the model.
        by_name: whether it was loaded by its name just now; one that was given may be another one by now.
    """
    name = pipeline.name
    known = by_name and name is not None
    return {
        "model": str(Path(name).resolve()) if name is not None and Path(name).is_dir() else name,
        "weights": fingerprint_by_name(pipeline.model, str(name)) if known else fingerprint(pipeline.model),
        "transforms": pipeline.processor.image_processor.to_dict(),
    }


def check_weights(about: Mapping[str, Any], of_model: Mapping[str, Any], uri: str) -> None:
    """Refuse another model than the index's.

    Raises:
        ValueError: the weights are others.
    """
    if about["weights"] != of_model["weights"]:
        raise ValueError(
            f"the index {uri} is of the model {about['model']}, whose weights are others than those of "
            f"{of_model['model'] or 'the one given'}: features of two models can't be compared."
        )
