"""Pixels of the playground: sprites put on backgrounds, a whole batch in one affine_grid and grid_sample.

Legend: B clips, T frames, C channels, H and W pixels.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from openxclip.playground.world import _INDEX, States, uniform


@cache
def load_sprites() -> Tensor:
    """The things' graphics, premultiplied by their alpha: float (things, 4, 64, 64) from 0 to 1."""
    tile, columns = _INDEX["tile"], _INDEX["columns"]
    with Image.open(Path(__file__).parent / "sprites.png") as image:
        atlas = torch.from_numpy(np.array(image.convert("RGBA"))).float() / 255
    rows = atlas.shape[0] // tile
    sprites = atlas.view(rows, tile, columns, tile, 4).permute(0, 2, 4, 1, 3).reshape(-1, 4, tile, tile)
    sprites = sprites[: len(_INDEX["things"])]
    return torch.cat([sprites[:, :3] * sprites[:, 3:], sprites[:, 3:]], dim=1)


def draw_backgrounds(num: int, size: int, generator: torch.Generator, *, variety: float = 1.0) -> Tensor:
    """Soft coloured backgrounds: (num, 3, size, size).

    Args:
        variety: 0 is one plain colour each, 1 is anything from that to a lively gradient of 4 × 4 colours.
    """
    colour = uniform(generator, 0.08, 0.95, num, 3, 1, 1)
    change = uniform(generator, -0.3, 0.3, num, 3, 4, 4) * variety * torch.rand(num, 1, 1, 1, generator=generator)
    return F.interpolate(colour + change, size=(size, size), mode="bicubic", align_corners=False).clamp(0, 1)


def paint(things_B: Tensor, states: States, backgrounds: Tensor, grain: Tensor | None = None) -> Tensor:
    """Put one thing on each background.

    Args:
        things_B: indices into THINGS; -1 leaves the background empty.
        states: (B, T) each.
        backgrounds: (B, 3, H, W), the same for all frames of a clip.
        grain: noise that is added, broadcast against (B, T, 3, H, W).

    Returns:
        uint8 frames (B, T, 3, H, W).
    """
    B, T = states.x.shape
    H, W = backgrounds.shape[-2:]
    cos, sin = states.angle.cos(), states.angle.sin()
    wide = states.stretch.sign() * states.stretch.abs().clamp(min=0.04) * states.size
    wide = torch.where(wide == 0, torch.full_like(wide, 0.02), wide)
    # Rows of the inverse transform: from a pixel's place in the frame to a place on the sprite.
    row_x = torch.stack([cos / wide, sin / wide, -(cos * states.x + sin * states.y) / wide], dim=-1)
    high = states.size
    row_y = torch.stack([-sin / high, cos / high, (sin * states.x - cos * states.y) / high], dim=-1)
    theta = torch.stack([row_x, row_y], dim=-2).view(B * T, 2, 3)
    sprites = load_sprites()[things_B.clamp(min=0)]
    sprites = sprites[:, None].expand(B, T, *sprites.shape[1:]).reshape(B * T, *sprites.shape[1:])
    grid = F.affine_grid(theta, [B * T, 4, H, W], align_corners=False)
    layer = F.grid_sample(sprites, grid, align_corners=False).view(B, T, 4, H, W)
    alpha = (states.alpha * (things_B >= 0)[:, None])[:, :, None, None, None]
    frames = backgrounds[:, None] * (1 - layer[:, :, 3:] * alpha) + layer[:, :, :3] * alpha
    if grain is not None:
        frames = frames + grain
    return (frames.clamp(0, 1) * 255).round().to(torch.uint8)


def draw_grain(num: int, num_frames: int, size: int, generator: torch.Generator, strength: float) -> Tensor:
    """Mild grey noise, new in every frame and up to `strength` (standard deviation) in a clip: (B, T, 1, H, W)."""
    bank = torch.randn(16, size, size, generator=generator)  # drawing all of it would take longer than painting
    choice = torch.randint(0, 16, (num, num_frames), generator=generator)
    level = uniform(generator, 0, strength, num, 1, 1, 1, 1)
    return bank[choice][:, :, None] * level
