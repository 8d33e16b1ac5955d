"""Files of features: their content in each format, and that interrupted runs write the same files."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import openxclip
from openxclip import Limits, ReadOptions, VideoError, XCLIPModel, embed
from openxclip.checkpoints import fingerprints
from openxclip.checkpoints.fingerprints import fingerprint, fingerprint_by_name
from openxclip.common.files import NOT_UTF8
from openxclip.engine.linears import LINEAR_VARIABLE, can_pack
from openxclip.errors import MissingPackageError
from openxclip.features import embedding, run
from openxclip.features.files import METADATA_NAME, write_features
from openxclip.features.resuming import Progress, Unfinished
from openxclip.features.run import EmbedRun
from openxclip.model import VideoFeatures
from openxclip.pipeline import VideoPipeline
from openxclip.pipeline import pipeline as pipeline_module
from openxclip.video import ClipPlan, find_videos, read_clip, read_clips
from openxclip.video.writing import write_mp4

SUFFIXES = (".npz", ".safetensors", ".parquet")


@pytest.fixture(scope="module")
def pipeline(tiny_folder: Path) -> VideoPipeline:
    return VideoPipeline.from_pretrained(tiny_folder, device="cpu", isolate=False)


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos of 1 s with 20 frames each, so that a window of 0.1 s holds two; one video is in a subfolder."""
    folder = tmp_path_factory.mktemp("clips")
    (folder / "more").mkdir()
    for name, colour in (("red2.mp4", (200, 20, 20)), ("red10.mp4", (120, 20, 20)), ("more/blue.mp4", (20, 20, 200))):
        frames = np.tile(np.uint8(colour), (20, 48, 64, 1))
        for i in range(20):
            frames[i, :, 3 * i : 3 * i + 6] = 255
        with (folder / name).open("wb") as file:
            write_mp4(frames, file, fps=20)
    return folder


@pytest.fixture(scope="module")
def names(clip_folder: Path) -> list[Path]:
    return [Path(str(path)) for path in find_videos([clip_folder])]


def read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a file's columns, with `path`, and its metadata, with the libraries that users have."""
    columns: dict[str, Any]
    if path.suffix == ".npz":
        with np.load(path) as found:
            columns = dict(found)
        metadata = json.loads(str(columns.pop(METADATA_NAME)))
    elif path.suffix == ".safetensors":
        with safe_open(path, framework="np") as opened:
            columns = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            metadata = json.loads(opened.metadata()[METADATA_NAME])
    else:
        table = pq.read_table(path)
        dtypes = {"pooled": np.float32, "patches": np.float32}
        columns = {name: table[name].to_pylist() for name in table.column_names}
        columns = {k: v if k == "path" else np.array(v, dtype=dtypes.get(k, np.float64)) for k, v in columns.items()}
        metadata = json.loads(table.schema.metadata[METADATA_NAME.encode()])
    if "video" in columns:
        columns["path"] = [metadata["paths"][i] for i in columns.pop("video")]
    return columns, metadata


def same(first: Path, second: Path) -> bool:
    return first.read_bytes() == second.read_bytes()


# ---------------------------------------------------------------------------------------------------------- content


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_clips(pipeline: VideoPipeline, clip_folder: Path, names: list[Path], tmp_path: Path, suffix: str) -> None:
    done = embed(clip_folder, tmp_path / f"f{suffix}", model=pipeline, num_clips=2, patches=True)
    assert (done.path, done.rows, done.width, done.errors) == (tmp_path / f"f{suffix}", 6, 16, ())
    assert done.paths == tuple(map(str, names))
    columns, metadata = read(done.path)
    assert columns["path"] == [str(path) for path in names for _ in range(2)]
    assert columns["start"].tolist() == [0.0] * 6
    assert columns["end"].tolist() == [1.0] * 6
    assert columns["pooled"].shape == (6, 16)
    assert columns["pooled"].dtype == np.float32
    assert columns["patches"].shape == (6, 16, 16)
    for i, path in enumerate(names):
        clips = read_clips(path, ClipPlan(num_frames=4, num_clips=2))
        assert columns["times"][2 * i : 2 * i + 2].tolist() == [clip.times_T.tolist() for clip in clips]
        inputs = pipeline.processor(videos=[clip.frames_THWC for clip in clips], return_tensors="pt")
        with torch.no_grad():
            expected = pipeline.model.encode_video(inputs.pixel_values)
        np.testing.assert_allclose(columns["pooled"][2 * i : 2 * i + 2], expected.pooled, atol=1e-5)
        np.testing.assert_allclose(columns["patches"][2 * i : 2 * i + 2], expected.patches, atol=1e-5)
    assert metadata["openxclip"] == openxclip.__version__
    assert metadata["model"] == pipeline.name
    assert metadata["config"] == json.loads(json.dumps(pipeline.model.config.to_dict()))
    assert (metadata["num_frames"], metadata["num_clips"], metadata["window"]) == (4, 2, None)
    assert metadata["normalized"] is False
    assert metadata["paths"] == list(map(str, names))
    assert metadata["errors"] == []
    assert [path.name for path in tmp_path.iterdir()] == [f"f{suffix}"]


