"""The small world of paper.py: its things, classes, questions and videos.

There are 24 things, which can be told apart at 32 pixels. The image–text CLIP is trained on single frames of all of
them, but videos for training show only the first twelve. The others are for zero-shot questions, as CLIP knows names of
things that Kinetics' videos don't show. A class is a whole sentence: "a cat moves left", "a cat chases a penguin".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from mini_data import NAME_TEMPLATES, PLACES, STILL_SIZES, TURNS, VISIBILITIES
from mini_model import Texts
from torch import Tensor

from openxclip.config import XCLIPConfig
from openxclip.model import XCLIPModel
from openxclip.playground import ACTIONS, THINGS, caption, render_clips
from openxclip.playground.captions import Scene
from openxclip.playground.world import ACTION_NAMES

SIZE, RENDERED, WIDTH = 32, 36, 128  # sides of crops and of rendered frames in pixels, width of both towers
SHOWN = ("cat", "car", "moon", "drum", "lion", "candle", "eagle", "soccer ball", "bison", "hut", "hospital",
         "mailbox")  # fmt: skip
KEPT = ("penguin", "octopus", "croissant", "sunflower", "swan", "gift", "bucket", "hat", "butterfly", "wine glass",
        "traffic light", "backpack")  # fmt: skip
EVERY_THING = [THINGS.index(name) for name in (*SHOWN, *KEPT)]
ORDERED = ("moves left", "moves right", "moves up", "moves down", "shrinks", "grows", "vanishes", "appears")
TOGETHER = ("picks up", "drops", "chases")
USUAL, CLUTTERED = 0.5, 1.0  # difficulties, see `hard` of `render_clips`


def reverse_of(shown: Scene) -> Scene:
    """Return the scene played backwards, which is the same scene if its action has no reverse."""
    return shown._replace(action=ACTIONS[ACTION_NAMES.index(shown.action)].reverse)


def exchanged(shown: Scene) -> Scene:
    """Return the scene with exchanged roles."""
    return shown._replace(thing=shown.other, other=shown.thing)


def _is_kept(number: int, action: str) -> bool:
    """Return whether training never shows a pair of thing and action: for half of the things, one order pair each."""
    return (number + ORDERED.index(action) // 2 * 2) % 8 == 0


ALONE = tuple(Scene(t, a) for i, t in enumerate(SHOWN) for a in ORDERED if not _is_kept(i, a))
PAIRS = tuple(Scene(t, a) for i, t in enumerate(SHOWN) for a in ORDERED if _is_kept(i, a))
NEIGHBOURS = tuple((SHOWN[i], SHOWN[(i + 1) % len(SHOWN)]) for i in range(len(SHOWN)))
TWO = tuple(Scene(t, a, o) for pair in NEIGHBOURS for t, o in (pair, pair[::-1]) for a in TOGETHER)
CLASSES = (*ALONE, *TWO)
UNSEEN_THINGS = tuple(Scene(t, a) for t in KEPT for a in ORDERED)


@dataclass(frozen=True)
class Question:
    """A list of clips to classify.

    Attributes:
        shown: scene of each clip.
        classes: scenes to choose from.
        hard: difficulty, see `render_clips`.
        seed: seed of the clips, the same for all models.
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
    """Render a clip of each scene, uint8 (N, T, 3, 36, 36)."""
    parts = []
    for start in range(0, len(shown), 64):
        columns = zip(*(scene.indices() for scene in shown[start : start + 64]), strict=True)
        things, actions, others = (torch.tensor(column) for column in columns)
        parts.append(render_clips(
            len(things), seed * 1_000_003 + start, size=RENDERED, num_frames=num_frames,
            things=things, actions=actions, others=others, empty=0.0, hard=hard,
        ).frames)  # fmt: skip
    return torch.cat(parts)


def cut(frames: Tensor, left: int = (RENDERED - SIZE) // 2, top: int = (RENDERED - SIZE) // 2) -> Tensor:
    """Return a crop of 32 × 32 pixels, by default from the middle."""
    return frames[..., top : top + SIZE, left : left + SIZE]


@cache
def words() -> Texts:
    """Return the tokenizer of all sentences in use."""
    said = [caption(t, template=template) for t in EVERY_THING for template in NAME_TEMPLATES]
    said += [f"something {word}" for kind in (PLACES, STILL_SIZES, TURNS, VISIBILITIES) for word in kind]
    return Texts([*said, *(scene.caption for scene in (*CLASSES, *PAIRS, *UNSEEN_THINGS))])


def fresh_model(*, num_frames: int) -> XCLIPModel:
    """Make a small X-CLIP with random weights."""
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
