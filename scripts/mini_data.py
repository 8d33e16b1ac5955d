"""Single frames and sentences of the playground for train_mini.py, in addition to clips.

Legend: B frames, A things in a frame, H and W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from openxclip.playground import ACTIONS, SEEN_THINGS, THINGS, caption
from openxclip.playground.captions import EMPTY_CAPTION, PACES, SIZES, TINTS
from openxclip.playground.clips import (
    TINT_COLOURS,
    as_generator,
    draw_indices,
    finish_frames,
    paint_distractors,
    render_backgrounds,
)
from openxclip.playground.motion import States, signs, uniform
from openxclip.playground.rendering import paint, paint_bars

NAME_TEMPLATES: tuple[str, ...] = ("{a}", "{thing}", "a video of {a}", "a picture of {a}")
ACTION_TEMPLATES: tuple[str, ...] = (
    "something {does}",
    "{does}",
    "{doing}",
    "something is {doing}",
    "a video of something {doing}",
)
CAPTION_TEMPLATES: tuple[str, ...] = (
    "{a} {does}",
    "{a} is {doing}",
    "{a} {doing}",
    "a video of {a} {doing}",
    "here {a} {does}",
)

PLACES: tuple[str, ...] = (
    "at the top left", "at the top", "at the top right",
    "at the left", "in the middle", "at the right",
    "at the bottom left", "at the bottom", "at the bottom right",
)  # fmt: skip
STILL_SIZES: tuple[str, ...] = ("small", "medium", "big")
TURNS: tuple[str, ...] = ("upright", "turned right", "upside down", "turned left")
VISIBILITIES: tuple[str, ...] = ("faint", "clear")


def sentences_with_every_word() -> list[str]:
    """Return sentences that contain each word of the playground at least once, for vocabularies."""
    sentences = [caption(t, template=template) for t in range(len(THINGS)) for template in NAME_TEMPLATES]
    sentences += [
        caption(0, a, 0, template=template, synonym=synonym)
        for a, action in enumerate(ACTIONS)
        for template in (*CAPTION_TEMPLATES, *ACTION_TEMPLATES)
        for synonym in range(1 + len(action.synonyms))
    ]
    sentences += [
        caption(0, 0, size=s, tint=t, pace=p)
        for s in range(len(SIZES))
        for t in range(len(TINTS))
        for p in range(len(PACES))
    ]
    sentences += [f"something {word}" for word in (*PLACES, *STILL_SIZES, *TURNS, *VISIBILITIES)]
    return [*sentences, EMPTY_CAPTION]


@dataclass
class Stills:
    """Rendered single frames.

    Attributes:
        frames: uint8 (B, 3, H, W).
        things, others: indices into THINGS, (B,); others are -1 in frames of one thing.
        states: (B, 2, 1) per field.
        words: description of the first thing, see `describe`.
    """

    frames: Tensor
    things: Tensor
    others: Tensor
    states: States
    words: dict[str, list[int]]


def render_stills(
    batch: int,
    seed: int | torch.Generator,
    *,
    size: int = 96,
    hard: float = 1.0,
    pairs: float = 0.25,
    among: Sequence[int] = range(len(SEEN_THINGS)),
) -> Stills:
    """Render single frames of one thing, or of two things beside each other.

    Args:
        batch: B.
        seed: a number, or a generator, whose state advances.
        size: side of the square frames, in pixels.
        hard: from 0 (upright, opaque, on plain colours) to 1 (many turned, some faint, and as `render_clips`).
        pairs: share of frames that show two things.
        among: indices of at least two things to draw from; default is all seen things.

    Raises:
        ValueError: `among` has fewer than two things.
    """
    generator = as_generator(seed)
    if len(set(among)) < 2:
        raise ValueError(f"among={list(among)} must be at least two things: frames may show two.")
    drawn_from, number = torch.tensor(list(among)), len(among)
    things = torch.randint(0, number, (batch,), generator=generator)
    others = torch.randint(0, number - 1, (batch,), generator=generator)
    things, others = drawn_from[things], drawn_from[others + (others >= things).long()]
    states = pose(batch, generator, hard=hard, pairs=pairs)
    is_pair = states.alpha[:, 1, 0] > 0
    tints = draw_indices(batch, generator, len(TINT_COLOURS), 0, 0.4 * hard)
    still = torch.zeros(batch, 2, 1), torch.ones(batch, 1)
    frames = render_backgrounds(batch, size, *still, generator, hard)
    paint_distractors(frames, generator, hard)
    paint(frames, things, states.map(lambda v: v[:, 0]), torch.arange(batch), TINT_COLOURS[tints])
    rows = is_pair.nonzero()[:, 0]
    paint(frames, others[rows], states.map(lambda v: v[rows, 1]), rows, torch.zeros(len(rows), 3))
    paint_bars(frames, (torch.rand(batch, generator=generator) < 0.08 * hard).nonzero()[:, 0], generator)
    frames = finish_frames(frames, generator, hard)
    return Stills(frames[:, 0], things, torch.where(is_pair, others, -1), states, describe(states))


def pose(num: int, generator: torch.Generator, *, hard: float = 1.0, pairs: float = 0.0) -> States:
    """Draw states of single frames with one or two things at any place and size, some turned or faint if `hard` > 0.

    Args:
        num: B.
        generator: random generator, whose state advances.
        hard: from 0 to 1; scales the shares of turned, narrow and faint things.
        pairs: share of frames that show two things, side by side.

    Returns:
        (B, 2, 1); the second thing has alpha 0 in frames of one thing.
    """
    shape = (num, 2, 1)
    size = uniform(generator, 0.2, 0.68, num, 1, 1).expand(shape).clone()
    room = (1.0 - size).clamp(min=0)
    x = uniform(generator, -1, 1, *shape) * room
    y = uniform(generator, -1, 1, *shape) * room
    is_pair = torch.rand(num, generator=generator) < pairs
    both = is_pair[:, None, None]
    apart = uniform(generator, 0.45, 0.8, num, 1)
    middle = uniform(generator, -0.5, 0.5, num, 1)
    way = signs(generator, num, 1)
    beside = torch.stack([middle - way * apart / 2, middle + way * apart / 2], dim=1).clamp(-0.9, 0.9)
    x = torch.where(both, beside, x)
    y = torch.where(both, y[:, :1] * 0.8 + uniform(generator, -0.3, 0.3, *shape), y)
    size = torch.where(both, uniform(generator, 0.26, 0.46, *shape), size)
    turned = torch.rand(shape, generator=generator) < 0.5 * hard
    faint = (torch.rand(shape, generator=generator) < 0.2 * hard) & ~both
    narrow = torch.rand(shape, generator=generator) < 0.12 * hard
    angle = torch.where(
        turned & ~both, uniform(generator, -math.pi, math.pi, *shape), uniform(generator, -0.15, 0.15, *shape)
    )
    stretch = signs(generator, *shape) * torch.where(narrow, uniform(generator, 0.1, 0.9, *shape), torch.ones(shape))
    alpha = torch.where(faint, uniform(generator, 0.15, 0.9, *shape), torch.ones(shape))
    alpha[:, 1] *= is_pair[:, None]
    return States(x, y, size, angle, stretch, alpha)


def describe(states: States) -> dict[str, list[int]]:
    """Describe the first thing of single frames (B, A, 1): indices into PLACES, STILL_SIZES, TURNS and VISIBILITIES."""

    def third(value: float) -> int:
        return 0 if value < -0.2 else 2 if value > 0.2 else 1

    x, y, size, angle, alpha = (
        getattr(states, name)[:, 0, 0].tolist() for name in ("x", "y", "size", "angle", "alpha")
    )
    return {
        "place": [third(v) * 3 + third(h) for h, v in zip(x, y, strict=True)],
        "size": [0 if s < 0.34 else 2 if s > 0.5 else 1 for s in size],
        "turn": [round(a / (math.pi / 2)) % 4 for a in angle],
        "visibility": [0 if a < 0.6 else 1 for a in alpha],
    }
