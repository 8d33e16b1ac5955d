"""Render batches of clips, reproducibly from a seed.

Legend: B clips, A actors, T frames, C channels, H and W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from openxclip.playground.captions import EMPTY_CAPTION, caption
from openxclip.playground.motion import States, draw_states, is_backwards, move_camera, uniform
from openxclip.playground.rendering import (
    crop_middle,
    degrade,
    draw_backgrounds,
    draw_grain,
    film_background,
    paint,
    paint_bars,
)
from openxclip.playground.world import ACTIONS, SEEN_THINGS, THINGS, is_unseen_pair

Split = Literal["seen", "unseen pairs", "unseen things", "all"]

TINT_COLOURS = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.15, 0.15], [0.15, 0.85, 0.2], [0.2, 0.35, 1.0], [0.7, 0.2, 0.9]])
_SCALES = torch.tensor([0.72, 1.0, 1.28])  # small, usual and big things


@dataclass
class Clips:
    """Rendered clips.

    Attributes:
        frames: uint8 (B, T, 3, H, W).
        things, actions: indices into THINGS and ACTIONS, (B,); both -1 for an empty scene.
        others: index of the thing that the action is done to, (B,); -1 for none.
        sizes, tints, paces: indices into SIZES, TINTS and PACES of `captions`, (B,).
        captions: one sentence per clip ("a cat moves left"), which names unusual sizes, tints and paces.
        states: states of the two actors as the camera sees them, (B, 2, T) per field.
    """

    frames: Tensor
    things: Tensor
    actions: Tensor
    others: Tensor
    sizes: Tensor
    tints: Tensor
    paces: Tensor
    captions: list[str]
    states: States

    def names(self, i: int) -> dict[str, str]:
        """Return the names of thing, action and other thing of clip `i`; "" for none."""
        thing, action, other = (int(values[i]) for values in (self.things, self.actions, self.others))
        return {
            "thing": THINGS[thing] if thing >= 0 else "",
            "action": ACTIONS[action].name if action >= 0 else "",
            "other": THINGS[other] if other >= 0 else "",
        }


def as_generator(seed: int | torch.Generator) -> torch.Generator:
    """Return a generator with this seed, or the given generator."""
    return seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)


@cache
def pairs_of(split: Split) -> Tensor:
    """Return the pairs of thing and action of a split: indices into THINGS and ACTIONS, (N, 2)."""
    belongs: dict[str, Callable[[int, int], bool]] = {
        "seen": lambda t, a: t < len(SEEN_THINGS) and not is_unseen_pair(t, a),
        "unseen pairs": lambda t, a: t < len(SEEN_THINGS) and is_unseen_pair(t, a),
        "unseen things": lambda t, a: t >= len(SEEN_THINGS),
        "all": lambda t, a: True,
    }
    if split not in belongs:
        raise ValueError(f"split={split!r} must be one of {', '.join(map(repr, belongs))}")
    return torch.tensor([(t, a) for t in range(len(THINGS)) for a in range(len(ACTIONS)) if belongs[split](t, a)])


def draw_pairs(batch: int, generator: torch.Generator, split: Split) -> tuple[Tensor, Tensor]:
    """Draw things and actions of a split, (B,) each: actions uniformly, and things uniformly for each action."""
    pairs = pairs_of(split)
    actions = torch.randint(0, len(ACTIONS), (batch,), generator=generator)
    position = torch.rand(batch, generator=generator)
    things = torch.empty(batch, dtype=torch.long)
    for action in actions.unique().tolist():
        choice = pairs[pairs[:, 1] == action, 0]
        rows = actions == action
        things[rows] = choice[(position[rows] * len(choice)).long()]
    return things, actions


def render_clips(
    batch: int,
    seed: int | torch.Generator,
    *,
    size: int = 96,
    num_frames: int = 8,
    things: Tensor | None = None,
    actions: Tensor | None = None,
    others: Tensor | None = None,
    split: Split = "all",
    empty: float = 0.04,
    hard: float = 1.0,
) -> Clips:
    """Render clips in which one thing does one action, alone or to another thing.

    The two actions of an order pair have the same frames in opposite order, for the same seed and things.

    Args:
        batch: B.
        seed: a number, or a generator, whose state advances.
        size: side of the square frames, in pixels.
        num_frames: T.
        things, actions: indices (B,), both or neither; by default actions are drawn uniformly, and things uniformly
            among those that do the action in the split.
        others: indices (B,) of the things that actions are done to; by default any seen thing but the first one.
        split: pairs of things and actions to draw from: "seen" in training, "unseen pairs", "unseen things" or "all".
            Others and distractors are always seen things.
        empty: share of clips that show only the background.
        hard: from 0 (plain colours, static camera, nothing else in the scene) to 1 (textures, drift and zoom,
            distractors, bars in front, tints, brightness, blur, noise and compression).

    Raises:
        ValueError: an argument is out of its range.

    Examples:
        >>> from openxclip.playground import render_clips
        >>> render_clips(2, seed=0, size=64).frames.shape
        torch.Size([2, 8, 3, 64, 64])
    """
    if batch < 1 or num_frames < 1 or size < 8:
        raise ValueError(f"batch={batch} and num_frames={num_frames} must be 1 or more, size={size} 8 or more")
    if (things is None) != (actions is None):
        raise ValueError("give things and actions together, or neither")
    generator = as_generator(seed)
    drawn = draw_pairs(batch, generator, split)
    others_drawn = torch.randint(0, len(SEEN_THINGS) - 1, (batch,), generator=generator)
    things_B, actions_B = drawn if things is None or actions is None else (things, actions)
    if others is None:  # never the thing itself
        others = others_drawn + (others_drawn >= things_B).long()
    has_other = torch.tensor([action.has_other for action in ACTIONS])[actions_B]
    is_paced = torch.tensor([action.is_paced for action in ACTIONS])[actions_B]
    shown = torch.rand(batch, generator=generator) >= empty

    pace = torch.rand(batch, generator=generator)
    paces = torch.where(is_paced & (pace < 0.2), 0, torch.where(is_paced & (pace > 0.8), 2, 1))
    sizes = draw_indices(batch, generator, 3, 1, hard)
    tints = draw_indices(batch, generator, len(TINT_COLOURS), 0, 0.4 * hard)
    states = draw_states(actions_B, num_frames, generator, pace)
    scale = torch.where(has_other, 1.0, _SCALES[sizes])[:, None]
    sizes = torch.where(has_other, 1, sizes)
    states.size[:, 0] *= scale
    shift, zoom = _camera(batch, num_frames, generator, hard)
    states = move_camera(states, shift, zoom)

    frames = render_backgrounds(batch, size, shift, zoom, generator, hard)
    paint_distractors(frames, generator, hard)
    rows = shown.nonzero()[:, 0]
    paint(frames, things_B[rows], states.map(lambda v: v[rows, 0]), rows, TINT_COLOURS[tints[rows]])
    rows = (shown & has_other).nonzero()[:, 0]
    paint(frames, others[rows], states.map(lambda v: v[rows, 1]), rows, torch.zeros(len(rows), 3))
    paint_bars(frames, (torch.rand(batch, generator=generator) < 0.12 * hard).nonzero()[:, 0], generator)
    frames = finish_frames(frames, generator, hard)

    backwards = is_backwards(actions_B)
    frames = torch.where(backwards[:, None, None, None, None], frames.flip(1), frames)
    clips = Clips(
        frames,
        torch.where(shown, things_B, -1),
        torch.where(shown, actions_B, -1),
        torch.where(shown & has_other, others, -1),
        sizes,
        tints,
        paces,
        [],
        states.reversed_where(backwards),
    )
    clips.captions.extend(caption_of(clips, i) for i in range(batch))
    return clips


def caption_of(clips: Clips, i: int, *, template: str | None = None, synonym: int = 0) -> str:
    """Return the caption of clip `i`; see `caption` for the arguments."""
    thing, action, other = (int(values[i]) for values in (clips.things, clips.actions, clips.others))
    if thing < 0:
        return EMPTY_CAPTION
    return caption(
        thing,
        action,
        None if other < 0 else other,
        template=template,
        synonym=synonym,
        size=int(clips.sizes[i]),
        tint=int(clips.tints[i]),
        pace=int(clips.paces[i]),
    )


def draw_indices(batch: int, generator: torch.Generator, number: int, usual: int, share: float) -> Tensor:
    """Draw indices (B,) below `number`: uniformly for a fraction `share` / 2 of the clips, else the usual one."""
    drawn = torch.randint(0, number, (batch,), generator=generator)
    return torch.where(torch.rand(batch, generator=generator) < 0.5 * share, drawn, usual)


def _camera(batch: int, num_frames: int, generator: torch.Generator, hard: float) -> tuple[Tensor, Tensor]:
    """Draw the drift in frame units (B, 2, T) and zoom (B, T) of the camera, which moves in some of the clips."""
    t = torch.linspace(-0.5, 0.5, num_frames) if num_frames > 1 else torch.zeros(1)
    drifts = torch.rand(batch, generator=generator) < 0.35 * hard
    way = uniform(generator, 0, 2 * math.pi, batch)
    length = uniform(generator, 0.08, 0.24, batch) * drifts
    shift = torch.stack([way.cos() * length, way.sin() * length], 1)[:, :, None] * t
    rate = uniform(generator, -0.12, 0.12, batch) * drifts
    return shift, torch.exp(rate[:, None] * t)


def render_backgrounds(
    batch: int, size: int, shift: Tensor, zoom: Tensor, generator: torch.Generator, hard: float
) -> Tensor:
    """Draw backgrounds and render them as the camera sees them: float (B, T, 3, H, W)."""
    wide = draw_backgrounds(batch, size, generator, variety=hard)
    frames = crop_middle(wide, size)[:, None].repeat(1, zoom.shape[1], 1, 1, 1)
    rows = (shift.abs().sum((1, 2)) > 0).nonzero()[:, 0]
    if len(rows):
        frames[rows] = film_background(wide[rows], shift[rows], zoom[rows], size)
    return frames


def paint_distractors(frames: Tensor, generator: torch.Generator, hard: float) -> None:
    """Paint a small seen thing that does nothing into some of the clips."""
    batch, num_frames = frames.shape[:2]
    rows = (torch.rand(batch, generator=generator) < 0.2 * hard).nonzero()[:, 0]
    things = torch.randint(0, len(SEEN_THINGS), (batch,), generator=generator)[rows]
    still = torch.zeros(1, num_frames)

    def draw(low: float, high: float) -> Tensor:
        return uniform(generator, low, high, batch, 1)[rows] + still

    states = States(draw(-0.9, 0.9), draw(-0.9, 0.9), draw(0.13, 0.19), draw(-0.3, 0.3), draw(1, 1), draw(0.7, 1))
    paint(frames, things, states, rows, torch.zeros(len(rows), 3))


def finish_frames(frames: Tensor, generator: torch.Generator, hard: float) -> Tensor:
    """Degrade frames, add noise and convert them to uint8."""
    batch, num_frames, _, size, _ = frames.shape
    frames = degrade(frames, generator, strength=hard)
    frames = frames + draw_grain(batch, num_frames, size, generator, 0.025 * hard)
    return (frames.clamp_(0, 1) * 255).round_().to(torch.uint8)


class PlaygroundDataset(IterableDataset[dict[str, Any]]):
    """An endless stream of clips: {"frames": uint8 (T, 3, H, W), "caption", "thing", "action", "other"} (names, or "").

    Each of n workers of a DataLoader yields every n-th block, so the clips don't depend on the number of workers.

    Args:
        seed: seeds the whole stream.
        block: number of clips rendered at once.
        options: options of `render_clips`.
    """

    def __init__(self, seed: int = 0, *, block: int = 16, **options: Any) -> None:
        self.seed, self.block, self.options = seed, block, options

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        number, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        while True:
            clips = render_clips(self.block, self.seed * 1_000_003 + number, **self.options)
            for i, frames in enumerate(clips.frames):
                yield {"frames": frames, "caption": clips.captions[i], **clips.names(i)}
            number += step
