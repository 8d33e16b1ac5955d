"""`openxclip embed --decode key` reads key frames only, and the file says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Run = Callable[..., Any]


def test_embed_takes_the_frames_that_decode_names(
    run: Run, clip_folder: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    times = {}
    for decode in ("all", "key"):
        out = tmp_path / f"{decode}.npz"
        ran = run("embed", clip_folder, "--out", out, "--model", tiny_folder, "--device", "cpu", "--decode", decode)
        assert ran.returncode == 0, ran.stderr
        file = np.load(out)
        assert json.loads(file["openxclip"].item())["decode"] == decode
        times[decode] = file["times"]
    assert (times["key"] <= times["all"]).all()
    distinct = {decode: [len(set(row)) for row in rows.tolist()] for decode, rows in times.items()}
    assert max(distinct["key"]) < min(distinct["all"])
