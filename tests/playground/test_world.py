"""The playground: a seed determines the pixels, and actions look as their captions say."""

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
    SEEN_THINGS,
    THINGS,
    UNSEEN_THINGS,
    PlaygroundDataset,
    caption,
    export_clip,
    is_unseen_pair,
    render_clips,
)
from openxclip.playground.rendering import degrade, load_sprites
from openxclip.video import VideoReader

FOLDER = Path(openxclip.playground.__file__).parent
NUMBER = {name: number for number, name in enumerate(ACTION_NAMES)}


def digest(tensor):
    return hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()


def clips_of(action, seed=0, count=16, **options):
    options = {"size": 48, "empty": 0.0, **options}
    actions = torch.full((count,), NUMBER[action])
    return render_clips(count, seed, things=torch.arange(count), actions=actions, **options)


def test_the_size_of_the_world():
    assert 200 <= len(THINGS) <= 400
    assert len(SEEN_THINGS) == 200
    assert (*SEEN_THINGS, *UNSEEN_THINGS) == THINGS
    assert len(ACTIONS) >= 24
    assert 2 * len(ORDER_PAIRS) >= 10
    assert sum(action.has_other for action in ACTIONS) >= 6
    assert len({caption(None, a, synonym=i) for a in range(len(ACTIONS)) for i in (0, 1)}) == 2 * len(ACTIONS)


@pytest.mark.slow
def test_same_seed_same_bytes_in_a_fresh_process():
    code = (
        "import hashlib; from openxclip.playground import render_clips;"
        "print(hashlib.sha256(render_clips(4, 7, size=32).frames.contiguous().numpy().tobytes()).hexdigest())"
    )
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout.strip() == digest(render_clips(4, 7, size=32).frames)
    assert ran.stdout.strip() != digest(render_clips(4, 8, size=32).frames)


@pytest.mark.parametrize(("first", "second"), ORDER_PAIRS)
def test_an_order_pair_has_the_same_frames_in_opposite_order(first, second):
    forward, backward = clips_of(first, 3, 6).frames, clips_of(second, 3, 6).frames
    assert torch.equal(forward, backward.flip(1))
    for a, b in zip(forward, backward, strict=True):
        assert sorted(map(digest, a)) == sorted(map(digest, b))
        assert not torch.equal(a, b)


def test_the_reverse_of_a_reverse_is_the_action():
    for action in ACTIONS:
        back = ACTIONS[NUMBER[action.reverse]]
        assert back.reverse == action.name
        assert back.has_other == action.has_other
        assert (action.name == action.reverse) == (not any(action.name in pair for pair in ORDER_PAIRS))


@pytest.mark.parametrize(
    ("action", "field", "sign"),
    [
        ("moves left", "x", -1), ("moves right", "x", 1), ("moves up", "y", -1), ("moves down", "y", 1),
        ("grows", "size", 1), ("shrinks", "size", -1), ("appears", "alpha", 1), ("vanishes", "alpha", -1),
        ("spins clockwise", "angle", 1), ("spins counterclockwise", "angle", -1),
        ("approaches", "size", 1), ("leaves", "size", -1),
    ],
)  # fmt: skip
def test_actions_change_states_as_named(action, field, sign):
    values = getattr(clips_of(action, hard=0.0).states, field)[:, 0]
    assert (sign * (values[:, -1] - values[:, 0]) > 0.2).all()
    assert (sign * values.diff(dim=1) >= 0).all()


def test_stopping_things_move_first_and_then_rest():
    for action, moving, resting in (("stops", slice(0, 3), slice(5, 7)), ("starts", slice(4, 7), slice(0, 2))):
        states = clips_of(action, hard=0.0).states
        steps = torch.stack([states.x, states.y])[:, :, 0].diff(dim=-1).abs().sum(0)
        assert (steps[:, resting] < 1e-5).all()
        assert (steps[:, moving].sum(1) > 0.1).all()


