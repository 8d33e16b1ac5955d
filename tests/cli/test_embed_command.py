"""`openxclip embed`, and its interruptions."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import openxclip

Run = Callable[..., Any]
COMMAND = [sys.executable, "-m", "openxclip.cli.main", "embed"]
WINDOW = ("--window", "0.2", "--stride", "0.0163")  # 50 of each of the three videos


@pytest.fixture(scope="module")
def many(clip_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 40 videos."""
    folder = tmp_path_factory.mktemp("many")
    for i in range(40):
        shutil.copy(clip_folder / ("red2.mp4" if i % 2 else "red10.mp4"), folder / f"{i:02}.mp4")
    return folder


@pytest.mark.parametrize(
    "suffix", [".npz", *(pytest.param(one, marks=pytest.mark.slow) for one in (".safetensors", ".parquet"))]
)
def test_the_command_writes_the_same_file_as_the_function(
    run: Run, tiny_folder: Path, clip_folder: Path, tmp_path: Path, suffix: str
) -> None:
    ran = run(
        "embed", clip_folder, "--out", tmp_path / f"a{suffix}", "--model", tiny_folder, "--device", "cpu",
        "--window", "0.3", "--stride", "0.2", "--patches", "--normalize", "--batch", 4, "--frames", 4,
        "--precision", "fp32",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith(f"{tmp_path / f'a{suffix}'}: 12 rows of 16 numbers from 3 videos (float32, ")
    assert ran.stderr == ""
    openxclip.embed(
        clip_folder,
        tmp_path / f"b{suffix}",
        model=str(tiny_folder),
        device="cpu",
        window=0.3,
        stride=0.2,
        patches=True,
        normalize=True,
        batch=4,
    )
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    assert len(list(tmp_path.iterdir())) == 2


def test_videos_that_cannot_be_read(run: Run, tiny_folder: Path, clip_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    names = f"{clip_folder / 'red2.mp4'}\ngone.mp4\n\n{tmp_path / 'empty'}\n"
    ran = run("embed", "-", "--out", "f.npz", "--model", tiny_folder, "--clips", 2, cwd=tmp_path, stdin=names)
    assert ran.returncode == 1
    assert ran.stdout.startswith("f.npz: 2 rows of 16 numbers from 1 video (float32, ")
    assert [line.split(": ")[1] for line in ran.stderr.splitlines()[:2]] == ["gone.mp4", str(tmp_path / "empty")]
    assert ran.stderr.splitlines()[2] == "openxclip: 2 of 3 videos could not be read."
    with np.load(tmp_path / "f.npz") as found:
        errors = json.loads(str(found["openxclip"]))["errors"]
    assert [one["path"] for one in errors] == ["gone.mp4", str(tmp_path / "empty")]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "--out"),
        (("--out", "f.csv"), "must end with .parquet, .npz, .safetensors"),
        (("--out", "-"), "must end with"),
        (("--out", "f.npz", "--clips", 0), "--clips"),
        (("--out", "f.npz", "--clips", 2, "--window", 1), "not both"),
        (("--out", "f.npz", "--window", -1), "'-1' is not a time"),
        (("--out", "f.npz", "--window", "inf"), "'inf' is not a time"),
        (("--out", "f.npz", "--stride", 1), "say how long a window is"),
        (("--out", "f.npz", "--batch", "none"), "must be a number of clips"),
        (("--out", "there.npz"), "there.npz exists already: choose another --out, or overwrite it with --force"),
        (("--out", "folder.npz", "--force"), "is a folder"),
    ],
)
def test_a_users_mistakes(run: Run, tmp_path: Path, arguments: tuple[object, ...], said: str) -> None:
    (tmp_path / "there.npz").write_text("mine")
    (tmp_path / "folder.npz").mkdir()
    ran = run("embed", "a.mp4", "--model", "./nowhere", *arguments, cwd=tmp_path)
    assert ran.returncode == 2
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr
    assert (tmp_path / "there.npz").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 2


def test_no_names_on_stdin(run: Run, tmp_path: Path) -> None:
    ran = run("embed", "-", "--out", tmp_path / "f.npz", "--model", "./nowhere", stdin="\n")
    assert ran.returncode == 2
    assert "no videos are named" in ran.stderr


