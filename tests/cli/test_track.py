"""`--track`: every verb that reads videos takes it, and refuses an invalid one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

import openxclip
from openxclip.video import ReadOptions
from openxclip.video.assumptions import AssumptionWarning

pytestmark = pytest.mark.filterwarnings("always::openxclip.video.assumptions.AssumptionWarning")
NOTE = "reading track 1 of 2 video tracks: choose another with --track (ReadOptions(track=…) in Python)"
Run = Callable[..., Any]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tracks: black pictures of 64 × 48, and white ones of 32 × 32, which are the default."""
    path = tmp_path_factory.mktemp("tracks") / "film.mkv"
    with av.open(str(path), "w") as out:
        streams = []
        for size, flag in (((64, 48), 0), ((32, 32), 1)):
            stream = out.add_stream("mpeg4", rate=10)
            stream.width, stream.height, stream.pix_fmt, stream.disposition = *size, "yuv420p", flag
            streams.append(stream)
        for i in range(8):
            for stream in streams:
                white = np.full((stream.height, stream.width, 3), 255 * int(stream.disposition), np.uint8)
                frame = av.VideoFrame.from_ndarray(white, format="rgb24")
                frame.pts = i
                out.mux(stream.encode(frame))
        for stream in streams:
            out.mux(stream.encode(None))
    return path


@pytest.mark.slow
def test_info_and_check(run: Run, film: Path) -> None:
    for options, width in (((), 32), (("--track", 0), 64), (("--track", 1), 32)):
        done = run("info", film, "--json", *options)
        assert json.loads(done.stdout)["width"] == width
        assert run("check", film, *options).returncode == 0
    notes = json.loads(run("info", film, "--json").stdout)["notes"]
    assert notes == [NOTE]
    for verb in ("info", "check"):
        done = run(verb, film, "--track", 2)
        assert done.returncode == 1
        assert "it has 2 video tracks, 0 to 1: there is no track 2" in done.stdout + done.stderr
        assert run(verb, film, "--track", -1).returncode == 2


@pytest.mark.slow
def test_classify_and_embed(run: Run, film: Path, tiny_folder: Path, tmp_path: Path) -> None:
    features = []
    for number in (0, 1, None):
        options = () if number is None else ("--track", number)
        out = tmp_path / f"{number}.npz"
        assert run("embed", film, "--out", out, "--model", tiny_folder, *options).returncode == 0
        features.append(np.load(out)["pooled"])
        done = run("classify", film, "--labels", "a, b", "--model", tiny_folder, "--json", *options)
        assert (done.returncode, NOTE in done.stderr) == (0, number is None)
        (found,) = openxclip.classify(film, ["a", "b"], model=tiny_folder, read=ReadOptions(track=number))
        shown = [label["probability"] for label in json.loads(done.stdout)["labels"]]
        assert shown == pytest.approx([label.probability for label in found.labels], abs=1e-3)
    assert np.array_equal(features[1], features[2])
    assert not np.array_equal(features[0], features[1])
    done = run("classify", film, "--labels", "a, b", "--model", tiny_folder, "--track", 5)
    assert (done.returncode, "there is no track 5" in done.stderr) == (1, True)


def test_in_python(film: Path, tiny_folder: Path) -> None:
    with pytest.raises(ValueError, match="track=-1 must be 0 or more"):
        openxclip.classify(film, ["a", "b"], model=tiny_folder, read=ReadOptions(track=-1))
    pipeline = openxclip.VideoPipeline.from_pretrained(tiny_folder, read=ReadOptions(track=0), isolate=False)
    assert pipeline.read.track == 0
    (of_black,) = pipeline.encode_videos([film])
    (other_track,) = pipeline.encode_videos([film], read=ReadOptions(track=1))
    assert not np.array_equal(of_black.features.pooled, other_track.features.pooled)
    plain = openxclip.VideoPipeline(pipeline.model, pipeline.processor, isolate=False)
    with pytest.warns(AssumptionWarning, match=re.escape(NOTE)):
        (of_white,) = plain.encode_videos([film])
    assert not np.array_equal(of_black.features.pooled, of_white.features.pooled)
    assert openxclip.info(film, read=ReadOptions(track=0)).width == 64
