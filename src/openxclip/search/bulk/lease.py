"""The lease of an index: a file that says which process may commit, and until when."""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any

from openxclip.errors import LeaseHeldError, LeaseLostError, MissingPackageError, StoreError, VideoIndexError
from openxclip.search.bulk.objects import Objects

FILE = "_lease.json"
TTL_S = 60.0
_WRITER_PATIENCE_S = 60.0  # of one process that writes without a cluster


class Lease:
    """The right to commit to an index, which one process has at a time; call `take` to get it.

    The holder renews its lease every third of `ttl`. If it is killed, the lease expires, and another process takes it.
    Whether it has expired isn't decided by comparing the clocks of two machines: who wants to take it watches the file
    for `ttl` seconds, and takes it only if the holder didn't write it meanwhile. On the machine of the holder, nothing
    is watched if its process no longer exists.

    Examples:
        >>> from openxclip.search.bulk.objects import Objects
        >>> objects = Objects.open("leased.index")
        >>> with Lease.take(objects, "openxclip index") as lease:
        ...     lease.check()
    """

    def __init__(self, objects: Objects, holder: str, ttl: float) -> None:
        self._objects, self._ttl = objects, ttl
        # A renewal must not wait longer than the lease lasts: the next one tries again.
        self._renewing = objects.with_patience(ttl / 3, on_wait=lambda message: None)
        self._me = {
            "holder": holder, "host": socket.gethostname(), "pid": os.getpid(), "process": _process(os.getpid()),
            "id": secrets.token_hex(8), "ttl": ttl,
        }  # fmt: skip
        self._etag = ""
        self._valid_until = 0.0  # monotonic
        self._lost = ""  # the sentence, once it is known
        self._lock = threading.Lock()
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._keep_renewing, name="openxclip-lease", daemon=True)

    @classmethod
    def take(cls, objects: Objects, holder: str, ttl: float = TTL_S, *, watch: bool = True) -> Lease:
        """Take the lease of an index.

        Args:
            objects: the place of the index.
            holder: what this process does, for the message that another process gets.
            ttl: seconds after which the lease expires if it isn't renewed.
            watch: wait for up to the holder's `ttl` to see whether an expired lease is still renewed. If False, such
                a lease counts as held.

        Raises:
            LeaseHeldError: another process holds it.
            StoreError: the store can't be read or written.
        """
        lease = cls(objects, holder, ttl)
        while True:
            started = time.monotonic()
            if objects.create(FILE, lease._content()):
                found = objects.get(FILE)
                if found is not None and _read(found[0]).get("id") == lease._me["id"]:
                    return lease._begin(found[1], started)
                continue
            found = objects.get(FILE)
            if found is None:
                continue
            other = _read(found[0])
            if not (other.get("released") or _is_dead(other)):
                etag = found[1]
                if not (watch and _seems_expired(other) and lease._is_unchanged(other, etag)):
                    raise LeaseHeldError(_held(objects.uri, other))
            started = time.monotonic()
            etag_or_none = objects.replace(FILE, lease._content(), found[1])
            if etag_or_none is not None:
                return lease._begin(etag_or_none, started)

    def check(self) -> None:
        """Return if this process holds the lease for some time yet: call it before each step that writes.

        If the lease has not been renewed for some time, because the store didn't answer, it is renewed first.

        Raises:
            LeaseLostError: another process has taken it, or it has expired and can't be renewed.
        """
        if self._lost:
            raise LeaseLostError(self._lost)
        if self._valid_until - time.monotonic() < self._ttl / 3:
            try:
                self._renew(self._objects)
            except StoreError as error:
                raise LeaseLostError(f"{self._objects.uri}: the lease can't be renewed: {error}") from error
        if self._lost:
            raise LeaseLostError(self._lost)

    def release(self) -> None:
        """Give the lease back, so that another process may take it at once."""
        self._ends.set()
        if self._thread.is_alive():
            self._thread.join()
        if not self._lost:
            with suppress(StoreError):  # then it expires
                self._renewing.replace(FILE, self._content(released=True), self._etag)
            self._lost = f"{self._objects.uri}: the lease was released."

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    # -- renewing ----------------------------------------------------------------------------------------------------

    def _begin(self, etag: str, started: float) -> Lease:
        self._etag, self._valid_until = etag, started + self._ttl
        self._thread.start()
        return self

    def _keep_renewing(self) -> None:
        while not self._ends.wait(self._ttl / 3):
            with suppress(StoreError):  # `check` renews it, or says that it can't
                self._renew(self._renewing)
            if self._lost:
                return

    def _renew(self, objects: Objects) -> None:
        """Renew the lease, or find out that it is lost.

        Raises:
            StoreError: the store can't be read or written.
        """
        with self._lock:
            while not self._lost:
                started = time.monotonic()
                etag = objects.replace(FILE, self._content(), self._etag)
                if etag is not None:
                    self._etag, self._valid_until = etag, started + self._ttl
                    return
                found = objects.get(FILE)
                other = _read(found[0]) if found else {}
                if found is not None and other.get("id") == self._me["id"]:
                    self._etag = found[1]  # an earlier renewal took effect, but its answer was lost
                elif found is not None:
                    self._lost = (
                        f"{objects.uri}: the lease was lost to {_name(other)}, because it wasn't renewed in time: what "
                        "isn't committed yet is committed by that process."
                    )
                else:
                    self._lost = f"{objects.uri}: the lease was lost, because its file {FILE} was deleted."

    def _content(self, *, released: bool = False) -> bytes:
        expires = datetime.fromtimestamp(time.time() + self._ttl, timezone.utc)
        return json.dumps({**self._me, "expires": expires.isoformat(), "released": released}, indent=1).encode()

    def _is_unchanged(self, other: dict[str, Any], etag: str) -> bool:
        """Watch the file for some seconds, and return whether it stayed as it is."""
        seconds = other["ttl"]
        self._objects.on_wait(
            f"{self._objects.uri}: waiting for {seconds:.0f} s to see whether {_name(other)} still renews its lease."
        )
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, seconds / 10))
            found = self._objects.get(FILE)
            if found is None or found[1] != etag:
                return False
        return True


