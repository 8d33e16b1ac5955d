"""Write windows as fragments of an index's table that aren't committed: nobody sees them until a commit names them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from openxclip.errors import StoreError, VideoIndexError
from openxclip.search.bulk.lance_versions import import_lance
from openxclip.search.bulk.objects import Objects
from openxclip.search.columns import windows_table
from openxclip.search.connecting import storage_options
from openxclip.search.store_errors import problem_of, sentence_of

FRAGMENT_BYTES = 64 << 20  # of embeddings and patches
WINDOWS_FOLDER = "windows.lance"  # of the table of windows, below the place of an index
_DATA = f"{WINDOWS_FOLDER}/data"


@contextmanager
def lance_errors(uri: str, what: str = "the index can't be written") -> Iterator[None]:
    """Translate pylance's errors in a block.

    Args:
        uri: place of the index.
        what: what couldn't be done.

    Raises:
        StoreError: the object store can't be reached or refuses.
        VideoIndexError: another error.
    """
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        problem = problem_of(uri, error)
        if problem is not None:
            raise StoreError(problem.message, may_pass=problem.may_pass) from error
        raise VideoIndexError(sentence_of(uri, error, what)) from error


def open_windows(uri: str) -> Any:
    """Open the latest version of an index's table of windows with pylance.

    Raises:
        MissingPackageError: pylance isn't installed, or doesn't fit LanceDB.
        StoreError, VideoIndexError: it can't be read.
    """
    lance = import_lance()
    with lance_errors(uri, "the index can't be read, and may be damaged"):
        return lance.dataset(f"{uri.rstrip('/')}/{WINDOWS_FOLDER}", storage_options=storage_options(uri) or None)


def data_files(fragment: str) -> list[str]:
    """Return the names of a fragment's files, below the table's folder of data.

    Args:
        fragment: metadata as pylance's JSON.
    """
    return [file["path"] for file in json.loads(fragment)["files"]]


def rows_in(fragment: str) -> int:
    """Return the number of rows of a fragment."""
    return int(json.loads(fragment)["physical_rows"])


def object_name(data_file: str) -> str:
    """Return the name of a data file below the place of the index."""
    return f"{_DATA}/{data_file}"


class FragmentWriter:
    """Writes the windows of videos, one video after the other, as uncommitted fragments.

    A video's windows are kept only if `end_video` says so; of a long video, parts are written before its end.

    Args:
        objects: the place of the index, which exists.
        fragment_bytes: bytes of embeddings and patches in one fragment.

    Attributes:
        schema: pyarrow schema of the windows.

    Raises:
        MissingPackageError: pylance isn't installed, or doesn't fit LanceDB.
        StoreError, VideoIndexError: of each method too, the store can't be read or written.
    """

    def __init__(self, objects: Objects, *, fragment_bytes: int = FRAGMENT_BYTES) -> None:
        self._objects, self._limit = objects, fragment_bytes
        self._dataset = open_windows(objects.uri)
        self.schema = self._dataset.schema
        self._rows: list[Mapping[str, Any]] = []  # of finished videos
        self._bytes = 0
        self._fragments: list[str] = []
        self._open_rows: list[Mapping[str, Any]] = []  # of the present video
        self._open_bytes = 0
        self._open_fragments: list[str] = []

    def add(self, row: Mapping[str, Any]) -> None:
        """Add the next window of the present video, see `openxclip.search.bulk.rows.window_row`."""
        self._open_rows.append(row)
        self._open_bytes += row["embedding"].nbytes + len(row["patches"] or b"")
        if self._open_bytes >= self._limit:
            self._open_fragments += self._write(self._open_rows)
            self._open_rows, self._open_bytes = [], 0

    def end_video(self, *, keep: bool) -> None:
        """End the present video, and keep or drop its windows."""
        rows, fragments = self._open_rows, self._open_fragments
        num_bytes = self._open_bytes
        self._open_rows, self._open_fragments, self._open_bytes = [], [], 0
        if not keep:
            self._delete(fragments)
            return
        self._fragments += fragments
        self._rows += rows
        self._bytes += num_bytes
        if self._bytes >= self._limit:
            self._flush()

    def finish(self) -> list[str]:
        """Write what waits, and return the metadata of all fragments, as pylance's JSON."""
        self._flush()
        return self._fragments

    def discard(self) -> None:
        """Delete all files that were written, because no receipt will name them."""
        self._delete([*self._fragments, *self._open_fragments])
        self._fragments, self._rows, self._bytes = [], [], 0
        self._open_fragments, self._open_rows, self._open_bytes = [], [], 0

    def _flush(self) -> None:
        rows, self._rows, self._bytes = self._rows, [], 0
        self._fragments += self._write(rows)

    def _write(self, rows: list[Mapping[str, Any]]) -> list[str]:
        if not rows:
            return []
        from lance.fragment import write_fragments

        table = windows_table(rows, self.schema)
        with lance_errors(self._objects.uri):
            written = write_fragments(table, self._dataset, storage_options=storage_options(self._objects.uri) or None)
        return [json.dumps(fragment.to_json()) for fragment in written]

    def _delete(self, fragments: Iterable[str]) -> None:
        names = [object_name(file) for fragment in fragments for file in data_files(fragment)]
        with suppress(StoreError):  # what remains is deleted with the index's old versions, after a week
            self._objects.delete(names)
