"""The small world of paper.py: what its videos show, in which words, and which of it training shows.

24 things, told apart at 32 pixels. Single frames of all of them teach the image–text CLIP that everything starts from.
Videos are of the first twelve; that the others exist is what zero-shot is asked about, as Kinetics' videos don't show
all that CLIP has words for. A class is a whole sentence: "a cat moves left", "a cat chases a penguin".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from mini_data import NAME_TEMPLATES, PLACES, STILL_SIZES, TURNS, VISIBILITIES
from mini_stages import Texts
from torch import Tensor

from openxclip.config import XCLIPConfig
from openxclip.model import XCLIPModel
from openxclip.playground import ACTIONS, THINGS, caption, render_clips
from openxclip.playground.captions import Scene
from openxclip.playground.world import ACTION_NAMES

SIZE, RENDERED, WIDTH = 32, 36, 128  # pixels that a model sees, of those that are rendered; width of both towers
SHOWN = ("cat", "car", "moon", "drum", "lion", "candle", "eagle", "soccer ball", "bison", "hut", "hospital",
         "mailbox")  # fmt: skip
KEPT = ("penguin", "octopus", "croissant", "sunflower", "swan", "gift", "bucket", "hat", "butterfly", "wine glass",
        "traffic light", "backpack")  # fmt: skip
EVERY_THING = [THINGS.index(name) for name in (*SHOWN, *KEPT)]
ORDERED = ("moves left", "moves right", "moves up", "moves down", "shrinks", "grows", "vanishes", "appears")
TOGETHER = ("picks up", "drops", "chases")
USUAL, CLUTTERED = 0.5, 1.0  # `hard` of render_clips: how much there is in the way


def reverse_of(shown: Scene) -> Scene:
    """What it is when played backwards: itself where no order matters."""
    return shown._replace(action=ACTIONS[ACTION_NAMES.index(shown.action)].reverse)


def exchanged(shown: Scene) -> Scene:
    """The same done by the other."""
    return shown._replace(thing=shown.other, other=shown.thing)


def _is_kept(number: int, action: str) -> bool:
    """Whether videos never show this thing doing this: one order pair of each thing in turn for half of the things."""
    return (number + ORDERED.index(action) // 2 * 2) % 8 == 0


ALONE = tuple(Scene(t, a) for i, t in enumerate(SHOWN) for a in ORDERED if not _is_kept(i, a))
PAIRS = tuple(Scene(t, a) for i, t in enumerate(SHOWN) for a in ORDERED if _is_kept(i, a))
NEIGHBOURS = tuple((SHOWN[i], SHOWN[(i + 1) % len(SHOWN)]) for i in range(len(SHOWN)))
TWO = tuple(Scene(t, a, o) for one in NEIGHBOURS for t, o in (one, one[::-1]) for a in TOGETHER)
CLASSES = (*ALONE, *TWO)
UNSEEN_THINGS = tuple(Scene(t, a) for t in KEPT for a in ORDERED)


@dataclass(frozen=True)
class Question:
    """What is asked.

    Attributes:
        shown: by the clips, one after the other.
        classes: that are to be told apart.
        hard: how much there is in the way.
        seed: of the clips' looks: the same for every model.
    """

    shown: tuple[Scene, ...]
    classes: tuple[Scene, ...]
    hard: float
    seed: int


QUESTIONS = {
    "alone": Question(ALONE * 6, CLASSES, USUAL, 1),
    "cluttered": Question(ALONE * 6, CLASSES, CLUTTERED, 2),
    "two": Question(TWO * 6, CLASSES, USUAL, 3),
    "unseen pairs": Question(PAIRS * 24, PAIRS, USUAL, 4),
    "unseen things": Question(UNSEEN_THINGS * 5, UNSEEN_THINGS, USUAL, 5),
}


def render(shown: Sequence[Scene], seed: int, *, num_frames: int, hard: float) -> Tensor:
    """uint8 (N, T, 3, 36, 36)."""
    parts = []
    for start in range(0, len(shown), 64):
        columns = zip(*(one.indices() for one in shown[start : start + 64]), strict=True)
        things, actions, others = (torch.tensor(column) for column in columns)
        parts.append(render_clips(
            len(things), seed * 1_000_003 + start, size=RENDERED, num_frames=num_frames,
            things=things, actions=actions, others=others, empty=0.0, hard=hard,
        ).frames)  # fmt: skip
    return torch.cat(parts)


def cut(frames: Tensor, left: int = (RENDERED - SIZE) // 2, top: int = (RENDERED - SIZE) // 2) -> Tensor:
    """A crop of what was rendered, by default the middle."""
    return frames[..., top : top + SIZE, left : left + SIZE]


@cache
def words() -> Texts:
    """All sentences that are said."""
    said = [caption(t, template=template) for t in EVERY_THING for template in NAME_TEMPLATES]
    said += [f"something {word}" for kind in (PLACES, STILL_SIZES, TURNS, VISIBILITIES) for word in kind]
    return Texts([*said, *(one.caption for one in (*CLASSES, *PAIRS, *UNSEEN_THINGS))])


def fresh_model(*, num_frames: int) -> XCLIPModel:
    """An X-CLIP of this world's size that has learnt nothing."""
    heads, used = WIDTH // 64, len(words().used)
    block = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_attention_heads": heads}
    return XCLIPModel(XCLIPConfig(
        projection_dim=WIDTH, prompt_num_attention_heads=heads,
        text_config={
            **block, "num_hidden_layers": 2, "vocab_size": used, "max_position_embeddings": 24,
            "bos_token_id": used - 2, "eos_token_id": used - 1, "pad_token_id": used - 1,
        },
        vision_config={
            **block, "num_hidden_layers": 4, "image_size": SIZE, "patch_size": 8, "num_frames": num_frames,
            "mit_hidden_size": WIDTH, "mit_intermediate_size": 4 * WIDTH, "mit_num_attention_heads": heads,
            "mit_num_hidden_layers": 1,
        },
    ))  # fmt: skip
