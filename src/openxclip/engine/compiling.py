"""torch.compile of the prepared video tower."""

from __future__ import annotations

import torch

from openxclip.engine.towers import VisionTower
from openxclip.model import XCLIPModel


def compile_tower(tower: VisionTower, model: XCLIPModel) -> str:
    """Have the tower run compiled, unless the compiler fails or changes its answer; says which.

    No time is measured to decide it: the same model would give other bits from one process to the next.
    """
    config, side = model.config.vision_config, model.config.vision_config.image_size
    shape = (config.num_frames, config.num_channels, side, side)
    frames = torch.randn(shape, device=model.device, dtype=torch.float32)
    positions = model.vision_model.embeddings.positions(side, side, interpolate=False)

    def run() -> torch.Tensor:
        return tower(frames, config.num_frames, positions)[1]

    right = run()
    plain = tower.states
    tower.states = torch.compile(plain)  # type: ignore[method-assign]
    try:
        error = float((run() - right).norm() / right.norm())
    except Exception as failure:  # a compiler may fail in any way
        tower.states = plain  # type: ignore[method-assign]
        return f"not compiled ({type(failure).__name__})"
    if not error <= 2e-2:  # NaN too
        tower.states = plain  # type: ignore[method-assign]
        return f"not compiled (its answer is off by {error:.1e})"
    return "compiled"
