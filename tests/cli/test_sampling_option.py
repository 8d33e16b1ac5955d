"""--sampling: frames by time or by counting, in every verb that takes clips of videos."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from openxclip.video import ClipPlan, read_clip

Run = Callable[..., Any]
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def varying(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine seconds at one frame a second, then one second at sixty."""
    path, base = tmp_path_factory.mktemp("varying") / "varying.mp4", Fraction(1, 60)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=60)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        stream.codec_context.time_base = base
        for i, stamp in enumerate([*range(0, 540, 60), *range(540, 600)]):
            frame = av.VideoFrame.from_ndarray(np.full((32, 48, 3), 3 * i, np.uint8), format="rgb24")
            frame.pts, frame.time_base = stamp, base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def late(times: Any) -> int:
    """How many frames are of the last second."""
    return sum(time >= 9 for time in np.ravel(times))


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [((), 1), pytest.param(("--sampling", "time"), 1, marks=pytest.mark.slow), (("--sampling", "frames"), 7)],
)
def test_classify_and_embed(
    run: Run, tiny_folder: Path, varying: Path, tmp_path: Path, sampling: tuple[str, ...], expected: int
) -> None:
    done = run("classify", varying, "--labels", "a,b", "--model", tiny_folder, "--clips", 2, *sampling)  # of 4 frames
    assert done.returncode == 0, done.stderr
    (row,) = map(json.loads, done.stdout.splitlines())
    assert late(row["times"]) == expected
    for number, plan in enumerate((("--clips", 2), ("--window", 60))):
        out = tmp_path / f"{number}.npz"
        done = run("embed", varying, "--out", out, "--model", tiny_folder, *plan, *sampling)
        assert done.returncode == 0, done.stderr
        with np.load(out) as content:
            assert late(content["times"]) == (expected if number == 0 else {1: 0, 7: 3}[expected])
            assert json.loads(str(content["openxclip"]))["sampling"] == (sampling or ("", "time"))[1]


def test_an_unknown_sampling_is_refused(run: Run, tiny_folder: Path, varying: Path) -> None:
    done = run("classify", varying, "--labels", "a,b", "--model", tiny_folder, "--sampling", "fps")
    assert done.returncode == 2
    assert "'fps' is not one of 'time', 'frames'" in done.stderr


@pytest.mark.slow
def test_an_index_keeps_its_sampling(run: Run, tiny_folder: Path, varying: Path, tmp_path: Path) -> None:
    pytest.importorskip("lancedb")
    from openxclip.search import VideoIndex

    how = ("--model", tiny_folder, "--device", "cpu", "--window", 60)
    for sampling in ("time", "frames"):
        done = run("index", varying, "--to", tmp_path / sampling, *how, "--sampling", sampling)
        assert done.returncode == 0, done.stderr
        index = VideoIndex.open(tmp_path / sampling, device="cpu")
        assert index.info is not None
        assert index.info.sampling == sampling
        (hit,) = index.search(video=varying)  # which is looked at in the same way
        assert hit.similarity == pytest.approx(1, abs=1e-5)
    done = run("index", varying, "--to", tmp_path / "time", *how, "--sampling", "frames")
    assert done.returncode == 2
    assert "was made with --sampling time; leave it out" in done.stderr.replace("\n", " ")


@pytest.mark.parametrize(("stored", "sampling"), [({}, "frames"), ({"sampling": "time"}, "time")])
def test_an_index_without_a_stored_sampling_counts_frames(stored: dict[str, str], sampling: str) -> None:
    from openxclip.search import IndexInfo

    info = {"model": "mini", "weights": "", "transforms": {}, "num_frames": 8, "window": 10.0, "stride": 10.0}
    assert IndexInfo.from_json(json.dumps({**info, "patches": True, **stored}).encode()).sampling == sampling


def test_evaluation_and_recipes(run: Run, tiny_folder: Path, varying: Path, tmp_path: Path) -> None:
    from openxclip import VideoPipeline
    from openxclip.datasets import Sample
    from openxclip.recipes import read_recipe

    pipeline = VideoPipeline.from_pretrained(tiny_folder, device="cpu", isolate=False)
    counts = {}
    for sampling in ("time", "frames"):
        (video,) = pipeline.encode_parts([Sample(str(varying))], lambda clip: [clip[..., :32, :32]],
                                        ClipPlan(num_clips=2, sampling=sampling))  # fmt: skip
        counts[sampling] = late(video.times)
    assert counts == {"time": 1, "frames": 7}
    assert read_recipe("my-videos", ["model=mini"]).sampling == "time"
    assert read_recipe("my-videos", ["model=mini", "sampling=frames"]).sampling == "frames"


def test_the_frames_are_those_of_read_clip(run: Run, tiny_folder: Path, varying: Path) -> None:
    done = run("classify", varying, "--labels", "a,b", "--model", tiny_folder, "--start", 5, "--end", 9.5)
    (row,) = map(json.loads, done.stdout.splitlines())
    assert row["times"] == [read_clip(varying, num_frames=4, start=5, end=9.5).times_T.tolist()]
