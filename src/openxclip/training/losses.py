"""Losses, summed over the clips of a pass, so that passes and processes of any size add up to a step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from openxclip.training.distributed import Processes


def class_loss_sum(logits_BK: Tensor, targets_BK: Tensor) -> Tensor:
    """Return the cross-entropy with soft targets over K class names (§3.1), summed over the clips, in float32."""
    return F.cross_entropy(logits_BK.float(), targets_BK, reduction="sum")


def pair_loss_sum(logits_BK: Tensor, counts: Sequence[int], processes: Processes) -> Tensor:
    """Return CLIP's symmetric contrastive loss over the clips and captions of all processes, for this process's clips.

    X-CLIP's prompts make a caption's features depend on the clip. So each process scores its own clips against all K
    captions, and the rows of logits are gathered, with gradients, for the other direction.

    Args:
        logits_BK: scores of this process's clips and the captions of all processes, in the order of ranks.
        counts: number of clips of each process; they sum to K.
        processes: processes that train together.

    Returns:
        The mean of both directions, summed over this process's clips.
    """
    logits_BK = logits_BK.float()
    own_B = torch.arange(len(logits_BK), device=logits_BK.device) + sum(counts[: processes.rank])
    clip_to_text = F.cross_entropy(logits_BK, own_B, reduction="sum")
    all_logits_KK = processes.gather_rows(logits_BK, counts)
    return (clip_to_text + F.cross_entropy(all_logits_KK.T[own_B], own_B, reduction="sum")) / 2
