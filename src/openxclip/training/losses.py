"""Losses, summed over the clips of a pass, so that the passes of all processes add up to one step."""

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
    """Return this process's part of CLIP's symmetric contrastive loss over the clips and captions of all processes.

    X-CLIP's prompts make a caption's features depend on the clip. So each process scores its own clips against all K
    captions, and the logits of all processes are gathered, with gradients, to classify captions by clip.

    Args:
        logits_BK: scores of this process's clips and the captions of all processes, in the order of ranks.
        counts: number of clips of each process; they sum to K.
        processes: processes that train together.

    Returns:
        The mean of the clip-to-caption and caption-to-clip losses, summed over this process's clips.
    """
    logits_BK = logits_BK.float()
    targets_B = torch.arange(len(logits_BK), device=logits_BK.device) + sum(counts[: processes.rank])
    clip_to_text = F.cross_entropy(logits_BK, targets_B, reduction="sum")
    all_logits_KK = processes.gather_rows(logits_BK, counts)
    text_to_clip = F.cross_entropy(all_logits_KK.T[targets_B], targets_B, reduction="sum")
    return (clip_to_text + text_to_clip) / 2
