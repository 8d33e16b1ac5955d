"""What exists and what happens in the playground: things, actions, and which of them training never shows.

Graphics and names of things come from sprites.json (made by scripts/make_sprites.py).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

INDEX = json.loads((Path(__file__).parent / "sprites.json").read_text(encoding="utf-8"))

THINGS: tuple[str, ...] = tuple(entry["name"] for entry in INDEX["things"])

UNSEEN_THINGS: tuple[str, ...] = tuple(entry["name"] for entry in INDEX["things"] if entry["unseen"])
"""Things that training never shows: what they do can be asked, their names are untrained words."""

SEEN_THINGS: tuple[str, ...] = tuple(entry["name"] for entry in INDEX["things"] if not entry["unseen"])


@dataclass(frozen=True)
class Action:
    """Something that a thing does, alone or to another.

    Attributes:
        name: third person ("moves left", "chases"), also its identity.
        doing: the same as a participle ("moving left", "chasing").
        reverse: name of the action that it is when played backwards; its own where it is none of an order pair.
        synonyms: other ways to say it, as pairs of name and participle.
        has_other: it is done to another thing ("a cat chases a dog").
        tells_roles: with another thing, it matters who does it to whom.
        is_paced: it can be done quickly or slowly.
    """

    name: str
    doing: str
    reverse: str
    synonyms: tuple[tuple[str, str], ...] = ()
    has_other: bool = False
    tells_roles: bool = False
    is_paced: bool = False


def _pair(first: tuple[str, ...], second: tuple[str, ...], **kind: bool) -> tuple[Action, Action]:
    """Two actions, each the other played backwards; each as name, participle, and the same of one synonym."""
    return tuple(  # type: ignore[return-value]
        Action(words[0], words[1], other[0], ((words[2], words[3]),), **kind)
        for words, other in ((first, second), (second, first))
    )


def _one(name: str, doing: str, *synonym: str, **kind: bool) -> Action:
    return Action(name, doing, name, (synonym,) if synonym else (), **kind)  # type: ignore[arg-type]


ACTIONS: tuple[Action, ...] = (
    *_pair(
        ("moves left", "moving left", "goes to the left", "going to the left"),
        ("moves right", "moving right", "goes to the right", "going to the right"),
        is_paced=True,
    ),
    *_pair(
        ("moves up", "moving up", "rises", "rising"),
        ("moves down", "moving down", "sinks", "sinking"),
        is_paced=True,
    ),
    *_pair(
        ("shrinks", "shrinking", "gets smaller", "getting smaller"),
        ("grows", "growing", "gets bigger", "getting bigger"),
    ),
    *_pair(
        ("vanishes", "vanishing", "fades away", "fading away"),
        ("appears", "appearing", "fades in", "fading in"),
    ),
    *_pair(
        ("spins counterclockwise", "spinning counterclockwise", "turns to the left", "turning to the left"),
        ("spins clockwise", "spinning clockwise", "turns to the right", "turning to the right"),
        is_paced=True,
    ),
    *_pair(
        ("approaches", "approaching", "comes closer", "coming closer"),
        ("leaves", "leaving", "goes away", "going away"),
    ),
    *_pair(
        ("stops", "stopping", "comes to rest", "coming to rest"),
        ("starts", "starting", "sets off", "setting off"),
    ),
    *_pair(
        ("picks up", "picking up", "lifts", "lifting"),
        ("drops", "dropping", "puts down", "putting down"),
        has_other=True,
        tells_roles=True,
    ),
    _one("stays still", "staying still", "does nothing", "doing nothing"),
    _one("bounces", "bouncing", "hops", "hopping"),
    _one("shakes", "shaking", "trembles", "trembling"),
    _one("blinks", "blinking", "flashes", "flashing"),
    _one("pulses", "pulsing", "throbs", "throbbing"),
    _one("swings", "swinging", "sways", "swaying"),
    _one("flips", "flipping", "flips over", "flipping over", is_paced=True),
    _one("goes in circles", "going in circles", "circles around", "circling around", is_paced=True),
    _one("zigzags", "zigzagging", "weaves across", "weaving across"),
    _one("chases", "chasing", "hunts", "hunting", has_other=True, tells_roles=True),
    _one("follows", "following", "goes after", "going after", has_other=True, tells_roles=True),
    _one("bumps into", "bumping into", "hits", "hitting", has_other=True, tells_roles=True),
    _one("passes", "passing", "overtakes", "overtaking", has_other=True, tells_roles=True),
    _one("hides behind", "hiding behind", "disappears behind", "disappearing behind", has_other=True, tells_roles=True),
    _one("swaps places with", "swapping places with", "trades places with", "trading places with", has_other=True),
)
ACTION_NAMES: tuple[str, ...] = tuple(action.name for action in ACTIONS)

ORDER_PAIRS: tuple[tuple[str, str], ...] = tuple(
    (action.name, action.reverse)
    for number, action in enumerate(ACTIONS)
    if ACTION_NAMES.index(action.reverse) > number
)
"""Pairs of actions where each is the other played backwards: the order of the frames alone tells them apart."""

REVERSES: tuple[int, ...] = tuple(ACTION_NAMES.index(action.reverse) for action in ACTIONS)
"""The index of each action's reverse."""


def is_unseen_pair(thing: int, action: int) -> bool:
    """Whether training never shows this thing doing this action (nor the action's reverse): one pair in eight.

    Args:
        thing: index into THINGS, of who does it.
        action: index into ACTIONS.
    """
    kind = min(action, REVERSES[action])  # the two of an order pair show the same frames
    return (5 * thing + 3 * kind) % 8 == 0
