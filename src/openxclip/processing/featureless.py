"""Whether a clip shows anything that tells it from other clips."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

_BLOCKS = 8  # in each direction; their means hide grain and the noise of compression
# Levels of 255. As measured after resizing, grain and compression change the blocks of a still picture by up to 2.5
# levels, and a small moving object changes one by 6 or more.
_LEAST = 4.0


def is_featureless(levels_TCHW: Tensor) -> bool:
    """Whether frames are of one colour (black, white) or all the same (a frozen picture).

    Args:
        levels_TCHW: uint8 (T, 3, H, W), frames of one clip as `VideoProcessor.levels` makes them. A single frame can't
            be frozen.
    """
    blocks_TCHW = F.adaptive_avg_pool2d(levels_TCHW.float(), _BLOCKS)
    contrast_TC = blocks_TCHW.amax((2, 3)) - blocks_TCHW.amin((2, 3))
    if float(contrast_TC.max()) < _LEAST:
        return True
    change_CHW = blocks_TCHW.amax(0) - blocks_TCHW.amin(0)
    return len(levels_TCHW) > 1 and float(change_CHW.max()) < _LEAST
