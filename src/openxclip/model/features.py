"""What `get_text_features` and `get_video_features` return: a tensor, as in transformers 4, with 5's attributes."""

from __future__ import annotations

from torch import Tensor

from openxclip.model.layers import is_traced
from openxclip.model.outputs import TransformerOutput


def with_attributes(pooled: Tensor, tower_output: TransformerOutput | None) -> Tensor:
    """Features that also answer `.pooler_output`, which is the same numbers in the same memory, with their gradient.

    Args:
        pooled: the features.
        tower_output: of the tower, if more than the features was asked for: then `.last_hidden_state`,
            `.hidden_states` and `.attentions` are there too. They are many times larger than the features, and live as
            long as these do.

    Returns:
        A plain tensor; without attributes where it is traced, for a graph knows none.
    """
    if is_traced() or type(pooled) is not Tensor:
        return pooled
    # Not the tensor as its own attribute, a cycle that only the garbage collector would free; and no view where there
    # is no gradient: PyTorch refuses to change one in place later, once gradients are on.
    features = pooled.view_as(pooled) if pooled.requires_grad else pooled.detach()
    features.pooler_output = pooled  # type: ignore[attr-defined]
    if tower_output is not None:
        for name in ("last_hidden_state", "hidden_states", "attentions"):
            setattr(features, name, getattr(tower_output, name))
    return features
