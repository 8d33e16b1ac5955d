"""Things and actions of the playground, and those that training never shows.

Graphics and names of things come from sprites.json (made by scripts/make_sprites.py).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

SPRITE_INDEX = json.loads((Path(__file__).parent / "sprites.json").read_text(encoding="utf-8"))

THINGS: tuple[str, ...] = tuple(entry["name"] for entry in SPRITE_INDEX["things"])

UNSEEN_THINGS: tuple[str, ...] = tuple(entry["name"] for entry in SPRITE_INDEX["things"] if entry["unseen"])
"""Things that training never shows. Their names are untrained words, but a model can recognise their actions."""

SEEN_THINGS: tuple[str, ...] = tuple(entry["name"] for entry in SPRITE_INDEX["things"] if not entry["unseen"])


@dataclass(frozen=True)
class Action:
    """An action of one thing, alone or done to another thing.

    Attributes:
        name: third person ("moves left", "chases"); it identifies the action.
        doing: the participle ("moving left", "chasing").
        reverse: name of the action that it shows when played backwards; its own name if it isn't in an order pair.
        synonyms: pairs of third person and participle.
        has_other: whether it is done to another thing ("a cat chases a dog").
        tells_roles: whether it matters which of the two things does it.
        is_paced: whether it can be done quickly or slowly.
    """

    name: str
    doing: str
    reverse: str
    synonyms: tuple[tuple[str, str], ...] = ()
    has_other: bool = False
    tells_roles: bool = False
    is_paced: bool = False


def _pair(first: tuple[str, ...], second: tuple[str, ...], **kind: bool) -> tuple[Action, Action]:
    """Make an order pair. Each action is given as name, participle, and the same two forms of a synonym."""
    return tuple(  # type: ignore[return-value]
        Action(words[0], words[1], other[0], ((words[2], words[3]),), **kind)
        for words, other in ((first, second), (second, first))
    )


def _single(name: str, doing: str, *synonym: str, **kind: bool) -> Action:
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
    _single("stays still", "staying still", "does nothing", "doing nothing"),
    _single("bounces", "bouncing", "hops", "hopping"),
    _single("shakes", "shaking", "trembles", "trembling"),
    _single("blinks", "blinking", "flashes", "flashing"),
    _single("pulses", "pulsing", "throbs", "throbbing"),
    _single("swings", "swinging", "sways", "swaying"),
    _single("flips", "flipping", "flips over", "flipping over", is_paced=True),
    _single("goes in circles", "going in circles", "circles around", "circling around", is_paced=True),
    _single("zigzags", "zigzagging", "weaves across", "weaving across"),
    _single("chases", "chasing", "hunts", "hunting", has_other=True, tells_roles=True),
    _single("follows", "following", "goes after", "going after", has_other=True, tells_roles=True),
    _single("bumps into", "bumping into", "hits", "hitting", has_other=True, tells_roles=True),
    _single("passes", "passing", "overtakes", "overtaking", has_other=True, tells_roles=True),
    _single(
        "hides behind", "hiding behind", "disappears behind", "disappearing behind", has_other=True, tells_roles=True
    ),
    _single("swaps places with", "swapping places with", "trades places with", "trading places with", has_other=True),
)
ACTION_NAMES: tuple[str, ...] = tuple(action.name for action in ACTIONS)

ORDER_PAIRS: tuple[tuple[str, str], ...] = tuple(
    (action.name, action.reverse)
    for number, action in enumerate(ACTIONS)
    if ACTION_NAMES.index(action.reverse) > number
)
"""Pairs of an action and its reverse, which only the order of frames distinguishes."""

REVERSES: tuple[int, ...] = tuple(ACTION_NAMES.index(action.reverse) for action in ACTIONS)
"""The index of each action's reverse."""


def is_unseen_pair(thing: int, action: int) -> bool:
    """Return whether training never shows a seen thing with an action or its reverse, which holds for 1 pair in 8.

    Args:
        thing: index into THINGS of the thing that does the action.
        action: index into ACTIONS.
    """
    kind = min(action, REVERSES[action])  # the two actions of an order pair show the same frames
    return (5 * thing + 3 * kind) % 8 == 0
