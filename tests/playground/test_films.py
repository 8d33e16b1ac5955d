"""Films: events happen at their times, and a seed determines the film."""

import json

import pytest
import torch

from openxclip.playground import film
from openxclip.video import VideoReader


def test_events_happen_at_their_times():
    made = film(20, 3, size=32, fps=8, hard=0.0)
    assert 20 <= made.duration < 28
    assert len(made.events) >= 3
    frames = made.frames
    assert frames.shape == (made.num_frames, 3, 32, 32)
    changes = frames.float().diff(dim=0).abs().mean((1, 2, 3))
    last_end = 0.0
    for event in made.events:
        assert last_end < event.start < event.end <= made.duration
        first, last = round(event.start * 8), round(event.end * 8)
        pause = changes[round(last_end * 8) : first - 1]
        assert (pause == 0).all()  # nothing moves between the cuts
        assert changes[first - 1] > 0  # a cut
        if event.action != "stays still":
            assert changes[first : last - 1].max() > 0
        assert f"{event.thing} {event.action}" in event.caption
        assert event.caption.endswith(event.other or event.action)
        last_end = event.end


def test_a_seed_determines_the_film():
    first, same, other = (film(6, seed, size=16, fps=4) for seed in (1, 1, 2))
    assert first.events == same.events
    assert torch.equal(first.frames, same.frames)
    assert first.events != other.events


def test_a_film_is_saved_with_its_events(tmp_path):
    made = film(5, 4, size=32, fps=6)
    path = made.save(tmp_path / "film.mp4")
    saved = json.loads((tmp_path / "film.json").read_text())
    assert saved["events"][0]["caption"] == made.events[0].caption
    assert saved["duration"] == made.duration
    with VideoReader(path) as reader:
        assert reader.num_frames == made.num_frames
        assert reader.duration == pytest.approx(made.duration, abs=0.01)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film.json", "film.mp4"]


@pytest.mark.parametrize(
    ("seconds", "fps", "message"), [(0, 12, "seconds=0"), (5, 0, "fps=0"), (float("nan"), 12, "nan")]
)
def test_invalid_arguments(seconds, fps, message):
    with pytest.raises(ValueError, match=message):
        film(seconds, 0, fps=fps)