@contextmanager
def writing_lease(uri: str) -> Iterator[Lease | None]:
    """Hold the lease of an index in an object store while one process writes to it; None without obstore.

    Raises:
        VideoIndexError: another process is writing, or the store can't be read or written.
    """
    try:
        lease = Lease.take(Objects.open(uri, patience=_WRITER_PATIENCE_S), "openxclip index")
    except MissingPackageError as error:
        warnings.warn(f"{error} Without it, another process that writes to {uri} isn't noticed.", stacklevel=5)
        yield None
        return
    except StoreError as error:
        raise VideoIndexError(str(error)) from error
    with lease:
        yield lease


def _read(content: bytes) -> dict[str, Any]:
    """Read a lease; a damaged one counts as released, because nobody can renew it."""
    try:
        values = json.loads(content)
        return {**values, "ttl": float(values["ttl"]), "expires": datetime.fromisoformat(values["expires"])}
    except (ValueError, KeyError, TypeError):
        return {"released": True}


def _seems_expired(other: dict[str, Any]) -> bool:
    """Return whether a lease has expired by this machine's clock, or its times make no sense by it."""
    left = (other["expires"] - datetime.now(timezone.utc)).total_seconds()
    return bool(left <= 0 or left > other["ttl"])


def _name(other: dict[str, Any]) -> str:
    return f"{other.get('holder') or 'another process'} on {other.get('host')} (process {other.get('pid')})"


def _held(uri: str, other: dict[str, Any]) -> str:
    until = f"{other['expires'].astimezone(timezone.utc):%H:%M:%S} UTC"
    return (
        f"{uri}: {_name(other)} is writing to the index, and holds its lease until {until}, or longer if it goes on: "
        "wait until it is done, or stop it."
    )


def _process(pid: int) -> str:
    """Return what identifies a process of this machine since it was started, or "" where that can't be found out."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 (it names no file)
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        state, started = fields[0], fields[19]
    except (OSError, IndexError):
        return ""
    return "" if state in "ZX" else f"{boot} {namespace} {pid} {started}"


def _is_dead(other: dict[str, Any]) -> bool:
    """Return whether the holder certainly ran on this machine, and runs no more."""
    process, mine = str(other.get("process") or ""), _process(os.getpid())
    if not process or not mine or process.split()[:2] != mine.split()[:2]:
        return False
    return _process(int(other["pid"])) != process