def test_actions_of_two_things():
    def distance(states):
        return torch.hypot(states.x[:, 0] - states.x[:, 1], states.y[:, 0] - states.y[:, 1])

    def path_length(states, who):
        return torch.hypot(states.x[:, who].diff(dim=1), states.y[:, who].diff(dim=1)).sum(1)

    chased, followed, hit = (clips_of(a, hard=0.0).states for a in ("chases", "follows", "bumps into"))
    assert (distance(chased)[:, -1] < distance(chased)[:, 0]).all()  # the chaser comes nearer
    assert (distance(followed).diff(dim=1).abs() < 1e-4).all()
    ahead = (chased.x[:, 1] - chased.x[:, 0]) * (chased.x[:, 1, -1:] - chased.x[:, 1, :1])
    assert (ahead > 0).all()  # and is behind
    assert (hit.x[:, 1, :4].diff(dim=1).abs() < 1e-5).all()  # the thing that is hit rests until then
    assert ((hit.x[:, 1, -1] - hit.x[:, 1, 0]).abs() > 0.3).all()
    for action in ("passes", "hides behind"):
        states = clips_of(action, hard=0.0).states
        assert (path_length(states, 1) < 1e-4).all()
        assert (path_length(states, 0) > 0.5).all()
    hidden = distance(clips_of("hides behind", hard=0.0).states)
    assert (hidden[:, -1] < 0.2).all()
    lifted, dropped = clips_of("picks up", hard=0.0).states, clips_of("drops", hard=0.0).states
    assert (lifted.y[:, 1, -1] < lifted.y[:, 1, 0] - 0.3).all()  # y points down
    assert (lifted.y[:, 0] < lifted.y[:, 1]).all()
    assert torch.allclose(lifted.y, dropped.y.flip(-1))
    swapped = clips_of("swaps places with", hard=0.0).states
    assert torch.allclose(swapped.x[:, 0, 0], swapped.x[:, 1, -1], atol=1e-5)


def dark_thing_centre(frames):
    """Return the centre of all that differs from the background, in frame units: (T, 2)."""
    weight = frames.float().sub(frames[:, :, :1, :1].float()).abs().sum(1)
    weight = weight * (weight > 60)
    ticks = (torch.arange(weight.shape[-1]) + 0.5) / weight.shape[-1] * 2 - 1
    total = weight.sum((1, 2))
    return torch.stack([(weight.sum(1) * ticks).sum(1) / total, (weight.sum(2) * ticks).sum(1) / total], dim=1)


@pytest.mark.parametrize("size", [64, 160])
@pytest.mark.parametrize(("action", "axis", "sign"), [("moves right", 0, 1), ("moves up", 1, -1)])
def test_pixels_move_as_states_do(action, axis, sign, size):
    clips = clips_of(action, 1, 8, size=size, hard=0.0)
    for frames, x, y in zip(clips.frames, clips.states.x[:, 0], clips.states.y[:, 0], strict=True):
        centre = dark_thing_centre(frames)
        assert sign * (centre[-1, axis] - centre[0, axis]) > 0.3
        assert (centre - torch.stack([x, y], 1)).abs().max() < 0.25


def test_captions_name_what_is_shown():
    clips = render_clips(300, 5, size=16, num_frames=2, empty=0.2)
    empty = 0
    for i, sentence in enumerate(clips.captions):
        names = clips.names(i)
        if not names["thing"]:
            empty += 1
            assert names == {"thing": "", "action": "", "other": ""}
            assert sentence == "an empty scene"
            continue
        assert f"{names['thing']} {names['action']}" in sentence
        assert bool(names["other"]) == ACTIONS[NUMBER[names["action"]]].has_other
        assert names["other"] in sentence
        assert names["other"] != names["thing"]
        for word, applies in (("small", clips.sizes[i] == 0), ("big", clips.sizes[i] == 2)):
            assert (f" {word} " in sentence) == applies
        assert sentence.endswith("slowly") == (clips.paces[i] == 0)
    assert 40 <= empty <= 85


def test_an_empty_clip_shows_only_the_background():
    frames = render_clips(4, 2, size=32, empty=1.0, hard=0.0).frames
    assert torch.equal(frames, frames[:, :1].expand_as(frames))


