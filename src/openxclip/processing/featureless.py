"""Detect clips that show nothing that could tell them from other clips."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

_BLOCKS = 8  # in each direction; the mean of a block hides grain and compression noise
# Measured after resizing, in levels of 255: grain and compression change the blocks of a still picture by up to 2.5,
# and a small moving object changes one by 6 or more.
_MIN_DIFFERENCE = 4.0


def is_featureless(levels_TCHW: Tensor) -> bool:
    """Return whether frames have one colour (black, white) or are all the same (a frozen picture).

    Args:
        levels_TCHW: uint8 (T, 3, H, W), frames of one clip from `VideoProcessor.levels`. A single frame is never
            frozen.
    """
    blocks_TCHW = F.adaptive_avg_pool2d(levels_TCHW.float(), _BLOCKS)
    contrast_TC = blocks_TCHW.amax((2, 3)) - blocks_TCHW.amin((2, 3))
    if float(contrast_TC.max()) < _MIN_DIFFERENCE:
        return True
    change_CHW = blocks_TCHW.amax(0) - blocks_TCHW.amin(0)
    return len(levels_TCHW) > 1 and float(change_CHW.max()) < _MIN_DIFFERENCE
