"""Render batches of clips and of single frames, reproducibly from a seed.

Legend: B clips, A actors, T frames, C channels, H and W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from openxclip.playground.captions import EMPTY_CAPTION, caption, describe
from openxclip.playground.motion import States, act, is_backwards, move_camera, pose, uniform
from openxclip.playground.rendering import cover, draw_backgrounds, draw_grain, film_background, middle, paint, soften
from openxclip.playground.world import ACTIONS, SEEN_THINGS, THINGS, is_unseen_pair

Split = Literal["seen", "unseen pairs", "unseen things", "all"]

_TINTS = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.15, 0.15], [0.15, 0.85, 0.2], [0.2, 0.35, 1.0], [0.7, 0.2, 0.9]])
_SCALES = torch.tensor([0.72, 1.0, 1.28])  # small, usual and big things


@dataclass
class Clips:
    """Rendered clips.

    Attributes:
        frames: uint8 (B, T, 3, H, W).
        things, actions: indices into THINGS and ACTIONS, (B,); both -1 for an empty scene.
        others: index of the thing that the action is done to, (B,); -1 for none.
        sizes, tints, paces: indices into SIZES, TINTS and PACES of `captions`, (B,).
        captions: one sentence per clip ("a cat moves left"), with unusual size, tint and pace.
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


@dataclass
class Stills:
    """Rendered single frames.

    Attributes:
        frames: uint8 (B, 3, H, W).
        things, others: indices into THINGS, (B,); others are -1 in frames of one thing.
        states: (B, 2, 1) per field.
        words: description of the first thing, see `captions.describe`.
    """

    frames: Tensor
    things: Tensor
    others: Tensor
    states: States
    words: dict[str, list[int]]


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
        seed: a number, or a generator, whose state changes.
        size: side of the square frames, in pixels.
        num_frames: T.
        things, actions: indices (B,), both or neither; by default actions are drawn uniformly, and things uniformly
            among those that do the action in the split.
        others: indices (B,) of the things that actions are done to; by default drawn, never the thing itself.
        split: pairs of things and actions to draw from: "seen" (those of training), "unseen pairs", "unseen things" or
            "all". Others and distractors are always seen things.
        empty: share of clips that show only the background.
        hard: from 0 (plain colours, static camera, nothing else in the scene) to 1 (textures, drift and zoom,
            distractors, bars in front, tints, brightness, blur, noise and compression).

    Raises:
        ValueError: an argument is out of its range.
    """
    if batch < 1 or num_frames < 1 or size < 8:
        raise ValueError(f"batch={batch} and num_frames={num_frames} must be 1 or more, size={size} 8 or more")
    if (things is None) != (actions is None):
        raise ValueError("give things and actions together, or neither")
    generator = as_generator(seed)
    drawn = draw_pairs(batch, generator, split)
    others_drawn = torch.randint(0, len(SEEN_THINGS) - 1, (batch,), generator=generator)
    things_B, actions_B = drawn if things is None or actions is None else (things, actions)
    if others is None:
        others = others_drawn + (others_drawn >= things_B).long()
    has_other = torch.tensor([action.has_other for action in ACTIONS])[actions_B]
    is_paced = torch.tensor([action.is_paced for action in ACTIONS])[actions_B]
    shown = torch.rand(batch, generator=generator) >= empty

    pace = torch.rand(batch, generator=generator)
    paces = torch.where(is_paced & (pace < 0.2), 0, torch.where(is_paced & (pace > 0.8), 2, 1))
    sizes = _seldom(batch, generator, 3, 1, hard)
    tints = _seldom(batch, generator, len(_TINTS), 0, 0.4 * hard)
    states = act(actions_B, num_frames, generator, pace)
    scale = torch.where(has_other, 1.0, _SCALES[sizes])[:, None]
    sizes = torch.where(has_other, 1, sizes)
    states.size[:, 0] *= scale
    shift, zoom = _camera(batch, num_frames, generator, hard)
    states = move_camera(states, shift, zoom)

    frames = _background(batch, size, shift, zoom, generator, hard)
    _distract(frames, generator, hard)
    rows = shown.nonzero()[:, 0]
    paint(frames, things_B[rows], states.map(lambda v: v[rows, 0]), rows, _TINTS[tints[rows]])
    rows = (shown & has_other).nonzero()[:, 0]
    paint(frames, others[rows], states.map(lambda v: v[rows, 1]), rows, torch.zeros(len(rows), 3))
    cover(frames, (torch.rand(batch, generator=generator) < 0.12 * hard).nonzero()[:, 0], generator)
    frames = _finish(frames, generator, hard)

    backwards = is_backwards(actions_B)
    frames = torch.where(backwards[:, None, None, None, None], frames.flip(1), frames)
    nothing = torch.full_like(things_B, -1)
    clips = Clips(
        frames,
        torch.where(shown, things_B, nothing),
        torch.where(shown, actions_B, nothing),
        torch.where(shown & has_other, others, nothing),
        sizes,
        tints,
        paces,
        [],
        states.reversed_where(backwards),
    )
    clips.captions.extend(caption_of(clips, i) for i in range(batch))
    return clips


def caption_of(clips: Clips, i: int, *, template: str | None = None, synonym: int = 0) -> str:
    """Return the caption of clip `i`; arguments as for `caption`."""
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


def render_stills(
    batch: int,
    seed: int | torch.Generator,
    *,
    size: int = 96,
    hard: float = 1.0,
    pairs: float = 0.25,
    split: Literal["seen", "all"] = "seen",
    among: Sequence[int] | None = None,
) -> Stills:
    """Render single frames of one thing, or of two things beside each other.

    Args:
        batch: B.
        seed: a number, or a generator, whose state changes.
        size: side of the square frames, in pixels.
        hard: from 0 (upright, opaque, on plain colours) to 1 (many turned, some faint, and as `render_clips`).
        pairs: share of frames that show two things.
        split: "seen" leaves out the things that training doesn't show.
        among: indices of at least two things to draw from, instead of a split.

    Raises:
        ValueError: `among` has fewer than two things.
    """
    generator = as_generator(seed)
    drawn_from = torch.arange(len(SEEN_THINGS) if split == "seen" else len(THINGS))
    if among is not None:
        if len(set(among)) < 2:
            raise ValueError(f"among={list(among)} must be at least two things: frames may show two.")
        drawn_from = torch.tensor(list(among))
    number = len(drawn_from)
    things = torch.randint(0, number, (batch,), generator=generator)
    others = torch.randint(0, number - 1, (batch,), generator=generator)
    things, others = drawn_from[things], drawn_from[others + (others >= things).long()]
    states = pose(batch, generator, hard=hard, pairs=pairs)
    is_pair = states.alpha[:, 1, 0] > 0
    tints = _seldom(batch, generator, len(_TINTS), 0, 0.4 * hard)
    still = torch.zeros(batch, 2, 1), torch.ones(batch, 1)
    frames = _background(batch, size, *still, generator, hard)
    _distract(frames, generator, hard)
    paint(frames, things, states.map(lambda v: v[:, 0]), torch.arange(batch), _TINTS[tints])
    rows = is_pair.nonzero()[:, 0]
    paint(frames, others[rows], states.map(lambda v: v[rows, 1]), rows, torch.zeros(len(rows), 3))
    cover(frames, (torch.rand(batch, generator=generator) < 0.08 * hard).nonzero()[:, 0], generator)
    frames = _finish(frames, generator, hard)
    return Stills(frames[:, 0], things, torch.where(is_pair, others, -1), states, describe(states))


def _seldom(batch: int, generator: torch.Generator, number: int, usual: int, share: float) -> Tensor:
    """Draw indices (B,): the usual one, but uniformly any for about `share` / 2 of all."""
    drawn = torch.randint(0, number, (batch,), generator=generator)
    return torch.where(torch.rand(batch, generator=generator) < 0.5 * share, drawn, usual)


def _camera(batch: int, num_frames: int, generator: torch.Generator, hard: float) -> tuple[Tensor, Tensor]:
    """Draw a camera's drift in frame units (B, 2, T) and zoom (B, T); in some clips the camera moves."""
    t = torch.linspace(-0.5, 0.5, num_frames) if num_frames > 1 else torch.zeros(1)
    drifts = torch.rand(batch, generator=generator) < 0.35 * hard
    way = uniform(generator, 0, 2 * math.pi, batch)
    length = uniform(generator, 0.08, 0.24, batch) * drifts
    shift = torch.stack([way.cos() * length, way.sin() * length], 1)[:, :, None] * t
    rate = uniform(generator, -0.12, 0.12, batch) * drifts
    return shift, torch.exp(rate[:, None] * t)


