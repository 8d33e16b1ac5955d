"""Outputs that can't be written are refused before any work; if writing fails at the end, results are printed."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch

import openxclip
from openxclip.errors import NotWrittenError, OpenXCLIPError
from openxclip.evaluation import evaluate_recipe

Run = Callable[..., Any]
FULL = "No space left on device"


@pytest.fixture
def data(clip_folder: Path, tmp_path: Path) -> Path:
    """Two classes of two videos each."""
    for name, clip in (("reds/a", "red2"), ("reds/b", "red10"), ("blues/a", "more/blue"), ("blues/b", "more/blue")):
        path = tmp_path / "data" / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((clip_folder / f"{clip}.mp4").read_bytes())
    return tmp_path / "data"


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """From now on nothing can be written into this folder or below it: the disk is full."""
    full: list[Path] = []
    original_open, original_write, original_save = Path.open, Path.write_bytes, safetensors.torch.save_file

    def is_full(path: Path) -> bool:
        return any(path.is_relative_to(folder) for folder in full)

    class FullFile:
        """An open file to which nothing can be written."""

        def __init__(self, file: Any) -> None:
            self._file = file

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

        def __enter__(self) -> FullFile:
            return self

        def __exit__(self, *_: object) -> None:
            self._file.close()

        def write(self, content: Any) -> int:
            raise OSError(errno.ENOSPC, FULL)  # which names no file, as the system's own

    def opened(self: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
        file = original_open(self, mode, *args, **options)
        return FullFile(file) if is_full(self) and set(mode) & set("wax+") else file

    def write_bytes(self: Path, content: bytes) -> int:
        if is_full(self):
            raise OSError(errno.ENOSPC, FULL)
        return original_write(self, content)

    def write_text(self: Path, text: str, encoding: str = "utf-8", errors: str = "strict", newline: str = "") -> int:
        return write_bytes(self, text.encode(encoding, errors))

    def save_file(tensors: Any, filename: Any, metadata: Any = None) -> None:
        if is_full(Path(filename)):
            Path(filename).touch()
            raise safetensors.SafetensorError(f"Error while serializing: I/O error: {FULL} (os error 28)")
        original_save(tensors, filename, metadata)

    for name, replacement in (("open", opened), ("write_bytes", write_bytes), ("write_text", write_text)):
        monkeypatch.setattr(Path, name, replacement)
    for module in ("safetensors.torch", "huggingface_hub.serialization._torch", "openxclip.training.state"):
        __import__(module)
    monkeypatch.setattr(safetensors.torch, "save_file", save_file)
    monkeypatch.setattr("openxclip.training.state.save_file", save_file)
    return lambda folder: full.append(folder)


@contextmanager
def nothing_is_read(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In it, loading a model, rendering a clip or decoding a video fails the test."""

    def fails(*_: Any, **__: Any) -> Any:
        raise AssertionError("work was done before the output was checked")

    with monkeypatch.context() as patch:
        for what in (
            "openxclip.video.checking.DecodeWorker.inspect",
            "openxclip.model.XCLIPModel.from_state",
            "openxclip.playground.export.export_clip",
            "openxclip.evaluation.runs.evaluation_data",
            "openxclip.training.job.training_data",
            "openxclip.pipeline.pipeline.VideoPipeline.from_pretrained",
            "openxclip.checkpoints.read_checkpoint",  # last: importing the modules above would copy the patch
        ):
            patch.setattr(what, fails)
        yield