def test_stored_features_can_be_scored_later(pipeline: VideoPipeline, names: list[Path], tmp_path: Path) -> None:
    texts = pipeline.encode_texts(["a red wall", "the sea"])
    for normalize in (False, True):
        embed(names, tmp_path / "f.safetensors", model=pipeline, patches=True, normalize=normalize, force=True)
        kept = load_file(tmp_path / "f.safetensors")
        logits = pipeline.score(texts, VideoFeatures(kept["pooled"], kept["patches"]))
        expected = [pipeline.score(texts, video.features) for video in pipeline.encode_videos(names) if video.features]
        torch.testing.assert_close(logits, torch.cat(expected), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_windows(pipeline: VideoPipeline, names: list[Path], tmp_path: Path, suffix: str) -> None:
    embed(names, tmp_path / f"f{suffix}", model=pipeline, window=0.4, stride=0.2)
    columns, metadata = read(tmp_path / f"f{suffix}")
    assert columns["path"] == [str(path) for path in names for _ in range(4)]
    assert np.round(columns["start"], 9).tolist() == [0, 0.2, 0.4, 0.6] * 3
    assert np.round(columns["end"], 9).tolist() == [0.4, 0.6, 0.8, 1.0] * 3
    assert (metadata["window"], metadata["stride"]) == (0.4, 0.2)
    for path, start, times in zip(columns["path"], columns["start"], columns["times"], strict=True):
        assert times.tolist() == read_clip(path, num_frames=4, start=start, end=start + 0.4).times_T.tolist()


def test_a_window_longer_than_the_video_covers_it(pipeline: VideoPipeline, names: list[Path], tmp_path: Path) -> None:
    embed(names, tmp_path / "w.npz", model=pipeline, window=60)
    embed(names, tmp_path / "c.npz", model=pipeline)
    (windows, _), (clips, _) = read(tmp_path / "w.npz"), read(tmp_path / "c.npz")
    assert windows["end"].tolist() == [1.0] * 3
    for name in ("pooled", "times", "start", "end"):
        assert (windows[name] == clips[name]).all()


def test_normalized_features(pipeline: VideoPipeline, names: list[Path], tmp_path: Path) -> None:
    for normalize in (False, True):
        embed(names, tmp_path / f"{normalize}.npz", model=pipeline, normalize=normalize)
    (plain, _), (unit, metadata) = read(tmp_path / "False.npz"), read(tmp_path / "True.npz")
    assert metadata["normalized"] is True
    np.testing.assert_allclose(np.linalg.norm(unit["pooled"], axis=1), 1, atol=1e-6)
    lengths = np.linalg.norm(plain["pooled"], axis=1, keepdims=True)
    assert (abs(lengths - 1) > 0.01).any()
    np.testing.assert_allclose(unit["pooled"], plain["pooled"] / lengths, atol=1e-6)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_unreadable_videos_have_no_rows_and_are_named(
    pipeline: VideoPipeline, names: list[Path], tmp_path: Path, suffix: str
) -> None:
    (tmp_path / "notes.mp4").write_text("not a video")
    (tmp_path / "empty").mkdir()
    videos = [tmp_path / "notes.mp4", names[0], "gone.mp4", tmp_path / "empty", names[1]]
    reported: list[tuple[str, bool]] = []
    done = embed(
        videos,
        tmp_path / f"f{suffix}",
        model=pipeline,
        on_video=lambda path, error: reported.append((path, error is None)),
    )
    columns, metadata = read(done.path)
    assert columns["path"] == [str(names[0]), str(names[1])]
    assert metadata["paths"] == list(map(str, videos))
    assert [error["path"] for error in metadata["errors"]] == [str(videos[i]) for i in (0, 2, 3)]
    assert metadata["errors"][1]["error"] == "there is no such file: check the path"
    assert reported == [(str(path), i in (1, 4)) for i, path in enumerate(videos)]
    assert [str(error) for error in done.errors] == [f"{row['path']}: {row['error']}" for row in metadata["errors"]]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_file_is_written_if_no_video_can_be_read(pipeline: VideoPipeline, tmp_path: Path, suffix: str) -> None:
    (tmp_path / "text.mp4").write_text("not a video")
    done = embed(tmp_path / "text.mp4", tmp_path / f"f{suffix}", model=pipeline, patches=True)
    assert (done.rows, len(done.errors)) == (0, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["text.mp4"]  # no empty file, which the next run would refuse


def test_a_video_that_fails_in_the_middle_has_no_rows(
    pipeline: VideoPipeline, names: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = pipeline_module._read_clips

    def breaking(reader: Any, worker: Any, item: Any) -> Iterator[Any]:
        for piece in original(reader, worker, item):
            yield piece
            if item[0] == str(names[1]):
                raise VideoError(names[1], "it is damaged")

    expected = embed([names[0], names[2]], tmp_path / "e.npz", model=pipeline, window=0.1)
    monkeypatch.setattr(pipeline_module, "_read_clips", breaking)
    monkeypatch.setattr(run, "_WRITE_EVERY_BYTES", 1)  # its rows are written before it fails
    done = embed(names, tmp_path / "f.npz", model=pipeline, window=0.1)
    assert (done.rows, [error.reason for error in done.errors]) == (20, ["it is damaged"])
    (columns, _), (others, _) = read(done.path), read(expected.path)
    assert columns["path"] == others["path"]
    assert (columns["pooled"] == others["pooled"]).all()


def test_names_that_are_not_utf8_are_errors_in_every_format(
    pipeline: VideoPipeline, names: list[Path], tmp_path: Path
) -> None:
    strange = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.mp4"))
    shutil.copy(names[0], strange)
    expected = embed(names[:2], tmp_path / "e.npz", model=pipeline)
    for suffix in SUFFIXES:
        done = embed([strange, names[0], strange, names[1], strange], tmp_path / f"f{suffix}", model=pipeline)
        assert [(error.source, error.reason) for error in done.errors] == [(str(strange), NOT_UTF8)] * 3
        (columns, metadata), (others, _) = read(done.path), read(expected.path)
        assert columns["path"] == [str(name) for name in names[:2]] == others["path"]
        assert (columns["pooled"] == others["pooled"]).all()
        assert [error["path"] for error in metadata["errors"]] == [str(strange)] * 3  # the names can still be opened


def test_a_half_precision_model_gives_float32(tiny_folder: Path, names: list[Path], tmp_path: Path) -> None:
    expected = nullcontext() if can_pack(torch.bfloat16) else pytest.warns(UserWarning, match="no bfloat16 products")
    with expected:
        embed(names, tmp_path / "f.npz", model=tiny_folder, dtype="bfloat16", device="cpu", patches=True)
    columns, _ = read(tmp_path / "f.npz")
    assert columns["pooled"].dtype == columns["patches"].dtype == np.float32


def test_batches_give_the_same_features(pipeline: VideoPipeline, names: list[Path], tmp_path: Path) -> None:
    for batch in (1, 4, 100):
        embed(names, tmp_path / f"{batch}.npz", model=pipeline, window=0.1, batch=batch)
    single = read(tmp_path / "1.npz")[0]
    for batch in (4, 100):
        other = read(tmp_path / f"{batch}.npz")[0]
        np.testing.assert_allclose(other["pooled"], single["pooled"], atol=1e-5)
        assert other["path"] == single["path"]


# ----------------------------------------------------------------------------------------------------- wrong arguments


@pytest.mark.parametrize(
    ("out", "options", "message"),
    [
        ("f.csv", {}, "must end with .parquet, .npz, .safetensors"),
        ("f", {}, "must end with"),
        ("f.npz", {"window": 0}, "window=0"),
        ("f.npz", {"window": float("nan")}, "window=nan"),
        ("f.npz", {"stride": 1}, "say how long a window is"),
        ("f.npz", {"window": 1, "stride": 0}, "stride=0"),
        ("f.npz", {"window": 1, "num_clips": 2}, "give only one of num_clips and window"),
        ("f.npz", {"num_clips": 0}, "num_clips=0"),
        ("f.npz", {"num_frames": 0}, "num_frames=0"),
        ("f.npz", {"batch": 0}, "batch=0"),
    ],
)
def test_impossible_arguments_are_refused_before_the_model_is_loaded(
    clip_folder: Path, tmp_path: Path, out: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        embed(clip_folder, tmp_path / out, model="./nowhere", **options)
    assert list(tmp_path.iterdir()) == []


def test_no_videos_and_wrong_types_are_refused(pipeline: VideoPipeline, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no videos are named"):
        embed([], tmp_path / "f.npz", model=pipeline)
    with pytest.raises(TypeError, match="embed takes paths and frames in memory, not bytes"):
        embed([b"bytes"], tmp_path / "f.npz", model=pipeline)
    with pytest.raises(TypeError, match=r"VideoPipeline\(model, processor\)"):
        embed("a.mp4", tmp_path / "f.npz", model=pipeline.model)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_overwritten_only_by_force(
    pipeline: VideoPipeline, names: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "f.npz"
    out.write_text("mine")
    with pytest.raises(FileExistsError):
        embed(names, out, model="./nowhere")
    assert out.read_text() == "mine"
    embed(names, out, model=pipeline, force=True)
    assert read(out)[0]["pooled"].shape == (3, 16)
    for place, message in ((tmp_path / "folder.npz", "is a folder"), (tmp_path / "pipe.npz", "is a device or pipe")):
        place.mkdir() if message == "is a folder" else os.mkfifo(place)
        with pytest.raises(ValueError, match=message):
            embed(names, place, model="./nowhere", force=True)
    (tmp_path / "loop.npz").symlink_to("loop.npz")
    with pytest.raises(ValueError, match=r"loop\.npz"):
        embed(names, tmp_path / "loop.npz", model="./nowhere")
    (tmp_path / "null.npz").symlink_to(os.devnull)
    with pytest.raises(ValueError, match="is a device"):
        embed(names, tmp_path / "null.npz", model="./nowhere", force=True)


def test_the_target_of_a_link_is_written(pipeline: VideoPipeline, names: list[Path], tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "f.npz").symlink_to("disk/real.npz")
    embed(names, tmp_path / "f.npz", model=pipeline)
    assert (tmp_path / "f.npz").is_symlink()
    assert read(tmp_path / "disk" / "real.npz")[0]["pooled"].shape == (3, 16)
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["real.npz"]


def test_parquet_without_pyarrow_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'openxclip\[parquet\]'"):
        embed("a.mp4", tmp_path / "f.parquet", model="./nowhere")


def test_too_many_names_for_safetensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openxclip.features.files._MAX_HEADER", 100)
    with pytest.raises(ValueError, match=r"choose \.npz or \.parquet"):
        embed([f"video{i}.mp4" for i in range(10)], tmp_path / "f.safetensors", model="./nowhere")


def test_a_model_that_cannot_be_loaded_leaves_nothing(clip_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(openxclip.CheckpointError):
        embed(clip_folder, tmp_path / "deep" / "f.npz", model="./nowhere")
    assert list((tmp_path / "deep").iterdir()) == []


# ------------------------------------------------------------------------------------------------------- interruptions


class Stop(BaseException):
    pass


def stopping_after(count: int) -> Callable[[Any, int, Any], None]:
    """Return a method that stops the run after it has added some rows."""
    original, left = EmbedRun._add, [count]

    def add(self: Any, video: int, clip: Any) -> None:
        if not left[0]:
            raise Stop
        left[0] -= 1
        original(self, video, clip)

    return add


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("batch", [1, 4])
def test_interruptions_anywhere_lead_to_the_same_file(
    pipeline: VideoPipeline, names: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, batch: int
) -> None:
    videos = [names[0], "gone.mp4", *names[1:]]
    how: dict[str, Any] = {"model": pipeline, "window": 0.1, "patches": True, "batch": batch}
    embed(videos, tmp_path / f"whole{suffix}", **how)
    out = tmp_path / f"f{suffix}"
    stops = 0
    for count in (0, 1, 5, 3, 9, 4, 4, 2, 100):  # rows until the next interruption
        monkeypatch.setattr(EmbedRun, "_add", stopping_after(count))
        try:
            done = embed(videos, out, **how)
        except Stop:
            stops += 1
            assert not out.exists()
        monkeypatch.undo()
    assert stops == 8
    assert (done.rows, len(done.errors)) == (30, 1)
    assert same(out, tmp_path / f"whole{suffix}")
    assert {path.name for path in tmp_path.iterdir()} == {f"f{suffix}", f"whole{suffix}"}


@pytest.mark.slow
def test_a_resumed_run_keeps_its_kernel(
    tiny_folder: Path, names: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of two kernels differ in their last bits, so all rows of a file have the same kernel."""
    if not can_pack(torch.float32):
        pytest.skip("this CPU has one kernel")
    how: dict[str, Any] = {"model": tiny_folder, "device": "cpu", "window": 0.1, "isolate": False}
    monkeypatch.setenv(LINEAR_VARIABLE, "dense")
    whole = embed(names, tmp_path / "whole.npz", **how)
    assert whole.kernel == "float32, dense weights"
    with monkeypatch.context() as patch:
        patch.setattr(EmbedRun, "_add", stopping_after(14))
        with pytest.raises(Stop):
            embed(names, tmp_path / "f.npz", **how)
    monkeypatch.setenv(LINEAR_VARIABLE, "packed")
    resumed = embed(names, tmp_path / "f.npz", **how)
    assert resumed.kernel == "float32, dense weights"
    assert same(tmp_path / "f.npz", tmp_path / "whole.npz")
    assert embed(names, tmp_path / "g.npz", **how).kernel == "float32, weights packed by oneDNN"
    assert read(tmp_path / "f.npz")[1]["kernel"] == "float32, dense weights"


def test_a_resumed_run_skips_finished_work(
    pipeline: VideoPipeline, names: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_items: list[tuple[str, int]] = []
    original = pipeline_module._read_clips

    def watched(reader: Any, worker: Any, item: Any) -> Iterator[Any]:
        read_items.append(item)
        return original(reader, worker, item)

    monkeypatch.setattr(pipeline_module, "_read_clips", watched)
    with monkeypatch.context() as patch:
        patch.setattr(EmbedRun, "_add", stopping_after(14))
        with pytest.raises(Stop):
            embed(names, tmp_path / "f.npz", model=pipeline, window=0.1)
    read_items.clear()
    reported: list[str] = []
    embed(names, tmp_path / "f.npz", model=pipeline, window=0.1, on_video=lambda path, error: reported.append(path))
    assert read_items == [(str(names[1]), 4), (str(names[2]), 0)]
    assert reported == list(map(str, names))  # all videos, so that the progress bar is right


def test_a_run_can_be_resumed_with_another_batch(
    pipeline: VideoPipeline, names: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EmbedRun, "_add", stopping_after(14))
    with pytest.raises(Stop):
        embed(names, tmp_path / "f.npz", model=pipeline, window=0.1, batch=4)
    monkeypatch.undo()
    calls: list[int] = []
    original = type(pipeline.model).encode_video
    monkeypatch.setattr(type(pipeline.model), "encode_video", lambda self, x: calls.append(len(x)) or original(self, x))
    embed(names, tmp_path / "f.npz", model=pipeline, window=0.1)  # "auto" keeps the batch of the first run
    assert calls == [4, 4, 4, 4, 2]


def test_windows_of_two_rules_are_not_mixed(
    pipeline: VideoPipeline, names: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of another version, which cut videos into other windows, isn't resumed."""
    with monkeypatch.context() as patch:
        patch.setattr(EmbedRun, "_add", stopping_after(14))
        patch.setattr(embedding, "WINDOW_RULE", 1)
        for name, window in (("w.npz", 0.1), ("c.npz", None)):
            with pytest.raises(Stop):
                embed(names * 5, tmp_path / name, model=pipeline, window=window)
    with pytest.raises(ValueError, match=r"another window_rule \(1, now 2\).*force"):
        embed(names * 5, tmp_path / "w.npz", model=pipeline, window=0.1)
    # Clips over whole videos are the same in both versions
    assert embed(names * 5, tmp_path / "c.npz", model=pipeline).rows == 15


def test_a_window_shorter_than_two_frames_is_an_error_of_that_video(
    pipeline: VideoPipeline, names: list[Path], tmp_path: Path
) -> None:
    np.save(tmp_path / "still.npy", np.zeros((1, 8, 8, 3), dtype=np.uint8))
    done = embed([names[0], tmp_path / "still.npy"], tmp_path / "f.npz", model=pipeline, window=0.09)
    assert [str(error) for error in done.errors] == [
        f"{names[0]}: a window of 0.09 s is shorter than two of its frames (20 frames a second): choose a window of "
        "0.1 s or more"
    ]
    assert done.rows == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0.2}, r"another window \(0\.1, now 0\.2\)"),
        ({"stride": 0.2}, "another stride"),
        ({"num_frames": 5}, "another num_frames"),
        ({"patches": True}, "another patches"),
        ({"normalize": True}, "another normalize"),
        ({"read": ReadOptions(limits=Limits(frames=50))}, "another frames"),
    ],
)
def test_other_options_need_force_to_start_again(
    pipeline: VideoPipeline,
    names: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    message: str,
) -> None:
    monkeypatch.setattr(EmbedRun, "_add", stopping_after(14))
    with pytest.raises(Stop):
        embed(names, tmp_path / "f.npz", model=pipeline, window=0.1)
    monkeypatch.undo()
    monkeypatch.setattr("warnings.warn", lambda *_, **__: None)  # num_frames=5 warns
    before = sorted(path.name for path in (tmp_path / "f.npz.part").iterdir())
    with pytest.raises(ValueError, match=f"{message}.*force"):
        embed(names, tmp_path / "f.npz", model=pipeline, **{"window": 0.1, **options})
    assert sorted(path.name for path in (tmp_path / "f.npz.part").iterdir()) == before
    embed(names, tmp_path / "f.npz", model=pipeline, **{"window": 0.1, **options}, force=True)
    embed(names, tmp_path / "e.npz", model=pipeline, **{"window": 0.1, **options})
    assert same(tmp_path / "f.npz", tmp_path / "e.npz")
    assert not (tmp_path / "f.npz.part").exists()


def test_force_resumes_its_own_work(
    pipeline: VideoPipeline, names: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "f.npz").write_text("old")
    monkeypatch.setattr(EmbedRun, "_add", stopping_after(14))
    with pytest.raises(Stop):
        embed(names, tmp_path / "f.npz", model=pipeline, window=0.1, force=True)
    assert (tmp_path / "f.npz").read_text() == "old"
    monkeypatch.undo()
    monkeypatch.setattr(EmbedRun, "_add", stopping_after(16))  # 30 in all
    embed(names, tmp_path / "f.npz", model=pipeline, window=0.1, force=True)
    assert read(tmp_path / "f.npz")[0]["pooled"].shape == (30, 16)


def test_resuming_with_other_weights_or_videos_is_refused(
    tiny_folder: Path, names: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)
    videos = [tmp_path / name for name in ("a.mp4", "b.mp4")]
    for path in videos:
        shutil.copy(names[0], path)
    how: dict[str, Any] = {"device": "cpu", "isolate": False, "window": 0.1}
    monkeypatch.setattr(EmbedRun, "_add", stopping_after(14))
    with pytest.raises(Stop):
        embed(videos, tmp_path / "f.npz", model=folder, **how)
    monkeypatch.undo()
    weights = load_file(folder / "model.safetensors")
    save_file({**weights, "logit_scale": weights["logit_scale"] + 1e-6}, folder / "model.safetensors")
    with pytest.raises(ValueError, match="another weights"):
        embed(videos, tmp_path / "f.npz", model=folder, **how)
    shutil.copy(tiny_folder / "model.safetensors", folder)
    with pytest.raises(ValueError, match=r"2 videos \(now 1"):
        embed(videos[:1], tmp_path / "f.npz", model=folder, **how)
    with pytest.raises(ValueError, match=r"number 1 was .*a\.mp4, now .*b\.mp4"):
        embed(videos[::-1], tmp_path / "f.npz", model=folder, **how)
    shutil.copy(names[2], videos[1])
    with pytest.raises(ValueError, match=r"b\.mp4 has changed since"):
        embed(videos, tmp_path / "f.npz", model=folder, **how)


def test_a_full_disk(
    pipeline: VideoPipeline, names: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how: dict[str, Any] = {"model": pipeline, "window": 0.1}
    embed(names, tmp_path / "whole.npz", **how)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:  # while rows are written
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            embed(names, tmp_path / "f.npz", **how)
    assert not (tmp_path / "f.npz").exists()
    with monkeypatch.context() as patch:  # while the file is written
        patch.setattr(run, "write_features", full)
        with pytest.raises(OSError, match="No space left"):
            embed(names, tmp_path / "f.npz", **how)
    with monkeypatch.context() as patch:
        patch.setattr(EmbedRun, "_add", stopping_after(0))  # all rows are written already
        embed(names, tmp_path / "f.npz", **how)
    assert same(tmp_path / "f.npz", tmp_path / "whole.npz")
    assert {path.name for path in tmp_path.iterdir()} == {"f.npz", "whole.npz"}


def test_damaged_shards_are_computed_again(
    pipeline: VideoPipeline, names: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how: dict[str, Any] = {"model": pipeline, "window": 0.1}
    embed(names, tmp_path / "whole.npz", **how)
    monkeypatch.setattr(run, "_WRITE_EVERY_BYTES", 1)
    monkeypatch.setattr(EmbedRun, "_add", stopping_after(14))
    with pytest.raises(Stop):
        embed(names, tmp_path / "f.npz", **how)
    monkeypatch.undo()
    shards = sorted((tmp_path / "f.npz.part").glob("*.safetensors"))
    assert len(shards) >= 10
    shards[4].write_bytes(b"")  # as after a system crash
    (tmp_path / "f.npz.part" / "00000099.safetensors.tmp").write_bytes(b"torn")
    embed(names, tmp_path / "f.npz", **how)
    assert same(tmp_path / "f.npz", tmp_path / "whole.npz")


def test_a_run_killed_before_its_folder_was_removed(
    pipeline: VideoPipeline, names: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(self: Any) -> None:
        raise Stop

    original = Unfinished.clear
    calls = []

    def clear(self: Unfinished) -> None:
        calls.append(1)
        if len(calls) > 1:  # the first call makes room
            raise Stop
        original(self)

    with monkeypatch.context() as patch:
        patch.setattr(Unfinished, "clear", clear)
        with pytest.raises(Stop):
            embed(names, tmp_path / "f.npz", model=pipeline)
    assert (tmp_path / "f.npz").exists()
    assert (tmp_path / "f.npz.part").exists()
    with pytest.raises(FileExistsError):
        embed(names, tmp_path / "f.npz", model=pipeline)
    assert not (tmp_path / "f.npz.part").exists()


def test_two_runs_at_once_are_refused(pipeline: VideoPipeline, names: list[Path], tmp_path: Path) -> None:
    with Unfinished(tmp_path / "f.npz"), pytest.raises(ValueError, match="another run is at work on it"):
        embed(names, tmp_path / "f.npz", model=pipeline)
    embed(names, tmp_path / "f.npz", model=pipeline)


def test_a_foreign_folder_is_refused(pipeline: VideoPipeline, names: list[Path], tmp_path: Path) -> None:
    (tmp_path / "f.npz.part").mkdir()
    (tmp_path / "f.npz.part" / "letter.txt").write_text("mine")
    (tmp_path / "g.npz.part").write_text("mine")
    for name, message in (("f.npz", "is not the folder of an unfinished"), ("g.npz", "is not a folder")):
        for force in (False, True):
            with pytest.raises(ValueError, match=message):
                embed(names, tmp_path / name, model=pipeline, force=force)
    assert (tmp_path / "f.npz.part" / "letter.txt").read_text() == "mine"


@pytest.mark.slow
def test_unwritten_rows_are_bounded(
    pipeline: VideoPipeline, names: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 0
    original = EmbedRun._add

    def add(self: Any, video: int, clip: Any) -> None:
        nonlocal most
        original(self, video, clip)
        most = max(most, len(self._rows))

    monkeypatch.setattr(EmbedRun, "_add", add)
    monkeypatch.setattr(run, "_WRITE_EVERY_BYTES", 1000)
    embed(names, tmp_path / "f.parquet", model=pipeline, window=0.1, stride=0.0091, patches=True)
    assert most < 5
    assert read(tmp_path / "f.parquet")[0]["pooled"].shape == (3 * 99, 16)


# ------------------------------------------------------------------------------------------------------------- formats


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("parts", [[3000], [1] * 30, [1000, 24, 1, 1, 2000, 47], []])
def test_the_file_does_not_depend_on_how_rows_were_divided(tmp_path: Path, suffix: str, parts: list[int]) -> None:
    number = sum(parts)
    columns = {
        "video": np.arange(number) % 3,
        "times": np.random.default_rng(0).random((number, 2)),
        "pooled": np.random.default_rng(1).random((number, 5), dtype=np.float32),
        "patches": np.random.default_rng(2).random((number, 3, 5), dtype=np.float32),
    }
    shapes = {name: (str(column.dtype), column.shape) for name, column in columns.items()}

    def rows(sizes: list[int]) -> Callable[[Any], Iterator[dict[str, Any]]]:
        ends = np.cumsum(sizes)
        return lambda names: (
            {name: columns[name][end - size : end] for name in ("video", *names)}
            for size, end in zip(sizes, ends, strict=True)
        )

    metadata = {"paths": ["a", "b", "c"]}
    write_features(tmp_path / f"parts{suffix}", rows(parts), shapes, metadata)
    write_features(tmp_path / f"whole{suffix}", rows([number] if number else []), shapes, metadata)
    assert same(tmp_path / f"parts{suffix}", tmp_path / f"whole{suffix}")
    found, stored = read(tmp_path / f"parts{suffix}")
    assert stored == metadata
    for name in ("times", "pooled", "patches"):
        assert (np.reshape(found[name], columns[name].shape) == columns[name]).all()
    assert found["path"] == ["abc"[i] for i in columns["video"]]


def test_fingerprints(tiny_folder: Path) -> None:
    model = XCLIPModel.from_pretrained(tiny_folder)
    before = fingerprint(model)
    assert before == fingerprint(XCLIPModel.from_pretrained(tiny_folder))
    assert before != fingerprint(XCLIPModel.from_pretrained(tiny_folder, dtype="bfloat16"))
    with torch.no_grad():
        model.logit_scale.add_(1e-6)
    assert fingerprint(model) != before


def test_progress_without_work(tmp_path: Path) -> None:
    with Unfinished(tmp_path / "f.npz") as work:
        assert work.progress() == Progress()
    assert list(tmp_path.iterdir()) == []


def test_a_loaded_models_fingerprint_is_computed_once(tiny_folder: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    model = XCLIPModel.from_pretrained(folder)
    right = fingerprint(model)
    counted = []
    monkeypatch.setattr(fingerprints, "fingerprint", lambda model: counted.append(1) or fingerprint(model))
    assert [fingerprint_by_name(model, str(folder)) for _ in range(3)] == [right] * 3
    assert len(counted) == 1
    for name in (tmp_path / "cache/openxclip/fingerprints").iterdir():
        name.write_text("half")
    assert fingerprint_by_name(model, str(folder)) == right
    model.logit_scale.data.add_(1)
    model.save_pretrained(folder)
    assert fingerprint_by_name(model, str(folder)) == fingerprint(model) != right
    assert len(counted) == 3
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")  # nothing can be cached there
    assert fingerprint_by_name(model, str(folder)) == fingerprint(model)
    assert fingerprint_by_name(model, str(tmp_path / "none")) == fingerprint(model)
