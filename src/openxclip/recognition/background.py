"""Score a text against neutral texts, so that its score doesn't depend on other labels."""

from __future__ import annotations

import torch
from torch import Tensor

from openxclip.config import NEUTRAL_TEXTS

#: The neutral texts of a model whose contract of time names no others.
BACKGROUND_TEXTS = NEUTRAL_TEXTS


def share_against_neutral(logits_CK: Tensor, neutral_CN: Tensor) -> Tensor:
    """Return each text's share of a softmax over it and the neutral texts.

    Above 0.5, a text fits better than all neutral texts together. No text changes another one's share.

    Args:
        logits_CK: logits of C clips for K texts.
        neutral_CN: logits of the same clips for the neutral texts.

    Returns:
        (C, K), from 0 to 1.
    """
    return torch.sigmoid(logits_CK - neutral_CN.logsumexp(dim=1, keepdim=True))
