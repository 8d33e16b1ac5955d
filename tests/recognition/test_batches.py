"""Clips of several videos in one call of the model have the same features, in order and without delay."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from torch import Tensor

from openxclip import VideoError, XCLIPConfig, classify
from openxclip.model import VideoFeatures
from openxclip.pipeline import VideoPipeline
from openxclip.pipeline import pipeline as pipeline_module
from openxclip.pipeline.batching import VideoResult, batch_size, check_batch, clip_bytes, encode_in_batches
from openxclip.pipeline.clip_reading import ClipInfo, ClipReader, ReadClip
from openxclip.recognition import Classifier
from openxclip.video import ReadOptions, read_clips
from openxclip.video import clips as video_clips
from openxclip.video.ahead import ReadAhead
from openxclip.video.clips import ClipPlan

PATIENCE = 30.0


class Watched:
    """A model with only the attributes that a pipeline may use, which records its calls."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.calls: list[int] = []
        self.inputs: list[Tensor] = []
        self.may_go = threading.Event()
        self.may_go.set()

    def encode_video(self, pixel_values: Tensor) -> VideoFeatures:
        assert self.may_go.wait(PATIENCE)
        self.calls.append(len(pixel_values))
        self.inputs.append(pixel_values)
        features: VideoFeatures = self._model.encode_video(pixel_values)
        return features

    def get_text_features(self, input_ids: Tensor, attention_mask: Tensor) -> Any:
        return self._model.get_text_features(input_ids, attention_mask)

    def __call__(self, *, text_features: Tensor, video_features: VideoFeatures) -> Any:
        return self._model(text_features=text_features, video_features=video_features)

    @property
    def config(self) -> XCLIPConfig:
        config: XCLIPConfig = self._model.config
        return config

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32

    @property
    def training(self) -> bool:
        return False


@pytest.fixture(scope="module")
def plain(tiny_folder: Path) -> VideoPipeline:
    return VideoPipeline.from_pretrained(tiny_folder, device="cpu")


@pytest.fixture
def model(plain: VideoPipeline) -> Watched:
    return Watched(plain.model)


