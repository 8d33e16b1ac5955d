"""Left-out files are counted, and named by --verbose; --hidden includes hidden ones."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openxclip import VideoIndex

VERBS: dict[str, list[Any]] = {
    "check": ["check", "--quick"],
    "classify": ["classify", "--labels", "red, blue"],
    "embed": ["embed", "--out"],
    "index": ["index", "--to"],
}


@pytest.fixture
def folder(clip_folder: Path, tmp_path: Path) -> Path:
    clip = clip_folder / "red2.mp4"
    folder = tmp_path / "videos"
    for name in ("a.mp4", ".old/b.mp4", "@eaDir/c.mp4", "._a.mp4"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, folder / name)
    for name in ("notes.txt", "a.srt", "index.ts"):
        (folder / name).write_text("words")
    return folder


@pytest.fixture
def call(run: Callable[..., Any], tiny_folder: Path, tmp_path: Path) -> Callable[..., Any]:
    def calling(verb: str, *arguments: object) -> Any:
        model = [] if verb == "check" else ["--model", tiny_folder]
        out = {"embed": [tmp_path / "f.npz", "--force"], "index": [tmp_path / "index"]}.get(verb, [])
        return run(*VERBS[verb], *out, *arguments, *model)

    return calling


@pytest.mark.parametrize("verb", VERBS)
def test_left_out_files_are_counted_once(verb: str, folder: Path, call: Callable[..., Any]) -> None:
    done = call(verb, folder, folder)
    note = (
        "openxclip: note: left out 3 files that are not videos and 3 hidden files and folders; --verbose names them, "
        "--hidden includes the hidden ones.\n"
    )
    assert (done.returncode, done.stderr.count("left out")) == (0, 1)
    assert note in done.stderr
    assert "left out" not in call(verb, folder, "--quiet").stderr


@pytest.mark.parametrize("verb", VERBS)
def test_verbose_names_left_out_files(verb: str, folder: Path, call: Callable[..., Any]) -> None:
    lines = call(verb, folder, "--verbose").stderr.splitlines()
    assert [line for line in lines if "left out" in line] == [
        f"openxclip: left out {folder / name}: {reason}"
        for name, reason in (
            ("._a.mp4", "hidden"), (".old", "hidden"), ("@eaDir", "hidden"), ("a.srt", "not a video by its name"),
            ("index.ts", "text"), ("notes.txt", "not a video by its name"),
        )
    ]  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_hidden_includes_hidden_files(verb: str, folder: Path, call: Callable[..., Any], tmp_path: Path) -> None:
    done = call(verb, folder, "--hidden")
    assert (done.returncode, done.stderr.count("hidden")) == (0, 0)
    assert "note: left out 3 files that are not videos; --verbose names them.\n" in done.stderr
    if verb == "index":
        assert len(VideoIndex.open(tmp_path / "index").files()) == 4
    elif verb == "embed":
        assert "from 4 videos" in done.stdout
    else:
        assert {Path(line.split('"')[3]).name for line in done.stdout.splitlines() if '"path"' in line} == {
            "a.mp4", "b.mp4", "c.mp4", "._a.mp4"
        }  # fmt: skip


@pytest.mark.slow
def test_no_note_if_nothing_is_left_out(clip_folder: Path, call: Callable[..., Any]) -> None:
    for verb in VERBS:
        assert "left out" not in call(verb, clip_folder).stderr


def test_links_to_folders_are_counted(folder: Path, call: Callable[..., Any], tmp_path: Path) -> None:
    shutil.rmtree(folder / ".old")
    for name in ("notes.txt", "a.srt", "index.ts", "._a.mp4", "@eaDir/c.mp4"):
        (folder / name).unlink()
    (tmp_path / "elsewhere").mkdir()
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "b.mp4").symlink_to(folder / "a.mp4")  # a file is read
    (folder / "@eaDir").rmdir()
    done = call("classify", folder)
    assert "note: left out 1 link to a folder; --verbose names them.\n" in done.stderr
    assert len(done.stdout.splitlines()) == 2
    assert f"left out {folder / 'linked'}: a link to a folder\n" in call("classify", folder, "--verbose").stderr
