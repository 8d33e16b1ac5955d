"""The lease of an index: one holder, who loses it only if somebody else takes it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from s3_server import S3Server

from openxclip.errors import LeaseHeldError, LeaseLostError, StoreError
from openxclip.search.bulk import lease as lease_module
from openxclip.search.bulk.lease import FILE, Lease
from openxclip.search.bulk.objects import Objects

SHORT_S = 0.8  # of a lease


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    return Objects.open(tmp_path / "index", on_wait=lambda message: None)


def change(objects: Objects, **values: object) -> None:
    """Change values of the lease's file, as another process would."""
    content, etag = objects.get(FILE)
    assert objects.replace(FILE, json.dumps({**json.loads(content), **values}).encode(), etag) is not None


def make_old(objects: Objects, lease: Lease) -> None:
    """Leave the file as a holder on another machine leaves it that was killed long ago."""
    lease._ends.set()
    lease._thread.join()
    change(objects, id="other", host="far", process="", expires="2020-01-01T00:00:00+00:00")


def test_a_lease_is_held_by_one_and_given_back(objects: Objects) -> None:
    with Lease.take(objects, "openxclip index") as lease:
        lease.check()
        with pytest.raises(LeaseHeldError) as caught:
            Lease.take(objects, "another")
        assert isinstance(caught.value, StoreError)
        values = json.loads(objects.get(FILE)[0])
        expected = (
            f"{objects.uri}: openxclip index on {values['host']} (process {values['pid']}) is writing to the index"
        )
        assert str(caught.value).startswith(expected)
        assert f"holds its lease until {values['expires'][11:19]} UTC" in str(caught.value)
    with pytest.raises(LeaseLostError):
        lease.check()
    with Lease.take(objects, "another") as lease:
        lease.check()


def test_of_several_takers_one_wins(s3: S3Server) -> None:
    objects = Objects.open(s3.bucket("lease"))

    def take(number: int) -> Lease | None:
        try:
            return Lease.take(objects, f"driver {number}")
        except LeaseHeldError:
            return None

    for _ in range(2):  # of a new lease, and of one that was given back
        with ThreadPoolExecutor(8) as pool:
            (lease,) = filter(None, pool.map(take, range(8)))
        lease.release()


def test_a_holder_renews_its_lease(objects: Objects) -> None:
    with Lease.take(objects, "holder", ttl=SHORT_S) as lease:
        first = objects.get(FILE)[0]
        time.sleep(1.5 * SHORT_S)
        assert objects.get(FILE)[0] != first
        lease.check()
        with pytest.raises(LeaseHeldError):
            Lease.take(objects, "another")


def test_an_expired_lease_is_watched_and_then_taken(objects: Objects) -> None:
    lease = Lease.take(objects, "holder", ttl=SHORT_S)
    make_old(objects, lease)
    with pytest.raises(LeaseHeldError):
        Lease.take(objects, "another", watch=False)
    said: list[str] = []
    objects.on_wait = said.append
    started = time.monotonic()
    with Lease.take(objects, "another") as new:
        assert time.monotonic() - started >= SHORT_S
        new.check()
        assert said == [f"{objects.uri}: waiting for 1 s to see whether holder on far (process {lease._me['pid']}) "
                        "still renews its lease."]  # fmt: skip
        lease._renew(objects)
        with pytest.raises(LeaseLostError, match=r"the lease was lost to another on .* because it wasn't renewed"):
            lease.check()


def test_a_holder_whose_clock_is_behind_keeps_its_lease(objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Lease._content
    monkeypatch.setattr(
        Lease, "_content",
        lambda self, **options: json.dumps(
            {**json.loads(real(self, **options)), "expires": "2020-01-01T00:00:00+00:00", "n": time.monotonic_ns()}
        ).encode(),
    )  # fmt: skip
    with Lease.take(objects, "behind", ttl=SHORT_S) as lease:
        with pytest.raises(LeaseHeldError):
            Lease.take(objects, "another")
        lease.check()


def test_of_several_who_watch_one_wins(objects: Objects) -> None:
    make_old(objects, Lease.take(objects, "holder", ttl=SHORT_S))

    def take(number: int) -> Lease | None:
        try:
            return Lease.take(objects, f"driver {number}")
        except LeaseHeldError:
            return None

    with ThreadPoolExecutor(4) as pool:
        (lease,) = filter(None, pool.map(take, range(4)))
    lease.release()


def test_the_lease_of_a_killed_process_of_this_machine_is_taken_at_once(objects: Objects) -> None:
    if not lease_module._process(1):
        pytest.skip("this system doesn't tell when a process was started")
    code = (
        "import os, sys\nfrom openxclip.search.bulk.lease import Lease\n"
        "from openxclip.search.bulk.objects import Objects\n"
        "Lease.take(Objects.open(sys.argv[1]), 'killed')\nos.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code, objects.uri], timeout=60, check=False)
    assert json.loads(objects.get(FILE)[0])["holder"] == "killed"
    with Lease.take(objects, "next", watch=False) as lease:
        lease.check()


def test_a_lease_outlives_an_outage_if_nobody_took_it(objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    with Lease.take(objects, "holder", ttl=SHORT_S) as lease:
        replace = Objects.replace

        def refuse(self: Objects, name: str, data: bytes, etag: str) -> str:
            raise StoreError("no answer", may_pass=True)

        monkeypatch.setattr(Objects, "replace", refuse)
        time.sleep(1.5 * SHORT_S)
        with pytest.raises(LeaseLostError, match="can't be renewed: no answer"):
            lease.check()
        monkeypatch.setattr(Objects, "replace", replace)
        lease.check()


def test_a_renewal_whose_answer_was_lost_keeps_the_lease(objects: Objects) -> None:
    with Lease.take(objects, "holder") as lease:
        change(objects, expires="2020-01-01T00:00:00+00:00")  # the id stays: it was this process
        lease._renew(objects)
        lease.check()


def test_a_deleted_lease_is_lost(objects: Objects) -> None:
    lease = Lease.take(objects, "holder", ttl=SHORT_S)
    objects.delete([FILE])
    time.sleep(SHORT_S)
    with pytest.raises(LeaseLostError, match=r"because its file _lease\.json was deleted"):
        lease.check()
    lease.release()


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"no json"])
def test_a_damaged_lease_is_taken(objects: Objects, content: bytes) -> None:
    objects.put(FILE, content)
    with Lease.take(objects, "holder", watch=False) as lease:
        lease.check()
