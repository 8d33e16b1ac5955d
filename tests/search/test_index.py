"""The index: what a search finds, and what changed, removed and broken files and killed processes leave."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from index_tables import create_store, lance_table, open_store, window_row
from lancedb.table import LanceTable
from PIL import Image

from openxclip import Limits, ReadOptions, VideoIndex, VideoIndexError, VideoPipeline, XCLIPModel
from openxclip.search import indexer, maintenance, store
from openxclip.search.patches import compress_patches, decompress_patches
from openxclip.search.schema import VideoRow
from openxclip.video import ClipPlan

TEXTS = ("a red video", "something blue that moves", "nothing at all")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def model_cosines(pipeline: VideoPipeline, videos: Path, text: str) -> tuple[dict, dict]:
    """Return each window's cosine without and with prompts, from the model itself."""
    plan = ClipPlan(num_frames=4, window=0.4, stride=0.2)
    text_1E = pipeline.encode_texts([text])
    plain, prompted = {}, {}
    for clip in pipeline.encode_clips(sorted(videos.rglob("*.mp4")), plan):
        if clip.features is not None:
            key = (str(clip.source), round(clip.start, 3))
            plain[key] = F.cosine_similarity(clip.features.pooled, text_1E).item()
            prompted[key] = (pipeline.score(text_1E, clip.features)[0, 0] / pipeline.model.logit_scale.exp()).item()
    return plain, prompted


def starts(hits: list) -> list:
    return [(hit.path, round(hit.start, 3)) for hit in hits]


def test_windows_with_gaps_between_them(pipeline, videos, tmp_path) -> None:
    index = VideoIndex.open(tmp_path / "index", model=pipeline, window=0.2, stride=0.7)
    index.add(videos)
    for hit in index.search(TEXTS[0], k=100):  # windows that don't touch aren't merged
        assert hit.duration == pytest.approx(1.0)
        assert (round(hit.start, 3), round(hit.end, 3)) in {(0.0, 0.2), (0.7, 0.9)}


