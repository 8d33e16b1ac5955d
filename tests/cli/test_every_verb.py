"""One quick run of each verb whose other tests are slow, in this process."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import openxclip

Run = Callable[..., Any]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # in what reads and writes the index
def test_index_search_and_dedup(run: Run, clip_folder: Path, tiny_folder: Path, tmp_path: Path) -> None:
    videos, index = Path(shutil.copytree(clip_folder, tmp_path / "videos")), tmp_path / "index"
    shutil.copy(videos / "red2.mp4", videos / "copy.mp4")
    made = run("index", videos, "--to", index, "--model", tiny_folder, "--device", "cpu", "--window", 0.5)
    assert made.returncode == 0, made.stderr
    assert "4 added; 4 videos, 8 windows" in made.stdout
    found = run("search", "a red video", "--in", index, "--raw", "--top", 3, "--device", "cpu")
    hits = [json.loads(line) for line in found.stdout.splitlines()]
    assert len(hits) == 3
    assert all(0 < hit["score"] < 1 and hit["reranked"] for hit in hits)
    like = run("search", "--video", videos / "red2.mp4", "--in", index, "--top", 1, "--device", "cpu")
    assert json.loads(like.stdout)["similarity"] > 0.5
    copies = run("dedup", "--in", index, "--min-similarity", 0.99999)
    assert any(one["identical"] for line in copies.stdout.splitlines() for one in json.loads(line)["duplicates"])
    missing = run("dedup", "--in", tmp_path / "none")
    assert missing.returncode != 0
    assert "there is no index" in missing.stderr


def test_train_and_eval(run: Run, clip_folder: Path, tiny_folder: Path, tmp_path: Path) -> None:
    for name, clip in (("reds", "red2.mp4"), ("blues", "more/blue.mp4")):
        (tmp_path / "data" / name).mkdir(parents=True)
        shutil.copy(clip_folder / clip, tmp_path / "data" / name)
    how = ("my-videos", f"data={tmp_path / 'data'}", "hold_out=0")
    small = (f"model={tiny_folder}", "epochs=1", "warmup_epochs=0", "eval_every=0", "workers=0")
    trained = run("train", *how, *small, "--out", tmp_path / "out")
    assert trained.returncode == 0, trained.stderr
    assert "wrote the model, its card and its results" in trained.stdout
    judged = run("eval", *how, "--model", tmp_path / "out", "--out", tmp_path / "judged")
    assert judged.returncode == 0, judged.stderr
    assert "top1" in judged.stdout
    assert (tmp_path / "judged/results.json").exists()
    again = run("train", *how, *small, "--out", tmp_path / "out")
    assert again.returncode == 1
    assert "this training is finished" in again.stderr


def test_playground(run: Run, tmp_path: Path) -> None:
    made = run("playground", "--out", tmp_path / "made", "--clips", 2, "--size", 32, "--seconds", 0.5)
    assert made.returncode == 0, made.stderr
    lines = [json.loads(line) for line in (tmp_path / "made/captions.jsonl").read_text().splitlines()]
    assert all(f"{line['thing']} {line['action']}" in line["caption"] for line in lines)
    assert {path.name for path in (tmp_path / "made").glob("*.mp4")} == {line["path"] for line in lines}


@pytest.mark.slow
def test_a_killed_embed_resumes(clip_folder: Path, tiny_folder: Path, tmp_path: Path) -> None:
    how: dict[str, Any] = {"model": str(tiny_folder), "device": "cpu", "window": 0.2}
    openxclip.embed(clip_folder, tmp_path / "whole.npz", **how)
    code = (
        "import os, signal, sys; from openxclip import embed; from openxclip.features import run\n"
        "run._WRITE_EVERY_BYTES = 100\n"
        "write, writes = run.EmbedRun._write, []\n"
        "def write_then_die(self):\n"
        "    write(self); writes.append(self)\n"
        "    if len(writes) == 5: os.kill(os.getpid(), signal.SIGKILL)\n"
        "run.EmbedRun._write = write_then_die\n"
        "embed(sys.argv[1], sys.argv[2], model=sys.argv[3], device='cpu', window=0.2)"
    )
    out, part = tmp_path / "f.npz", tmp_path / "f.npz.part"
    command = [sys.executable, "-c", code, str(clip_folder), str(out), str(tiny_folder)]
    killed = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert list(part.glob("*.safetensors"))
    assert not out.exists()
    openxclip.embed(clip_folder, out, **how)
    assert out.read_bytes() == (tmp_path / "whole.npz").read_bytes()
    assert not part.exists()
