"""Stills and clips of hits, and the page that shows them."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from openxclip import VideoError
from openxclip.search import Hit, previews, thumbnail, write_contact_sheet
from openxclip.search.previews import preview_clip, preview_span
from openxclip.video import DecodeWorker
from openxclip.video.writing import write_mp4


@pytest.fixture
def hit(tmp_path: Path) -> Hit:
    """Return seconds 2 to 5 of a video that gets brighter by 25 levels a second."""
    path = tmp_path / "brighter & <b>.mp4"
    frames = (np.full((60, 100, 3), i, dtype=np.uint8) for i in range(200))
    with path.open("wb") as file:
        write_mp4(frames, file, fps=25)
    return Hit(
        path=str(path), start=2.0, end=5.0, best_start=3.0, best_end=4.0, windows=3, duration=8.0, score=0.3,
        similarity=0.2, reranked=True,
    )  # fmt: skip


def levels(data: bytes) -> tuple[list[float], float, tuple[int, int]]:
    """Return the mean brightness of each frame, the frame rate, and height and width."""
    with av.open(BytesIO(data)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        return [float(frame.mean()) for frame in frames], float(stream.average_rate), frames[0].shape[:2]


def test_a_thumbnail_is_the_middle_of_the_best_window(hit: Hit) -> None:
    image = Image.open(BytesIO(thumbnail(hit, width=50)))
    assert image.format == "JPEG"
    assert image.size == (50, 30)
    assert np.asarray(image).mean() == pytest.approx(3.5 * 25, abs=4)
    late = Image.open(BytesIO(thumbnail(replace(hit, best_start=4.0, best_end=5.0), width=50)))
    assert np.asarray(late).mean() == pytest.approx(4.5 * 25, abs=4)
    with pytest.raises(ValueError, match="width=0"):
        thumbnail(hit, width=0)


@pytest.mark.parametrize(
    "batch_bytes", [pytest.param(1, marks=pytest.mark.slow), 100_000, pytest.param(256 << 20, marks=pytest.mark.slow)]
)
def test_a_clip_shows_the_moment(hit: Hit, monkeypatch, batch_bytes) -> None:
    monkeypatch.setattr(previews, "_BATCH_BYTES", batch_bytes)
    monkeypatch.setattr(previews, "_CLIP_HEIGHT", 40)
    with DecodeWorker() as reader:
        brightness, fps, size = levels(preview_clip(hit, reader=reader))
        assert (fps, size, len(brightness)) == (12, (40, 66), 36)
        np.testing.assert_allclose(brightness, 25 * (2 + (np.arange(36) + 0.5) / 12), atol=5)
        long, fps, _ = levels(preview_clip(replace(hit, start=0.0, end=8.0), reader=reader))
        monkeypatch.setattr(previews, "_MAX_FRAMES", 16)
        few, fps, _ = levels(preview_clip(replace(hit, start=0.0, end=8.0), reader=reader))
        assert (len(long), len(few), fps) == (96, 16, 2)
        tiny, _, _ = levels(preview_clip(replace(hit, start=2.0, end=2.001), reader=reader))
        assert len(tiny) == 1


def test_a_clip_of_a_long_moment_shows_the_best_window(hit: Hit) -> None:
    hour = replace(hit, start=0.0, end=3600.0, best_start=100.0, best_end=102.0)
    assert preview_span(hour) == (91.0, 111.0)
    assert preview_span(replace(hour, best_start=1.0, best_end=3.0)) == (0.0, 20.0)
    assert preview_span(replace(hour, best_start=3598.0, best_end=3600.0)) == (3580.0, 3600.0)
    assert preview_span(replace(hour, best_start=100.0, best_end=160.0)) == (100.0, 160.0)
    assert preview_span(replace(hour, end=20.0)) == (0.0, 20.0)
    assert preview_span(replace(hour, end=60.0, best_start=0.0, best_end=60.0, windows=1)) == (0.0, 60.0)


def test_a_contact_sheet(hit: Hit, tmp_path: Path) -> None:
    gone = replace(hit, path=str(tmp_path / "gone.mp4"), score=None, similarity=-0.25, reranked=False)
    page = tmp_path / "found.html"
    seen = []
    write_contact_sheet([hit, gone], page, title="a <cat> & a dog", on_hit=lambda: seen.append(1))
    text = page.read_text(encoding="utf-8")
    assert len(seen) == 2
    assert "<h1>a &lt;cat&gt; &amp; a dog</h1>" in text
    assert "brighter &amp; &lt;b&gt;.mp4" in text
    assert "0:02.0 – 0:05.0, best at 0:03.0" in text
    assert ">0.30</span>" in text
    assert ">-0.250</span>" in text  # the similarity replaces a missing score
    assert "no such file" in text
    (clip,) = re.findall(r'src="data:video/mp4;base64,([^"]+)"', text)
    assert len(levels(base64.b64decode(clip))[0]) == 36
    assert not re.findall(r"(?:src|href|url)\W+https?:", text)  # the page needs no other file
    assert [path.name for path in tmp_path.glob("*.html*")] == ["found.html"]


def test_pages_and_thumbnails_that_cannot_be_made(hit: Hit, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must end with \.html"):
        write_contact_sheet([], hit.path, title="a")
    assert Path(hit.path).stat().st_size > 100
    with pytest.raises(ValueError, match="there is no folder"):
        write_contact_sheet([hit], tmp_path / "none/a.html", title="a")
    with pytest.raises(VideoError, match="no such file"):
        thumbnail(replace(hit, path=str(tmp_path / "gone.mp4")))


@pytest.mark.parametrize(("width", "height"), [(3000, 4), (4, 3000), (2, 2)])
def test_extreme_shapes(tmp_path: Path, width: int, height: int) -> None:
    path = tmp_path / "odd.gif"
    Image.new("RGB", (width, height), "red").save(path)
    hit = Hit(
        path=str(path), start=0.0, end=0.1, best_start=0.0, best_end=0.1, windows=1, duration=0.1, score=None,
        similarity=0.3, reranked=False,
    )  # fmt: skip
    with DecodeWorker() as reader:
        image = Image.open(BytesIO(thumbnail(hit, width=100, reader=reader)))
        assert image.size[0] == 100
        assert image.size[1] <= 400
        levels(preview_clip(hit, reader=reader))