VERBS: list[tuple[list[str], str]] = [
    (["check", "{clips}", "--report"], "r.json"),
    (["embed", "{clips}", "--model", "{model}", "--device", "cpu", "--out"], "f.npz"),
    (["timeline", "{clips}", "--query", "a", "--model", "{model}", "--write"], "t.otio"),
    (["timeline", "{clips}/red2.mp4", "--query", "a", "--model", "{model}", "--plot"], "p.png"),
    (["timeline", "{clips}", "--query", "a", "--model", "{model}", "--save-clips"], "folder"),
    (["index", "{clips}", "--model", "{model}", "--device", "cpu", "--to", "{tmp}/index", "--export"], "e.parquet"),
    (["search", "red", "--in", "{tmp}/index", "--html"], "h.html"),
    (["search", "red", "--in", "{tmp}/index", "--thumbnails"], "folder"),
    (["train", "my-videos", "data={clips}", "model={model}", "--out"], "folder"),
    (["eval", "my-videos", "data={clips}", "--model", "{model}", "--out"], "folder"),
    (["convert", "{model}"], "folder"),
    (["convert", "{model}", "--to", "authors"], "x.pth"),
    (["init", "--from", "{model}", "--out"], "folder"),
    (["playground", "--clips", "1", "--out"], "folder"),
    (["bench", "--out"], "b.json"),
]


@pytest.mark.parametrize(("verb", "name"), VERBS, ids=lambda value: value[0] if isinstance(value, list) else value)
def test_a_read_only_folder_is_refused_before_any_work(
    verb: list[str], name: str, run: Run, clip_folder: Path, tiny_folder: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    read_only = tmp_path / "read-only"
    read_only.mkdir()
    original_temporary, original_mkdir = tempfile.TemporaryFile, Path.mkdir

    def temporary(*args: Any, dir: Any = None, **options: Any) -> Any:
        if dir is not None and Path(dir).is_relative_to(read_only):
            raise OSError(errno.EROFS, "Read-only file system", str(dir))
        return original_temporary(*args, dir=dir, **options)

    def mkdir(self: Path, *args: Any, **options: Any) -> None:
        if self != read_only and self.is_relative_to(read_only):
            raise OSError(errno.EROFS, "Read-only file system", str(self))
        original_mkdir(self, *args, **options)

    monkeypatch.setattr(tempfile, "TemporaryFile", temporary)
    monkeypatch.setattr(Path, "mkdir", mkdir)
    arguments = [part.format(clips=clip_folder, model=tiny_folder, tmp=tmp_path) for part in verb]
    with nothing_is_read(monkeypatch):
        ran = run(*arguments, read_only / name)
    assert ran.returncode in (1, 2), ran.stderr
    assert f"{read_only / name}" in ran.stderr
    assert "Read-only file system" in ran.stderr
    assert "Errno" not in ran.stderr
    assert list(read_only.iterdir()) == []
    assert list(tmp_path.iterdir()) == [read_only]


@pytest.mark.parametrize(("verb", "name"), [one for one in VERBS if one[1] != "folder" and one[0][0] != "embed"])
def test_a_folder_in_place_of_a_file_and_a_missing_folder_are_refused(
    verb: list[str], name: str, run: Run, clip_folder: Path, tiny_folder: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (tmp_path / "there" / name).mkdir(parents=True)
    arguments = [part.format(clips=clip_folder, model=tiny_folder, tmp=tmp_path) for part in verb]
    with nothing_is_read(monkeypatch):
        ran = run(*arguments, tmp_path / "there" / name)
        assert ran.returncode in (1, 2)
        assert str(tmp_path / "there" / name) in ran.stderr or "is a directory" in ran.stderr
        if verb[0] == "convert":  # which makes the folder
            return
        ran = run(*arguments, tmp_path / "none" / name)
    assert ran.returncode == 2
    assert f"there is no folder {tmp_path / 'none'}" in ran.stderr
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("name", ["r.json", pytest.param("r.csv", marks=pytest.mark.slow)])
def test_check_on_a_full_disk(
    name: str, run: Run, clip_folder: Path, tmp_path: Path, full_disk: Callable[[Path], None]
) -> None:
    full_disk(tmp_path)
    ran = run("check", clip_folder / "red2.mp4", "--quick", "--jobs", 1, "--report", tmp_path / name)
    assert (ran.returncode, json.loads(ran.stdout)["error"]) == (1, None)
    assert "The video is fine." in ran.stderr
    assert ran.stderr.splitlines()[-1] == f"openxclip: {tmp_path / name}: {FULL}"
    with pytest.raises(NotWrittenError, match=f"{name}: can't be written: {FULL}") as caught:
        openxclip.check(clip_folder / "red2.mp4", full=False, jobs=1, report=tmp_path / name)
    assert [report.is_fine for report in caught.value.result] == [True]  # type: ignore[attr-defined]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_eval_on_a_full_disk(
    run: Run, data: Path, tiny_folder: Path, tmp_path: Path, full_disk: Callable[[Path], None]
) -> None:
    out = tmp_path / "out"
    full_disk(out)
    ran = run("eval", "my-videos", f"data={data}", "--model", tiny_folder, "--device", "cpu", "--out", out)
    assert ran.returncode == 1
    assert ran.stdout.startswith("top1 ")
    assert ran.stderr.splitlines()[-1] == f"openxclip: {out}/results.json: can't be written: {FULL}."
    assert not out.exists()
    ran = run(
        "eval",
        "my-videos",
        f"data={data}",
        "--model",
        tiny_folder,
        "--device",
        "cpu",
        "--out",
        out,
        "--over",
        "seed=0,1",
    )
    assert ran.returncode == 1
    assert "mean ± standard deviation over 2" in ran.stdout
    assert FULL in ran.stderr.splitlines()[-1]
    with pytest.raises(NotWrittenError) as caught:
        evaluate_recipe("my-videos", f"data={data}", model=tiny_folder, device="cpu", out=out)
    assert "top1" in caught.value.result.metrics  # type: ignore[attr-defined]


def test_train_on_a_full_disk(
    run: Run, data: Path, tiny_folder: Path, tmp_path: Path, full_disk: Callable[[Path], None]
) -> None:
    how = ("train", "my-videos", f"data={data}", f"model={tiny_folder}", "epochs=1", "warmup_epochs=0", "workers=0",
           "hold_out=0", "batch=4", "batch_per_pass=4")  # fmt: skip
    full_disk(tmp_path / "a")
    ran = run(*how, "--out", tmp_path / "a")
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1] == f"openxclip: {tmp_path}/a/training/recipe.yaml: {FULL}"
    assert not (tmp_path / "a").exists()  # so that the next try isn't refused
    assert run(*how, "--out", tmp_path / "b").returncode == 0


