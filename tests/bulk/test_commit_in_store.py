"""Commits in an object store: lost answers, a store that stops for some time, and a kill."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lance
import pytest
from lancedb.table import LanceTable
from made_receipts import committer, create_index, failed_video, state_of, video, write_receipt
from s3_server import S3Server

from openxclip.errors import StoreError
from openxclip.search.bulk import patience
from openxclip.search.bulk.committing import Committer
from openxclip.search.bulk.failures import Failures
from openxclip.search.bulk.lease import Lease
from openxclip.search.bulk.objects import Objects
from openxclip.search.bulk.receipts import waiting
from openxclip.search.opening import OpenIndex

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
STEPS = ((LanceTable, "_do_merge"), (LanceTable, "delete"), (lance.LanceDataset, "commit"), (Objects, "delete"))


def prepare(uri: str) -> Objects:
    """Write an index, and receipts of new, changed, failed and repeated videos."""
    create_index(uri)
    objects = Objects.open(uri)
    write_receipt(objects, video("/changed.mp4"), failed_video("/later.mp4", content="1"))
    committer(uri).recover()
    write_receipt(objects, video("/changed.mp4", content="22", windows=3), video("/new.mp4"), fragment_bytes=1)
    write_receipt(objects, video("/later.mp4"), failed_video("/broken.mp4", content="broken"))
    write_receipt(objects, video("/new.mp4"), video("/again.mp4"))
    return objects


@pytest.fixture
def expected(tmp_path: Path) -> tuple[Any, Any]:
    uri = str(tmp_path / "expected")
    prepare(uri)
    committer(uri).recover()
    return state_of(uri)


@pytest.mark.parametrize("seed", range(1, 4))
def test_lost_requests_and_lost_answers_change_nothing(
    s3: S3Server, expected: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    uri = s3.bucket(f"lost{seed}") + "/index"
    prepare(uri)
    chance, failed = random.Random(seed), []
    message = "lance error: LanceError(IO): Generic S3 error: error sending request for url (http://127.0.0.1:1/lost)"

    def faulty(function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            before, after = chance.random() < 0.25, chance.random() < 0.25
            if before:
                failed.append(f"before {name}")
                raise OSError(message)
            result = function(*arguments, **options)
            if after:
                failed.append(f"after {name}")
                raise OSError(message)
            return result

        return call

    monkeypatch.setattr(patience, "_FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(patience, "_LONGEST_WAIT_S", 0.001)
    said: list[str] = []
    with monkeypatch.context() as patch:
        for owner, name in STEPS:
            patch.setattr(owner, name, faulty(getattr(owner, name), name))
        committer(uri, Objects.open(uri, on_wait=said.append)).recover()
    assert len(failed) > 2
    assert any("the store doesn't answer at http://127.0.0.1:1" in text and "waiting" in text for text in said)
    assert state_of(uri) == expected
    assert Failures(uri).count() == 1
    assert not [*waiting(Objects.open(uri))]


def test_a_store_that_stops_within_a_commit_is_waited_for(
    s3: S3Server, expected: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = s3.bucket("stops") + "/index"
    prepare(uri)
    said: list[str] = []
    objects = Objects.open(uri, on_wait=said.append)
    commit, calls = lance.LanceDataset.commit, []

    def stop_and_commit(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) > 1:
            return commit(*arguments, **options)
        s3.stop()
        threading.Timer(12.0, s3.go_on).start()
        return commit(*arguments, **options)

    monkeypatch.setattr(lance.LanceDataset, "commit", stop_and_commit)
    try:
        with Lease.take(objects, "a test") as lease:
            Committer(OpenIndex(uri, None, {}, {}), objects, lease).recover()
    finally:
        s3.go_on()
    assert any("the store doesn't answer" in text for text in said)
    assert state_of(uri) == expected


def test_a_store_that_refuses_is_an_error_at_once(s3: S3Server) -> None:
    uri = s3.bucket("refuses") + "/index"
    prepare(uri)
    one = committer(uri)
    with s3.checking_credentials(), pytest.raises(StoreError, match=r"the store refuses the credentials \(Invalid"):
        one.recover()
    assert len([*waiting(Objects.open(uri))]) == 3
