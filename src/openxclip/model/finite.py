"""Refuse weights and outputs that are not finite numbers, as after a training run that diverged."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from openxclip.errors import CheckpointError
from openxclip.model.outputs import VideoFeatures

Outputs = TypeVar("Outputs", Tensor, VideoFeatures)

# Checking every weight would take many times as long as loading, which only maps the file. A NaN loss makes every
# trained weight NaN, so one weight of each trainable part is checked. Other damage shows in the first output.
_CHECKED_WEIGHTS = (
    "logit_scale",
    "prompts_visual_layernorm.weight",
    "mit.encoder.layers.0.layer_norm1.weight",
    "vision_model.post_layernorm.weight",
    "text_model.final_layer_norm.weight",
)


def check_weights(tensors: Mapping[str, Tensor], source: Path) -> None:
    """Check a few of the weights from `source`, and raise CheckpointError if a number is NaN or infinite."""
    for name in _CHECKED_WEIGHTS:
        if name in tensors and not tensors[name].isfinite().all():
            raise CheckpointError(
                f"{source}: {name} has numbers that are not finite (NaN or infinite), as after a training that "
                "diverged: use an earlier copy, or train again."
            )


def require_finite(outputs: Outputs, model: str | None) -> Outputs:
    """Return a model's features or scores, or raise CheckpointError if a number is NaN or infinite."""
    for output in (outputs,) if isinstance(outputs, Tensor) else outputs:
        if not output.isfinite().all():
            raise CheckpointError(
                f"{model or 'the model'}: its answers are not finite numbers (NaN or infinite): its weights are "
                "damaged or diverged in training, or its numbers are too large for fp16, where precision fp32 helps."
            )
    return outputs
