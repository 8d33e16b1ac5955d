"""Read and write the files of one place: an object store, or a folder of this machine.

Processes coordinate by `create` and `replace`: if several call them at the same time, exactly one succeeds.
"""

from __future__ import annotations

import itertools
import os
import random
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import unquote, urlsplit

from openxclip.common.files import cannot_write, take_lock, target_path
from openxclip.errors import StoreError, needs_package
from openxclip.search.sql import first_line
from openxclip.search.store_errors import AMBIENT, SCHEMES, Problem, is_remote, problem_of

PATIENCE_S = 600.0
_CONNECT_S, _READ_S = 5.0, 30.0  # until a connection is made, and between two parts of an answer
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.2, 10.0
_CHUNK = 4 << 20  # bytes
_LISTED, _DELETED = 1000, 1000  # objects in one request
_LOCK = ".objects.lock"  # in a folder, which has no conditional writes
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

OnWait = Callable[[str], object]
_T = TypeVar("_T")


class ObjectInfo(NamedTuple):
    """One object.

    Attributes:
        name: name below the place, with `/` between its parts.
        size: bytes.
        modified_ns: when it was written, nanoseconds since 1970.
        etag: changes with the content.
    """

    name: str
    size: int
    modified_ns: int
    etag: str


def ambient_options() -> dict[str, str]:
    """Return the environment variables from which LanceDB and obstore take credentials and endpoints."""
    return {name: value for name, value in os.environ.items() if name.startswith(AMBIENT)}


