"""The commands and the code of the README run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


COMMANDS = [line.split("#")[0].strip() for block in blocks("bash") for line in block.splitlines() if line.strip()]


def environment(**more: str) -> dict[str, str]:
    """Where `openxclip` is the one under test."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", **more}


@pytest.fixture(scope="module")
def hub(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hub cache in which the default model lies, tiny and random, as if it had been downloaded."""
    home = tmp_path_factory.mktemp("hub")
    repository = home / "hub" / "models--microsoft--xclip-base-patch32"
    shutil.copytree(tiny_folder, repository / "snapshots" / "0123abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123abc")
    return home


@pytest.fixture
def desk(clip_folder: Path, tmp_path: Path) -> Path:
    """A folder with the files that the README's examples name."""
    shutil.copy(clip_folder / "red2.mp4", tmp_path / "match.mp4")
    shutil.copytree(clip_folder, tmp_path / "clips")
    shutil.copytree(ROOT / "samples", tmp_path / "samples")
    (tmp_path / "more").mkdir()
    shutil.copy(clip_folder / "red10.mp4", tmp_path / "more" / "other.webm")  # a container by content, not by name
    for name in ("tango", "waltz"):
        (tmp_path / "dances" / name).mkdir(parents=True)
        for i, clip in enumerate(("red2.mp4", "red10.mp4")):
            shutil.copy(clip_folder / clip, tmp_path / "dances" / name / f"{i}.mp4")
    (tmp_path / "labels.txt").write_text("playing basketball\narm wrestling\n")
    return tmp_path


def test_the_blocks_are_found() -> None:
    assert COMMANDS[:3] == ["make demo", "make test", "make test-all"]
    assert len(COMMANDS) >= 4
    assert len(blocks("python")) >= 2


# Each in a process and a folder of its own, so that one that reads an index makes it first. Most are slow: the quick
# tests have the first line of classify, check and models; tests/cli/test_every_verb.py has the other verbs.
QUICK = re.compile(r"openxclip (classify match\.mp4|check|models)( |$)")


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(command, marks=[pytest.mark.slow] * (not QUICK.match(command)), id=command)
        for command in COMMANDS
        if not command.startswith("make ")
    ],
)
def test_shell_commands(command: str, desk: Path, hub: Path) -> None:
    if " --in " in command:  # an index, which a line before it makes
        (made,) = (line for line in COMMANDS if line.startswith("openxclip index "))
        command = f"{made} && {command}"
    done = subprocess.run(
        command,
        shell=True,
        cwd=desk,
        capture_output=True,
        text=True,
        timeout=120,
        env=environment(HF_HOME=str(hub), HF_HUB_OFFLINE="1"),
    )
    assert done.returncode == 0, done.stderr
    written = done.stdout or (desk / "results.jsonl").read_text()
    assert written
    if "classify" in command:
        assert all(json.loads(line)["labels"] for line in written.splitlines())


@pytest.mark.parametrize(
    "number", [pytest.param(number, marks=[pytest.mark.slow] * (number > 0)) for number in range(len(blocks("python")))]
)
@pytest.mark.slow
def test_python_blocks(number: int) -> None:
    script = "import warnings; warnings.simplefilter('error')\n" + blocks("python")[number]
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120, env=environment()
    )
    assert done.returncode == 0, done.stderr


def test_make_demo_recognises_each_sample() -> None:
    """The recipe of `make demo` (without the set-up), live: mini names what each sample shows."""
    recipe = subprocess.run(["make", "-n", "demo"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (command,) = [line for line in recipe.splitlines() if "openxclip classify" in line]
    command = command.removeprefix(".venv/bin/")
    done = subprocess.run(
        command, shell=True, cwd=ROOT, capture_output=True, text=True, timeout=120, env=environment(HF_HUB_OFFLINE="1")
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == len(list((ROOT / "samples").glob("*.mp4"))) >= 4
    shown = {Path(row["path"]).stem.replace("_", " "): row["outcome"] for row in rows}
    assert {name: outcome.removeprefix("an ").removeprefix("a ") for name, outcome in shown.items()} == {
        name: name for name in shown
    }


def test_samples_are_small() -> None:
    assert sum(path.stat().st_size for path in (ROOT / "samples").glob("*.mp4")) <= 2 * 2**20