def _background(batch: int, size: int, shift: Tensor, zoom: Tensor, generator: torch.Generator, hard: float) -> Tensor:
    wide = draw_backgrounds(batch, size, generator, variety=hard)
    frames = middle(wide, size)[:, None].repeat(1, zoom.shape[1], 1, 1, 1)
    rows = (shift.abs().sum((1, 2)) > 0).nonzero()[:, 0]
    if len(rows):
        frames[rows] = film_background(wide[rows], shift[rows], zoom[rows], size)
    return frames


def _distract(frames: Tensor, generator: torch.Generator, hard: float) -> None:
    """Paint a small seen thing that does nothing into some of the clips."""
    batch, num_frames = frames.shape[:2]
    rows = (torch.rand(batch, generator=generator) < 0.2 * hard).nonzero()[:, 0]
    things = torch.randint(0, len(SEEN_THINGS), (batch,), generator=generator)[rows]
    still = torch.zeros(1, num_frames)

    def draw(low: float, high: float) -> Tensor:
        return uniform(generator, low, high, batch, 1)[rows] + still

    states = States(draw(-0.9, 0.9), draw(-0.9, 0.9), draw(0.13, 0.19), draw(-0.3, 0.3), draw(1, 1), draw(0.7, 1))
    paint(frames, things, states, rows, torch.zeros(len(rows), 3))


def _finish(frames: Tensor, generator: torch.Generator, hard: float) -> Tensor:
    batch, num_frames, _, size, _ = frames.shape
    frames = soften(frames, generator, strength=hard)
    frames = frames + draw_grain(batch, num_frames, size, generator, 0.025 * hard)
    return (frames.clamp_(0, 1) * 255).round_().to(torch.uint8)


class PlaygroundDataset(IterableDataset[dict[str, Any]]):
    """An endless stream of clips: {"frames": uint8 (T, 3, H, W), "caption", "thing", "action", "other"} (names, or "").

    Worker i of n of a DataLoader yields every n-th block, so any number of workers gives the same clips.

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
