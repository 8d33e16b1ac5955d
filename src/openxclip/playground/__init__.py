"""A rendered world in which Twemoji things move, grow and chase each other; the shipped model `mini` learned from it.

Graphics: Twemoji, CC-BY 4.0 (see CREDITS.md beside this file).
"""

from openxclip.playground.captions import caption
from openxclip.playground.clips import Clips, PlaygroundDataset, Split, render_clips
from openxclip.playground.export import export_clip, export_clips
from openxclip.playground.films import Event, Film, film
from openxclip.playground.world import (
    ACTION_NAMES,
    ACTIONS,
    ORDER_PAIRS,
    SEEN_THINGS,
    THINGS,
    UNSEEN_THINGS,
    Action,
    is_unseen_pair,
)

__all__ = [
    "ACTIONS",
    "ACTION_NAMES",
    "ORDER_PAIRS",
    "SEEN_THINGS",
    "THINGS",
    "UNSEEN_THINGS",
    "Action",
    "Clips",
    "Event",
    "Film",
    "PlaygroundDataset",
    "Split",
    "caption",
    "export_clip",
    "export_clips",
    "film",
    "is_unseen_pair",
    "render_clips",
]
