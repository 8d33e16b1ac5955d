"""torch.compile of the prepared video tower."""

from __future__ import annotations

import torch

from openxclip.engine.towers import VisionTower
from openxclip.model import XCLIPModel

_TOLERANCE = 2e-2  # relative error of the compiled tower


def compile_tower(tower: VisionTower, model: XCLIPModel) -> str:
    """Compile the tower, unless the compiler fails or changes its answer. Return a note about which of these happened.

    No time is measured: else the same model would give different bits in different processes.
    """
    config, side = model.config.vision_config, model.config.vision_config.image_size
    shape = (config.num_frames, config.num_channels, side, side)
    frames = torch.randn(shape, device=model.device, dtype=torch.float32)
    positions = model.vision_model.embeddings.positions(side, side, interpolate=False)

    def run() -> torch.Tensor:
        return tower(frames, config.num_frames, positions)[1]

    expected = run()
    eager = tower.states
    tower.states = torch.compile(eager)  # type: ignore[method-assign]
    try:
        error = float((run() - expected).norm() / expected.norm())
    except Exception as failure:  # a compiler may raise anything
        note = f"not compiled ({type(failure).__name__})"
    else:
        if error <= _TOLERANCE:  # false for NaN
            return "compiled"
        note = f"not compiled (its answer is off by {error:.1e})"
    tower.states = eager  # type: ignore[method-assign]
    return note
