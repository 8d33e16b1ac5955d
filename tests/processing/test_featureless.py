"""Black, white and frozen clips are featureless; dark and nearly still ones are not."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch

from openxclip.processing import VideoProcessor
from openxclip.processing.featureless import is_featureless
from openxclip.video import read_clip
from openxclip.video.writing import write_mp4

HEIGHT, WIDTH = 120, 160
NUM_FRAMES = 16


def photo() -> np.ndarray:
    """Return (H, W, 3): smooth shapes with hard edges and fine detail, like a photograph."""
    random = np.random.default_rng(1)
    coarse = np.kron(random.integers(0, 256, (6, 8, 3)), np.ones((20, 20, 1)))
    return np.clip(coarse + random.normal(0, 12, (HEIGHT, WIDTH, 3)), 0, 255).astype(np.uint8)


def one_colour(*colour: float, grain: float = 0.0) -> list[np.ndarray]:
    random = np.random.default_rng(2)
    frames = np.array(colour) + random.normal(0, grain, (NUM_FRAMES, HEIGHT, WIDTH, 1))
    return list(np.clip(frames, 0, 255).astype(np.uint8))


def frozen(*, grain: float = 0.0) -> list[np.ndarray]:
    random = np.random.default_rng(3)
    frames = photo() + random.normal(0, grain, (NUM_FRAMES, HEIGHT, WIDTH, 1))
    return list(np.clip(frames, 0, 255).astype(np.uint8))


def panning(*, brightness: float = 1.0) -> list[np.ndarray]:
    return [(np.roll(photo(), i, axis=1) * brightness).astype(np.uint8) for i in range(NUM_FRAMES)]


def small_mover(picture: np.ndarray) -> list[np.ndarray]:
    """An object of a 160th of the picture moves across it."""
    frames = []
    for i in range(NUM_FRAMES):
        frame = picture.copy()
        frame[50:60, 8 * i : 8 * i + 12] = 255 - frame[50:60, 8 * i : 8 * i + 12]
        frames.append(frame)
    return frames


def decoded(frames: list[np.ndarray], quality: int) -> bool:
    file = io.BytesIO()
    write_mp4(frames, file, fps=8, quality=quality)
    clip = read_clip(file.getvalue(), num_frames=8)
    return is_featureless(VideoProcessor().levels(clip.frames_THWC.permute(0, 3, 1, 2)))


@pytest.fixture(autouse=True)
def usual_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Encode as most programs do, with x264's mbtree: a still picture then changes less from frame to frame."""
    monkeypatch.setattr("openxclip.video.writing._X264", "mbtree=1")


@pytest.mark.parametrize("quality", [18, 38])
@pytest.mark.parametrize(
    "frames",
    [
        one_colour(0, 0, 0), one_colour(255, 255, 255), one_colour(20, 30, 180),
        one_colour(10, 10, 10, grain=4), one_colour(60, 60, 60, grain=10), frozen(), frozen(grain=3),
    ],
    ids=["black", "white", "blue", "black with grain", "grey with grain", "frozen", "frozen with grain"],
)  # fmt: skip
def test_featureless(frames: list[np.ndarray], quality: int) -> None:
    assert decoded(frames, quality)


@pytest.mark.parametrize("quality", [18, 38])
@pytest.mark.parametrize(
    "frames",
    [
        panning(), panning(brightness=0.08), small_mover(photo()),
        small_mover(np.full((HEIGHT, WIDTH, 3), 120, np.uint8) - 60), [*one_colour(0, 0, 0)[:8], *panning()[:8]],
    ],
    ids=["panning", "at night", "something small on a photo", "something small on grey", "half black"],
)  # fmt: skip
def test_not_featureless(frames: list[np.ndarray], quality: int) -> None:
    assert not decoded(frames, quality)


def test_a_single_frame_is_not_frozen() -> None:
    levels = VideoProcessor().levels
    for picture, expected in ((photo(), False), (np.zeros((HEIGHT, WIDTH, 3), np.uint8), True)):
        frames = torch.from_numpy(picture[None]).permute(0, 3, 1, 2)
        assert is_featureless(levels(frames)) == expected
