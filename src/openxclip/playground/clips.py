"""Batches of rendered clips and of single frames, the same for the same seed, and a data set of clips.

Legend: B clips, T frames, C channels, H and W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from openxclip.playground.captions import caption, describe
from openxclip.playground.rendering import draw_backgrounds, draw_grain, paint
from openxclip.playground.world import ACTIONS, THINGS, States, act, is_backwards, pose, uniform

EMPTY_CAPTION = "an empty scene"


@dataclass
class Clips:
    """What `render_clips` returns.

    Args:
        frames: uint8 (B, T, 3, H, W).
        things, actions: indices into THINGS and ACTIONS, (B,); both -1 for an empty scene.
        captions: one sentence a clip ("a cat moves left").
        states: where the thing is, (B, T) a field.
    """

    frames: Tensor
    things: Tensor
    actions: Tensor
    captions: list[str]
    states: States


@dataclass
class Stills:
    """What `render_stills` returns: frames uint8 (B, 3, H, W), things (B,), states and what is said of them."""

    frames: Tensor
    things: Tensor
    states: States
    words: dict[str, list[int]]


def _generator(seed: int | torch.Generator) -> torch.Generator:
    return seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)


def render_clips(
    batch: int,
    seed: int | torch.Generator,
    *,
    size: int = 96,
    num_frames: int = 8,
    things: Tensor | None = None,
    actions: Tensor | None = None,
    empty: float = 0.05,
    noise: float = 0.03,
) -> Clips:
    """Render clips in which one thing does one action.

    A clip of the second action of an order pair is one of the first played backwards: the same seed and things give
    the same frames in the other order.

    Args:
        batch: B.
        seed: a number, or a generator that is used up.
        size: side of the square frames, in pixels.
        num_frames: T.
        things, actions: indices (B,); drawn evenly if not given.
        empty: share of clips that show the background only.
        noise: strongest standard deviation of the grain (of 1).
    """
    generator = _generator(seed)
    drawn_things = torch.randint(0, len(THINGS), (batch,), generator=generator)
    drawn_actions = torch.randint(0, len(ACTIONS), (batch,), generator=generator)
    things = drawn_things if things is None else things
    actions = drawn_actions if actions is None else actions
    is_empty = torch.rand(batch, generator=generator) < empty
    shown = torch.where(is_empty, -1, things)
    states = act(actions, num_frames, generator)
    backgrounds = draw_backgrounds(batch, size, generator)
    grain = draw_grain(batch, num_frames, size, generator, noise)
    frames = paint(shown, states, backgrounds, grain)
    backwards = is_backwards(actions)
    frames = torch.where(backwards[:, None, None, None, None], frames.flip(1), frames)
    captions = [
        EMPTY_CAPTION if thing < 0 else caption(thing, action)
        for thing, action in zip(shown.tolist(), actions.tolist(), strict=True)
    ]
    shown_actions = torch.where(shown < 0, -1, actions)
    return Clips(frames, shown, shown_actions, captions, states.reversed_where(backwards))


def render_stills(
    batch: int, seed: int | torch.Generator, *, size: int = 96, hard: float = 1.0, noise: float = 0.03
) -> Stills:
    """Render single frames of one thing each, somewhere.

    Args:
        batch: B.
        seed: a number, or a generator that is used up.
        size: side of the square frames, in pixels.
        hard: 0 (upright, clear, on plain colours) to 1 (many turned, some faint, on lively backgrounds with noise).
        noise: strongest standard deviation of the grain (of 1), where `hard` is 1.
    """
    generator = _generator(seed)
    things = torch.randint(0, len(THINGS), (batch,), generator=generator)
    states = pose(batch, generator, hard=hard)
    backgrounds = draw_backgrounds(batch, size, generator, variety=hard)
    grain = draw_grain(batch, 1, size, generator, noise * hard)
    return Stills(paint(things, states, backgrounds, grain)[:, 0], things, states, describe(states))


def soften(frames: Tensor, generator: torch.Generator) -> Tensor:
    """Blur some clips a little and shift some colours, as scaling and video compression do.

    Args:
        frames: (B, T, 3, H, W), any floating type, 0 to 1.
    """
    B = len(frames)
    flat = frames.flatten(0, 1)
    blurred = F.avg_pool2d(F.pad(flat, (1, 1, 1, 1), mode="replicate"), 3, 1).view_as(frames)
    amount = uniform(generator, 0, 0.7, B, 1, 1, 1, 1) * (torch.rand(B, 1, 1, 1, 1, generator=generator) < 0.6)
    light = 1 + uniform(generator, -0.06, 0.06, B, 1, 3, 1, 1)
    return torch.lerp(frames, blurred, amount.to(frames.dtype)) * light.to(frames.dtype)


class PlaygroundDataset(IterableDataset[dict[str, Any]]):
    """An endless stream of clips: {"frames": uint8 (T, 3, H, W), "caption", "thing", "action"} (names; "" if empty).

    Worker i of n of a DataLoader yields every n-th block, so that any number of workers gives the same clips.

    Args:
        seed: of the whole stream.
        block: clips rendered at once.
        options: those of `render_clips`.
    """

    def __init__(self, seed: int = 0, *, block: int = 16, **options: Any) -> None:
        self.seed, self.block, self.options = seed, block, options

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        number, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        while True:
            clips = render_clips(self.block, self.seed * 1_000_003 + number, **self.options)
            for i, (thing, action) in enumerate(zip(clips.things.tolist(), clips.actions.tolist(), strict=True)):
                yield {
                    "frames": clips.frames[i],
                    "caption": clips.captions[i],
                    "thing": THINGS[thing] if thing >= 0 else "",
                    "action": ACTIONS[action].name if action >= 0 else "",
                }
            number += step
