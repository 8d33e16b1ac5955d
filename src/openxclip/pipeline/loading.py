"""The pipeline of what every verb takes as its model: a name to load, or a pipeline."""

from __future__ import annotations

from pathlib import Path

import torch

from openxclip.engine import Precision
from openxclip.pipeline import VideoPipeline
from openxclip.video import ReadOptions


def as_pipeline(
    model: str | Path | VideoPipeline,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    precision: Precision | None = None,
    isolate: bool | None = None,
    read: ReadOptions | None = None,
) -> VideoPipeline:
    """Load the pipeline of a model's name, or return the given pipeline.

    Args:
        model: see `VideoPipeline.from_pretrained`; or a pipeline.
        device, dtype, precision, isolate: see there; None is the default. Not with a pipeline, which has its own.
        read: the `read` of a pipeline that is loaded here.

    Raises:
        ValueError: `device`, `dtype`, `precision` or `isolate` with a pipeline, or one that is out of its range.
        TypeError: `model` is neither a name nor a pipeline.
        CheckpointError: the model can't be found or loaded.
    """
    if isinstance(model, VideoPipeline):
        if any(given is not None for given in (device, dtype, precision, isolate)):
            raise ValueError(
                "device, dtype, precision and isolate are for a model that is loaded here; the pipeline's has its own."
            )
        return model
    if not isinstance(model, str | Path):
        raise TypeError(f"model is a {type(model).__name__}: give a name, or VideoPipeline(model, processor).")
    return VideoPipeline.from_pretrained(
        model,
        device=device,
        dtype=dtype,
        precision=precision or "auto",
        isolate=True if isolate is None else isolate,
        read=read,
    )
