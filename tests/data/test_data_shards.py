"""Tar files of videos: contents, reading, stale indexes, damaged and hostile archives."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openxclip.datasets import Dataset, DatasetError, Sample, dataset_splits, detect_format, open_dataset, tars
from openxclip.errors import VideoError
from openxclip.video import read_clip


def tar(path: Path, members: dict[str, bytes | str | tarfile.TarInfo], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as archive:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
            else:
                data = content.encode() if isinstance(content, str) else content
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return path


def special(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def facts(dataset: Dataset) -> list[tuple[str, int | None]]:
    return [(dataset.name_of(sample), sample.label) for sample in dataset.samples]


def index_of(archive: Path) -> Path:
    return archive.with_name(f"{archive.name}.index.json")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    tars._load_index.cache_clear()
    return folder


def clear_memory() -> None:
    """Drop the indexes in memory, as a new process would."""
    tars._load_index.cache_clear()


def test_labels_and_segments(tmp_path: Path) -> None:
    tar(tmp_path / "s-000.tar", {"b.mp4": b"bbb", "b.cls": "walk\n", "a.MP4": b"aa", "a.cls": "\ufeffBrushHair"})
    tar(
        tmp_path / "s-001.tar",
        {"./k/c 1.5s.webm": b"c", "./k/c 1.5s.json": '{"label": "walk", "start": 1, "end": 2.5}'},
    )
    assert detect_format(tmp_path) == "shards"
    assert dataset_splits(tmp_path) == ()
    dataset = open_dataset(tmp_path)
    assert dataset.name == tmp_path.name
    assert dataset.classes == ("brush hair", "walk")
    assert facts(dataset) == [("s-000.tar::a.MP4", 0), ("s-000.tar::b.mp4", 1), ("s-001.tar::./k/c 1.5s.webm", 1)]
    assert [sample.open() for sample in dataset.samples] == [b"aa", b"bbb", b"c"]
    assert [sample.size() for sample in dataset.samples] == [2, 3, 1]
    assert (dataset.samples[2].start, dataset.samples[2].end) == (1.0, 2.5)
    assert dataset.problems == ()
    alone = open_dataset(tmp_path / "s-001.tar")
    assert alone.name == "s-001"
    assert facts(alone) == [("s-001.tar::./k/c 1.5s.webm", 0)]
    assert open_dataset(tmp_path / "s-*.tar").samples == dataset.samples
    with pytest.raises(DatasetError, match=r"there is no such file|there are no \.tar files"):
        open_dataset(tmp_path / "t-*.tar")


def test_numbered_labels_and_captions(tmp_path: Path) -> None:
    path = tar(tmp_path / "n.tar", {"a.mp4": b"a", "a.cls": "1", "b.mp4": b"b", "b.json": '{"label": 0}'})
    (tmp_path / "names.txt").write_text("run\nwalk\n")
    assert facts(open_dataset(path, names=tmp_path / "names.txt")) == [("n.tar::a.mp4", 1), ("n.tar::b.mp4", 0)]
    with pytest.raises(DatasetError, match=r"n\.tar::a\.mp4: the labels are numbers"):
        open_dataset(path)
    path = tar(
        tmp_path / "t.tar", {"a.mp4": b"a", "a.txt": " a man runs\n", "b.mp4": b"b", "b.json": '{"text": "a fox"}'}
    )
    dataset = open_dataset(path)
    assert dataset.classes == ()
    assert [sample.text for sample in dataset.samples] == ["a man runs", "a fox"]
    path = tar(tmp_path / "both.tar", {"a.mp4": b"a", "a.txt": "a man runs", "a.cls": "run"})
    assert open_dataset(path).samples == (Sample(f"{path}::a.mp4", label=0),)
    path = tar(tmp_path / "mixed.tar", {"a.mp4": b"a", "a.txt": "a man runs", "b.mp4": b"b", "b.cls": "run"})
    with pytest.raises(DatasetError, match=r"mixed\.tar::a\.mp4: has a caption, but .*b\.mp4 has a label"):
        open_dataset(path)


def test_splits(tmp_path: Path) -> None:
    tar(tmp_path / "by_name" / "train-0.tar", {"a.mp4": b"a", "a.cls": "run"})
    tar(tmp_path / "by_name" / "train-1.tar", {"a.mp4": b"a", "a.cls": "walk"})
    tar(tmp_path / "by_name" / "validation_0.tar", {"a.mp4": b"a", "a.cls": "walk"})
    tar(tmp_path / "by_folder" / "train" / "0.tar", {"a.mp4": b"a", "a.cls": "run"})
    tar(tmp_path / "by_folder" / "test" / "0.tar", {"a.mp4": b"a", "a.cls": "walk"})
    assert dataset_splits(tmp_path / "by_name") == ("train", "val")
    val = open_dataset(tmp_path / "by_name", split="val")
    assert val.classes == ("run", "walk")
    assert facts(val) == [("validation_0.tar::a.mp4", 1)]
    assert val.problems == ("the class 'run' has no videos",)
    assert len(open_dataset(tmp_path / "by_name", split="train").samples) == 2
    assert dataset_splits(tmp_path / "by_folder") == ("train", "test")
    assert facts(open_dataset(tmp_path / "by_folder", split="test")) == [("test/0.tar::a.mp4", 1)]
    with pytest.raises(ValueError, match="has no split 'val': its splits are train, test"):
        open_dataset(tmp_path / "by_folder", split="val")
    with pytest.raises(ValueError, match="it is tar files, without splits"):
        open_dataset(tmp_path / "by_name" / "train-0.tar", split="train")
    tar(tmp_path / "by_name" / "more.tar", {"b.mp4": b"b", "b.cls": "swim"})
    assert dataset_splits(tmp_path / "by_name") == ()
    assert len(open_dataset(tmp_path / "by_name").samples) == 4


def test_incomplete_members_are_problems(tmp_path: Path) -> None:
    path = tar(
        tmp_path / "s.tar",
        {
            "a.mp4": b"a",
            "a.cls": "run",
            "a.webm": b"twice",
            "empty.mp4": b"",
            "empty.cls": "run",
            "alone.mp4": b"x",
            "gone.cls": "walk",
            "._a.mp4": b"of macOS",
            "readme.md": b"x",
            "huge.txt": b"x" * (1 << 20) + b"x",
        },
    )
    dataset = open_dataset(path)
    assert facts(dataset) == [("s.tar::a.mp4", 0)]
    assert dataset.problems == (
        f"{path}: huge.txt: left out, since it has 1048577 bytes: too many for a text",
        f"{path}::a.webm: left out, since a.mp4 has the same key",
        f"{path}::alone.mp4: left out, since there is no .cls, .txt, .json beside it",
        f"{path}::empty.mp4: is empty",
        f"{path}::gone: there is no video for it",
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "{", r"s\.tar::a\.mp4, \.json: is not JSON"),
        ("a.json", "3", r"s\.tar::a\.mp4, \.json: must be an object"),
        ("a.json", "{}", r"s\.tar::a\.mp4: has neither a label nor a text"),
        ("a.json", '{"label": "run", "start": 3, "end": 2}', r"s\.tar::a\.mp4: end=2\.0 must be after start=3\.0"),
        ("a.cls", " \n", r"s\.tar::a\.mp4: label=''"),
        ("a.txt", "", r"s\.tar::a\.mp4: text=''"),
        ("a.txt", b"\xff\xfe", r"s\.tar::a\.txt: is not text in UTF-8"),
    ],
)
def test_invalid_texts_are_refused(tmp_path: Path, name: str, content: bytes | str, message: str) -> None:
    path = tar(tmp_path / "s.tar", {"a.mp4": b"a", name: content})
    with pytest.raises(DatasetError, match=message):
        open_dataset(path)


# ----------------------------------------------------------------------------------------------------------- the index


def test_the_index_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tar(tmp_path / "s.tar", {"a.mp4": b"a", "a.cls": "run", "b.mp4": b"bb", "b.cls": "walk"})
    dataset = open_dataset(path)
    digest = dataset.hash()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["s.tar", "s.tar.index.json"]
    clear_memory()
    monkeypatch.setattr(tars, "_scan_archive", lambda *_: pytest.fail("the index exists"))
    assert open_dataset(path) == dataset
    assert [sample.open() for sample in dataset.samples] == [b"a", b"bb"]
    assert dataset.hash() == digest
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("s.tar", "s.tar.index.json"):
        (tmp_path / name).rename(moved / name)
    assert open_dataset(moved / "s.tar").hash() == digest


def test_a_changed_archive_gets_a_new_index(tmp_path: Path) -> None:
    path = tar(tmp_path / "s.tar", {"a.mp4": b"a", "a.cls": "run"})
    sample = open_dataset(path).samples[0]
    status = path.stat()
    tar(path, {"x.mp4": b"another", "a.mp4": b"b", "a.cls": "run"})  # the same size: tar files come in blocks
    assert path.stat().st_size == status.st_size
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert sample.open() == b"b"
    clear_memory()
    assert sample.open() == b"b"
    assert json.loads(index_of(path).read_text())["mtime_ns"] == status.st_mtime_ns + 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda index: b"",
        lambda index: b"{",
        lambda index: b"[]",
        lambda index: b"null",
        lambda index: b"[" * 100_000,
        lambda index: json.dumps({**index, "version": 0}).encode(),
        lambda index: json.dumps({**index, "videos": {"a.mp4": [0, 10**9]}}).encode(),
        lambda index: json.dumps({**index, "videos": {"a.mp4": [-512, 1]}}).encode(),
        lambda index: json.dumps({**index, "videos": {"a.mp4": [1]}}).encode(),
        lambda index: json.dumps({**index, "videos": 3}).encode(),
        lambda index: json.dumps({**index, "texts": []}).encode(),
    ],
)
def test_a_damaged_index_is_made_again(tmp_path: Path, damage: Any) -> None:
    path = tar(tmp_path / "s.tar", {"a.mp4": b"a", "a.cls": "run"})
    dataset = open_dataset(path)
    whole = index_of(path).read_bytes()
    index_of(path).write_bytes(damage(json.loads(whole)))
    clear_memory()
    assert open_dataset(path) == dataset
    assert dataset.samples[0].open() == b"a"
    assert index_of(path).read_bytes() == whole


def test_the_index_is_cached_if_the_folder_cant_be_written(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tar(tmp_path / "s.tar", {"a.mp4": b"a", "a.cls": "run"})
    original = Path.write_text

    def write_text(self: Path, *args: Any, **options: Any) -> int:
        if self.parent == tmp_path:
            raise PermissionError(13, "Permission denied")
        return original(self, *args, **options)

    monkeypatch.setattr(Path, "write_text", write_text)
    dataset = open_dataset(path)
    assert [file.name for file in tmp_path.iterdir()] == ["s.tar"]
    assert len(list((cache / "openxclip" / "tars").iterdir())) == 1
    clear_memory()
    with monkeypatch.context() as patch:
        patch.setattr(tars, "_scan_archive", lambda *_: pytest.fail("the index is in the cache"))
        assert open_dataset(path) == dataset
    monkeypatch.setenv("XDG_CACHE_HOME", str(path / "no folder"))  # only in memory
    clear_memory()
    assert open_dataset(path) == dataset
    assert dataset.samples[0].open() == b"a"


def test_an_index_is_written_atomically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tar(tmp_path / "s.tar", {"a.mp4": b"a", "a.cls": "run"})

    def replace(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        with pytest.raises(KeyboardInterrupt):
            open_dataset(path)
    assert [file.name for file in tmp_path.iterdir()] == ["s.tar"]


# ------------------------------------------------------------------------------------------------------------- reading


def test_videos_are_read_from_an_archive(tmp_path: Path, clip_folder: Path) -> None:
    members: dict[str, Any] = {}
    for name in ("red2", "red10"):
        members |= {f"{name}.mp4": (clip_folder / f"{name}.mp4").read_bytes(), f"{name}.cls": name}
    dataset = open_dataset(tar(tmp_path / "s.tar", members))
    for sample, name in zip(dataset.samples, ("red2", "red10"), strict=True):
        inside = read_clip(sample.open(), num_frames=4).frames_THWC
        assert np.array_equal(
            np.asarray(inside), np.asarray(read_clip(clip_folder / f"{name}.mp4", num_frames=4).frames_THWC)
        )


def test_worker_processes_read_archives(tmp_path: Path) -> None:
    members: dict[str, Any] = {}
    for i in range(8):
        members |= {f"{i}.mp4": str(i) * (i + 1), f"{i}.cls": f"class {i % 2}"}
    dataset = open_dataset(tar(tmp_path / "s.tar", members))
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert pool.map(Sample.open, dataset.samples) == [str(i).encode() * (i + 1) for i in range(8)]


def test_missing_members_and_archives_are_refused(tmp_path: Path) -> None:
    path = tar(tmp_path / "s.tar", {"a.mp4": b"a", "a.cls": "run"})
    with pytest.raises(VideoError, match=r"s\.tar::b\.mp4: there is no such video in the archive"):
        Sample(f"{path}::b.mp4").open()
    with pytest.raises(VideoError, match=r"gone\.tar::b\.mp4: .*No such file"):
        Sample(f"{tmp_path}/gone.tar::b.mp4").open()
    with pytest.raises(VideoError, match=r"gone\.tar::b\.mp4: .*No such file"):
        Sample(f"{tmp_path}/gone.tar::b.mp4").size()


def test_an_archive_truncated_after_indexing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tar(tmp_path / "s.tar", {"a.mp4": b"a" * 5000, "a.cls": "run"})
    sample, index = open_dataset(path).samples[0], tars.tar_index(path)
    monkeypatch.setattr(tars, "tar_index", lambda archive: index)  # made before it was truncated
    os.truncate(path, 3000)
    with pytest.raises(VideoError, match="the archive ends before it does"):
        sample.open()


# --------------------------------------------------------------------------------------------------- hostile, damaged


def test_only_plain_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    outside = tmp_path / "outside.mp4"
    path = tar(
        tmp_path / "in" / "s.tar",
        {
            "link.mp4": special("link.mp4", tarfile.SYMTYPE, str(tmp_path / "secret")),
            "hard.mp4": special("hard.mp4", tarfile.LNKTYPE, "a.mp4"),
            "link.cls": special("link.cls", tarfile.SYMTYPE, str(tmp_path / "secret")),
            "pipe.mp4": special("pipe.mp4", tarfile.FIFOTYPE),
            "zero.mp4": special("zero.mp4", tarfile.CHRTYPE),
            "sparse.mp4": special("sparse.mp4", tarfile.GNUTYPE_SPARSE),
            "folder.mp4": special("folder.mp4", tarfile.DIRTYPE),
            "a.mp4": b"a",
            "a.cls": "run",
            "../../outside.mp4": b"out",
            "../../outside.cls": "run",
            str(outside): b"absolute",
            str(outside.with_suffix(".cls")): "walk",
        },
    )
    dataset = open_dataset(path)
    assert {sample.source: sample.open() for sample in dataset.samples} == {
        f"{path}::../../outside.mp4": b"out",
        f"{path}::{outside}": b"absolute",
        f"{path}::a.mp4": b"a",
    }
    not_plain = [problem for problem in dataset.problems if "is not a plain file" in problem]
    assert [problem.split(": ")[1] for problem in not_plain] == [
        "link.mp4",
        "hard.mp4",
        "link.cls",
        "pipe.mp4",
        "zero.mp4",
        "sparse.mp4",
    ]
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["in", "s.tar", "s.tar.index.json", "secret"]


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_every_format_of_tar(tmp_path: Path, format: int) -> None:
    name = ("ö" * 30 + "/") * 2 + "ü"
    name = name if format != tarfile.USTAR_FORMAT else "k/ü"
    path = tar(tmp_path / "s.tar", {f"{name}.mp4": b"a" * 600, f"{name}.cls": "run"}, format=format)
    dataset = open_dataset(path)
    assert dataset.samples[0].open() == b"a" * 600
    assert dataset.samples[0].source == f"{path}::{name}.mp4"


def test_the_last_of_members_with_the_same_name_counts(tmp_path: Path) -> None:
    path = tar(tmp_path / "s.tar", {"a.mp4": b"old", "a.cls": "run"})
    with tarfile.open(path, "a") as archive:
        info = tarfile.TarInfo("a.mp4")
        info.size = 3
        archive.addfile(info, io.BytesIO(b"new"))
    assert open_dataset(path).samples[0].open() == b"new"


def with_negative_size(archive: Path, name: str) -> bytes:
    """Return the archive with a negative member size, which leads a naive reader back to the second member."""
    data = bytearray(archive.read_bytes())
    with tarfile.open(archive) as opened:
        at, second = opened.getmember(name).offset, opened.getmembers()[1].offset
    data[at + 124 : at + 136] = b"\xff" * 4 + (second - at - 512).to_bytes(8, "big", signed=True)  # tar's encoding
    header = data[at : at + 512]
    data[at + 148 : at + 156] = b"%06o\0 " % (sum(header[:148]) + 8 * 32 + sum(header[156:]))  # its checksum
    return bytes(data)


def test_damaged_archives_are_refused(tmp_path: Path) -> None:
    members: dict[str, Any] = {}
    for i in range(4):
        members |= {f"{i}.mp4": b"x" * 2000, f"{i}.cls": "run"}
    whole = tar(tmp_path / "whole.tar", members).read_bytes()
    with tarfile.open(tmp_path / "packed.tar", "w:gz"):
        pass
    damaged = bytearray(whole)
    damaged[3584 + 100] ^= 0xFF  # the header of the third member
    sparse = special("sparse.mp4", tarfile.GNUTYPE_SPARSE)
    tar(tmp_path / "hostile.tar", {**members, "sparse.mp4": sparse, "last.mp4": b"x"})
    for name, content in (
        ("cut.tar", whole[:3000]),
        ("damaged.tar", bytes(damaged)),
        ("back.tar", with_negative_size(tmp_path / "hostile.tar", "3.mp4")),
        ("back_text.tar", with_negative_size(tmp_path / "hostile.tar", "3.cls")),
        ("back_sparse.tar", with_negative_size(tmp_path / "hostile.tar", "sparse.mp4")),
        ("text.tar", b"no archive" * 100),
        ("empty.tar", b""),
    ):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "good.tar").write_bytes(whole)
    assert len(open_dataset(tmp_path / "good.tar").samples) == 4
    for name in ("cut", "damaged", "back", "back_text", "back_sparse", "text", "empty", "packed"):
        with pytest.raises(DatasetError, match=rf"{name}\.tar: is not a complete, uncompressed tar file"):
            open_dataset(tmp_path / f"{name}.tar")
        assert not index_of(tmp_path / f"{name}.tar").exists()


def test_a_missing_end_block_is_a_problem(tmp_path: Path) -> None:
    whole = tar(tmp_path / "s.tar", {"a.mp4": b"a", "a.cls": "run"}).read_bytes()
    (tmp_path / "s.tar").write_bytes(whole[:2048])  # two members of two blocks
    assert open_dataset(tmp_path / "s.tar").problems == (
        f"{tmp_path / 's.tar'}: has no end-of-archive block: it may be truncated",
    )


def test_an_empty_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="s: there are no videos"):
        open_dataset(tar(tmp_path / "s.tar", {}))
