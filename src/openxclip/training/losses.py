"""What is minimised: sums over a pass's clips, so that passes and processes of any size add up to a step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from openxclip.training.distributed import Processes


def class_loss_sum(logits_BK: Tensor, targets_BK: Tensor) -> Tensor:
    """Cross-entropy with soft targets over the K class names (§3.1), summed over the clips, in float32."""
    return F.cross_entropy(logits_BK.float(), targets_BK, reduction="sum")


def pair_loss_sum(logits_BK: Tensor, counts: Sequence[int], processes: Processes) -> Tensor:
    """CLIP's symmetric loss of this process's part, for clips and captions that all processes have together.

    X-CLIP's prompts make a caption's features depend on the clip; so each process scores its own clips against all K
    captions, and the rows are gathered, gradients included, for the other direction.

    Args:
        logits_BK: this process's clips by the captions of all processes, in the order of ranks.
        counts: how many clips each process has; their sum is K.
        processes: that train together.

    Returns:
        The sum over this process's clips of both directions' mean.
    """
    logits_BK = logits_BK.float()
    mine_B = torch.arange(len(logits_BK), device=logits_BK.device) + sum(counts[: processes.rank])
    by_clip = F.cross_entropy(logits_BK, mine_B, reduction="sum")
    everyones_KK = processes.rows_of_all(logits_BK, counts)
    return (by_clip + F.cross_entropy(everyones_KK.T[mine_B], mine_B, reduction="sum")) / 2
