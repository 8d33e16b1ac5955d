"""Files without read permission: every verb names them with the reason, and the exit status is 1."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openxclip import CheckpointError, XCLIPModel, XCLIPProcessor, info
from openxclip.checkpoints import read_checkpoint

Run = Callable[..., Any]
REASON = "reading it is not permitted: check who may read the file and its folder"
_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 24, 1, 2


def obey_permissions() -> None:
    """Called in a new process: even root is refused what permissions say."""
    libc = ctypes.CDLL(None)
    for capability in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH):
        libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)


_RUNS = """
import json, sys
from openxclip.cli.main import main
codes = []
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["openxclip", *arguments]
    print("$", arguments[0], file=sys.stderr, flush=True)
    try:
        main()
        codes.append(0)
    except SystemExit as done:
        codes.append(done.code or 0)
    print("$", codes[-1], file=sys.stderr, flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="capabilities are Linux's")
def test_every_verb_names_a_folder_that_cannot_be_listed(clip_folder: Path, tiny_folder: Path, tmp_path: Path) -> None:
    videos = Path(shutil.copytree(clip_folder, tmp_path / "videos"))
    (videos / "locked").mkdir()
    shutil.copy(videos / "red2.mp4", videos / "locked")
    locked = videos / "locked"
    model = ["--model", str(tiny_folder), "--device", "cpu"]
    verbs = [
        ["check", "--quick", str(videos)],
        ["check", "--quick", f"{videos}/*/*.mp4"],
        ["classify", str(videos), "--labels", "red, blue", *model],
        ["embed", str(videos), "--out", str(tmp_path / "f.npz"), *model],
        ["index", str(videos), "--to", str(tmp_path / "index"), *model],
        ["info", str(locked)],
        ["classify", str(videos / "red2.mp4"), "--labels", "red", "--model", str(locked)],
        ["train", "my-videos", f"data={videos}", f"model={tiny_folder}", "--out", str(tmp_path / "out")],
        ["eval", "my-videos", f"data={videos}", *model],
        ["convert", str(locked), str(tmp_path / "converted")],
        ["profile", str(locked)],
    ]
    locked.chmod(0)
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", _RUNS, json.dumps(verbs)],
            capture_output=True, text=True, timeout=300, preexec_fn=obey_permissions,
            env={**os.environ, "HF_HUB_OFFLINE": "1"}, check=False,
        )  # fmt: skip
    finally:
        locked.chmod(0o700)
    said = done.stderr.split("\n$ ")
    for verb, (text, code) in zip(verbs, zip(said[::2], said[1::2], strict=False), strict=True):
        told = text if verb[0] != "check" else done.stdout
        assert str(locked) in told, (verb, text)
        assert "not permitted" in told, (verb, text)
        assert code.splitlines()[0] == "1", (verb, text)
        assert "Traceback" not in text
        assert "Errno" not in text
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "converted").exists()


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """From now on this file can't be opened, by whoever runs the tests."""
    names: set[str] = set()
    original = Path.open

    def refusing(self: Path, *args: Any, **options: Any) -> Any:
        if str(self) in names:
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return original(self, *args, **options)

    monkeypatch.setattr(Path, "open", refusing)
    return lambda path: names.add(str(path))


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "preprocessor_config.json", "tokenizer_config.json"]
)
def test_a_model_file_without_read_permission_is_not_called_damaged(
    name: str, refused: Callable[[Path], None], run: Run, clip_folder: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    model = Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    XCLIPProcessor.from_pretrained(model).save_pretrained(model)  # with the files of the tokenizer
    refused(model / name)
    ran = run("classify", clip_folder / "red2.mp4", "--labels", "red, blue", "--model", model, "--device", "cpu")
    assert ran.returncode == 1
    assert f"{model / name}: {REASON}." in ran.stderr
    assert "damaged" not in ran.stderr


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_a_weights_file_without_read_permission_is_not_called_damaged(
    name: str, refused: Callable[[Path], None], tiny_folder: Path, tmp_path: Path
) -> None:
    import openxclip

    path = tmp_path / name
    if name.endswith(".pth"):
        openxclip.convert(tiny_folder, path, to="authors")
    else:
        shutil.copy(tiny_folder / "model.safetensors", path)
    refused(path)
    for read in (read_checkpoint, XCLIPModel.from_pretrained, info):
        with pytest.raises(CheckpointError, match=f"{name}: {REASON}"):
            read(path)  # type: ignore[operator]


def test_a_file_that_fails_while_it_is_read(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Path, *args: Any, **options: Any) -> str:
        raise OSError(errno.EIO, "Input/output error", str(self))

    monkeypatch.setattr(Path, "read_text", broken)
    with pytest.raises(CheckpointError, match=r"config\.json: can't be read: Input/output error\.$"):
        XCLIPModel.from_pretrained(tiny_folder)
