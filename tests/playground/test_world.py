"""The playground: the same pixels for the same seed, actions that are what their captions say."""

import hashlib
import json
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

import openxclip.playground
from openxclip.playground import (
    ACTION_NAMES,
    ACTIONS,
    ORDER_PAIRS,
    THINGS,
    PlaygroundDataset,
    caption,
    export_clip,
    render_clips,
    render_stills,
)
from openxclip.playground.captions import PLACES, SIZES, TURNS, VISIBILITIES
from openxclip.playground.rendering import load_sprites
from openxclip.video import VideoReader

FOLDER = Path(openxclip.playground.__file__).parent
NUMBER = {name: number for number, name in enumerate(ACTION_NAMES)}


def digest(tensor):
    return hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()


def clips_of(action, seed=0, count=16, **options):
    return render_clips(count, seed, size=48, actions=torch.full((count,), NUMBER[action]), empty=0.0, **options)


def test_same_seed_same_bytes_in_a_fresh_process():
    code = (
        "import hashlib; from openxclip.playground import render_clips, render_stills;"
        "print(*(hashlib.sha256(f.contiguous().numpy().tobytes()).hexdigest()"
        " for f in (render_clips(4, 7, size=32).frames, render_stills(4, 7, size=32).frames)))"
    )
    there = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert there == [digest(render_clips(4, 7, size=32).frames), digest(render_stills(4, 7, size=32).frames)]
    assert digest(render_clips(4, 8, size=32).frames) != there[0]


@pytest.mark.parametrize(("first", "second"), ORDER_PAIRS)
def test_an_order_pair_has_the_same_frames_in_the_other_order(first, second):
    one, other = clips_of(first, 3, 4).frames, clips_of(second, 3, 4).frames
    assert not torch.equal(one, other)
    assert torch.equal(one, other.flip(1))


def test_order_pairs_are_each_others_reverse():
    assert len(ORDER_PAIRS) == 5
    for action in ACTIONS:
        back = ACTIONS[NUMBER[action.reverse]]
        assert back.reverse == action.name
        assert (action.name == action.reverse) == (not any(action.name in pair for pair in ORDER_PAIRS))


@pytest.mark.parametrize(
    ("action", "field", "sign"),
    [
        ("moves left", "x", -1), ("moves right", "x", 1), ("moves up", "y", -1), ("moves down", "y", 1),
        ("grows", "size", 1), ("shrinks", "size", -1), ("appears", "alpha", 1), ("vanishes", "alpha", -1),
        ("spins clockwise", "angle", 1), ("spins counterclockwise", "angle", -1),
    ],
)  # fmt: skip
def test_actions_do_what_they_say(action, field, sign):
    states = clips_of(action).states
    values = getattr(states, field)
    assert (sign * (values[:, -1] - values[:, 0]) > 0.2 if field != "size" else sign * values.diff(dim=1) > 0).all()
    for other in {"x", "size", "angle", "alpha"} - {field}:
        assert getattr(states, other).diff(dim=1).abs().max() < 0.5  # only a clamp at the border moves anything else


def dark_thing_centre(frames):
    """Centre of what differs from the background, in frame units: (T, 2)."""
    weight = frames.float().sub(frames[:, :, :1, :1].float()).abs().sum(1)
    weight = weight * (weight > 60)
    ticks = (torch.arange(weight.shape[-1]) + 0.5) / weight.shape[-1] * 2 - 1
    total = weight.sum((1, 2))
    return torch.stack([(weight.sum(1) * ticks).sum(1) / total, (weight.sum(2) * ticks).sum(1) / total], dim=1)


@pytest.mark.parametrize(("action", "axis", "sign"), [("moves right", 0, 1), ("moves up", 1, -1)])
def test_pixels_move_where_the_states_say(action, axis, sign, monkeypatch):
    plain = torch.full((8, 3, 64, 64), 0.5)
    monkeypatch.setattr("openxclip.playground.clips.draw_backgrounds", lambda *_, **__: plain)
    clips = render_clips(8, 1, size=64, actions=torch.full((8,), NUMBER[action]), empty=0.0, noise=0.0)
    for frames in clips.frames:
        centre = dark_thing_centre(frames)[:, axis]
        assert sign * (centre[-1] - centre[0]) > 0.3


