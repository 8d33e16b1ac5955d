"""torch.compile of the prepared video tower, where it pays."""

from __future__ import annotations

import time

import torch

from openxclip.engine.towers import VisionTower
from openxclip.model import XCLIPModel


def compiled_if_faster(tower: VisionTower, model: XCLIPModel) -> str:
    """Have the tower run compiled if one video of the model's size is then faster and the same; says what was found."""
    config = model.config.vision_config
    frames = torch.randn(config.num_frames, config.num_channels, config.image_size, config.image_size)
    frames = frames.to(model.device)
    positions = model.vision_model.embeddings.positions(config.image_size, config.image_size, interpolate=False)

    def run() -> torch.Tensor:
        return tower(frames, config.num_frames, positions)[1]

    eager, right = _seconds(run), run()
    plainly = tower.states
    tower.states = torch.compile(plainly)  # type: ignore[method-assign]
    try:
        close = bool((run() - right).norm() <= 2e-2 * right.norm())
        compiled = _seconds(run)
    except Exception as error:  # a compiler may fail in any way
        tower.states = plainly  # type: ignore[method-assign]
        return f"not compiled ({type(error).__name__})"
    if not close or compiled >= eager:
        tower.states = plainly  # type: ignore[method-assign]
        return f"not compiled ({compiled / eager:.2f} of the time{'' if close else ', and other answers'})"
    return f"compiled ({compiled / eager:.2f} of the time)"


def _seconds(run: object, rounds: int = 10) -> float:
    assert callable(run)
    for _ in range(3):
        run()
    taken = []
    for _ in range(rounds):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        began = time.perf_counter()
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - began)
    return sorted(taken)[rounds // 2]