class Objects:
    """The files of one place; call `open` to get them. Threads may share it.

    Each method waits and tries again while the store doesn't answer, for up to `patience` seconds. It says so once in
    each outage. Then, and at once for errors that don't pass, it raises a `StoreError`.
    """

    def __init__(
        self, uri: str, store: Any, *, folder: Path | None = None, patience: float = PATIENCE_S, on_wait: OnWait
    ) -> None:
        self.uri, self.patience = uri, patience
        self._store, self._folder, self.on_wait = store, folder, on_wait
        self._failing_since: float | None = None  # monotonic; of the present outage, which has been said
        self._has_worked = False
        self._lock = threading.Lock()

    @classmethod
    def open(cls, uri: str | Path, *, patience: float = PATIENCE_S, on_wait: OnWait | None = None) -> Objects:
        """Open a place. Nothing is read yet.

        Args:
            uri: `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`, or a folder, which is created if
                it is missing. Credentials and endpoints come from the environment, as for LanceDB.
            patience: seconds to wait for a store that doesn't answer.
            on_wait: called with a sentence when it begins to wait; the default is a warning.

        Raises:
            MissingPackageError: obstore isn't installed.
            StoreError: the folder can't be made, or the store's settings are invalid.
            ValueError: the address is of another kind.
        """
        uri = str(uri)
        with needs_package("reading and writing an object store", "obstore", "cluster"):
            import obstore.store
        notify = on_wait or _warn
        if not is_remote(uri):
            folder = target_path(unquote(urlsplit(uri).path) if uri.startswith("file://") else uri)
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StoreError(cannot_write(folder, error)) from error
            store = obstore.store.LocalStore(folder)
            return cls(str(folder), store, folder=folder, patience=patience, on_wait=notify)
        parts = urlsplit(uri)
        if parts.scheme not in SCHEMES or not parts.netloc:
            raise ValueError(f"{uri}: give a folder, s3://bucket/…, gs://bucket/… or az://container/….")
        kind = {"s3": obstore.store.S3Store, "gs": obstore.store.GCSStore, "az": obstore.store.AzureStore}[parts.scheme]
        wait = min(_READ_S, max(1.0, patience))
        try:
            store = kind(
                parts.netloc,
                prefix=uri.partition("://")[2].partition("/")[2].strip("/") or None,
                # An answer may take an hour if its parts arrive; a request that fails is repeated here, not there.
                config={"connect_timeout": f"{min(_CONNECT_S, wait)}s", "read_timeout": f"{wait}s", "timeout": "1h"},
                retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=wait)},
            )
        except Exception as error:
            raise StoreError(f"{uri}: the store can't be used: {first_line(error)}.") from error
        return cls(uri.rstrip("/"), store, patience=patience, on_wait=notify)

    def with_patience(self, patience: float, *, on_wait: OnWait | None = None) -> Objects:
        """Return the same place with another patience in seconds."""
        return Objects.open(self.uri, patience=patience, on_wait=on_wait or self.on_wait)

    def address(self, name: str) -> str:
        """Return the whole address of an object."""
        return f"{self.uri.rstrip('/')}/{name}"

    # -- whole objects -----------------------------------------------------------------------------------------------

    def get(self, name: str) -> tuple[bytes, str] | None:
        """Return an object's content and etag, or None if there is no such object."""
        import obstore

        def read() -> tuple[bytes, str]:
            result = obstore.get(self._store, name)
            return bytes(result.bytes()), self._etag(result.meta)

        try:
            return self._call(read)
        except FileNotFoundError:
            return None

    def exists(self, name: str) -> bool:
        """Return whether there is such an object, without reading it."""
        import obstore

        try:
            self._call(lambda: obstore.head(self._store, name))
        except FileNotFoundError:
            return False
        return True

    def put(self, name: str, data: bytes) -> None:
        """Write an object, in place of another of this name."""
        import obstore

        self._call(lambda: obstore.put(self._store, name, data))

    def create(self, name: str, data: bytes) -> bool:
        """Write a new object, and return whether that succeeded: False if there is one of this name.

        Of several concurrent calls with different data, one returns True.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        tries = itertools.count()

        def write() -> bool:
            is_again = next(tries) > 0
            try:
                obstore.put(self._store, name, data, mode="create", use_multipart=False)
            except (AlreadyExistsError, PreconditionError):
                return is_again and self._holds(name, data)  # the lost answer to an earlier try may have been a success
            return True

        return self._call(write)

    def replace(self, name: str, data: bytes, etag: str) -> str | None:
        """Write an object if it is still the one with this etag, and return the new etag, or None if it has changed.

        Of several concurrent calls with different data, one returns an etag.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        if self._folder is not None:
            return self._replace_file(name, data, etag)
        key = self._version_key

        tries = itertools.count()

        def write() -> str | None:
            is_again = next(tries) > 0
            try:
                return self._etag(
                    obstore.put(self._store, name, data, mode={key: etag}, use_multipart=False)  # type: ignore[arg-type]
                )
            except FileNotFoundError as error:
                if self._problem(error) is not None:
                    raise
                return None
            except (AlreadyExistsError, PreconditionError):
                now = self._read(name) if is_again else None
                return now[1] if now is not None and now[0] == data else None

        return self._call(write)

    def _replace_file(self, name: str, data: bytes, etag: str) -> str | None:
        import obstore

        def write() -> str | None:
            assert self._folder is not None
            with (self._folder / _LOCK).open("w") as file:
                _wait_for_lock(file)
                now = self._read(name)
                if now is None or now[1] != etag:
                    return None
                return self._etag(obstore.put(self._store, name, data))

        return self._call(write)

    def _read(self, name: str) -> tuple[bytes, str] | None:
        """Read an object once, without waiting."""
        import obstore

        try:
            result = obstore.get(self._store, name)
            return bytes(result.bytes()), self._etag(result.meta)
        except FileNotFoundError:
            return None

    def _holds(self, name: str, data: bytes) -> bool:
        now = self._read(name)
        return now is not None and now[0] == data

    # -- many objects, large objects ---------------------------------------------------------------------------------

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield the objects below a folder in the order of their names; a store is asked for a thousand at a time.

        Args:
            prefix: a folder below the place; "" is the whole place.
        """
        infos = self._list(prefix)
        return infos if self._folder is None else iter(sorted(infos))  # a folder of this machine has no order

    def _list(self, prefix: str) -> Iterator[ObjectInfo]:
        import obstore

        stream: Iterator[Any] | None = None
        last: str | None = None

        def read() -> Any:
            nonlocal stream
            if stream is None:  # after an outage, it goes on after the last name
                stream = iter(obstore.list(self._store, prefix or None, offset=last, chunk_size=_LISTED))
            try:
                return next(stream, None)
            except BaseException:
                stream = None
                raise

        while (part := self._call(read)) is not None:
            for meta in part:
                last = meta["path"]
                if meta["path"] != _LOCK:
                    modified = (meta["last_modified"] - _EPOCH) // timedelta(microseconds=1) * 1000
                    yield ObjectInfo(meta["path"], meta["size"], modified, self._etag(meta))

    def read_chunks(self, name: str) -> Iterator[bytes]:
        """Yield the content of an object in chunks of some MiB.

        Raises:
            StoreError: there is no such object, or it changed meanwhile.
        """
        import obstore
        from obstore.exceptions import PreconditionError

        stream: Iterator[Any] | None = None
        offset, size, version = 0, -1, ""

        def read() -> Any:
            nonlocal stream, size, version
            try:
                if stream is None:
                    rest: Any = {"range": {"offset": offset}, "if_match": version} if offset else None
                    result = obstore.get(self._store, name, options=rest)
                    size, version = result.meta["size"], result.meta["e_tag"] or ""
                    stream = iter(result.stream(min_chunk_size=_CHUNK))
                return next(stream, None)
            except BaseException:
                stream = None
                raise

        while offset != size:
            try:
                chunk = self._call(read)
            except FileNotFoundError:
                raise StoreError(f"{self.address(name)}: there is no such object.") from None
            except PreconditionError:
                raise StoreError(f"{self.address(name)}: the object changed while it was read.") from None
            if chunk is None:
                break
            offset += len(chunk)
            yield bytes(chunk)
        if offset != size:
            raise StoreError(f"{self.address(name)}: {offset} of {size} bytes could be read.", may_pass=True)

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects; those that don't exist are no error."""
        remaining = iter(names)
        while part := list(itertools.islice(remaining, _DELETED)):
            if not self._delete_all(part):  # some stores stop at the first that is missing
                for name in part:
                    self._delete_all([name])

    def _delete_all(self, names: Sequence[str]) -> bool:
        """Delete objects, and return False if one of them doesn't exist."""
        import obstore

        try:
            self._call(lambda: obstore.delete(self._store, names))
        except FileNotFoundError:
            return False
        return True

    # -- waiting and errors ------------------------------------------------------------------------------------------

    def _call(self, work: Callable[[], _T]) -> _T:
        """Do one request, again and again while the store doesn't answer.

        Raises:
            StoreError: the store refuses, or didn't answer in time.
            FileNotFoundError: there is no such object.
            PreconditionError: of obstore, a condition wasn't met.
        """
        from obstore.exceptions import InvalidPathError, PreconditionError

        started, wait = time.monotonic(), _FIRST_WAIT_S
        while True:
            try:
                result = work()
            except PreconditionError:
                raise
            except (InvalidPathError, ValueError) as error:
                raise StoreError(
                    f"{self.uri}: the name of an object can't be used ({first_line(error)}): rename it, or list the "
                    "others in a manifest."
                ) from error
            except Exception as error:
                problem = self._problem(error)
                if problem is None and isinstance(error, FileNotFoundError):
                    raise
                if problem is None:
                    raise StoreError(f"{self.uri}: the store can't be read or written: {first_line(error)}.") from error
                waited = time.monotonic() - started
                # Credentials that were there before come back: a machine's own service for them fails now and then.
                may_pass = problem.may_pass or (problem.is_without_credentials and self._has_worked)
                if not may_pass or waited + wait > self.patience:
                    tried = f" It was tried for {waited:.0f} s." if may_pass and waited > 1 else ""
                    raise StoreError(problem.message + tried, may_pass=may_pass) from error
                self._say_once(problem)
            else:
                self._failing_since, self._has_worked = None, True
                return result
            time.sleep(wait * random.uniform(0.75, 1))
            wait = min(2 * wait, _LONGEST_WAIT_S)

    def _say_once(self, problem: Problem) -> None:
        with self._lock:
            is_first, self._failing_since = self._failing_since is None, self._failing_since or time.monotonic()
        if is_first:
            self.on_wait(f"{problem.message.removesuffix('.')} (waiting for up to {self.patience:.0f} s).")

    def _problem(self, error: BaseException) -> Problem | None:
        return problem_of(self.uri, error)

    @property
    def _version_key(self) -> str:
        """What identifies the version of an object: Google's store compares generations, the others etags."""
        return "version" if self.uri.startswith("gs://") else "e_tag"

    def _etag(self, meta: Any) -> str:
        return str(meta[self._version_key] or "")


def _wait_for_lock(file: Any) -> None:
    """Lock an open file until it is closed; other holders keep it for milliseconds."""
    while not take_lock(file):
        time.sleep(0.005)


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=2)