def test_captions_name_what_is_shown():
    clips = render_clips(200, 5, size=16, num_frames=2, empty=0.2)
    empty = 0
    for thing, action, sentence in zip(clips.things.tolist(), clips.actions.tolist(), clips.captions, strict=True):
        if thing < 0:
            empty += 1
            assert action == -1
            assert sentence == "an empty scene"
        else:
            assert sentence.endswith(f" {THINGS[thing]} {ACTIONS[action].name}")
    assert 20 <= empty <= 65


def test_an_empty_clip_shows_the_background_alone():
    frames = render_clips(4, 2, size=32, empty=1.0, noise=0.0).frames
    assert torch.equal(frames, frames[:, :1].expand_as(frames))


def test_stills_are_described():
    stills = render_stills(300, 4, size=16)
    for place, size, turn, visible, x, y, s, angle, alpha in zip(
        *(stills.words[key] for key in ("place", "size", "turn", "visibility")),
        *(getattr(stills.states, key)[:, 0].tolist() for key in ("x", "y", "size", "angle", "alpha")),
        strict=True,
    ):
        assert ("left" in PLACES[place], "right" in PLACES[place]) == (x < -0.2, x > 0.2)
        assert ("top" in PLACES[place], "bottom" in PLACES[place]) == (y < -0.2, y > 0.2)
        assert (SIZES[size] == "big") == (s > 0.54)
        assert (TURNS[turn] == "upright") == (abs(angle) <= 0.7854)
        assert (TURNS[turn] == "turned right") == (0.7854 < angle < 2.3562)
        assert (VISIBILITIES[visible] == "faint") == (alpha < 0.6)
    assert all(len(set(values)) > 1 for values in stills.words.values())


def test_articles():
    assert caption(THINGS.index("owl"), NUMBER["moves left"]) == "an owl moves left"
    assert (
        caption(THINGS.index("cat"), NUMBER["grows"], template="a video of {a} {doing}") == "a video of a cat growing"
    )
    assert caption(None, NUMBER["flips"], template="something {does}") == "something flips"


def test_the_atlas_holds_every_thing_once():
    sprites = load_sprites()
    assert sprites.shape == (len(THINGS), 4, 64, 64)
    assert len(set(THINGS)) == len(THINGS) >= 60
    coverage = sprites[:, 3].mean((1, 2))
    assert coverage.min() > 0.1
    assert (sprites[:, :3] <= sprites[:, 3:] + 1e-6).all()  # premultiplied
    assert len({digest(sprite) for sprite in sprites}) == len(THINGS)
    index = json.loads((FOLDER / "sprites.json").read_text())
    assert "CC-BY 4.0" in index["credit"]
    assert "CC-BY 4.0" in (FOLDER / "CREDITS.md").read_text()


def test_the_data_set_gives_the_same_clips_with_any_number_of_workers():
    data = PlaygroundDataset(3, block=2, size=16)
    alone = list(islice(data, 4))
    assert set(alone[0]) == {"frames", "caption", "thing", "action"}
    assert alone[0]["frames"].shape == (8, 3, 16, 16)
    loader = DataLoader(data, batch_size=2, num_workers=2)
    blocks = list(islice(loader, 2))
    for block, expected in zip(blocks, (alone[:2], alone[2:]), strict=True):
        assert torch.equal(block["frames"], torch.stack([item["frames"] for item in expected]))
        assert block["caption"] == [item["caption"] for item in expected]


def test_export_writes_an_mp4_that_reads_back(tmp_path):
    frames = render_clips(1, 0, size=64, num_frames=12, noise=0.0, empty=0.0).frames[0]
    path = export_clip(frames, tmp_path / "clip.mp4", fps=12)
    with VideoReader(path) as reader:
        assert (reader.num_frames, reader.width, reader.height, reader.codec) == (12, 64, 64, "h264")
        read = torch.as_tensor(reader.get_frames(range(12)).frames_THWC)
    assert (read.permute(0, 3, 1, 2).float() - frames.float()).abs().mean() < 8
    with pytest.raises(ValueError, match="even"):
        export_clip(frames[:, :, :63], tmp_path / "odd.mp4")
