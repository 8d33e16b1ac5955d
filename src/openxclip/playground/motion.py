"""Draw the positions and looks of things over time, for each action.

Legend: B clips, A actors (0 does the action, 1 is the other thing), T frames. Positions are in frame units: (-1, -1) is
the top left corner, (1, 1) the bottom right one. A size is the side of the sprite as a fraction of the frame's side, so
it is also half the side in frame units.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from openxclip.playground.world import ACTION_NAMES, REVERSES


@dataclass
class States:
    """Positions and looks of things, one tensor of the same shape per field.

    Attributes:
        x, y: centre, in frame units.
        size: side of the sprite as a fraction of the frame's side.
        angle: clockwise rotation in radians.
        stretch: horizontal factor; a negative one mirrors.
        alpha: opacity, 0 to 1.
    """

    x: Tensor
    y: Tensor
    size: Tensor
    angle: Tensor
    stretch: Tensor
    alpha: Tensor

    def map(self, change: Callable[[Tensor], Tensor]) -> States:
        """Apply a function to each field."""
        return States(*map(change, vars(self).values()))

    def reversed_where(self, backwards_B: Tensor) -> States:
        """Reverse the time of states (B, …, T) in some of the clips (bool, (B,))."""

        def reverse(values: Tensor) -> Tensor:
            where = backwards_B.view(-1, *[1] * (values.dim() - 1))
            return torch.where(where, values.flip(-1), values)

        return self.map(reverse)


def uniform(generator: torch.Generator, low: float, high: float, *shape: int) -> Tensor:
    """Draw numbers uniformly from [low, high)."""
    return low + (high - low) * torch.rand(*shape, generator=generator)


def signs(generator: torch.Generator, *shape: int) -> Tensor:
    """Draw -1 or 1."""
    return torch.randint(0, 2, shape, generator=generator) * 2.0 - 1


def frame_times(num_frames: int) -> Tensor:
    """Return the midpoints of `num_frames` equal parts of [0, 1]: (T,)."""
    return (torch.arange(num_frames) + 0.5) / num_frames


def is_backwards(actions_B: Tensor) -> Tensor:
    """Return, as bool (B,), which actions are rendered as their reverse played backwards."""
    return torch.tensor(REVERSES)[actions_B] < actions_B


def draw_states(actions_B: Tensor, num_frames: int, generator: torch.Generator, pace_B: Tensor) -> States:
    """Draw the states of the two actors.

    The second action of an order pair gets the states of the first. The caller plays them backwards (`is_backwards`).

    Args:
        actions_B: indices into ACTIONS.
        num_frames: T; frames are at the midpoints of T equal parts of the clip.
        generator: random generator, whose state advances.
        pace_B: speed of paced actions, 0 to 1.

    Returns:
        (B, 2, T); the second actor has alpha 0 if the action is done to nothing.
    """
    batch = len(actions_B)
    torch.rand(batch, generator=generator)  # unused, but without it all later draws, and so all clips, would change
    single = _single_actions(batch, num_frames, generator, pace_B[:, None])
    double = _double_actions(batch, num_frames, generator)
    kind_B = torch.minimum(actions_B, torch.tensor(REVERSES)[actions_B])
    zero, one = torch.zeros(batch, num_frames), torch.ones(batch, num_frames)
    actor, other = _at_rest(batch, num_frames, generator), States(zero, zero, one * 0.3, zero, one, zero)
    for name, changes in single.items():
        _apply(actor, changes, kind_B == ACTION_NAMES.index(name))
    for name, (first, second) in double.items():
        chosen_B = kind_B == ACTION_NAMES.index(name)
        _apply(actor, first, chosen_B)
        _apply(other, second | {"alpha": one}, chosen_B)
    return States(*(torch.stack(pair, dim=1) for pair in zip(vars(actor).values(), vars(other).values(), strict=True)))


def _apply(states: States, changes: dict[str, Tensor], chosen_B: Tensor) -> None:
    for field, value in changes.items():
        setattr(states, field, torch.where(chosen_B[:, None], value, getattr(states, field)))


def _at_rest(batch: int, num_frames: int, generator: torch.Generator) -> States:
    size = uniform(generator, 0.36, 0.56, batch, 1)
    room = 0.95 - size  # keeps the thing in the frame
    x, y = (signs(generator, batch, 1) * torch.rand(batch, 1, generator=generator) * room for _ in range(2))
    angle = uniform(generator, -0.12, 0.12, batch, 1)
    still = torch.zeros(batch, num_frames)
    return States(x + still, y + still, size + still, angle + still, signs(generator, batch, 1) + still, still + 1)


def _single_actions(
    batch: int, num_frames: int, generator: torch.Generator, pace: Tensor
) -> dict[str, dict[str, Tensor]]:
    """Return the fields that each action of one thing changes: (B, T) each."""
    t = frame_times(num_frames)[None]

    def draw(low: float, high: float) -> Tensor:
        return uniform(generator, low, high, batch, 1)

    def sign() -> Tensor:
        return signs(generator, batch, 1)

    size = draw(0.34, 0.54)
    room = 0.95 - size
    x, y = draw(-1, 1) * room, draw(-1, 1) * room
    phase = draw(0, 1)
    path = (0.55 + 0.45 * pace) * room * (1 - 2 * t)  # from one side to the other
    ramp = ((t - draw(0.15, 0.35)) / draw(0.3, 0.5)).clamp(0, 1)
    turns = 2 * math.pi * (0.45 + 0.4 * pace) * t
    orbit = 2 * math.pi * (sign() * (0.8 + 0.5 * pace) * t + phase)
    wave = torch.sin(2 * math.pi * (draw(1.6, 2.4) * t + phase))
    fast = torch.sin(2 * math.pi * (draw(3.2, 3.8) * t + phase))
    swing = torch.sin(2 * math.pi * (draw(1.3, 1.8) * t + phase)) * draw(0.6, 0.95)
    hop = draw(0.75, 1.0) * room * (2 * torch.sin(math.pi * (draw(1.6, 2.4) * t + phase)).abs() - 1)
    on = torch.remainder(draw(1.6, 2.4) * t + phase, 1) < 0.5
    ahead = (t / draw(0.45, 0.6)).clamp(max=1)  # ends at the place of rest
    sideways = torch.rand(batch, 1, generator=generator) < 0.5
    come = sign() * room * (ahead * draw(0.8, 1.1) - 0.9)
    zig = (torch.remainder(draw(1.6, 2.2) * t + phase, 1) * 2 - 1).abs() * 2 - 1
    far = draw(0.16, 0.2)
    leave = t**0.8
    return {
        "moves left": {"x": path, "y": y, "size": size},
        "moves up": {"y": path, "x": x, "size": size},
        "shrinks": {"size": draw(0.5, 0.68) * (draw(0.28, 0.4) ** t), "x": x * 0.6, "y": y * 0.6},
        "vanishes": {"alpha": 1 - ramp},
        "spins counterclockwise": {"angle": draw(-math.pi, math.pi) - turns},
        # The ground is seen from above, so distant things are small and high
        "approaches": {
            "size": far * (draw(2.9, 3.6) ** t),
            "x": x * (1 - 0.6 * t),
            "y": -draw(0.45, 0.7) + draw(0.9, 1.1) * leave,
        },
        "stops": {
            "x": torch.where(sideways, come, x * 0.9),
            "y": torch.where(sideways, y * 0.9, come),
            "size": size,
        },
        "stays still": {},
        "bounces": {"y": -hop, "x": x, "size": size},
        "shakes": {"x": x * 0.75 + draw(0.16, 0.26) * fast},
        "blinks": {"alpha": on.float()},
        "pulses": {"size": draw(0.4, 0.5) * (1 + draw(0.28, 0.42) * wave), "x": x * 0.6, "y": y * 0.6},
        "swings": {"angle": swing, "x": x * 0.6 - 0.45 * swing, "y": y * 0.6 + 0.3 * (swing.cos() - 0.8)},
        "flips": {"stretch": torch.cos(2 * math.pi * ((0.9 + 0.6 * pace) * t + phase))},
        "goes in circles": {
            "x": room * draw(0.65, 0.95) * orbit.cos(),
            "y": room * draw(0.65, 0.95) * orbit.sin(),
            "size": size,
        },
        "zigzags": {"x": sign() * room * (1.8 * t - 0.9), "y": zig * room * draw(0.6, 0.9), "size": size},
    }


def _double_actions(
    batch: int, num_frames: int, generator: torch.Generator
) -> dict[str, tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """Return the fields that each action on another thing changes, for both things: (B, T) each."""
    t = frame_times(num_frames)[None]

    def draw(low: float, high: float) -> Tensor:
        return uniform(generator, low, high, batch, 1)

    way, up = signs(generator, batch, 1), signs(generator, batch, 1)
    size, other = draw(0.3, 0.42), draw(0.3, 0.42)
    y = draw(-0.4, 0.4)
    sizes: tuple[dict[str, Tensor], dict[str, Tensor]] = ({"size": size}, {"size": other})
    touch = 0.8 * (size + other)

    def both(first: dict[str, Tensor], second: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return sizes[0] | first, sizes[1] | second

    # A chaser comes nearer and repeats the swerves of the chased thing. A follower keeps its distance and direction.
    fled = way * (-0.25 + 0.95 * t)
    gap = draw(0.8, 0.9) - draw(0.3, 0.4) * t
    swerve = draw(0.2, 0.3)
    rate, phase = draw(1.3, 1.7), draw(0, 1)
    led = way * (0.05 + draw(0.45, 0.6) * t)
    hit = 0.5  # time of contact
    where = way * draw(0.0, 0.1)
    to_touch = where - way * touch - way * 0.9 * (hit - t).clamp(min=0) / hit * 0.85
    thrown = (t - hit).clamp(min=0)
    lane = up * draw(0.3, 0.4)
    hidden = where + way * draw(0.05, 0.15)
    near = (t / draw(0.6, 0.75)).clamp(max=1)
    half = draw(0.5, 0.62)
    floor = draw(0.48, 0.6)
    down, lifted = (t / 0.5).clamp(max=1), ((t - 0.5) / 0.5).clamp(min=0)
    above = floor - 0.85 * (size + other)
    rise = draw(0.5, 0.7)
    spot = draw(-0.5, 0.5)
    return {
        "picks up": both(
            {"x": spot, "y": -0.95 + (above + 0.95) * down - rise * lifted},
            {"x": spot + t * 0, "y": floor - rise * lifted},
        ),
        "chases": both(
            {"x": fled - way * gap, "y": y + swerve * torch.sin(2 * math.pi * (rate * (t - 0.15) + phase))},
            {"x": fled, "y": y + swerve * torch.sin(2 * math.pi * (rate * t + phase))},
        ),
        "follows": both({"x": led - way * draw(0.72, 0.8), "y": y}, {"x": led, "y": y}),
        "bumps into": both(
            {"x": to_touch - way * 0.3 * thrown, "y": y},
            {"x": where + way * draw(1.0, 1.3) * thrown, "y": y},
        ),
        "passes": both({"x": way * (1.7 * t - 0.85), "y": lane}, {"x": where, "y": -lane * 0.6}),
        "hides behind": both(
            {"x": -way * 0.85 + (hidden + way * 0.85) * near, "y": y, "size": size * 0.85},
            {"x": where, "y": y, "size": draw(0.4, 0.5)},
        ),
        "swaps places with": both(
            {"x": way * half * (2 * t - 1), "y": y * 0.5 - 0.35 * up * torch.sin(math.pi * t)},
            {"x": -way * half * (2 * t - 1), "y": y * 0.5 + 0.35 * up * torch.sin(math.pi * t)},
        ),
    }


def move_camera(states: States, shift_B2T: Tensor, zoom_BT: Tensor) -> States:
    """Return the states as a moved camera sees them: shifted, then scaled about the centre.

    Args:
        states: (B, A, T).
        shift_B2T: x and y in frame units.
        zoom_BT: factors.
    """
    zoom = zoom_BT[:, None]
    return States(
        (states.x + shift_B2T[:, None, 0]) * zoom,
        (states.y + shift_B2T[:, None, 1]) * zoom,
        states.size * zoom,
        states.angle,
        states.stretch,
        states.alpha,
    )