def test_an_interrupted_write_is_not_repeated(pipeline, videos, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(indexer, "_COMMIT_EVERY_S", -1.0)
    index = VideoIndex.open(tmp_path / "index", model=pipeline, window=0.4)
    write = store.Store.add_windows

    def interrupted(self, rows) -> None:
        write(self, rows)
        if rows:
            raise KeyboardInterrupt  # LanceDB finishes a commit that was interrupted

    monkeypatch.setattr(store.Store, "add_windows", interrupted)
    with pytest.raises(KeyboardInterrupt):
        index.add(videos)
    monkeypatch.undo()
    index.add(videos)
    hits = index.search(TEXTS[0], k=100, merge=False)
    assert len(hits) == len(index) == len({*starts(hits)}) == 9


def test_file_names_that_are_not_utf8(index, videos) -> None:
    odd = Path(os.fsdecode(os.fsencode(videos) + b"/bad\xff.mp4"))
    shutil.copy(videos / "red2.mp4", odd)
    shutil.copy(videos / "red2.mp4", videos / "new.mp4")
    done = index.add(videos)
    assert [error.reason for error in done.errors] == ["its name is not valid UTF-8, so it can't be stored: rename it"]
    assert done.added == (str(videos / "new.mp4"),)
    with pytest.raises(ValueError, match="must be valid UTF-8"):
        VideoIndex.open(odd)


@pytest.mark.parametrize("text", TEXTS)
def test_similarities_are_those_of_the_model(index, pipeline, videos, text) -> None:
    plain, prompted = model_cosines(pipeline, videos, text)
    assert len(index) == len(plain) == 12
    hits = index.search(text, k=100, merge=False)
    assert all(hit.reranked for hit in hits)
    without = index.search(text, k=100, rerank=0, merge=False)
    assert not any(hit.reranked for hit in without)
    for found, cosines, tolerance in ((hits, prompted, 1e-3), (without, plain, 1e-5)):  # patches have half precision
        assert {*starts(found)} == {*plain}
        for hit, key in zip(found, starts(found), strict=True):
            assert hit.similarity == pytest.approx(cosines[key], abs=tolerance)
            assert hit.duration == pytest.approx(1.0)
        assert [hit.similarity for hit in found] == sorted((hit.similarity for hit in found), reverse=True)


def test_only_candidates_are_reranked(index, pipeline, videos) -> None:
    plain, _ = model_cosines(pipeline, videos, TEXTS[0])
    best = sorted(plain, key=plain.get, reverse=True)[:5]
    assert {*starts(index.search(TEXTS[0], k=2, rerank=5, merge=False))} < {*best}
    assert {*starts(index.search(TEXTS[0], k=5, rerank=5, merge=False))} == {*best}
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


def test_sql_conditions(index, videos) -> None:
    hits = index.search(TEXTS[0], where="path like '%blue%' and start >= 0.4", k=50, merge=False)
    assert {Path(hit.path).name for hit in hits} == {"blue.mp4"}
    assert {round(hit.start, 1) for hit in hits} == {0.4, 0.6}
    assert index.search(TEXTS[0], where="duration > 60") == []
    for valid in ("(start < 1) and (path like '%(%' or true)", "path <> 'it''s (a'", "start < 1 or start > 2"):
        assert len(index.search(TEXTS[0], where=valid, merge=False)) == 10
    for invalid in (
        "colour = 'red'", "start >", "path like", "", "start < 1 path like '%blue%'", "start < 1; drop table windows",
        "start < 1) and (path = 'a'", "start < 1)", "start < 1 limit 1", "start < 1, true", "start < 1 --",
    ):  # fmt: skip
        with pytest.raises(ValueError, match="can't be understood") as caught:
            index.duplicates(where=invalid)
        assert ".rs" not in str(caught.value)
        with pytest.raises(ValueError, match=r"can't be understood .*duration < 60"):
            index.search(TEXTS[0], where=invalid)


def test_a_file_is_read_again_only_if_it_changes(index, videos, pipeline, monkeypatch) -> None:
    red, blue = videos / "red2.mp4", videos / "more/blue.mp4"
    assert len(index.add(videos).unchanged) == 3
    os.utime(red, ns=(1, 1))  # another time, but the same content
    again = index.add(videos)
    assert (len(again.added), len(again.unchanged)) == (0, 3)
    hashed = []
    monkeypatch.setattr(indexer, "content_hash", lambda path: hashed.append(path))
    assert len(index.add(videos).unchanged) == 3
    assert hashed == []  # the index has the new time
    monkeypatch.undo()
    red.write_bytes(blue.read_bytes() + b"\0")  # the same frames in another file
    changed = index.add(videos)
    assert changed.added == (str(red),)
    assert len(index) == 12
    red_hits, blue_hits = (index.search(TEXTS[0], where=f"path like '%{name}%'", k=9) for name in ("red2", "blue"))
    assert [hit.score for hit in red_hits] == pytest.approx([hit.score for hit in blue_hits], abs=1e-6)


def test_a_shorter_file_replaces_all_windows_of_a_longer_one(pipeline, videos, tmp_path) -> None:
    index = VideoIndex.open(tmp_path / "index", model=pipeline, window=0.4)
    index.add(videos)
    before = len(index)
    red = videos / "red2.mp4"
    np.save(videos / "short.npy", np.zeros((2, 32, 32, 3), dtype=np.uint8))
    (videos / "short.npy").replace(red)
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


def test_broken_files_are_reported_each_time_and_read_again_when_they_change(index, videos) -> None:
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
    assert index.add(videos).errors
    missing = index.add(videos / "missing.mp4")
    assert [error.source for error in missing.errors] == [str(videos / "missing.mp4")]


def test_retry_reads_failed_files_again(index, videos) -> None:
    (videos / "new.mp4").write_bytes((videos / "red2.mp4").read_bytes() + b"\0")
    small = ReadOptions(limits=Limits(frames=5))
    assert [error.source for error in index.add(videos, read=small).errors] == [str(videos / "new.mp4")]
    assert index.add(videos).errors
    assert index.add(videos, retry=True, read=small).errors
    done = index.update()
    assert done.added == (str(videos / "new.mp4"),)
    assert not done.errors


def test_a_changed_image_changes_its_folder(index, tmp_path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(4):
        Image.new("RGB", (32, 32), (60 * i, 0, 0)).save(folder / f"{i}.png")
    assert index.add(folder).added == (str(folder),)
    assert index.add(folder).unchanged == (str(folder),)
    time.sleep(0.01)
    Image.new("RGB", (32, 32), (0, 0, 200)).save(folder / "2.png")
    assert index.add(folder).added == (str(folder),)


def test_another_model_or_another_window_is_refused(index, videos, tmp_path, tiny_folder) -> None:
    with pytest.raises(ValueError, match=r"window=3.*was made with window=0\.4"):
        VideoIndex.open(tmp_path / "index", window=3.0)
    torch.manual_seed(5)
    other = tmp_path / "other"
    shutil.copytree(tiny_folder, other)
    XCLIPModel(XCLIPModel.from_pretrained(tiny_folder).config).save_pretrained(other)
    wrong = VideoIndex.open(tmp_path / "index", model=other, device="cpu")
    with pytest.raises(ValueError, match="features of two models can't be compared"):
        wrong.search("a red video")
    again = VideoIndex.open(tmp_path / "index", device="cpu")  # loads the index's model
    assert starts(again.search(TEXTS[0])) == starts(index.search(TEXTS[0]))


def test_one_process_writes_while_others_search(index, videos, folder, pipeline) -> None:
    other = VideoIndex.open(folder, model=pipeline)
    shutil.copy(videos / "red2.mp4", videos / "new.mp4")
    with open_store(folder).writing():
        with pytest.raises(VideoIndexError, match="another process is writing"):
            other.add(videos)
        with pytest.raises(VideoIndexError, match="another process is writing"):
            other.remove(videos / "more")
        assert len(other.search(TEXTS[0], k=3, merge=False)) == 3
    assert other.add(videos).added == (str(videos / "new.mp4"),)
    assert len(index.search(TEXTS[0], where="path like '%new%'", merge=False)) == 4  # an open index sees them


def test_without_patches_nothing_is_reranked(pipeline, videos, tmp_path) -> None:
    index = VideoIndex.open(tmp_path / "plain", model=pipeline, patches=False)
    index.add(videos)
    assert not any(hit.reranked for hit in index.search(TEXTS[0]))


def test_two_processes_that_create_an_index_with_different_windows(pipeline, videos, tmp_path) -> None:
    first, second = (VideoIndex.open(tmp_path / "index", model=pipeline, window=window) for window in (0.4, 0.5))
    first.add(videos)
    with pytest.raises(ValueError, match=r"window=0\.5: the index .* was made with window=0\.4"):
        second.add(videos)


def test_a_full_disk(index, videos, monkeypatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise RuntimeError("lance error: No space left on device (os error 28), /root/.cargo/x/y.rs:191:9")

    shutil.copy(videos / "red2.mp4", videos / "new.mp4")
    monkeypatch.setattr(LanceTable, "add", full)
    with pytest.raises(VideoIndexError, match=r"can't be written: No space left on device$"):
        index.add(videos)


def test_places_without_an_index(tmp_path, pipeline) -> None:
    for name in ("", "memory://x"):
        with pytest.raises(ValueError, match=f"'{name}': give a folder or an object store"):
            VideoIndex.open(name)
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/notes.txt").write_text("x")
    for name, what in (("file", "is a file"), ("folder", "is not an index of videos")):
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


def test_compressed_patches_have_half_precision() -> None:
    patches = np.random.default_rng(0).normal(size=(49, 512)).astype(np.float32)
    compressed = compress_patches(patches)
    assert len(compressed) < 0.95 * 2 * patches.size
    restored = decompress_patches(compressed, 512, 49)
    np.testing.assert_array_equal(restored, patches.astype(np.float16).astype(np.float32))
    assert np.isfinite(decompress_patches(compress_patches(np.array([[1e9, -1e9]])), 2, 1)).all()


def test_many_windows_get_a_vector_index(folder, monkeypatch) -> None:
    monkeypatch.setattr(maintenance, "VECTORS_INDEXED_FROM", 2000)
    random = np.random.default_rng(0)
    embeddings = random.normal(size=(3000, 32)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    rows = [window_row(i, f"{i}.mp4", embedding, size=i) for i, embedding in enumerate(embeddings)]
    made = create_store(folder, 32)
    made.put_videos([VideoRow(id=i, path=f"{i}.mp4", state="complete", windows=1) for i in range(3001)])
    made.add_windows(rows[:1999])
    made.tidy()
    assert maintenance.windows_at_last_build(lance_table(folder)) == 0
    made.add_windows(rows[1999:])
    made.tidy()
    assert maintenance.windows_at_last_build(lance_table(folder)) == 3000
    for query in embeddings[::100]:
        best = np.argsort(-(embeddings @ query))[:10]
        found = made.nearest(query, 10, None, patches=False)
        assert len({row["path"] for row in found} & {f"{i}.mp4" for i in best}) >= 9
        exact = {f"{i}.mp4": float(embeddings[i] @ query) for i in range(len(embeddings))}
        for row in found:  # similarities are those of the full embeddings, not of 8 bits per dimension
            assert row["similarity"] == pytest.approx(exact[row["path"]], abs=1e-5)
    few = made.nearest(embeddings[0], 10, "size < 7", patches=False)
    assert {row["path"] for row in few} == {f"{i}.mp4" for i in range(7)}
    made.add_windows([{**rows[0], "video": 3000, "path": "new.mp4"}])  # isn't in the vector index yet
    assert {row["path"] for row in made.nearest(embeddings[0], 2, None, patches=False)} == {"0.mp4", "new.mp4"}
    made.tidy()
    assert maintenance.windows_at_last_build(lance_table(folder)) == 3000
    monkeypatch.setattr(maintenance, "_REBUILT_AT", 1)
    made.tidy()
    assert maintenance.windows_at_last_build(lance_table(folder)) == 3001
    assert {row["path"] for row in made.nearest(embeddings[0], 2, None, patches=False)} == {"0.mp4", "new.mp4"}


def test_more_partitions_are_searched_if_the_nearest_have_too_few_windows(folder, monkeypatch) -> None:
    from lancedb.index import IvfSq

    embeddings = np.random.default_rng(0).normal(size=(2000, 32)).astype(np.float32)
    made = create_store(folder, 32)
    made.add_windows([window_row(i, f"{i}.mp4", embedding) for i, embedding in enumerate(embeddings)])
    config = IvfSq(distance_type="cosine", num_partitions=8)
    lance_table(folder).create_index("embedding", config=config, name="vectors_2000")
    assert maintenance.windows_at_last_build(lance_table(folder)) == 2000
    made.refresh()
    monkeypatch.setattr(store, "_MIN_PROBES", 1)
    assert len(made.nearest(embeddings[0], 1500, None, patches=False)) == 1500


@pytest.mark.slow
def test_killed_processes_leave_an_index_that_can_be_continued(videos, tmp_path, tiny_folder) -> None:
    for number in range(60):
        (videos / f"copy{number}.mp4").write_bytes((videos / "red2.mp4").read_bytes() + bytes([number]))
    # imports everything once; each line starts a process that indexes, and is killed after so many seconds
    code = (
        "import os, signal, sys, time, lancedb\n"
        "from openxclip import VideoIndex, VideoPipeline\n"
        "from openxclip.search import indexer; indexer._COMMIT_EVERY_S = 0.05\n"
        "p = VideoPipeline.from_pretrained(sys.argv[3], device='cpu', isolate=False)\n"
        "for line in sys.stdin:\n"
        "    ready, started = os.pipe()\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        index = VideoIndex.open(sys.argv[1], model=p, window=0.4, stride=0.2)\n"
        "        os.write(started, b'x'); index.add(sys.argv[2]); os._exit(0)\n"
        "    os.read(ready, 1)\n"
        "    if line != 'end\\n': time.sleep(float(line)); os.kill(child, signal.SIGKILL)\n"
        "    print(os.waitpid(child, 0)[1], flush=True)"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path / "index"), str(videos), str(tiny_folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    pipes["env"] = {**os.environ, "OMP_NUM_THREADS": "1"}  # threads don't survive a fork
    random, seen = np.random.default_rng(0), set()
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for seconds in (*random.uniform(0.0, 0.5, 20), "end"):
            process.stdin.write(f"{seconds}\n")
            process.stdin.flush()
            status = process.stdout.readline()
            assert status
            index = VideoIndex.open(tmp_path / "index")
            files = set(index.files())
            assert seen <= files  # no finished file is lost
            assert len(index) == 4 * len(files)  # none is incomplete or duplicated
            seen = files
        assert status == "0\n"  # it ended by itself
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
    with pytest.raises(ValueError, match=r"is a pipe, which can't be read again later: save the video to a file first"):
        VideoIndex.open(tmp_path / "index", model=pipeline, window=0.4).add([path])
