"""The index: what is found, in which order, and what of a change, a removal, a broken file or a kill is left."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from openxclip import Limits, VideoIndex, VideoIndexError, VideoPipeline, XCLIPModel
from openxclip.search import adding, store, upkeep
from openxclip.search.packing import pack, unpack
from openxclip.search.schema import VideoRow
from openxclip.video.clips import ClipPlan

TEXTS = ("a red video", "something blue that moves", "nothing at all")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def scored(pipeline: VideoPipeline, videos: Path, text: str) -> tuple[dict, dict]:
    """Every window's cosine and its score with prompts, by the model itself."""
    plan = ClipPlan(num_frames=4, window=0.4, stride=0.2)
    text_1E = pipeline.encode_texts([text])
    plain, prompted = {}, {}
    for one in pipeline.encode_clips(sorted(videos.rglob("*.mp4")), plan):
        if one.features is not None:
            key = (str(one.source), round(one.start, 3))
            plain[key] = F.cosine_similarity(one.features.pooled, text_1E).item()
            prompted[key] = (pipeline.score(text_1E, one.features)[0, 0] / pipeline.model.logit_scale.exp()).item()
    return plain, prompted


def keyed(hits: list) -> list:
    return [(hit.path, round(hit.start, 3)) for hit in hits]


def test_windows_with_gaps_between_them(pipeline, videos, tmp_path) -> None:
    index = VideoIndex.open(tmp_path / "index", model=pipeline, window=0.2, stride=0.7)
    index.add(videos)
    for hit in index.search(TEXTS[0], k=100):  # they don't touch, so each is a hit
        assert hit.duration == pytest.approx(1.0)
        assert (round(hit.start, 3), round(hit.end, 3)) in {(0.0, 0.2), (0.7, 0.9)}