@pytest.fixture
def pipeline(plain: VideoPipeline, model: Watched) -> VideoPipeline:
    return VideoPipeline(model, plain.processor, isolate=False)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def many(clip_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Twelve different videos of several sizes and lengths, two of them unreadable."""
    folder = tmp_path_factory.mktemp("many")
    for i in range(12):
        if i in (0, 7):
            (folder / f"{i:02}.mp4").write_text("not a video")
            continue
        with av.open(str(folder / f"{i:02}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=10)
            stream.width, stream.height, stream.pix_fmt = 32 + 16 * (i % 3), 48, "yuv420p"
            for t in range(4 + i):
                picture = np.full((48, stream.width, 3), (20 * i, 9 * t, 255 - 20 * i), dtype=np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
    return [*sorted(folder.iterdir()), folder / "gone.mp4"]


def compare(ours: list[VideoResult], theirs: list[VideoResult]) -> None:
    assert [(one.source, one.times, str(one.error)) for one in ours] == [
        (one.source, one.times, str(one.error)) for one in theirs
    ]
    for one, other in zip(ours, theirs, strict=True):
        if one.features is not None and other.features is not None:
            torch.testing.assert_close(one.features.pooled, other.features.pooled, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(one.features.patches, other.features.patches, atol=1e-5, rtol=1e-5)
        assert (one.features is None) == (one.error is not None)


def pile_up(
    pipeline: VideoPipeline, model: Watched, sources: Any, plan: ClipPlan | None = None, *, batch: int
) -> list[VideoResult]:
    """Return the results when everything is read while the model is busy with the first clip."""
    model.may_go.clear()
    threading.Timer(0.3, model.may_go.set).start()
    return list(pipeline.encode_videos(sources, plan, batch=batch))


@pytest.mark.parametrize("batch", [1, 2, 5, 64])
@pytest.mark.parametrize("num_clips", [1, 3])
def test_clips_of_several_videos_in_one_batch_have_the_same_features(
    plain: VideoPipeline, pipeline: VideoPipeline, model: Watched, many: list[Path], batch: int, num_clips: int
) -> None:
    together = pile_up(pipeline, model, many, ClipPlan(num_clips=num_clips), batch=batch)
    assert max(model.calls) <= batch
    assert sum(model.calls) == 10 * num_clips
    alone = [one for path in many for one in plain.encode_videos([path], ClipPlan(num_clips=num_clips), batch=1)]
    compare(together, alone)
    assert [one.error is None for one in together] == [i not in (0, 7, 12) for i in range(13)]


def test_clips_read_while_the_model_is_busy_form_one_batch() -> None:
    calls: list[int] = []

    def reader(item: int) -> Generator[list[ReadClip], None, None]:
        yield [ReadClip(torch.full((1, 3, 2, 2), item, dtype=torch.uint8), ClipInfo((0.0,))) for _ in range(item % 4)]

    def encode(levels: list[Tensor]) -> VideoFeatures:
        calls.append(len(levels))
        end = time.monotonic() + PATIENCE
        while read._may_start() and not read._items_ended:
            assert time.monotonic() < end
            time.sleep(0.001)
        numbers = torch.stack(levels).flatten(1).float()[:, :1]
        return VideoFeatures(numbers, numbers[:, None])

    read = ReadAhead([reader], range(40), ahead=20, room=7, size=len)
    got = list(encode_in_batches(read, encode, batch=6, only_full=False))
    assert sum(calls) == sum(i % 4 for i in range(40))
    assert set(calls[1:-1]) == {6}
    assert [one.item for one in got] == [i for i in range(40) for _ in range(i % 4 + 1)]
    assert all(one.features is None or one.features.pooled.item() == one.item for one in got)


def test_pixel_values_equal_the_processors(
    plain: VideoPipeline, pipeline: VideoPipeline, model: Watched, many: list[Path]
) -> None:
    pile_up(pipeline, model, many[1:7], ClipPlan(num_clips=2), batch=5)
    expected = [
        plain.processor(
            videos=[clip.frames_THWC for clip in read_clips(path, ClipPlan(num_frames=4, num_clips=2))],
            return_tensors="pt",
        ).pixel_values
        for path in many[1:7]
    ]
    assert torch.equal(torch.cat(model.inputs), torch.cat(expected))


def test_a_video_with_more_clips_than_a_batch_is_split(
    plain: VideoPipeline, pipeline: VideoPipeline, model: Watched, clip_folder: Path
) -> None:
    (split,) = pipeline.encode_videos([clip_folder / "red2.mp4"], ClipPlan(num_clips=7), batch=3)
    assert model.calls == [3, 3, 1]
    (whole,) = plain.encode_videos([clip_folder / "red2.mp4"], ClipPlan(num_clips=7), batch=7)
    compare([split], [whole])


def test_a_result_does_not_wait_for_the_next_input(pipeline: VideoPipeline, model: Watched, many: list[Path]) -> None:
    seen = threading.Event()

    def stream() -> Iterator[Path]:
        yield many[1]
        assert seen.wait(PATIENCE)
        yield many[0]  # it is no video, and its error isn't delayed either
        assert seen.wait(PATIENCE)
        yield many[2]

    results = pipeline.encode_videos(stream(), batch=8)
    assert next(results).source == many[1]
    assert model.calls == [1]
    seen.set()
    error = next(results)
    assert (error.source, error.features) == (many[0], None)
    assert next(results).source == many[2]
    assert list(results) == []


def test_a_slow_video_does_not_delay_earlier_results(
    plain: VideoPipeline, pipeline: VideoPipeline, model: Watched, many: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    may_read = threading.Event()
    original = ClipReader.read_clips

    def slow(reader: Any, worker: Any, source: Any) -> Any:
        if source == many[3]:
            assert may_read.wait(PATIENCE)
        return original(reader, worker, source)

    monkeypatch.setattr(ClipReader, "read_clips", slow)
    results = pipeline.encode_videos(many[1:7], batch=4)
    got = [next(results), next(results)]
    may_read.set()
    got += results
    monkeypatch.undo()
    compare(got, list(plain.encode_videos(many[1:7])))


def test_results_of_an_endless_source(pipeline: VideoPipeline, clip_folder: Path) -> None:
    results = pipeline.encode_videos(itertools.repeat(clip_folder / "red2.mp4"), batch=4)
    assert all(one.error is None for one in itertools.islice(results, 20))
    results.close()


def test_an_error_of_the_source_is_raised_after_its_results(pipeline: VideoPipeline, many: list[Path]) -> None:
    def stream() -> Iterator[Path]:
        yield from many[1:4]
        raise RuntimeError("the list has a hole")

    results = pipeline.encode_videos(stream(), batch=8)
    assert [next(results).source for _ in range(3)] == many[1:4]
    with pytest.raises(RuntimeError, match="has a hole"):
        next(results)


def test_an_item_that_is_not_a_video_raises_after_earlier_results(pipeline: VideoPipeline, many: list[Path]) -> None:
    results = pipeline.encode_videos([many[1], 7, many[2]], batch=8)  # type: ignore[list-item]
    assert next(results).source == many[1]
    with pytest.raises(TypeError, match="a video is a path"):
        next(results)
    with pytest.raises(ValueError, match="num_clips=0"):
        next(pipeline.encode_videos(many[1:], ClipPlan(num_clips=0)))


@pytest.mark.parametrize("batch", [1, 6])
def test_the_number_of_decoded_clips_is_bounded(
    pipeline: VideoPipeline, clip_folder: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    alive: list[weakref.ref[Tensor]] = []
    original, most = ClipReader.read_clips, 0

    def watched(*arguments: Any) -> Any:
        nonlocal most
        for clips in original(*arguments):
            assert all(levels.dtype == torch.uint8 and levels.shape == (4, 3, 32, 32) for levels, _ in clips)
            alive.extend(weakref.ref(levels) for levels, _ in clips)
            most = max(most, sum(one() is not None for one in alive))
            yield clips
            del clips

    monkeypatch.setattr(ClipReader, "read_clips", watched)
    for _ in pipeline.encode_videos([clip_folder / "red2.mp4"] * 60, batch=batch):
        pass
    assert most <= 2 * batch + 3


def test_results_have_their_own_memory(pipeline: VideoPipeline, model: Watched, many: list[Path]) -> None:
    for one in pile_up(pipeline, model, many[1:7], batch=6):
        assert one.features is not None
        for tensor in one.features:
            assert tensor.untyped_storage().nbytes() == tensor.nbytes


def test_uncropped_frames_of_several_sizes(plain: VideoPipeline, many: list[Path]) -> None:
    class Any32:
        """Takes frames of any size, like a model with interpolated positions."""

        def __init__(self) -> None:
            self.shapes: list[tuple[int, ...]] = []
            self.config, self.device, self.dtype = plain.model.config, torch.device("cpu"), torch.float32
            self.training = False

        def encode_video(self, pixel_values: Tensor) -> VideoFeatures:
            self.shapes.append(tuple(pixel_values.shape))
            pooled = pixel_values.mean(dim=(1, 3, 4))
            return VideoFeatures(pooled, pooled[:, None])

    model = Any32()
    processor = type(plain.processor)(plain.processor.image_processor.replace(do_center_crop=False))
    pipeline = VideoPipeline(model, processor, isolate=False)  # type: ignore[arg-type]
    together = list(pipeline.encode_videos(many[1:7], batch=4))
    assert {shape[-2:] for shape in model.shapes} == {(48, 32), (32, 32), (32, 42)}
    compare(together, [one for path in many[1:7] for one in pipeline.encode_videos([path], batch=1)])


def test_several_readers_keep_the_order(
    plain: VideoPipeline, model: Watched, many: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several readers are used beside a GPU."""
    monkeypatch.setattr(VideoPipeline, "_num_readers", lambda self: 3)
    pipeline = VideoPipeline(model, plain.processor)  # type: ignore[arg-type]
    got = list(pipeline.encode_videos(many, batch=4))
    assert len(pipeline._workers._idle) == 3
    compare(got, [one for path in many for one in plain.encode_videos([path])])
    abandoned = pipeline.encode_videos(many, batch=4)
    next(abandoned)
    abandoned.close()
    assert not pipeline._workers._idle
    pipeline.close()


def test_one_video_has_one_reader(plain: VideoPipeline, clip_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(VideoPipeline, "_num_readers", lambda self: 3)
    pipeline = VideoPipeline(plain.model, plain.processor)
    assert len(list(pipeline.encode_videos([clip_folder / "red2.mp4"]))) == 1
    assert len(list(pipeline.encode_clips([clip_folder / "red2.mp4"], ClipPlan(num_frames=4)))) == 2
    assert len(pipeline._workers._idle) == 1
    pipeline.close()


# ------------------------------------------------------------------------------------------------------------- clips


def test_clips_of_a_plan_form_full_batches(
    plain: VideoPipeline, pipeline: VideoPipeline, model: Watched, many: list[Path]
) -> None:
    plan = ClipPlan(num_frames=4, window=0.2)
    together = list(pipeline.encode_clips(many, plan, batch=4))
    total = sum(one.features is not None for one in together)
    assert model.calls == [4] * (total // 4) + [total % 4] * bool(total % 4)
    ends = [(one.source, one.error is None) for one in together if one.features is None]
    assert ends == [(path, i not in (0, 7, 12)) for i, path in enumerate(many)]
    for one in together:
        if one.features is not None:
            (alone,) = plain.encode_videos([one.source], ClipPlan(start=one.start, end=one.start + 0.2))
            assert alone.features is not None
            assert alone.times == (one.times,)
            torch.testing.assert_close(one.features.pooled, alone.features.pooled, atol=1e-5, rtol=1e-5)


def test_resuming_in_the_middle_gives_identical_features(
    plain: VideoPipeline, pipeline: VideoPipeline, many: list[Path]
) -> None:
    # The pipeline does this itself, unless the model is watched: otherwise the plain model computes the first clips
    plain.model.prepare_at_next_use()
    plan = ClipPlan(num_frames=4, window=0.2, stride=0.1)
    whole = [one for one in pipeline.encode_clips(many[1:5], plan, batch=2) if one.features is not None]
    at = 6  # clips, three batches: in the second video
    first = at - sum(one.source == many[1] for one in whole)
    assert first == 2
    rest = [one for one in pipeline.encode_clips(many[2:5], plan, first=first, batch=2) if one.features is not None]
    assert len(rest) == len(whole) - at
    for one, other in zip(rest, whole[at:], strict=True):
        assert one.features is not None
        assert other.features is not None
        assert torch.equal(one.features.pooled, other.features.pooled)
        assert (one.times, one.start, one.end) == (other.times, other.start, other.end)


def clips_alive_after(monkeypatch: pytest.MonkeyPatch, owner: object, function: str) -> list[int]:
    """Return a list that grows by the number of clips in memory with each result of a reading function."""
    alive: list[weakref.ref[Tensor]] = []
    numbers: list[int] = []
    original = getattr(owner, function)

    def watched(*arguments: Any) -> Any:
        for clips in original(*arguments):
            alive.extend(weakref.ref(levels) for levels, _ in clips)
            numbers.append(sum(one() is not None for one in alive))
            yield clips
            del clips

    monkeypatch.setattr(owner, function, watched)
    return numbers


@pytest.mark.parametrize("batch", [*(pytest.param(size, marks=pytest.mark.slow) for size in (1, 6)), 64])
def test_the_number_of_waiting_windows_is_bounded(
    pipeline: VideoPipeline, clip_folder: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    waiting = clips_alive_after(monkeypatch, pipeline_module, "_read_clips")
    plan = ClipPlan(num_frames=4, window=0.2, stride=0.0163)  # 50 of each
    assert sum(1 for _ in pipeline.encode_clips([clip_folder / "red2.mp4"] * 20, plan, batch=batch)) == 20 * 51
    assert max(waiting) <= 2 * batch + 4 * 32


def test_the_number_of_waiting_clips_over_a_video_is_bounded(
    pipeline: VideoPipeline, clip_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All clips end at the same time, but neither their frames nor their resized frames pile up."""
    waiting = clips_alive_after(monkeypatch, ClipReader, "read_clips")
    (encoded,) = pipeline.encode_videos([clip_folder / "red2.mp4"], ClipPlan(num_clips=400), batch=16)
    assert encoded.features is not None
    assert encoded.features.pooled.shape[0] == len(encoded.times) == 400
    assert max(waiting) <= 2 * 16 + 4 * 32


# ----------------------------------------------------------------------------------------------------- how many clips


def test_auto_is_one_on_a_cpu_and_depends_on_memory_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    config, cpu, gpu = XCLIPConfig(), torch.device("cpu"), torch.device("cuda", 0)
    how: dict[str, Any] = {"num_frames": 8, "dtype": torch.float32}
    assert batch_size("auto", config, device=cpu, **how) == 1
    assert batch_size(7, config, device=gpu, **how) == 7
    each = clip_bytes(config, **how)
    assert 10 << 20 < each < 30 << 20
    assert clip_bytes(config, num_frames=16, dtype=torch.float32) == 2 * each
    for free, expected in ((80 << 30, 64), (20 * each, 10), (5 * each, 2), (0, 1)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 80 << 30))
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 1000)
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 1000)
        assert batch_size("auto", config, device=gpu, **how) == expected


@pytest.mark.parametrize("batch", [0, -1, 1.5, True, "all", "8", None])
def test_impossible_batches_are_refused(pipeline: VideoPipeline, clip_folder: Path, batch: Any) -> None:
    for call in (
        lambda: check_batch(batch),
        lambda: pipeline.encode_videos([], batch=batch),
        lambda: pipeline.encode_clips([], ClipPlan(num_frames=1), batch=batch),
        lambda: Classifier(pipeline, ["a"])([], batch=batch),
        lambda: classify(clip_folder, ["a"], model=pipeline, batch=batch),
    ):
        with pytest.raises(ValueError, match=f"batch={batch!r}: must be a number of clips"):
            call()


def test_classify_in_batches(plain: VideoPipeline, clip_folder: Path) -> None:
    expected = classify(clip_folder, ["a", "b"], model=plain, num_clips=2)
    for batch in (3, 100):
        for one, other in zip(
            classify(clip_folder, ["a", "b"], model=plain, num_clips=2, batch=batch), expected, strict=True
        ):
            assert one.path == other.path
            assert [label.score for label in one.labels] == pytest.approx(
                [label.score for label in other.labels], abs=1e-5
            )


# ------------------------------------------------------------------------------------------------------------ the end


def run(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


START = (
    "import itertools, sys, time\nfrom openxclip.pipeline import VideoPipeline\n"
    "pipeline = VideoPipeline.from_pretrained(sys.argv[1], device='cpu')\n"
)


@pytest.mark.slow
def test_a_program_with_open_generators_ends(tiny_folder: Path, clip_folder: Path) -> None:
    code = START + (
        "def waiting():\n    yield sys.argv[2]\n    time.sleep(1000)\n"
        "one = pipeline.encode_videos(itertools.repeat(sys.argv[2]), batch=3); next(one)\n"
        "two = pipeline.encode_videos(waiting(), batch=3); next(two)\n"
        "three = pipeline.encode_videos(iter(sys.stdin.readline, ''), batch=3)\n"
        "print('done')\n"
    )
    done = run(code, tiny_folder, clip_folder / "red2.mp4")
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


@pytest.mark.slow
def test_names_arrive_through_a_pipe_one_by_one(tiny_folder: Path, clip_folder: Path) -> None:
    code = START + (
        "for one in pipeline.encode_videos((line.strip() for line in sys.stdin), batch=8):\n"
        "    print(one.source, one.error is None, flush=True)\n"
        "    if one.source == 'last': break\n"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tiny_folder)], stdin=pipe, stdout=pipe, stderr=pipe, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        for name in (str(clip_folder / "red2.mp4"), str(clip_folder / "red10.mp4"), "last"):
            process.stdin.write(f"{name}\n")
            process.stdin.flush()
            assert process.stdout.readline() == f"{name} {name != 'last'}\n"  # before the next line
        assert process.wait(timeout=PATIENCE) == 0  # although a thread waits for another line
        assert process.stderr.read() == ""


@pytest.mark.slow
def test_ctrl_c_while_videos_are_encoded(tiny_folder: Path, clip_folder: Path) -> None:
    code = START + (
        "for one in pipeline.encode_videos(itertools.repeat(sys.argv[2]), batch=3): print('one', flush=True)\n"
    )
    command = [sys.executable, "-c", code, str(tiny_folder), str(clip_folder / "red2.mp4")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == -signal.SIGINT
    assert stderr.count("Traceback") == 1
    assert stderr.rstrip().endswith("KeyboardInterrupt")


def test_closing_a_generator_leaves_no_thread(plain: VideoPipeline, pipeline: VideoPipeline, clip_folder: Path) -> None:
    before = set(threading.enumerate())
    for one in (plain, pipeline):
        results = one.encode_videos(itertools.repeat(clip_folder / "red2.mp4"), batch=3)
        next(results)
        results.close()
        classified = Classifier(one, ["a"])(itertools.repeat(clip_folder / "red2.mp4"), batch=3)
        next(classified)
        classified.close()  # type: ignore[attr-defined]
    end = time.monotonic() + PATIENCE
    while any(thread.name == "decode" for thread in set(threading.enumerate()) - before):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_kept_error_keeps_nothing_else_alive(plain: VideoPipeline, many: list[Path]) -> None:
    pipeline = VideoPipeline(plain.model, plain.processor, isolate=False)
    kept = [one.error for one in pipeline.encode_videos(many, batch=4) if one.error]
    assert len(kept) == 3
    assert all(isinstance(error, VideoError) and error.__traceback__ is None for error in kept)
    gone = weakref.ref(pipeline)
    del pipeline
    end = time.monotonic() + PATIENCE
    while gone() is not None:
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.slow
def test_batch_option_of_the_command(tiny_folder: Path, clip_folder: Path) -> None:
    command = [sys.executable, "-m", "openxclip.cli.main", "classify", str(clip_folder), "--labels", "a,b"]
    command += ["--model", str(tiny_folder), "--device", "cpu", "--batch"]
    rows = []
    for batch in ("auto", "2"):
        done = subprocess.run([*command, batch], capture_output=True, text=True, timeout=120, check=True)
        rows.append([json.loads(line) for line in done.stdout.splitlines()])
    for one, other in zip(*rows, strict=True):
        assert one["path"] == other["path"]
        assert one["labels"][0]["score"] == pytest.approx(other["labels"][0]["score"], abs=1e-5)
    for batch in ("0", "-3", "some", ""):
        done = subprocess.run([*command, batch], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 2
        assert "--batch" in done.stderr
        assert "must be a number of clips" in done.stderr


@pytest.mark.parametrize("bytes_kept", [3 * 24 * 32 // 4, 10**9], ids=["small early", "small late"])
def test_clips_do_not_depend_on_how_their_frames_are_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bytes_kept: int
) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (90, 24, 32, 3), dtype=np.uint8)
    np.save(tmp_path / "noise.npy", frames)
    monkeypatch.setattr(video_clips, "_PIECE_BYTES", 200 * 24 * 32 * 3)
    plan = ClipPlan(num_frames=4, num_clips=70)

    def views(frames_TCHW: Tensor) -> list[Tensor]:
        return [frames_TCHW[..., ::2, ::2], frames_TCHW[..., 1::2, 1::2]]

    reader = ClipReader(plan, ReadOptions(fps=25), views, bytes_kept)
    parts = list(reader.read_clips(None, tmp_path / "noise.npy"))
    assert max(map(len, parts)) == 2 * 32
    got = [view for part in parts for view in part]
    expected = read_clips(tmp_path / "noise.npy", ClipPlan(num_frames=4, num_clips=70), read=ReadOptions(fps=25))
    assert len(got) == 2 * len(expected) == 2 * 70
    for first, second, clip in zip(got[::2], got[1::2], expected, strict=True):
        for read, view in zip((first, second), views(clip.frames_THWC.permute(0, 3, 1, 2)), strict=True):
            assert torch.equal(read.levels_TCHW, view)
            assert read.info.times == tuple(clip.times_T.tolist())
