"""What every verb takes as its model: a name, by which it is loaded, or a pipeline that is there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from openxclip.engine import Precision
from openxclip.pipeline import VideoPipeline
from openxclip.video import DEFAULT_LIMITS, Limits


def as_pipeline(
    model: str | Path | VideoPipeline,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    precision: Precision | None = None,
    isolate: bool | None = None,
    limits: Limits | None = None,
    allow_protocols: Sequence[str] | None = None,
    track: int | None = None,
) -> VideoPipeline:
    """The pipeline of a model's name, or the one given.

    Args:
        model: see `VideoPipeline.from_pretrained`; or a pipeline, which has the rest of its own.
        device, dtype, precision, isolate, limits, allow_protocols, track: see there; None is the default.

    Raises:
        ValueError: one of these beside a pipeline (but `limits`, which are for each call), or one that can't be.
        TypeError: neither a name nor a pipeline.
        CheckpointError: the model can't be found or loaded.
    """
    if isinstance(model, VideoPipeline):
        if any(given is not None for given in (device, dtype, precision, isolate, allow_protocols, track)):
            raise ValueError(
                "device, dtype, precision, isolate, allow_protocols and track are for a model that is loaded here; "
                "the pipeline's has its own."
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
        limits=limits or DEFAULT_LIMITS,
        allow_protocols=allow_protocols or (),
        track=track,
    )
