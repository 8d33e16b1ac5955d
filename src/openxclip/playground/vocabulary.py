"""Every sentence pattern of the playground, so that whoever trains on it knows its words."""

from __future__ import annotations

from openxclip.playground.captions import (
    ACTION_TEMPLATES,
    CAPTION_TEMPLATES,
    EMPTY_CAPTION,
    NAME_TEMPLATES,
    PACES,
    PLACES,
    SIZES,
    STILL_SIZES,
    TINTS,
    TURNS,
    VISIBILITIES,
    caption,
)
from openxclip.playground.world import ACTIONS, THINGS


def sentences_of_the_playground() -> list[str]:
    """Sentences in which each word that the playground uses stands at least once (not every combination)."""
    sentences = [caption(t, template=template) for t in range(len(THINGS)) for template in NAME_TEMPLATES]
    sentences += [
        caption(0, a, 0, template=template, synonym=way)
        for a, action in enumerate(ACTIONS)
        for template in (*CAPTION_TEMPLATES, *ACTION_TEMPLATES)
        for way in range(1 + len(action.synonyms))
    ]
    sentences += [
        caption(0, 0, size=s, tint=t, pace=p)
        for s in range(len(SIZES))
        for t in range(len(TINTS))
        for p in range(len(PACES))
    ]
    sentences += [f"something {word}" for word in (*PLACES, *STILL_SIZES, *TURNS, *VISIBILITIES)]
    return [*sentences, EMPTY_CAPTION]
