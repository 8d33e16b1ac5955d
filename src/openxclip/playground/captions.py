"""Sentences of the playground: what things are called, and what is said of actions and of single frames.

A template has {a} ("a cat", with its attributes "a small bluish cat") or {thing} ("cat"), {does} ("moves left") or
{doing} ("moving left"). What is done to another thing is completed by it: "chases a dog".
"""

from __future__ import annotations

import math

from openxclip.playground.motion import States
from openxclip.playground.world import ACTIONS, THINGS

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
EMPTY_CAPTION = "an empty scene"

SIZES: tuple[str, ...] = ("small", "", "big")
TINTS: tuple[str, ...] = ("", "reddish", "greenish", "bluish", "purplish")
PACES: tuple[str, ...] = ("slowly", "", "quickly")


def with_article(name: str) -> str:
    """'a cat', 'an apple'."""
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def caption(
    thing: int | None = None,
    action: int | None = None,
    other: int | None = None,
    *,
    template: str | None = None,
    synonym: int = 0,
    size: int = 1,
    tint: int = 0,
    pace: int = 1,
) -> str:
    """One sentence.

    Args:
        thing: index into THINGS, if the template has {a} or {thing}.
        action: index into ACTIONS, if the template has {does} or {doing}.
        other: to which thing it is done; "something" if an action needs one and none is given.
        template: default is "{a} {does}", or the one of them that is given.
        synonym: which way to say the action: 0 is its name; the number is taken modulo how many there are.
        size, tint, pace: indices into SIZES, TINTS and PACES.
    """
    if template is None:
        template = " ".join(["{a}"] * (thing is not None) + ["{does}"] * (action is not None))
    words = {}
    if thing is not None:
        words["thing"] = " ".join(word for word in (SIZES[size], TINTS[tint], THINGS[thing]) if word)
        words["a"] = with_article(words["thing"])
    if action is not None:
        what = ACTIONS[action]
        ways = ((what.name, what.doing), *what.synonyms)
        after = ""
        if what.has_other:
            after = " something" if other is None else f" {with_article(THINGS[other])}"
        if PACES[pace]:
            after += f" {PACES[pace]}"
        does, doing = ways[synonym % len(ways)]
        words |= {"does": does + after, "doing": doing + after}
    return template.format(**words)


PLACES: tuple[str, ...] = (
    "at the top left", "at the top", "at the top right",
    "at the left", "in the middle", "at the right",
    "at the bottom left", "at the bottom", "at the bottom right",
)  # fmt: skip
STILL_SIZES: tuple[str, ...] = ("small", "medium", "big")
TURNS: tuple[str, ...] = ("upright", "turned right", "upside down", "turned left")
VISIBILITIES: tuple[str, ...] = ("faint", "clear")


def describe(states: States) -> dict[str, list[int]]:
    """What can be said of single frames (B, A, 1) by their first thing: indices into PLACES, STILL_SIZES, TURNS and
    VISIBILITIES.
    """

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