def test_invalid_output_paths_are_refused(run: Run, tiny_folder: Path, clip_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file" / "f.npz", Path("/proc/f.npz"), tmp_path / ("a" * 300 + ".npz")):
        ran = run("embed", clip_folder, "--out", out, "--model", tiny_folder)
        assert ran.returncode in (1, 2), ran.stderr
        assert "Traceback" not in ran.stderr
        assert ran.stdout == ""


@pytest.mark.slow
def test_a_run_killed_at_any_time_resumes_to_the_same_file(
    run: Run, tiny_folder: Path, many: Path, tmp_path: Path
) -> None:
    arguments = [many, "--model", tiny_folder, "--device", "cpu", *WINDOW]
    whole = run("embed", *arguments, "--out", tmp_path / "whole.npz")
    assert whole.returncode == 0, whole.stderr
    out, part = tmp_path / "f.npz", tmp_path / "f.npz.part"
    # a shard every few rows, so that there is something to go on from
    start = (
        "import sys; from openxclip.features import run; run._WRITE_EVERY_BYTES = 3000\n"
        "from openxclip.cli.main import main; sys.argv[0] = 'openxclip'; main()"
    )
    command = [sys.executable, "-c", start, "embed", *map(str, arguments), "--out", str(out)]
    for kill, code in ((signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)):
        before = len(list(part.glob("*.safetensors")))
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            end = time.monotonic() + 60
            while len(list(part.glob("*.safetensors"))) < before + 5:
                assert process.poll() is None
                assert time.monotonic() < end
                time.sleep(0.005)
            process.send_signal(kill)
            _, said = process.communicate(timeout=60)
        assert process.returncode == code
        kept = ["openxclip: the progress is saved: run the same command to resume", "openxclip: interrupted"]
        assert [line for line in said.splitlines() if line] == (kept if code == 130 else [])
        assert not out.exists()
    ran = run("embed", *arguments, "--out", out)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.replace("f.npz", "whole.npz") == whole.stdout
    assert out.read_bytes() == (tmp_path / "whole.npz").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"f.npz", "whole.npz"}


@pytest.mark.slow
def test_a_full_disk(run: Run, tiny_folder: Path, many: Path, tmp_path: Path) -> None:
    """A limit of what a file may hold does what a full disk does."""
    arguments = [many, "--model", tiny_folder, "--device", "cpu", "--out", tmp_path / "f.npz"]
    ran = subprocess.run(
        [*COMMAND, *map(str, arguments), "--patches", *WINDOW],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000)),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 1, ran.stderr
    assert "File too large" in ran.stderr
    assert "the progress is saved: run the same command to resume" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not (tmp_path / "f.npz").exists()
    ran = run("embed", *arguments, "--patches", *WINDOW)
    assert ran.returncode == 0, ran.stderr
    assert "2000 rows" in ran.stdout


@pytest.mark.slow
def test_resuming_with_other_options_and_running_twice_at_once(
    run: Run, tiny_folder: Path, many: Path, tmp_path: Path
) -> None:
    arguments = [many, "--model", tiny_folder, "--device", "cpu", "--out", tmp_path / "f.npz"]
    with subprocess.Popen([*COMMAND, *map(str, arguments), *WINDOW], stderr=subprocess.PIPE, text=True) as process:
        while not (tmp_path / "f.npz.part" / "manifest.json").exists():
            assert process.poll() is None
            time.sleep(0.01)
        other = run("embed", *arguments, *WINDOW)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert other.returncode == 2
    assert "another run is at work on it" in other.stderr
    ran = run("embed", *arguments)
    assert ran.returncode == 2
    assert "belongs to an unfinished run with another window (0.2, now null)" in ran.stderr
    assert "--force" in ran.stderr
    ran = run("embed", *arguments, "--force")
    assert ran.returncode == 0, ran.stderr
    assert "40 rows" in ran.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["f.npz"]


@pytest.mark.slow
def test_parquet_without_pyarrow(clip_folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['pyarrow'] = sys.modules['pyarrow.parquet'] = None\n"
        "from openxclip.cli.main import main; sys.argv[0] = 'openxclip'; main()"
    )
    command = [sys.executable, "-c", code, "embed", str(clip_folder), "--out", str(tmp_path / "f.parquet")]
    ran = subprocess.run([*command, "--model", "mini"], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 1
    assert "pip install 'openxclip[parquet]'" in " ".join(ran.stderr.split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_only_parquet_needs_pyarrow(tiny_folder: Path, clip_folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys, openxclip\n"
        "openxclip.embed(sys.argv[1], sys.argv[2], model=sys.argv[3], device='cpu')\n"
        "assert not any(name.startswith('pyarrow') for name in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(clip_folder), str(tmp_path / "f.npz"), str(tiny_folder)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
