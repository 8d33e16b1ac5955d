"""Weights and outputs that are not finite numbers, as a training leaves them that has diverged: refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from openxclip.errors import CheckpointError
from openxclip.model.outputs import VideoFeatures

Outputs = TypeVar("Outputs", Tensor, VideoFeatures)

# Looking at every weight would take many times as long as loading, which maps the file and reads nothing. A loss that
# is NaN makes every trained weight NaN, and these are of each part that can be trained. What they miss, the first
# output shows.
_LOOKED_AT = (
    "logit_scale",
    "prompts_visual_layernorm.weight",
    "mit.encoder.layers.0.layer_norm1.weight",
    "vision_model.post_layernorm.weight",
    "text_model.final_layer_norm.weight",
)


def check_weights(tensors: Mapping[str, Tensor], source: Path) -> None:
    """Refuse weights that are not finite, by a few of them.

    Args:
        tensors: by name.
        source: where they are from, for the message.

    Raises:
        CheckpointError: one is NaN or infinite.
    """
    for name in _LOOKED_AT:
        if name in tensors and not tensors[name].isfinite().all():
            raise CheckpointError(
                f"{source}: {name} has numbers that are not finite (NaN or infinite), as after a training that "
                "diverged: use an earlier copy, or train again."
            )


def finite(outputs: Outputs, model: str | None) -> Outputs:
    """The same features or scores; refused if they are not finite.

    Args:
        outputs: of a model.
        model: its name, for the message.

    Raises:
        CheckpointError: one is NaN or infinite.
    """
    for output in (outputs,) if isinstance(outputs, Tensor) else outputs:
        if not output.isfinite().all():
            raise CheckpointError(
                f"{model or 'the model'}: its answers are not finite numbers (NaN or infinite): its weights are "
                "damaged or diverged in training, or its numbers are too large for fp16, where precision fp32 helps."
            )
    return outputs
