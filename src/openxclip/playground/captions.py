"""Captions of clips, and the scenes that they describe."""

from __future__ import annotations

from typing import NamedTuple

from openxclip.playground.world import ACTION_NAMES, ACTIONS, THINGS

EMPTY_CAPTION = "an empty scene"

SIZES: tuple[str, ...] = ("small", "", "big")
TINTS: tuple[str, ...] = ("", "reddish", "greenish", "bluish", "purplish")
PACES: tuple[str, ...] = ("slowly", "", "quickly")


def with_article(name: str) -> str:
    """Return the name with its article: "a cat", "an apple"."""
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
        other: index of the thing that the action is done to; the default is "something".
        template: text with {thing} ("cat") or {a} ("a cat", "a small bluish cat"), and {does} ("moves left", "chases a
            dog") or {doing} ("moving left"); default is "{a} {does}" without the missing part.
        synonym: number of the action's synonym, modulo their number; 0 is its name.
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


class Scene(NamedTuple):
    """Names of what a clip shows; `other` is "" if the action is done to nothing."""

    thing: str
    action: str
    other: str = ""

    @property
    def caption(self) -> str:
        """The plain caption: "a cat chases a dog"."""
        thing, action, other = self.indices()
        return caption(thing, action, other if self.other else None)

    def indices(self) -> tuple[int, int, int]:
        """Return the indices into THINGS, ACTIONS and THINGS; the last is 0 without another thing."""
        return THINGS.index(self.thing), ACTION_NAMES.index(self.action), THINGS.index(self.other or THINGS[0])