@pytest.mark.parametrize("to", ["hub", "authors"])
def test_convert_on_a_full_disk(
    to: str, run: Run, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise safetensors.SafetensorError(f"Error while serializing: I/O error: {FULL} (os error 28)")

    def fails_as_torch(_: Any, file: Any) -> None:
        try:
            raise OSError(errno.ENOSPC, FULL)
        finally:
            raise RuntimeError("[enforce fail at inline_container.cc:858] . PytorchStreamWriter failed writing file")

    monkeypatch.setattr("huggingface_hub.save_torch_state_dict", fails)
    monkeypatch.setattr("torch.save", fails_as_torch)
    target = tmp_path / ("x.pth" if to == "authors" else "x")
    ran = run("convert", tiny_folder, target, "--to", to)
    assert (ran.returncode, ran.stderr) == (1, f"openxclip: {target}: can't be written: {FULL}.\n")
    assert list(tmp_path.iterdir()) == []


def test_a_system_limit_on_the_size_of_files(run: Run, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        ran = run("convert", "mini", tmp_path / "x")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (ran.returncode, ran.stderr) == (1, f"openxclip: {tmp_path / 'x'}: can't be written: File too large.\n")
    assert list(tmp_path.iterdir()) == []


def test_system_errors_in_exceptions_of_libraries(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise RuntimeError("lance error: LanceError(IO): Generic LocalFileSystem error: No space (os error 28), x.rs:9")

    monkeypatch.setattr("openxclip.cli.models._models", fails)
    ran = run("models")
    assert (ran.returncode, ran.stderr) == (1, f"openxclip: {os.strerror(errno.ENOSPC)}\n")


def test_errors_can_be_pickled() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(NotWrittenError("a: can't be written", [1])))
    assert isinstance(error, OpenXCLIPError)
    assert (str(error), error.result) == ("a: can't be written", [1])
