"""The two losses of `XCLIPModel.forward`: over classes, and over pairs of texts and videos."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def class_loss(logits_BK: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy over the K texts as classes (arXiv 2208.02816, §3.1).

    Args:
        logits_BK: `logits_per_video`.
        labels: (B,) class indices, or (B, K) soft targets.
    """
    if not isinstance(labels, Tensor):
        raise TypeError(f"labels must be a tensor, got {type(labels).__name__}.")
    is_indices = labels.ndim == 1 and not labels.is_floating_point() and labels.shape[0] == logits_BK.shape[0]
    is_soft = labels.shape == logits_BK.shape and labels.is_floating_point()
    if not is_indices and not is_soft:
        videos, texts = logits_BK.shape
        raise ValueError(
            f"labels of {tuple(labels.shape)} {labels.dtype}: must be {videos} class indices, or ({videos}, {texts}) "
            "floating-point targets."
        )
    return F.cross_entropy(logits_BK, labels if is_soft else labels.long())


def contrastive_loss(logits_BK: Tensor) -> Tensor:
    """Return CLIP's symmetric loss, where text i belongs to video i (arXiv 2103.00020, figure 3)."""
    videos, texts = logits_BK.shape
    if videos != texts:
        raise ValueError(
            f"the contrastive loss pairs text i with video i, but there are {texts} texts and {videos} videos; to "
            "train on classes, pass labels=."
        )
    targets_B = torch.arange(videos, device=logits_BK.device)
    return (F.cross_entropy(logits_BK, targets_B) + F.cross_entropy(logits_BK.T, targets_B)) / 2
