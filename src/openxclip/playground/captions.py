"""Sentences of the playground: what a thing is called and what is said of an action or a pose."""

from __future__ import annotations

import math

from openxclip.playground.world import ACTIONS, THINGS, States

NAME_TEMPLATES: tuple[str, ...] = ("{a}", "{thing}", "a video of {a}")
ACTION_TEMPLATES: tuple[str, ...] = ("something {does}", "{does}", "{doing}", "a video of something {doing}")
CAPTION_TEMPLATES: tuple[str, ...] = ("{a} {does}", "{a} {doing}", "a video of {a} {doing}", "{thing} {doing}")


def with_article(thing: str) -> str:
    """'a cat', 'an apple'."""
    return f"{'an' if thing[0] in 'aeiou' else 'a'} {thing}"


def caption(thing: int | None = None, action: int | None = None, *, template: str | None = None) -> str:
    """One sentence.

    Args:
        thing: index into THINGS, if the template has {a} ("a cat") or {thing} ("cat").
        action: index into ACTIONS, if the template has {does} ("moves left") or {doing} ("moving left").
        template: default is "{a} {does}", or the one of them that is given.
    """
    if template is None:
        template = " ".join(["{a}"] * (thing is not None) + ["{does}"] * (action is not None))
    name = "" if thing is None else THINGS[thing]
    words = {"thing": name, "a": with_article(name) if name else ""}
    if action is not None:
        words |= {"does": ACTIONS[action].name, "doing": ACTIONS[action].doing}
    return template.format(**words)


PLACES: tuple[str, ...] = (
    "at the top left", "at the top", "at the top right",
    "at the left", "in the middle", "at the right",
    "at the bottom left", "at the bottom", "at the bottom right",
)  # fmt: skip
SIZES: tuple[str, ...] = ("small", "medium", "big")
TURNS: tuple[str, ...] = ("upright", "turned right", "upside down", "turned left")
VISIBILITIES: tuple[str, ...] = ("faint", "clear")


def describe(states: States) -> dict[str, list[int]]:
    """What can be said of single frames (T = 1): indices into PLACES, SIZES, TURNS and VISIBILITIES."""

    def third(value: float) -> int:
        return 0 if value < -0.2 else 2 if value > 0.2 else 1

    x, y, size, angle, alpha = (getattr(states, name)[:, 0].tolist() for name in ("x", "y", "size", "angle", "alpha"))
    return {
        "place": [third(v) * 3 + third(h) for h, v in zip(x, y, strict=True)],
        "size": [0 if s < 0.36 else 2 if s > 0.54 else 1 for s in size],
        "turn": [round(a / (math.pi / 2)) % 4 for a in angle],
        "visibility": [0 if a < 0.6 else 1 for a in alpha],
    }
