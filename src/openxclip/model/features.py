"""Give features the attributes that they have in transformers 5, although they are tensors as in transformers 4."""

from __future__ import annotations

from torch import Tensor

from openxclip.model.layers import is_traced
from openxclip.model.outputs import TransformerOutput


def add_attributes(pooled: Tensor, tower_output: TransformerOutput | None) -> Tensor:
    """Return features with the attribute `pooler_output`, which is the same tensor with the same memory and gradient.

    Args:
        pooled: the features.
        tower_output: output of the tower, if the caller asked for more than the features. Its `last_hidden_state`,
            `hidden_states` and `attentions` become attributes too. They are many times larger than the features, and
            stay in memory as long as the features do.

    Returns:
        A plain tensor; it has no attributes while the model is traced, because a graph can't represent them.
    """
    if is_traced() or type(pooled) is not Tensor:
        return pooled
    # A tensor that is its own attribute would be a reference cycle. A view of a tensor without a gradient could not be
    # changed in place later, so such a tensor is detached instead.
    features = pooled.view_as(pooled) if pooled.requires_grad else pooled.detach()
    features.pooler_output = pooled  # type: ignore[attr-defined]
    if tower_output is not None:
        for name in ("last_hidden_state", "hidden_states", "attentions"):
            setattr(features, name, getattr(tower_output, name))
    return features
