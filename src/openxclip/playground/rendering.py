"""Draw backgrounds and paint sprites on them, a whole batch with one affine_grid and grid_sample.

Legend: B clips, A things in a clip, T frames, C channels, H and W pixels.
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from openxclip.playground.motion import States, signs, uniform
from openxclip.playground.world import SPRITE_INDEX

_TEXTURES, _TEXTURE_SIDE = 96, 128  # number and side of the textures that backgrounds are cut from
_SMALL_SIDE = 112  # frames up to this side, in pixels, use sprites of half the size


@cache
def load_sprites(side: int = 64) -> Tensor:
    """Load the graphics of all things, premultiplied by alpha: float (N, 4, side, side) from 0 to 1.

    Args:
        side: 64, or 32 for small frames, in which larger sprites would flicker.
    """
    tile, columns = SPRITE_INDEX["tile"], SPRITE_INDEX["columns"]
    with Image.open(Path(__file__).parent / "sprites.png") as image:
        atlas = torch.from_numpy(np.array(image.convert("RGBA"))).float() / 255
    rows = atlas.shape[0] // tile
    sprites = atlas.view(rows, tile, columns, tile, 4).permute(0, 2, 4, 1, 3).reshape(-1, 4, tile, tile)
    sprites = sprites[: len(SPRITE_INDEX["things"])]
    sprites = torch.cat([sprites[:, :3] * sprites[:, 3:], sprites[:, 3:]], dim=1)
    return sprites if side == tile else F.avg_pool2d(sprites, tile // side)


@cache
def _textures() -> Tensor:
    """Make the textures that backgrounds are cut from: (N, 3, S, S), mean 0, deviation 1, always the same.

    They are clouds (noise of several octaves), landscapes (a bright sky above rough ground), stripes and checks.
    """
    generator = torch.Generator().manual_seed(1)
    side, textures = _TEXTURE_SIDE, []
    ticks = (torch.arange(side) + 0.5) / side
    for number in range(_TEXTURES):
        cloud = torch.zeros(3, side, side)
        for octave in range(2, 7):
            grey = torch.randn(1, 1, 2**octave, 2**octave, generator=generator)
            colour = torch.randn(1, 3, 2**octave, 2**octave, generator=generator)
            noise = grey + 0.5 * colour
            cloud += F.interpolate(noise, size=(side, side), mode="bicubic")[0] * 0.62 ** (octave - 2)
        kind = number % 4
        if kind == 1:  # a landscape
            horizon = float(uniform(generator, 0.35, 0.65, 1))
            is_sky = (ticks < horizon).float()[:, None]
            sky = uniform(generator, -0.5, 1.5, 3, 1, 1) + (horizon - ticks)[:, None] + 0.15 * cloud
            ground = uniform(generator, -1.5, 0.5, 3, 1, 1) + 0.6 * cloud * (0.3 + ticks[:, None])
            cloud = 1.5 * (sky * is_sky + ground * (1 - is_sky))
        elif kind == 2:  # stripes or checks
            turn = float(uniform(generator, 0, math.pi, 1))
            rate = float(uniform(generator, 3, 9, 1))
            along = ticks[None] * math.cos(turn) + ticks[:, None] * math.sin(turn)
            across = ticks[:, None] * math.cos(turn) - ticks[None] * math.sin(turn)
            pattern = torch.sin(2 * math.pi * rate * along)
            if number % 8 == 2:
                pattern = pattern * torch.sin(2 * math.pi * rate * across)
            cloud = torch.tanh(3 * pattern) * uniform(generator, 0.4, 1.2, 3, 1, 1) + 0.2 * cloud
        textures.append((cloud - cloud.mean()) / cloud.std())
    return torch.stack(textures)


def draw_backgrounds(num: int, size: int, generator: torch.Generator, *, variety: float = 1.0) -> Tensor:
    """Draw backgrounds with a margin for camera movement: (num, 3, S, S), S a quarter more than `size`.

    Args:
        num: B.
        size: side of the frames, in pixels.
        generator: random generator, whose state advances.
        variety: 0 gives plain colours; 1 also gives gradients and textures of varying contrast.
    """
    side = round(1.25 * size)
    colour = uniform(generator, 0.08, 0.95, num, 3, 1, 1)
    kind = torch.rand(num, 1, 1, 1, generator=generator)
    gradient = uniform(generator, -0.3, 0.3, num, 3, 4, 4)
    gradient = F.interpolate(gradient, size=(side, side), mode="bicubic", align_corners=False)
    which = torch.randint(0, _TEXTURES, (num,), generator=generator)
    scale = uniform(generator, 0.35, 0.9, num)
    flip = signs(generator, num)
    zero = torch.zeros(num)
    place = uniform(generator, -1, 1, num) * (1 - scale), uniform(generator, -1, 1, num) * (1 - scale)
    rows = [torch.stack([scale * flip, zero, place[0]], 1), torch.stack([zero, scale, place[1]], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), [num, 3, side, side], align_corners=False)
    texture = F.grid_sample(_textures()[which], grid, padding_mode="reflection", align_corners=False)
    strength = uniform(generator, 0.03, 0.16, num, 1, 1, 1)
    lively = torch.rand(num, 1, 1, 1, generator=generator)
    change = torch.where(kind < 0.15, torch.zeros_like(gradient), gradient * lively)
    change = torch.where(kind > 0.5, texture * strength, change) * variety
    return (colour + change).clamp(0, 1)


def film_background(background_B3SS: Tensor, shift_B2T: Tensor, zoom_BT: Tensor, size: int) -> Tensor:
    """Return what a moving camera sees of backgrounds: (B, T, 3, H, W); see `motion.move_camera`."""
    B, T = zoom_BT.shape
    inner = size / background_B3SS.shape[-1]
    zero = torch.zeros(B, T)
    rows = [
        torch.stack([inner / zoom_BT, zero, -shift_B2T[:, 0] * inner], -1),
        torch.stack([zero, inner / zoom_BT, -shift_B2T[:, 1] * inner], -1),
    ]
    theta = torch.stack(rows, -2).view(B * T, 2, 3)
    grid = F.affine_grid(theta, [B * T, 3, size, size], align_corners=False)
    sources = background_B3SS.repeat_interleave(T, dim=0)
    return F.grid_sample(sources, grid, padding_mode="border", align_corners=False).view(B, T, 3, size, size)


def crop_middle(background_B3SS: Tensor, size: int) -> Tensor:
    """Return what a static camera sees of backgrounds: (B, 3, H, W)."""
    edge = (background_B3SS.shape[-1] - size) // 2
    return background_B3SS[..., edge : edge + size, edge : edge + size]


def paint(frames_BT3HW: Tensor, things_N: Tensor, states_NT: States, rows_N: Tensor, tints_N3: Tensor) -> None:
    """Paint one thing into some of the clips, in place.

    Args:
        frames_BT3HW: floats from 0 to 1.
        things_N: indices into THINGS.
        states_NT: (N, T).
        rows_N: distinct indices of clips.
        tints_N3: colours to tint the things with; 0 for no tint.
    """
    N, T = states_NT.x.shape
    if not N:
        return
    H, W = frames_BT3HW.shape[-2:]
    s = states_NT
    cos, sin = s.angle.cos(), s.angle.sin()
    # Rows of the inverse transform, from positions in the frame to positions on the sprite
    wide = torch.where(s.stretch < 0, -1.0, 1.0) * s.stretch.abs().clamp(min=0.04) * s.size
    row_x = torch.stack([cos / wide, sin / wide, -(cos * s.x + sin * s.y) / wide], dim=-1)
    row_y = torch.stack([-sin / s.size, cos / s.size, (sin * s.x - cos * s.y) / s.size], dim=-1)
    theta = torch.stack([row_x, row_y], dim=-2).view(N * T, 2, 3)
    sprites = tint(load_sprites(32 if min(H, W) <= _SMALL_SIDE else 64)[things_N], tints_N3).repeat_interleave(T, dim=0)
    grid = F.affine_grid(theta, [N * T, 4, H, W], align_corners=False)
    layer = F.grid_sample(sprites, grid, align_corners=False).view(N, T, 4, H, W)
    layer = layer * s.alpha[:, :, None, None, None]
    below = frames_BT3HW[rows_N]
    frames_BT3HW[rows_N] = below.mul_(1 - layer[:, :, 3:]).add_(layer[:, :, :3])


def tint(sprites_N4SS: Tensor, tints_N3: Tensor) -> Tensor:
    """Blend the colours of sprites with a tint times their brightness. (0, 0, 0) leaves a sprite unchanged."""
    is_tinted = tints_N3.sum(1) > 0
    if not is_tinted.any():
        return sprites_N4SS
    out = sprites_N4SS.clone()
    chosen = out[is_tinted]
    light = chosen[:, :3].mean(1, keepdim=True) * 0.6 + chosen[:, 3:] * 0.25
    out[is_tinted, :3] = 0.4 * chosen[:, :3] + 0.6 * light * tints_N3[is_tinted, :, None, None] * 1.6
    out[:, :3].clamp_(max=1.0)
    return out


def paint_bars(frames_BT3HW: Tensor, rows_N: Tensor, generator: torch.Generator) -> None:
    """Paint a plain bar in front of the things in some of the clips, in place."""
    num, size = len(rows_N), frames_BT3HW.shape[-1]
    ticks = (torch.arange(size) + 0.5) / size * 2 - 1
    where, half = uniform(generator, -0.8, 0.8, num, 1), uniform(generator, 0.05, 0.13, num, 1)
    bar = ((ticks - where).abs() < half).float()
    is_upright = torch.rand(num, 1, 1, generator=generator) < 0.5
    mask = torch.where(is_upright, bar[:, None, :], bar[:, :, None]).expand(num, size, size)[:, None, None]
    colour = uniform(generator, 0.05, 0.95, num, 1, 3, 1, 1)
    frames_BT3HW[rows_N] = frames_BT3HW[rows_N] * (1 - mask) + colour * mask


def draw_grain(num: int, num_frames: int, size: int, generator: torch.Generator, strength: float) -> Tensor:
    """Draw mild grey noise, new in every frame, with a standard deviation up to `strength`: (B, T, 1, H, W)."""
    bank = torch.randn(16, size, size, generator=generator)  # drawing new noise for each frame would take too long
    choice = torch.randint(0, 16, (num, num_frames), generator=generator)
    level = uniform(generator, 0, strength, num, 1, 1, 1, 1)
    return bank[choice][:, :, None] * level


def degrade(frames_BT3HW: Tensor, generator: torch.Generator, *, strength: float = 1.0) -> Tensor:
    """Blur some clips, change the brightness and colours of all, and quantise some as JPEG and video codecs do.

    Args:
        frames_BT3HW: floats from 0 to 1.
        generator: random generator, whose state advances.
        strength: 0 changes nothing, 1 is normal.
    """
    B = len(frames_BT3HW)
    flat = frames_BT3HW.flatten(0, 1)
    blurred = F.avg_pool2d(F.pad(flat, (1, 1, 1, 1), mode="replicate"), 3, 1).view_as(frames_BT3HW)
    some = (torch.rand(B, 1, 1, 1, 1, generator=generator) < 0.5) * strength
    amount = uniform(generator, 0, 0.7, B, 1, 1, 1, 1) * some
    light = 1 + strength * (
        uniform(generator, -0.2, 0.2, B, 1, 1, 1, 1) + uniform(generator, -0.05, 0.05, B, 1, 3, 1, 1)
    )
    frames = torch.lerp(frames_BT3HW, blurred, amount) * light
    step = uniform(generator, 0.02, 0.1, B) * strength
    rows = (torch.rand(B, generator=generator) < 0.4).nonzero()[:, 0]
    if strength and len(rows) and not frames.shape[-1] % 8:
        frames[rows] = _quantise(frames[rows], step[rows])
    return frames.clamp(0, 1)


@cache
def _cosines() -> Tensor:
    n = torch.arange(8)
    table = torch.cos(math.pi * (2 * n[None] + 1) * n[:, None] / 16) / 2
    table[0] /= math.sqrt(2)
    return table


def _quantise(frames_NT3HW: Tensor, step_N: Tensor) -> Tensor:
    """Round the cosine transform of blocks of 8 × 8 pixels, high frequencies more coarsely."""
    dct = _cosines()
    H, W = frames_NT3HW.shape[-2:]
    blocks = frames_NT3HW.unflatten(-1, (W // 8, 8)).unflatten(-3, (H // 8, 8)).transpose(-3, -2)
    n = torch.arange(8)
    step = step_N.view(-1, 1, 1, 1, 1, 1, 1) * (1 + (n[:, None] + n[None]) * 0.5)
    coefficients = ((dct @ blocks @ dct.T) / step).round() * step
    back: Tensor = (dct.T @ coefficients @ dct).transpose(-3, -2)
    return back.flatten(-4, -3).flatten(-2)
