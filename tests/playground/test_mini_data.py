"""Single frames and sentences for the training script: a seed determines the pixels, and descriptions fit them."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from openxclip.playground import render_clips
from openxclip.processing import CLIPTokenizer

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import mini_data
from mini_data import PLACES, STILL_SIZES, TURNS, VISIBILITIES, render_stills, sentences_with_every_word


@pytest.mark.slow
def test_same_seed_same_bytes_in_a_fresh_process():
    code = (
        "import hashlib, sys; sys.path.insert(0, sys.argv[1]); from mini_data import render_stills;"
        "print(hashlib.sha256(render_stills(4, 7, size=32).frames.contiguous().numpy().tobytes()).hexdigest())"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(Path(mini_data.__file__).parent)], check=True, capture_output=True, text=True
    )
    frames = render_stills(4, 7, size=32).frames
    assert ran.stdout.strip() == hashlib.sha256(frames.contiguous().numpy().tobytes()).hexdigest()


def test_stills_are_described():
    stills = render_stills(300, 4, size=16)
    for place, size, turn, visible, x, y, s, angle, alpha in zip(
        *(stills.words[key] for key in ("place", "size", "turn", "visibility")),
        *(getattr(stills.states, key)[:, 0, 0].tolist() for key in ("x", "y", "size", "angle", "alpha")),
        strict=True,
    ):
        assert ("left" in PLACES[place], "right" in PLACES[place]) == (x < -0.2, x > 0.2)
        assert ("top" in PLACES[place], "bottom" in PLACES[place]) == (y < -0.2, y > 0.2)
        assert (STILL_SIZES[size] == "big") == (s > 0.5)
        assert (TURNS[turn] == "upright") == (abs(angle) <= 0.7854)
        assert (TURNS[turn] == "turned right") == (0.7854 < angle < 2.3562)
        assert (VISIBILITIES[visible] == "faint") == (alpha < 0.6)
    assert all(len(set(values)) > 1 for values in stills.words.values())
    pairs = stills.others >= 0
    assert 30 < pairs.sum() < 120
    assert torch.equal(pairs, stills.states.alpha[:, 1, 0] > 0)
    assert (stills.others != stills.things).all()


def test_every_word_is_in_the_vocabulary():
    known = {token for ids in CLIPTokenizer()(sentences_with_every_word())["input_ids"] for token in ids}
    clips = render_clips(500, 8, size=8, num_frames=1)
    assert {token for ids in CLIPTokenizer()(clips.captions)["input_ids"] for token in ids} <= known
