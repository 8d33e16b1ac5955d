"""Captions of clips and of single frames.

A template has {a} ("a cat", or with attributes "a small bluish cat") or {thing} ("cat"), and {does} ("moves left") or
{doing} ("moving left"). An action that is done to another thing names it: "chases a dog".
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
    """Return 'a cat', 'an apple'."""
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
    """Return one sentence.

    Args:
        thing: index into THINGS, if the template has {a} or {thing}.
        action: index into ACTIONS, if the template has {does} or {doing}.
        other: index of the thing that the action is done to; "something" if the action needs one and none is given.
        template: default is "{a} {does}", without the part that isn't given.
        synonym: number of the action's synonym, modulo the number of synonyms; 0 is its name.
        size, tint, pace: indices into SIZES, TINTS and PACES.
    """
    if template is None:
        template = " ".join(["{a}"] * (thing is not None) + ["{does}"] * (action is not None))
    words = {}
    if thing is not None:
        words["thing"] = " ".join(word for word in (SIZES[size], TINTS[tint], THINGS[thing]) if word)
        words["a"] = with_article(words["thing"])
    if action is not None:
        names = ((ACTIONS[action].name, ACTIONS[action].doing), *ACTIONS[action].synonyms)
        ending = ""
        if ACTIONS[action].has_other:
            ending = " something" if other is None else f" {with_article(THINGS[other])}"
        if PACES[pace]:
            ending += f" {PACES[pace]}"
        does, doing = names[synonym % len(names)]
        words |= {"does": does + ending, "doing": doing + ending}
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