def test_splits():
    for split in ("seen", "unseen pairs", "unseen things"):
        clips = render_clips(400, 6, size=8, num_frames=1, split=split, empty=0.0)
        pairs = list(zip(clips.things.tolist(), clips.actions.tolist(), strict=True))
        assert all((t >= 200) == (split == "unseen things") for t, _ in pairs)
        if split != "unseen things":
            assert {is_unseen_pair(t, a) for t, a in pairs} == {split == "unseen pairs"}
        assert len({a for _, a in pairs}) == len(ACTIONS)
        assert all(o < 200 for o in clips.others.tolist())
    for thing in range(len(SEEN_THINGS)):
        assert any(is_unseen_pair(thing, a) for a in range(len(ACTIONS)))
        for action in range(len(ACTIONS)):  # a reverse shows the same frames
            assert is_unseen_pair(thing, action) == is_unseen_pair(thing, NUMBER[ACTIONS[action].reverse])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch": 0}, "batch=0"),
        ({"batch": 2, "size": 4}, "size=4"),
        ({"batch": 2, "split": "test"}, "split='test'"),
        ({"batch": 2, "things": torch.zeros(2, dtype=torch.long)}, "together"),
    ],
)
def test_invalid_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        render_clips(seed=0, **arguments)


def test_captions():
    assert caption(THINGS.index("owl"), NUMBER["moves left"]) == "an owl moves left"
    assert caption(THINGS.index("cat"), NUMBER["chases"], THINGS.index("owl")) == "a cat chases an owl"
    assert (
        caption(THINGS.index("cat"), NUMBER["grows"], template="a video of {a} {doing}", size=0, tint=3)
        == "a video of a small bluish cat growing"
    )
    assert caption(None, NUMBER["passes"], template="something {does}", synonym=1) == "something overtakes something"
    assert caption(0, NUMBER["moves left"], synonym=1, pace=2) == f"a {THINGS[0]} goes to the left quickly"


def test_the_atlas_holds_every_thing_once():
    for side in (64, 32):
        sprites = load_sprites(side)
        assert sprites.shape == (len(THINGS), 4, side, side)
        assert sprites[:, 3].mean((1, 2)).min() > 0.1
        assert (sprites[:, :3] <= sprites[:, 3:] + 1e-6).all()  # premultiplied
        assert len({digest(sprite) for sprite in sprites}) == len(THINGS)
    assert len(set(THINGS)) == len(THINGS)
    index = json.loads((FOLDER / "sprites.json").read_text())
    assert "CC-BY 4.0" in index["credit"]
    assert "CC-BY 4.0" in (FOLDER / "CREDITS.md").read_text()


def test_degrading_changes_only_details():
    frames = torch.rand(24, 2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.25
    assert torch.equal(degrade(frames, torch.Generator().manual_seed(1), strength=0.0), frames)
    coarse = degrade(frames, torch.Generator().manual_seed(1))
    assert coarse.shape == frames.shape
    assert 0.01 < (coarse - frames).abs().mean() < 0.2
    smooth = torch.full_like(frames, 0.5)  # without details, each clip keeps a single colour
    spread = degrade(smooth, torch.Generator().manual_seed(1)).flatten(3).std(-1)
    assert spread.max() < 1e-5


def test_the_dataset_gives_the_same_clips_with_any_number_of_workers():
    data = PlaygroundDataset(3, block=2, size=16)
    alone = list(islice(data, 4))
    assert set(alone[0]) == {"frames", "caption", "thing", "action", "other"}
    assert alone[0]["frames"].shape == (8, 3, 16, 16)
    loader = DataLoader(data, batch_size=2, num_workers=2)
    blocks = list(islice(loader, 2))
    for block, expected in zip(blocks, (alone[:2], alone[2:]), strict=True):
        assert torch.equal(block["frames"], torch.stack([item["frames"] for item in expected]))
        assert block["caption"] == [item["caption"] for item in expected]


def test_an_exported_mp4_can_be_read(tmp_path):
    frames = render_clips(1, 0, size=64, num_frames=12, hard=0.0, empty=0.0).frames[0]
    path = export_clip(frames, tmp_path / "clip.mp4", fps=12)
    with VideoReader(path) as reader:
        assert (reader.num_frames, reader.width, reader.height, reader.codec) == (12, 64, 64, "h264")
        read = torch.as_tensor(reader.get_frames(range(12)).frames_THWC)
    assert (read.permute(0, 3, 1, 2).float() - frames.float()).abs().mean() < 8
    with pytest.raises(ValueError, match="even"):
        export_clip(frames[:, :, :63], tmp_path / "odd.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]
