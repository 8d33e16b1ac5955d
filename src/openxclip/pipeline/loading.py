"""Turn the `model` argument of a function, a name or a pipeline, into a pipeline."""

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
    """Load a pipeline by the model's name, or return the given pipeline.

    Args:
        model: a name as for `VideoPipeline.from_pretrained`, or a pipeline.
        device, dtype, precision, isolate: see `VideoPipeline.from_pretrained`; None is its default, and the only value
            allowed with a pipeline, which has its own.
        read: `read` of the pipeline that is loaded; ignored if `model` is a pipeline.

    Raises:
        ValueError: `device`, `dtype`, `precision` or `isolate` is invalid, or is given with a pipeline.
        TypeError: `model` is neither a name nor a pipeline.
        CheckpointError: the model can't be found or loaded.
    """
    if isinstance(model, VideoPipeline):
        if any(given is not None for given in (device, dtype, precision, isolate)):
            raise ValueError("device, dtype, precision and isolate can't be given with a pipeline, which has its own.")
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