def test_a_write_that_was_interrupted_is_not_done_twice(pipeline, videos, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(adding, "_WRITTEN_EVERY_S", -1.0)
    index = VideoIndex.open(tmp_path / "index", model=pipeline, window=0.4)
    write = store.Store.add_windows

    def interrupted(self, rows) -> None:
        write(self, rows)
        if rows:
            raise KeyboardInterrupt  # LanceDB goes on with what it was asked

    monkeypatch.setattr(store.Store, "add_windows", interrupted)
    with pytest.raises(KeyboardInterrupt):
        index.add(videos)
    monkeypatch.undo()
    index.add(videos)
    hits = index.search(TEXTS[0], k=100, merge=False)
    assert len(hits) == len(index) == len({*keyed(hits)}) == 9


def test_names_that_are_no_text(index, videos) -> None:
    odd = Path(os.fsdecode(os.fsencode(videos) + b"/bad\xff.mp4"))
    shutil.copy(videos / "red2.mp4", odd)
    shutil.copy(videos / "red2.mp4", videos / "new.mp4")
    done = index.add(videos)
    assert [error.reason for error in done.errors] == ["its name is not valid UTF-8, as an index needs it: rename it"]
    assert done.added == (str(videos / "new.mp4"),)
    with pytest.raises(ValueError, match="must be valid UTF-8"):
        VideoIndex.open(odd)


@pytest.mark.parametrize("text", TEXTS)
def test_what_is_found_is_what_the_model_says(index, pipeline, videos, text) -> None:
    plain, prompted = scored(pipeline, videos, text)
    assert len(index) == len(plain) == 12
    hits = index.search(text, k=100, merge=False)
    assert all(hit.reranked for hit in hits)
    without = index.search(text, k=100, rerank=0, merge=False)
    assert not any(hit.reranked for hit in without)
    for found, cosines, tolerance in ((hits, prompted, 1e-3), (without, plain, 1e-5)):  # patches are in half precision
        assert {*keyed(found)} == {*plain}
        for hit, key in zip(found, keyed(found), strict=True):
            assert hit.similarity == pytest.approx(cosines[key], abs=tolerance)
            assert hit.duration == pytest.approx(1.0)
        assert [hit.similarity for hit in found] == sorted((hit.similarity for hit in found), reverse=True)


def test_only_candidates_are_reranked(index, pipeline, videos) -> None:
    plain, _ = scored(pipeline, videos, TEXTS[0])
    best = sorted(plain, key=plain.get, reverse=True)[:5]
    assert {*keyed(index.search(TEXTS[0], k=2, rerank=5, merge=False))} < {*best}
    assert {*keyed(index.search(TEXTS[0], k=5, rerank=5, merge=False))} == {*best}
    assert len(index.search(TEXTS[0], k=7, rerank=5, merge=False)) == 7
    assert len(index.search(TEXTS[0], k=10**30, rerank=10**30, merge=False)) == 12


def test_a_video_finds_itself(index, videos, pipeline, tmp_path) -> None:
    whole = VideoIndex.open(tmp_path / "whole", model=pipeline)
    whole.add(videos)
    for path in sorted(videos.rglob("*.mp4")):
        hits = whole.search(video=path, k=1)
        assert hits[0].path == str(path)
        assert hits[0].similarity == pytest.approx(1, abs=1e-5)
        assert hits[0].score is None
        assert not hits[0].reranked


def test_conditions(index, videos) -> None:
    hits = index.search(TEXTS[0], where="path like '%blue%' and start >= 0.4", k=50, merge=False)
    assert {Path(hit.path).name for hit in hits} == {"blue.mp4"}
    assert {round(hit.start, 1) for hit in hits} == {0.4, 0.6}
    assert index.search(TEXTS[0], where="duration > 60") == []
    for right in ("(start < 1) and (path like '%(%' or true)", "path <> 'it''s (a'", "start < 1 or start > 2"):
        assert len(index.search(TEXTS[0], where=right, merge=False)) == 10
    for wrong in (
        "colour = 'red'", "start >", "path like", "", "start < 1 path like '%blue%'", "start < 1; drop table windows",
        "start < 1) and (path = 'a'", "start < 1)", "start < 1 limit 1", "start < 1, true", "start < 1 --",
    ):  # fmt: skip
        with pytest.raises(ValueError, match="can't be understood") as caught:
            index.duplicates(where=wrong)
        assert ".rs" not in str(caught.value)
        with pytest.raises(ValueError, match=r"can't be understood .*duration < 60"):
            index.search(TEXTS[0], where=wrong)


def test_a_file_is_read_once_and_again_if_it_changes(index, videos, pipeline, monkeypatch) -> None:
    red, blue = videos / "red2.mp4", videos / "more/blue.mp4"
    assert len(index.add(videos).unchanged) == 3
    os.utime(red, ns=(1, 1))  # another time, but the same content
    again = index.add(videos)
    assert (len(again.added), len(again.unchanged)) == (0, 3)
    read = []
    monkeypatch.setattr(adding, "_content", lambda path: read.append(path))
    assert len(index.add(videos).unchanged) == 3
    assert read == []  # the new time was kept
    monkeypatch.undo()
    red.write_bytes(blue.read_bytes() + b"\0")  # other content of the same frames
    changed = index.add(videos)
    assert changed.added == (str(red),)
    assert len(index) == 12
    one, other = (index.search(TEXTS[0], where=f"path like '%{name}%'", k=9) for name in ("red2", "blue"))
    assert [hit.score for hit in one] == pytest.approx([hit.score for hit in other], abs=1e-6)


def test_a_shorter_file_leaves_no_window_of_the_longer(pipeline, videos, tmp_path) -> None:
    index = VideoIndex.open(tmp_path / "index", model=pipeline, window=0.4)
    index.add(videos)
    before = len(index)
    red = videos / "red2.mp4"
    np.save(videos / "short.npy", np.zeros((2, 32, 32, 3), dtype=np.uint8))
    (videos / "short.npy").replace(red)  # of other content altogether
    done = index.add(videos)
    assert len(index) < before
    assert str(red) in (*done.added, *(error.source for error in done.errors))


def test_update_and_remove(index, videos) -> None:
    (videos / "red10.mp4").unlink()
    done = index.update()
    assert done.removed == (str(videos / "red10.mp4"),)
    assert len(index) == 8
    assert index.remove(f"{videos}/mo*/bl*.mp4").removed == (str(videos / "more/blue.mp4"),)
    assert index.files() == [str(videos / "red2.mp4")]
    with pytest.raises(VideoIndexError, match="isn't in the index"):
        index.remove(videos / "more")


def test_broken_files_are_reported_every_time_and_read_when_they_change(index, videos) -> None:
    broken = videos / "it's broken.mp4"
    broken.write_bytes(b"no video")
    done = index.add(videos)
    assert [error.source for error in done.errors] == [str(broken)]
    assert len(index.files()) == 3
    again = index.add(videos)
    assert [str(error) for error in again.errors] == [str(error) for error in done.errors]
    shutil.copy(videos / "red2.mp4", broken)
    assert index.add(videos).added == (str(broken),)
    assert index.add(videos).errors == ()
    broken.write_bytes(b"no video again")
    assert [error.source for error in index.add(videos).errors] == [str(broken)]
    assert str(broken) not in index.files()
    assert index.add(videos).errors  # as they were told
    missing = index.add(videos / "missing.mp4")
    assert [error.source for error in missing.errors] == [str(videos / "missing.mp4")]


def test_what_could_not_be_read_is_tried_again_when_asked(index, videos) -> None:
    (videos / "new.mp4").write_bytes((videos / "red2.mp4").read_bytes() + b"\0")  # no copy
    small = Limits(frames=5)
    assert [error.source for error in index.add(videos, limits=small).errors] == [str(videos / "new.mp4")]
    assert index.add(videos).errors
    assert index.add(videos, retry=True, limits=small).errors
    done = index.update()
    assert done.added == (str(videos / "new.mp4"),)
    assert not done.errors


def test_a_folder_of_images_is_known_by_what_lies_in_it(index, tmp_path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(4):
        Image.new("RGB", (32, 32), (60 * i, 0, 0)).save(folder / f"{i}.png")
    assert index.add(folder).added == (str(folder),)
    assert index.add(folder).unchanged == (str(folder),)
    time.sleep(0.01)
    Image.new("RGB", (32, 32), (0, 0, 200)).save(folder / "2.png")
    assert index.add(folder).added == (str(folder),)


def test_an_index_is_of_one_model_and_one_plan(index, videos, tmp_path, tiny_folder) -> None:
    with pytest.raises(ValueError, match=r"window=3.*was made with window=0\.4"):
        VideoIndex.open(tmp_path / "index", window=3.0)
    torch.manual_seed(5)
    other = tmp_path / "other"
    shutil.copytree(tiny_folder, other)
    XCLIPModel(XCLIPModel.from_pretrained(tiny_folder).config).save_pretrained(other)
    wrong = VideoIndex.open(tmp_path / "index", model=other, device="cpu")
    with pytest.raises(ValueError, match="features of two models can't be compared"):
        wrong.search("a red video")
    again = VideoIndex.open(tmp_path / "index", device="cpu")  # its model is found by its name
    assert keyed(again.search(TEXTS[0])) == keyed(index.search(TEXTS[0]))


def test_only_one_writes_and_others_search(index, videos) -> None:
    other = VideoIndex.open(index._store.uri, model=index._model)
    shutil.copy(videos / "red2.mp4", videos / "new.mp4")
    with index._store.writing():
        with pytest.raises(VideoIndexError, match="another process is writing"):
            other.add(videos)
        with pytest.raises(VideoIndexError, match="another process is writing"):
            other.remove(videos / "more")
        assert len(other.search(TEXTS[0], k=3, merge=False)) == 3
    assert other.add(videos).added == (str(videos / "new.mp4"),)
    assert len(index.search(TEXTS[0], where="path like '%new%'", merge=False)) == 4  # which index sees too


def test_without_patches_nothing_is_reranked(pipeline, videos, tmp_path) -> None:
    index = VideoIndex.open(tmp_path / "plain", model=pipeline, patches=False)
    index.add(videos)
    assert not any(hit.reranked for hit in index.search(TEXTS[0]))


def test_two_that_begin_at_once(pipeline, videos, tmp_path) -> None:
    one, other = (VideoIndex.open(tmp_path / "index", model=pipeline, window=window) for window in (0.4, 0.5))
    one.add(videos)
    with pytest.raises(ValueError, match=r"window=0\.5: the index .* was made with window=0\.4"):
        other.add(videos)


def test_a_full_disk_is_no_traceback(index, videos, monkeypatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise RuntimeError("lance error: No space left on device (os error 28), /root/.cargo/x/y.rs:191:9")

    shutil.copy(videos / "red2.mp4", videos / "new.mp4")
    monkeypatch.setattr(type(index._store._windows), "add", full)
    with pytest.raises(VideoIndexError, match=r"can't be written: No space left on device$"):
        index.add(videos)


def test_what_is_no_index(tmp_path, pipeline) -> None:
    for name in ("", "memory://x"):
        with pytest.raises(ValueError, match="needs a folder"):
            VideoIndex.open(name)
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/notes.txt").write_text("x")
    for name, what in (("file", "is a file"), ("folder", "is no index")):
        with pytest.raises(VideoIndexError, match=what):
            VideoIndex.open(tmp_path / name)
    index = VideoIndex.open(tmp_path / "none", model=pipeline)
    with pytest.raises(VideoIndexError, match="there is no index"):
        index.search("a")
    assert not (tmp_path / "none").exists()


def test_a_folder_that_cannot_be_made(tmp_path, pipeline, videos, monkeypatch) -> None:
    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), "index")

    monkeypatch.setattr(Path, "mkdir", read_only)
    with pytest.raises(VideoIndexError, match=r"index: an index can't be made there: Read-only file system$"):
        VideoIndex.open(tmp_path / "index", model=pipeline).add(videos)


def test_packing_loses_what_half_precision_loses() -> None:
    patches = np.random.default_rng(0).normal(size=(49, 512)).astype(np.float32)
    packed = pack(patches)
    assert len(packed) < 0.95 * 2 * patches.size
    np.testing.assert_array_equal(unpack(packed, 512, 49), patches.astype(np.float16).astype(np.float32))
    assert np.isfinite(unpack(pack(np.array([[1e9, -1e9]])), 2, 1)).all()


def test_many_windows_get_an_index_of_vectors(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(upkeep, "VECTORS_INDEXED_FROM", 2000)
    random = np.random.default_rng(0)
    embeddings = random.normal(size=(3000, 32)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    rows = [
        {"video": i, "path": f"{i}.mp4", "number": 0, "start": 0.0, "end": 1.0, "duration": 1.0, "size": i,
         "featureless": False, "embedding": embedding, "patches": None} for i, embedding in enumerate(embeddings)
    ]  # fmt: skip
    made = store.Store(str(tmp_path / "index"))
    made.create({"patches": False}, 32)
    made.open()
    made.put([VideoRow(id=i, path=f"{i}.mp4", state="complete", windows=1) for i in range(3001)])
    made.add_windows(rows[:1999])
    made.tidy()
    assert upkeep.vectors_indexed_at(made._windows) == 0
    made.add_windows(rows[1999:])
    made.tidy()
    assert upkeep.vectors_indexed_at(made._windows) == 3000
    for query in embeddings[::100]:
        best = np.argsort(-(embeddings @ query))[:10]
        found = made.nearest(query, 10, None, patches=False)
        assert len({row["path"] for row in found} & {f"{i}.mp4" for i in best}) >= 9
        exact = {f"{i}.mp4": float(embeddings[i] @ query) for i in range(len(embeddings))}
        for row in found:  # the similarity is the embeddings', not that of eight bits
            assert row["similarity"] == pytest.approx(exact[row["path"]], abs=1e-5)
    few = made.nearest(embeddings[0], 10, "size < 7", patches=False)
    assert {row["path"] for row in few} == {f"{i}.mp4" for i in range(7)}
    made.add_windows([{**rows[0], "video": 3000, "path": "new.mp4"}])  # which the vector index doesn't have yet
    assert {row["path"] for row in made.nearest(embeddings[0], 2, None, patches=False)} == {"0.mp4", "new.mp4"}
    made.tidy()
    assert upkeep.vectors_indexed_at(made._windows) == 3000
    monkeypatch.setattr(upkeep, "_REBUILT_AT", 1)
    made.tidy()
    assert upkeep.vectors_indexed_at(made._windows) == 3001
    assert {row["path"] for row in made.nearest(embeddings[0], 2, None, patches=False)} == {"0.mp4", "new.mp4"}


def test_more_partitions_are_searched_where_the_likely_ones_have_too_few(tmp_path, monkeypatch) -> None:
    from lancedb.index import IvfSq

    embeddings = np.random.default_rng(0).normal(size=(2000, 32)).astype(np.float32)
    made = store.Store(str(tmp_path / "index"))
    made.create({"patches": False}, 32)
    made.open()
    made.add_windows(
        [{"video": i, "path": f"{i}.mp4", "number": 0, "start": 0.0, "end": 1.0, "duration": 1.0, "size": i,
          "featureless": False, "embedding": one, "patches": None} for i, one in enumerate(embeddings)]
    )  # fmt: skip
    config = IvfSq(distance_type="cosine", num_partitions=8)
    made._windows.create_index("embedding", config=config, name="vectors_2000")
    assert upkeep.vectors_indexed_at(made._windows) == 2000
    monkeypatch.setattr(store, "_PROBED", 1)
    assert len(made.nearest(embeddings[0], 1500, None, patches=False)) == 1500


@pytest.mark.slow
def test_a_killed_run_leaves_an_index_that_goes_on(videos, tmp_path, tiny_folder) -> None:
    for number in range(60):
        (videos / f"copy{number}.mp4").write_bytes((videos / "red2.mp4").read_bytes() + bytes([number]))
    code = (
        "import sys; from openxclip.search import VideoIndex, adding; adding._WRITTEN_EVERY_S = 0.05\n"
        "from openxclip import VideoPipeline\n"
        "p = VideoPipeline.from_pretrained(sys.argv[3], device='cpu', isolate=False); print('ready', flush=True)\n"
        "VideoIndex.open(sys.argv[1], model=p, window=0.4, stride=0.2).add(sys.argv[2])\nprint('done', flush=True)"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path / "index"), str(videos), str(tiny_folder)]
    random, seen = np.random.default_rng(0), set()
    for _ in range(20):
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(random.uniform(0.0, 0.5))
            process.send_signal(signal.SIGKILL)
        index = VideoIndex.open(tmp_path / "index")
        files = set(index.files())
        assert seen <= files  # no finished file is lost
        assert len(index) == 4 * len(files)  # and none is there by half, or twice
        seen = files
    assert subprocess.run(command, check=True, capture_output=True).stdout.endswith(b"done\n")
    index = VideoIndex.open(tmp_path / "index", device="cpu")
    assert len(index.files()) == 63
    assert len(index) == 4 * 63
    assert len(index.search("a red video", k=5, merge=False)) == 5


def test_a_system_without_file_locks(index: VideoIndex, videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    assert index.remove(videos / "red2.mp4").removed == (str(videos / "red2.mp4"),)
    assert index.add(videos).added == (str(videos / "red2.mp4"),)


@pytest.mark.parametrize("kind", ["/dev/stdin", "/dev/fd/0", "a named pipe"])
def test_a_pipe_is_refused(pipeline: VideoPipeline, tmp_path: Path, kind: str) -> None:
    path = kind
    if kind == "a named pipe":
        if not hasattr(os, "mkfifo"):
            pytest.skip("this system has no named pipes")
        path = str(tmp_path / "pipe")
        os.mkfifo(path)
    with pytest.raises(ValueError, match=r"a pipe has no path to come back to: save the video to a file first"):
        VideoIndex.open(tmp_path / "index", model=pipeline, window=0.4).add([path])
