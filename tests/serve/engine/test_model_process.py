"""The process that holds the model answers as the library does, under the client's names."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engine_fakes import until, value_of
from moving_squares import write_video

from openxclip import VideoIndex, classify, timeline
from openxclip.errors import DecoderCrashError, VideoError
from openxclip.serve.engine.engine import Engine
from openxclip.serve.engine.errors import ModelGoneError, NoIndexError, VideoTooLongError, WrongIndexError
from openxclip.serve.engine.tasks import (
    CallTask,
    CheckTask,
    ClassifyTask,
    EmbedTextsTask,
    EmbedVideoTask,
    FrameTask,
    IndexInfoTask,
    ModelInfoTask,
    PreviewTask,
    SearchTask,
    TimelineTask,
)
from openxclip.serve.settings import ServeSettings

pytestmark = pytest.mark.slow  # starts a process with PyTorch several times

Ask = Callable[[Awaitable[Any]], Any]


@pytest.fixture(scope="module")
def ask() -> Iterator[Ask]:
    """Run coroutines of this module's tests in one event loop."""
    loop = asyncio.new_event_loop()
    yield lambda work: loop.run_until_complete(asyncio.wait_for(work, 120))
    loop.close()


@pytest.fixture(scope="module")
def engine(ask: Ask, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine whose model is loaded once for all tests."""
    data = tmp_path_factory.mktemp("data")
    settings = ServeSettings(model=str(tiny_folder), data=data, max_duration=5.0, concurrency=1)

    async def start() -> Engine:
        made = Engine(settings)
        await made.start()
        return made

    made = ask(start())
    yield made
    ask(made.stop())


def test_classify_answers_as_the_library(engine: Engine, ask: Ask, clip_folder: Path, tiny_folder: Path) -> None:
    clip, labels = clip_folder / "red2.mp4", ("a red wall", "a blue wall", "rain")
    answer = ask(engine.run(ClassifyTask(path=clip, name="mine.mp4", labels=labels, top=2)))
    (own,) = classify(str(clip), labels, model=str(tiny_folder), top_k=2, isolate=False)
    assert answer["model"] == tiny_folder.name  # without the path
    assert answer["result"]["path"] == "mine.mp4"
    assert [row["label"] for row in answer["result"]["labels"]] == [row.label for row in own.labels]
    scores = [row["score"] for row in answer["result"]["labels"]]
    assert scores == pytest.approx([row.score for row in own.labels], abs=1e-4)
    assert answer["result"]["times"] == [pytest.approx(list(own.times[0]), abs=1e-3)]
    assert answer["notes"] == []


def test_what_is_cut_is_said_at_every_request(engine: Engine, ask: Ask, clip_folder: Path) -> None:
    task = ClassifyTask(path=clip_folder / "red2.mp4", name="mine.mp4", labels=("very " * 100 + "long", "short"))
    for _ in range(2):  # the second time, the features of the labels are kept
        (note,) = ask(engine.run(task))["notes"]
        assert "77" in note


def test_timeline_answers_as_the_library_and_reports_progress(
    engine: Engine, ask: Ask, clip_folder: Path, tiny_folder: Path
) -> None:
    clip, labels = clip_folder / "red2.mp4", ("a red wall", "rain")
    seen: list[tuple[float, float]] = []
    task = TimelineTask(path=clip, name="mine.mp4", labels=labels, window=0.4, stride=0.2)
    answer = ask(engine.run(task, on_progress=lambda done, total: seen.append((done, total))))
    own = timeline(str(clip), labels, model=str(tiny_folder), window=0.4, stride=0.2, isolate=False)
    expected = own.to_dict(scores=True) | {"path": "mine.mp4"}
    result = answer["result"]
    for label in labels:
        assert result["scores"]["labels"][label] == pytest.approx(expected["scores"]["labels"][label], abs=1e-4)
    assert result["scores"]["start"] == expected["scores"]["start"]
    assert (result["duration"], result["windows"], result["path"]) == (1.0, 4, "mine.mp4")
    assert seen[0][1] == 1.0


def test_embeddings_have_length_one(engine: Engine, ask: Ask, clip_folder: Path) -> None:
    texts = ask(engine.run(EmbedTextsTask(texts=("a red wall", "rain on a wall"))))
    assert texts["embeddings"].shape == (2, 16)
    assert texts["embeddings"].dtype == np.float32
    assert np.linalg.norm(texts["embeddings"], axis=1) == pytest.approx([1, 1], abs=1e-5)
    assert texts["tokens"] == 5 + 6  # with the start and the end of each
    video = ask(engine.run(EmbedVideoTask(path=clip_folder / "red2.mp4", name="mine.mp4")))
    assert (video["embeddings"].shape, video["frames"]) == ((1, 16), 4)


def test_videos_are_refused_under_the_clients_name(engine: Engine, ask: Ask, clip_folder: Path, tmp_path: Path) -> None:
    upload = tmp_path / "3f2a.part"
    upload.write_bytes(b"no video at all" * 100)
    tasks = [
        ClassifyTask(path=upload, name="mine.mp4", labels=("a",)),
        TimelineTask(path=upload, name="mine.mp4", labels=("a",)),
        EmbedVideoTask(path=upload, name="mine.mp4"),
        FrameTask(path=upload, name="mine.mp4", time=0.0),
        PreviewTask(path=upload, name="mine.mp4", out=tmp_path / "out.mp4"),
    ]
    for task in tasks:
        with pytest.raises(VideoError, match=r"^mine\.mp4: it is not a video") as error:
            ask(engine.run(task))
        assert "3f2a" not in str(error.value)
    report = ask(engine.run(CheckTask(path=upload, name="mine.mp4")))
    assert report["path"] == "mine.mp4"
    assert "not a video" in report["error"]
    assert list(tmp_path.iterdir()) == [upload]
    with pytest.raises(ValueError, match="given twice"):
        ask(engine.run(ClassifyTask(path=clip_folder / "red2.mp4", name="mine.mp4", labels=("a", "a"))))


def test_a_video_that_is_too_long_is_refused(engine: Engine, ask: Ask, tmp_path: Path) -> None:
    write_video(tmp_path / "1.mp4", step=(1, 1), seed=0, frames=60)  # 6 s
    tasks = [
        ClassifyTask(path=tmp_path / "1.mp4", name="mine.mp4", labels=("a",)),
        TimelineTask(path=tmp_path / "1.mp4", name="mine.mp4", labels=("a",), window=1.0),
        FrameTask(path=tmp_path / "1.mp4", name="mine.mp4", time=0.0),
        PreviewTask(path=tmp_path / "1.mp4", name="mine.mp4", out=tmp_path / "out.mp4"),
    ]
    for task in tasks:
        with pytest.raises(VideoTooLongError, match=r"^mine\.mp4: it lasts 6 s: this server takes .* up to 5 s"):
            ask(engine.run(task))


def test_the_model_and_the_state_are_described(engine: Engine, ask: Ask, tiny_folder: Path) -> None:
    facts = ask(engine.run(ModelInfoTask()))
    assert (facts["model"], facts["precision"], facts["device"]) == (tiny_folder.name, "fp32", "cpu")
    assert (facts["frames"], facts["image_size"], facts["embedding_size"]) == (4, 32, 16)
    assert facts["contract"]["threshold"] == 0.5
    state = engine.state
    assert (state.state, state.model, state.queue, state.running) == ("ready", tiny_folder.name, 0, 0)
    assert state.pid is not None
    assert state.rss is None or state.rss > 10_000_000
    assert b"openxclip_process_resident_bytes" in engine.metrics.text()


def test_only_functions_of_the_corrections_can_be_called(engine: Engine, ask: Ask) -> None:
    with pytest.raises(RuntimeError, match="ModuleNotFoundError"):
        ask(engine.run(CallTask(function="../os:system", arguments={"command": "true"})))


def test_the_index_is_searched(engine: Engine, ask: Ask, clip_folder: Path, tiny_folder: Path) -> None:
    for task in (IndexInfoTask(), SearchTask(text="a red wall")):
        with pytest.raises(NoIndexError, match="no index yet"):
            ask(engine.run(task))
    folder = engine.settings.index_folder
    VideoIndex.open(folder, model=str(tiny_folder), window=0.5).add(clip_folder)
    info = ask(engine.run(IndexInfoTask()))
    assert (info["videos"], info["windows"], info["window"]) == (3, 6, 0.5)
    hits = ask(engine.run(SearchTask(text="a red wall", k=2)))["hits"]
    assert len(hits) == 2
    assert {"path", "start", "end", "score", "similarity"} <= set(hits[0])
    clip = clip_folder / "red10.mp4"
    (same,) = ask(engine.run(SearchTask(path=clip, name="mine.mp4", start=0.0, end=0.5, k=1)))["hits"]
    assert same["path"] == str(clip)
    with pytest.raises(ValueError, match="where="):
        ask(engine.run(SearchTask(text="a", where="nonsense(")))


def test_a_decoder_that_is_killed_is_replaced(engine: Engine, ask: Ask, clip_folder: Path) -> None:
    task = ClassifyTask(path=clip_folder / "red2.mp4", name="mine.mp4", labels=("a", "b"))
    ask(engine.run(task))
    for decoder in _children(engine.state.pid):
        os.kill(decoder, signal.SIGKILL)
    assert ask(engine.run(task))["result"]["path"] == "mine.mp4"


def test_a_decoder_that_dies_each_time_is_an_error_of_the_video(engine: Engine, ask: Ask, clip_folder: Path) -> None:
    pid = engine.state.pid
    task = ClassifyTask(path=clip_folder / "red2.mp4", name="mine.mp4", labels=("a", "b"), num_clips=500)

    async def check() -> None:
        running = asyncio.ensure_future(engine.run(task))
        before = value_of(engine.metrics, "decoder_crashes_total") or 0.0
        while not running.done():
            for decoder in _children(pid):
                os.kill(decoder, signal.SIGKILL)
            await asyncio.sleep(0.01)
        with pytest.raises(DecoderCrashError, match=r"^mine\.mp4: "):
            await running
        assert value_of(engine.metrics, "decoder_crashes_total") == before + 2
        assert engine.state.pid == pid

    ask(check())


def _children(pid: int | None) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    if not path.exists():
        pytest.skip("this system doesn't list the children of a process")
    # Those of other threads are listed with them.
    return [int(child) for each in path.parents[1].iterdir() for child in (each / "children").read_text().split()]


def test_cancelling_ends_a_long_read(engine: Engine, ask: Ask, tmp_path: Path) -> None:
    write_video(tmp_path / "1.mp4", step=(1, 1), seed=0, frames=40)
    long = TimelineTask(path=tmp_path / "1.mp4", name="1.mp4", labels=("a",), window=0.2, stride=0.001)
    short = ClassifyTask(path=tmp_path / "1.mp4", name="1.mp4", labels=("a",))

    async def check() -> None:
        pid, seen = engine.state.pid, list[float]()
        running = asyncio.ensure_future(engine.run(long, on_progress=lambda done, total: seen.append(done)))
        await until(lambda: seen)
        waiting = asyncio.ensure_future(engine.run(short))
        running.cancel()
        await waiting
        assert engine.state.pid == pid
        assert max(seen) < 3.9  # the end was not reached

    ask(check())


def test_a_killed_model_fails_only_the_request_in_it(engine: Engine, ask: Ask, clip_folder: Path) -> None:
    task = ClassifyTask(path=clip_folder / "red2.mp4", name="mine.mp4", labels=("a", "b"), num_clips=500)

    async def check() -> None:
        first = engine.state.pid
        assert first is not None
        running = asyncio.ensure_future(engine.run(task))
        waiting = asyncio.ensure_future(engine.run(ClassifyTask(path=task.path, name="2.mp4", labels=("a", "b"))))
        await until(lambda: engine.state.running)
        await until(lambda: engine._model._sent)
        os.kill(first, signal.SIGKILL)
        with pytest.raises(ModelGoneError):
            await running
        assert (await waiting)["result"]["path"] == "2.mp4"
        assert engine.state.pid != first

    ask(check())


def test_an_index_of_another_model_is_refused(
    ask: Ask, engine: Engine, clip_folder: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    from openxclip import VideoPipeline
    from openxclip.serve.engine.context import ModelContext
    from openxclip.serve.engine.settings import EngineSettings
    from openxclip.serve.engine.work import with_names

    folder = tmp_path / "index"
    VideoIndex.open(folder, model=str(tiny_folder), window=0.5).add(clip_folder / "red2.mp4")
    pipeline = VideoPipeline.from_pretrained(tiny_folder, isolate=False)
    with torch.no_grad():
        pipeline.model.logit_scale += 1
    settings = ServeSettings(model=str(tiny_folder), data=tmp_path)
    context = ModelContext(pipeline, EngineSettings.of(settings))
    with pytest.raises(WrongIndexError, match="other weights") as raised:
        context.open_index()
    told = with_names(str(raised.value), context.settings.hidden)
    assert told.startswith(f"the index was made with the model {tiny_folder.name}; ")
    assert str(tiny_folder.parent) not in told
    assert context.problem_of_index() == told
    shutil.rmtree(folder)
    assert context.problem_of_index() is None
    folder.mkdir()
    (folder / "notes.txt").touch()
    assert context.problem_of_index() == "the index: is not an index of videos: name an empty or another folder."
