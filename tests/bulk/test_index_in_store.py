"""An index in an object store: it is searched as one on a disk, and errors of the store are one sentence."""

from __future__ import annotations

import itertools
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from s3_server import S3Server

from openxclip import VideoIndex, VideoIndexError, VideoPipeline
from openxclip.cli.main import cli
from openxclip.search.bulk.lease import Lease
from openxclip.search.bulk.objects import Objects

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
SAMPLES = Path(__file__).parents[2] / "samples"
PATIENCE_S = 3.0
_numbers = itertools.count()


@pytest.fixture(scope="module")
def pipeline(tiny_folder: Path) -> VideoPipeline:
    return VideoPipeline.from_pretrained(tiny_folder, device="cpu", isolate=False)


@pytest.fixture
def uri(s3: S3Server, pipeline: VideoPipeline, clip_folder: Path) -> str:
    """An index of two videos."""
    uri = f"{s3.bucket(f'archive-{next(_numbers)}')}/deep/archive.index"
    index = VideoIndex.open(uri, model=pipeline, window=0.4)
    assert not index.add([clip_folder / "red2.mp4", clip_folder / "more"]).errors
    return uri


def assert_same_hits(index: VideoIndex, other: VideoIndex, text: str) -> None:
    found, expected = index.search(text), other.search(text)
    assert [(hit.path, hit.start, hit.reranked) for hit in found] == [
        (hit.path, hit.start, hit.reranked) for hit in expected
    ]
    assert [hit.similarity for hit in found] == pytest.approx([hit.similarity for hit in expected], abs=1e-5)


def test_hits_equal_those_of_a_local_index(
    uri: str, pipeline: VideoPipeline, clip_folder: Path, tmp_path: Path
) -> None:
    local = VideoIndex.open(tmp_path / "local", model=pipeline, window=0.4)
    local.add([clip_folder / "red2.mp4", clip_folder / "more"])
    stored = VideoIndex.open(uri, model=pipeline)
    assert stored.files() == local.files()
    assert len(stored) == len(local) > 0
    assert_same_hits(stored, local, "a red video")
    both = VideoIndex.open([uri, tmp_path / "local"], model=pipeline)
    assert_same_hits(both, local, "a red video")


def test_a_second_writer_is_refused(
    uri: str, pipeline: VideoPipeline, clip_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = VideoIndex.open(uri, model=pipeline)
    with Lease.take(Objects.open(uri), "a driver"):
        with pytest.raises(VideoIndexError, match=r"a driver on .* is writing to the index, and holds its lease until"):
            index.add(clip_folder / "red10.mp4")
        assert index.search("a red video")
    assert index.add(clip_folder / "red10.mp4").added
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.warns(UserWarning, match=r"needs obstore, .* Without it, another process that writes .* isn't noticed"):
        assert index.remove(clip_folder / "red10.mp4").removed


@pytest.mark.slow
def test_errors_of_the_store_are_one_sentence(
    s3: S3Server, uri: str, pipeline: VideoPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = VideoIndex.open(uri, model=pipeline, patience=PATIENCE_S)
    with s3.checking_credentials(), pytest.raises(VideoIndexError) as caught:
        opened.search("a red video")
    assert str(caught.value) == (
        f"{uri}: the store refuses the credentials (InvalidAccessKeyId): check AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN, if they are temporary)."
    )
    with pytest.raises(VideoIndexError) as caught:
        VideoIndex.open("s3://no-such-bucket/x", patience=PATIENCE_S)
    assert str(caught.value) == (
        "s3://no-such-bucket/x: there is no bucket no-such-bucket: make it, or correct the name."
    )
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.setenv("AWS_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(VideoIndexError) as caught:
        VideoIndex.open(uri, patience=PATIENCE_S)
    assert str(caught.value) == (
        f"{uri}: the store doesn't answer at http://127.0.0.1:9: check AWS_ENDPOINT_URL and AWS_REGION, or try again "
        "later."
    )


@pytest.mark.slow
def test_a_search_in_a_store_that_does_not_answer_ends(s3: S3Server, uri: str, pipeline: VideoPipeline) -> None:
    opened = VideoIndex.open(uri, model=pipeline, patience=PATIENCE_S)
    with s3.stopped():
        started = time.monotonic()
        with pytest.raises(VideoIndexError, match=f"the store doesn't answer at {s3.url}"):
            opened.search("a red video", where="duration > 0.5")
        assert time.monotonic() - started < 100  # by default LanceDB waits for more than ten minutes
    assert opened.search("a red video")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [*map(str, arguments), "--device", "cpu"])


def test_the_command_searches_indexes_in_a_store(s3: S3Server) -> None:
    bucket = s3.bucket("commands")
    clips = sorted(SAMPLES.glob("*.mp4"))
    for name, part in {"one": clips[:3], "two": clips[3:]}.items():
        made = run("index", *part, "--to", f"{bucket}/{name}", "--model", "mini", "--window", 1)
        assert (made.exit_code, "3 added" in made.stdout) == (0, True)
    search = ["search", "a cat moves left", "--top", 1, "--json"]
    found = run(*search, "--in", f"{bucket}/two", "--in", f"{bucket}/one")
    assert found.exit_code == 0
    assert "cat_moves_left.mp4" in found.stdout
    failed = run(*search, "--in", f"{bucket}/one", "--in", f"{bucket}/three")
    assert failed.exit_code == 1
    assert f"{bucket}/three: there is no index: make one with" in str(failed.exception)
