"""Processes that index and commit are killed at random moments; in the end the index equals a local one."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from made_receipts import committer, state_of

from openxclip import VideoIndex, VideoPipeline
from openxclip.search.bulk.objects import Objects
from openxclip.search.bulk.receipts import FOLDER
from openxclip.search.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

# One process commits, each time it has written three receipts; the others only write
_CODE = """
import os, sys
from openxclip import VideoPipeline
from openxclip.search.bulk.committing import Committer
from openxclip.search.bulk.lease import Lease
from openxclip.search.bulk.objects import Objects
from openxclip.search.bulk.planning import plan
from openxclip.search.bulk.receipts import Receipt
from openxclip.search.bulk.sources import open_source
from openxclip.search.bulk.work import BulkWorker
from openxclip.search.opening import OpenIndex
uri, videos, model, number = sys.argv[1:]
pipeline = VideoPipeline.from_pretrained(model, device="cpu", isolate=False)
print("ready", flush=True)
index, objects = OpenIndex(uri, pipeline, {}, {}), Objects.open(uri)
index.require()
waiting = {path for receipt in Receipt.list(objects) for path in receipt.paths}
chunks = plan(open_source(videos), index.store, share=(int(number), 2), waiting=waiting)
chunks.chunk_videos = 4
worker = BulkWorker(uri, pipeline)
for done, chunk in enumerate(chunks):
    worker.process(chunk)
    if number == "1" and done % 3 == 2:
        with Lease.take(objects, "part 1") as lease:
            Committer(index, objects, lease).recover()
print("done", flush=True)
"""


def test_parts_that_are_killed_lose_and_double_nothing(clip_folder: Path, tiny_folder: Path, tmp_path: Path) -> None:
    videos = Path(shutil.copytree(clip_folder, tmp_path / "videos"))
    for number in range(60):
        (videos / f"copy{number}.mp4").write_bytes((videos / "red2.mp4").read_bytes() + bytes([number]))
    (videos / "broken.mp4").write_bytes(b"no video")
    pipeline = VideoPipeline.from_pretrained(tiny_folder, device="cpu", isolate=False)
    settings = {"window": 0.4, "stride": 0.2}
    local = VideoIndex.open(tmp_path / "local", model=pipeline, **settings)  # type: ignore[arg-type]
    local.add(videos)
    index = VideoIndex.open(tmp_path / "index", model=pipeline, **settings)  # type: ignore[arg-type]
    index._index.pipeline()
    uri = str(tmp_path / "index")

    def start(number: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-W", "ignore", "-c", _CODE, uri, str(videos), str(tiny_folder), str(number)]
        return subprocess.Popen(command, stdout=subprocess.PIPE)

    random = np.random.default_rng(0)
    seen: set[str] = set()
    for _ in range(6):
        parts = [start(1), start(2)]
        for part in parts:
            assert part.stdout is not None
            part.stdout.readline()
        for part in parts:
            time.sleep(random.uniform(0.0, 0.8))
            part.kill()
            part.wait()
            assert part.stdout is not None
            part.stdout.close()
        files = {*VideoIndex.open(uri).files()}
        assert seen <= files
        seen = files
    for number in (1, 2):
        with start(number) as part:
            assert part.stdout is not None
            assert part.stdout.read().endswith(b"done\n")
    committer(uri).recover()
    committer(uri).finish()
    assert not [*Objects.open(uri).list(FOLDER)]
    bulk, own = state_of(uri), state_of(str(tmp_path / "local"))
    assert bulk[0] == own[0]
    assert [row[:3] for row in bulk[1]] == [row[:3] for row in own[1]]
    np.testing.assert_allclose([row[3] for row in bulk[1]], [row[3] for row in own[1]], atol=1e-5)
    store = Store(uri)
    store.open()
    assert sum(row.state == "failed" for row in store.videos()) == 1
