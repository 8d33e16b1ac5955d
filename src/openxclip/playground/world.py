"""What exists and what happens in the playground: things, actions and how each action moves a thing.

Legend: B clips, T frames. Positions are in frame units: (-1, -1) is the top left corner, (1, 1) the bottom right one.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

_INDEX = json.loads((Path(__file__).parent / "sprites.json").read_text(encoding="utf-8"))

THINGS: tuple[str, ...] = tuple(entry["name"] for entry in _INDEX["things"])


@dataclass(frozen=True)
class Action:
    """Something a thing does.

    Args:
        name: third person ("moves left"), also its identity.
        doing: the same as "a cat …": "moving left".
        reverse: name of the action that it is when played backwards; itself where that makes no difference.
    """

    name: str
    doing: str
    reverse: str


def _pair(first: tuple[str, str], second: tuple[str, str]) -> tuple[Action, Action]:
    return Action(*first, second[0]), Action(*second, first[0])


ACTIONS: tuple[Action, ...] = (
    *_pair(("moves left", "moving left"), ("moves right", "moving right")),
    *_pair(("moves up", "moving up"), ("moves down", "moving down")),
    *_pair(("shrinks", "shrinking"), ("grows", "growing")),
    *_pair(("vanishes", "vanishing"), ("appears", "appearing")),
    *_pair(("spins counterclockwise", "spinning counterclockwise"), ("spins clockwise", "spinning clockwise")),
    Action("stays still", "staying still", "stays still"),
    Action("bounces", "bouncing", "bounces"),
    Action("shakes", "shaking", "shakes"),
    Action("blinks", "blinking", "blinks"),
    Action("pulses", "pulsing", "pulses"),
    Action("swings", "swinging", "swings"),
    Action("flips", "flipping", "flips"),
    Action("goes in circles", "going in circles", "goes in circles"),
)
ACTION_NAMES: tuple[str, ...] = tuple(action.name for action in ACTIONS)

ORDER_PAIRS: tuple[tuple[str, str], ...] = tuple(
    (action.reverse, action.name) for index, action in enumerate(ACTIONS[:10]) if index % 2
)
"""Pairs of actions where each is the other played backwards: the order of the frames alone tells them apart."""


@dataclass
class States:
    """Where things are, one tensor (B, T) per field.

    Args:
        x, y: centre, in frame units.
        size: side of the sprite as a fraction of the frame's side.
        angle: clockwise turn in radians.
        stretch: horizontal factor; negative is mirrored.
        alpha: visibility, 0 to 1.
    """

    x: Tensor
    y: Tensor
    size: Tensor
    angle: Tensor
    stretch: Tensor
    alpha: Tensor

    def reversed_where(self, backwards_B: Tensor) -> States:
        """The same states with time running backwards in some of the clips (bool, (B,))."""
        return States(
            *(
                torch.where(backwards_B[:, None], getattr(self, field.name).flip(1), getattr(self, field.name))
                for field in fields(self)
            )
        )


def uniform(generator: torch.Generator, low: float, high: float, *shape: int) -> Tensor:
    """Numbers drawn evenly from [low, high)."""
    return low + (high - low) * torch.rand(*shape, generator=generator)


def frame_times(num_frames: int) -> Tensor:
    """Midpoints of `num_frames` equal parts of a clip that lasts from 0 to 1: (T,)."""
    return (torch.arange(num_frames) + 0.5) / num_frames


def is_backwards(actions_B: Tensor) -> Tensor:
    """Which actions are rendered as another one played backwards: bool (B,)."""
    reverse = torch.tensor([ACTION_NAMES.index(action.reverse) for action in ACTIONS])
    return reverse[actions_B] < actions_B


def act(actions_B: Tensor, num_frames: int, generator: torch.Generator) -> States:
    """Draw one way of doing each action and return its states, before time is turned round.

    The second action of an order pair gets the states of the first: play it backwards (`is_backwards`).

    Args:
        actions_B: indices into ACTIONS.
        num_frames: T; the clip is seen at the midpoints of T equal parts.
    """
    n = len(actions_B)
    t = frame_times(num_frames)[None]

    def draw(low: float, high: float) -> Tensor:
        return uniform(generator, low, high, n, 1)

    def sign() -> Tensor:
        return torch.randint(0, 2, (n, 1), generator=generator) * 2.0 - 1

    size = draw(0.36, 0.56)
    room = 0.95 - size  # the whole thing stays in the frame
    x, y = draw(-1, 1) * room, draw(-1, 1) * room
    facing = sign()
    tilt = draw(-0.12, 0.12)
    still = torch.zeros(n, num_frames)
    phase, waves = draw(0, 1), draw(1.6, 2.4)
    wave = torch.sin(2 * math.pi * (waves * t + phase))
    fast = torch.sin(2 * math.pi * (draw(2.8, 3.4) * t + phase))
    path = draw(0.75, 1.0) * room * (1 - 2 * t)  # from one side to the other
    ramp = ((t - draw(0.15, 0.4)) / draw(0.25, 0.5)).clamp(0, 1)
    turns = 2 * math.pi * draw(0.6, 1.0) * t
    orbit = 2 * math.pi * (sign() * draw(0.9, 1.3) * t + phase)
    radius = room * draw(0.6, 0.9)
    on = torch.remainder(waves * t + phase, 1) < 0.5
    hop = draw(0.7, 1.0) * room * (2 * torch.sin(math.pi * (waves * t + phase)).abs() - 1)
    shake = draw(0.15, 0.25) * fast

    base = States(x + still, y + still, size + still, tilt + still, facing + still, still + 1)
    changes: dict[str, dict[str, Tensor]] = {
        "moves left": {"x": path},
        "moves up": {"y": path},
        "shrinks": {"size": size * draw(1.2, 1.5) * (draw(0.25, 0.4) ** t)},
        "vanishes": {"alpha": 1 - ramp},
        "spins counterclockwise": {"angle": draw(-math.pi, math.pi) - turns},
        "stays still": {},
        "bounces": {"y": -hop},
        "shakes": {"x": (x * 0.8 + shake)},
        "blinks": {"alpha": on.float()},
        "pulses": {"size": size * (1 + draw(0.25, 0.4) * wave)},
        "swings": {"angle": draw(0.5, 0.9) * wave},
        "flips": {"stretch": torch.cos(2 * math.pi * (draw(1.0, 1.5) * t + phase))},
        "goes in circles": {"x": radius * orbit.cos(), "y": radius * orbit.sin()},
    }
    for name, change in changes.items():
        action = ACTIONS[ACTION_NAMES.index(name)]
        chosen_B = (actions_B == ACTION_NAMES.index(name)) | (actions_B == ACTION_NAMES.index(action.reverse))
        for field, value in change.items():
            setattr(base, field, torch.where(chosen_B[:, None], value, getattr(base, field)))
    limit = 1.05 - base.size
    base.x, base.y = base.x.clamp(-limit, limit), base.y.clamp(-limit, limit)
    return base


def pose(num: int, generator: torch.Generator, *, hard: float = 1.0) -> States:
    """Draw `num` single frames (T = 1): anywhere, any size, and with `hard` > 0 turned, mirrored and faint ones.

    Args:
        hard: 0 to 1: the share of things that are turned, and of those that are faint.
    """
    size = uniform(generator, 0.22, 0.7, num, 1)
    room = (1.0 - size).clamp(min=0)
    turned = torch.rand(num, 1, generator=generator) < 0.5 * hard
    faint = torch.rand(num, 1, generator=generator) < 0.25 * hard
    angle = uniform(generator, -math.pi, math.pi, num, 1)
    alpha = uniform(generator, 0.15, 0.9, num, 1)
    mirrored = torch.rand(num, 1, generator=generator) < 0.5
    squeeze = torch.where(
        torch.rand(num, 1, generator=generator) < 0.15 * hard, uniform(generator, 0.1, 0.9, num, 1), 1.0
    )
    return States(
        uniform(generator, -1, 1, num, 1) * room,
        uniform(generator, -1, 1, num, 1) * room,
        size,
        torch.where(turned, angle, uniform(generator, -0.15, 0.15, num, 1)),
        torch.where(mirrored, -squeeze, squeeze),
        torch.where(faint, alpha, torch.ones(num, 1)),
    )
