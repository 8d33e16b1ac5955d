"""Neutral texts, and the share of a text against them: a score that means something alone."""

from __future__ import annotations

import torch
from torch import Tensor

BACKGROUND_TEXTS = ("a video", "a video of something", "a scene", "an empty scene", "nothing happens")


def share_against_neutral(logits_CK: Tensor, neutral_CN: Tensor) -> Tensor:
    """Each text's share of a softmax over it and the neutral texts: above 0.5 it fits better than all of them together.

    Args:
        logits_CK: of C clips for K texts.
        neutral_CN: of the same clips for the neutral texts.

    Returns:
        (C, K), from 0 to 1; no text changes another one's share.
    """
    return torch.sigmoid(logits_CK - neutral_CN.logsumexp(dim=1, keepdim=True))
