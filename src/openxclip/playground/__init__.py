"""The rendered world that the shipped model `mini` was trained on: Twemoji things that move, grow, spin…

Graphics: Twemoji, CC-BY 4.0 (see CREDITS.md beside this file).
"""

from openxclip.playground.captions import caption
from openxclip.playground.clips import Clips, PlaygroundDataset, Stills, render_clips, render_stills
from openxclip.playground.export import export_clip
from openxclip.playground.world import ACTION_NAMES, ACTIONS, ORDER_PAIRS, THINGS, Action

__all__ = [
    "ACTIONS",
    "ACTION_NAMES",
    "ORDER_PAIRS",
    "THINGS",
    "Action",
    "Clips",
    "PlaygroundDataset",
    "Stills",
    "caption",
    "export_clip",
    "render_clips",
    "render_stills",
]
