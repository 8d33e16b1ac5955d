"""Candidates whose videos are in an object store are read again from there."""

from __future__ import annotations

from pathlib import Path

import lancedb
import pytest
from s3_server import S3Server

from openxclip import VideoIndex, VideoPipeline
from openxclip.search import rereading
from openxclip.search.bulk import objects
from openxclip.search.bulk.objects import Objects

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
TEXT = "a red video"


@pytest.mark.slow
def test_candidates_in_an_object_store(
    s3: S3Server, tiny_folder: Path, clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = VideoPipeline.from_pretrained(tiny_folder, device="cpu", isolate=False)
    bucket = s3.bucket("candidates")
    place = tmp_path / "index"
    local = VideoIndex.open(place, model=pipeline, window=0.4, stride=0.2, patches=False)
    local.add(clip_folder)
    expected = sorted((hit.start, hit.similarity) for hit in local.search(TEXT, k=100, merge=False, rerank=100))
    for path in local.files():
        Objects.open(bucket).put(Path(path).name, Path(path).read_bytes())
        moved = {"where": f"path = '{path}'", "values": {"path": f"{bucket}/{Path(path).name}"}}
        for table in ("videos", "windows"):
            lancedb.connect(place).open_table(table).update(**moved)

    index = VideoIndex.open(place, model=pipeline)
    assert all(path.startswith(bucket) for path in index.files())
    hits = index.search(TEXT, k=100, merge=False, rerank=100)
    assert all(hit.reranked and hit.path.startswith(bucket) for hit in hits)
    found = sorted((hit.start, hit.similarity) for hit in hits)
    assert [value for pair in found for value in pair] == pytest.approx(
        [value for pair in expected for value in pair], abs=1e-3
    )

    Objects.open(bucket).put(Path(index.files()[0]).name, b"another video")
    with pytest.warns(RuntimeWarning, match=r"4 of 12 candidates .* has changed since it was indexed"):
        index.search(TEXT, k=100, merge=False, rerank=100)

    monkeypatch.setattr(rereading, "_PATIENCE_S", 0.1)
    monkeypatch.setattr(objects, "_warn", lambda message: None)
    with s3.stopped(), pytest.warns(RuntimeWarning, match="12 of 12 candidates .* doesn't answer"):
        assert not any(hit.reranked for hit in index.search(TEXT, k=100, merge=False, rerank=100))
