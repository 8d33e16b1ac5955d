"""Read and write the tables of an index in LanceDB. `schema` describes their columns and the order of writes.

Each write is one commit: a reader sees all of it or nothing, and a killed writer leaves the index as it was after its
last commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openxclip.errors import VideoIndexError
from openxclip.search import maintenance
from openxclip.search.bulk.lease import Lease, writing_lease
from openxclip.search.columns import metadata_columns, new_columns, windows_table, with_columns
from openxclip.search.connecting import PATIENCE_S, connector, storage_options
from openxclip.search.folders import is_vacant, writing_lock
from openxclip.search.schema import WINDOW_COLUMNS, IndexInfo, VideoRow, read_info, videos_schema, windows_schema
from openxclip.search.sql import (
    columns_used,
    first_line,
    in_parentheses,
    invalid_condition,
    path_in,
    video_in,
    video_not_in,
)
from openxclip.search.store_errors import problem_of, sentence_of

_WINDOWS, _VIDEOS = "windows", "videos"
_BATCH_ROWS = 4096
_IDS_PER_DELETE = 10_000
_MIN_PROBES = 20  # partitions of the vector index; more are searched until there are enough windows
_REFINE_FACTOR = 3  # compares this many times as many candidates by their full embeddings
_HIDDEN = "state != 'complete' AND state != 'failed'"  # videos that are not searchable but may have windows
_VIDEO_COLUMNS, _TIMES = {"modified"}, {"start", "end"}  # columns that only one of the tables has


class Store:
    """The tables of one index.

    Args:
        uri: a folder, or another place that LanceDB takes: `s3://…`, `gs://…`, `az://…`.
        patience: about how long one call waits for an object store that doesn't answer, in seconds.

    Raises:
        MissingPackageError: LanceDB isn't installed, or is too old.
        ValueError: the name is empty or not valid UTF-8.
    """

    def __init__(self, uri: str, *, patience: float = PATIENCE_S) -> None:
        self.uri, self.storage_options = uri, storage_options(uri, patience)
        self._connect = connector(uri, self.storage_options)
        self._lease: Lease | None = None  # of an index in an object store, while it is written
        self._windows: Any = None
        self._videos: Any = None
        self.metadata: list[str] = []  # names of the metadata columns
        self._hidden: list[int] = []  # ids of the _HIDDEN videos in the loaded version of the tables

    @property
    def folder(self) -> Path | None:
        """The folder of the index; None in an object store."""
        return None if "://" in self.uri else Path(self.uri)

    # -- opening -----------------------------------------------------------------------------------------------------

    def open(self) -> IndexInfo | None:
        """Open the tables and return the description of the index; None if there is no index yet.

        Raises:
            VideoIndexError: the place holds something else, or can't be read.
        """
        if self.folder is not None and is_vacant(self.folder):
            return None
        with self.read_errors():
            database = self._connect(self.uri)
            names = set(database.list_tables().tables)
            if _WINDOWS not in names:
                has_other_tables = bool(names - {_VIDEOS})
                has_other_files = self.folder is not None and not names  # the folder isn't empty
                if has_other_tables or has_other_files:
                    raise VideoIndexError(f"{self.uri}: is not an index of videos: name an empty or another folder.")
                return None
            windows = database.open_table(_WINDOWS)
            info = read_info(windows.schema.metadata or {}, self.uri)
            self._windows, self._videos = windows, database.open_table(_VIDEOS)
            self.refresh()
        return info

    def create(self, info: IndexInfo, width: int) -> None:
        """Create an empty index. The table of windows, by which `open` recognises an index, is created last.

        Args:
            info: description of the index.
            width: E, the size of an embedding.

        Raises:
            VideoIndexError: the index can't be created there.
        """
        try:
            if self.folder is not None:
                self.folder.mkdir(parents=True, exist_ok=True)
            database = self._connect(self.uri)
            self._videos = database.create_table(_VIDEOS, schema=videos_schema(), exist_ok=True)
            self._windows = database.create_table(_WINDOWS, schema=windows_schema(info, width), exist_ok=True)
        except (OSError, RuntimeError, ValueError) as error:
            if self.folder is not None:
                with suppress(OSError):
                    self.folder.rmdir()  # only if it is empty
            raise VideoIndexError(sentence_of(self.uri, error, "an index can't be made there")) from error

    @contextmanager
    def writing(self, lease: Lease | None = None) -> Iterator[None]:
        """Lock the index against other writers, on this machine or of the object store, and refresh it.

        Args:
            lease: the lease of the index, if the caller holds it.

        Raises:
            VideoIndexError: another process is writing.
        """
        leased = writing_lease(self.uri) if lease is None and self.folder is None else nullcontext(lease)
        with writing_lock(self.folder, self.uri), leased as self._lease:
            self.refresh()
            try:
                yield
            finally:
                self._lease = None

    def refresh(self) -> None:
        """Load the latest versions of both tables, as they were at one moment."""
        with self.read_errors():
            version = None
            while version != self._videos.version:  # a writer may commit between the two checkouts
                self._videos.checkout_latest()
                version = self._videos.version
                self._windows.checkout_latest()
                self.metadata = metadata_columns(self._windows.schema)
                self._hidden = self._ids(_HIDDEN)
                self._videos.checkout_latest()

    @contextmanager
    def write_errors(self) -> Iterator[None]:
        """Check that nobody else has become the writer, and translate LanceDB's errors in a block that writes."""
        if self._lease is not None:
            self._lease.check()
        try:
            yield
        except (OSError, RuntimeError) as error:
            raise VideoIndexError(sentence_of(self.uri, error, "the index can't be written")) from error

    @contextmanager
    def read_errors(self, where: str | None = None) -> Iterator[None]:
        """Translate LanceDB's errors. If the user gave a condition, it is the cause, or else the object store is."""
        try:
            yield
        except (OSError, RuntimeError, ValueError) as error:
            if where is not None and problem_of(self.uri, error) is None:
                raise invalid_condition(where, first_line(error), self.metadata) from error
            what = "the index can't be read, and may be damaged"
            raise VideoIndexError(sentence_of(self.uri, error, what)) from error

    @property
    def tables(self) -> tuple[Any, Any]:
        """LanceDB's tables of videos and of windows."""
        return self._videos, self._windows

    @property
    def windows_schema(self) -> Any:
        """The pyarrow schema of the table of windows, with the index's description in its metadata."""
        return self._windows.schema

    @property
    def width(self) -> int:
        """E, the size of an embedding."""
        return int(self.windows_schema.field("embedding").type.list_size)

    # -- videos ------------------------------------------------------------------------------------------------------

    def videos(self) -> list[VideoRow]:
        """Return the videos in every state."""
        with self.read_errors():
            return [VideoRow(**row) for row in self._videos.to_arrow().to_pylist()]

    def complete_videos(self) -> dict[str, VideoRow]:
        """Return the searchable videos, by path."""
        return {row.path: row for row in self.videos() if row.state == "complete"}

    def has_videos(self) -> bool:
        """Return whether there is any video, in any state."""
        with self.read_errors():
            return bool(self._videos.count_rows())

    def rows_of(self, paths: Sequence[str]) -> list[VideoRow]:
        """Return the videos with these paths, in every state; a few thousand paths in one call are best."""
        if not paths:
            return []
        with self.read_errors():
            return [VideoRow(**row) for row in self._videos.search().where(path_in(paths)).to_arrow().to_pylist()]

    def put_videos(self, rows: Iterable[VideoRow], *, new: bool = False) -> None:
        """Write rows of the table of videos in one commit.

        Args:
            rows: rows to write; each replaces the row with the same id.
            new: promises that the table has none of these ids, which is faster.
        """
        import pyarrow as pa

        table = pa.Table.from_pylist([asdict(row) for row in rows], schema=videos_schema())
        if not len(table):
            return
        with self.write_errors():
            if new:
                self._videos.add(table)
            else:
                self._videos.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(table)
            self._hidden = self._ids(_HIDDEN)

    def remove_videos(self, rows: Iterable[VideoRow]) -> None:
        """Remove videos and their windows."""
        rows = list(rows)
        with_windows = [row for row in rows if row.state != "failed"]
        self.put_videos(replace(row, state="removed") for row in with_windows if row.state != "removed")
        with self.write_errors():
            for ids in _chunks([row.id for row in with_windows]):
                self._windows.delete(video_in(ids))
            for ids in _chunks([row.id for row in rows]):
                self._videos.delete(f"id IN ({', '.join(map(str, ids))})")
            self._hidden = self._ids(_HIDDEN)

    def _ids(self, where: str) -> list[int]:
        return list(self._videos.search().where(where).select(["id"]).to_arrow()["id"].to_pylist())

    # -- writing windows ---------------------------------------------------------------------------------------------

    def add_windows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add windows in one commit.

        Args:
            rows: rows as dicts of columns; `embedding` is (E,) float32, `patches` bytes or None.
        """
        if not rows:
            return
        table = windows_table(rows, self._windows.schema)
        with self.write_errors():
            self._windows.add(table)

    def add_columns(self, schema: Any) -> None:
        """Add metadata columns that the index lacks; they are null in the windows that it has.

        Args:
            schema: pyarrow schema of the columns.

        Raises:
            ValueError: a name can't be used, or the index has the column with another type.
        """
        self.refresh()
        new = new_columns(schema, self._windows.schema, self.uri)
        if new:
            with self.write_errors():
                self._windows.add_columns(new)
            self.refresh()

    def add_window_tables(self, tables: Iterator[Any]) -> None:
        """Add windows in one commit, from pyarrow tables; metadata columns that they lack are null."""
        import pyarrow as pa

        schema = self._windows.schema

        def batches() -> Iterator[Any]:
            for table in tables:
                yield from with_columns(table, schema).to_batches()

        with self.write_errors():
            self._windows.add(pa.RecordBatchReader.from_batches(schema, batches()))

    def copy_windows(self, source: VideoRow, target: VideoRow, metadata: Mapping[str, Any] | None) -> None:
        """Copy the windows of one video to another in one commit, with other values of the metadata columns or None."""
        import pyarrow as pa

        def copies() -> Iterator[Any]:
            with self.read_errors():
                for batch in self._windows.search().where(video_in([source.id])).to_batches(batch_size=_BATCH_ROWS):
                    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
                    if metadata is not None:
                        for name in self.metadata:
                            columns[name] = pa.array([metadata.get(name)] * len(batch), columns[name].type)
                    target_columns = {"video": [target.id] * len(batch), "path": [target.path] * len(batch)}
                    yield pa.table({**columns, **target_columns})

        self.add_window_tables(copies())

    def delete_windows(self, video: int, *, first: int = 0) -> None:
        """Delete the windows of a video from number `first` on."""
        with self.write_errors():
            self._windows.delete(f"{video_in([video])} AND number >= {first}")

    # -- reading windows ---------------------------------------------------------------------------------------------

    def count_windows(self) -> int:
        """Return the number of searchable windows."""
        with self.read_errors():
            return int(self._windows.count_rows(video_not_in(self._hidden)))

    def read_windows(self, columns: Sequence[str] | None = None, where: str | None = None) -> Iterator[Any]:
        """Read the searchable windows as pyarrow tables of some thousand rows.

        Args:
            columns: names of columns to read; None reads all.
            where: SQL condition that windows must meet.

        Raises:
            ValueError: the condition is invalid.
        """
        import pyarrow as pa

        condition = self._condition(where)
        search = self._windows.search().select(list(columns or self._windows.schema.names))
        if condition is not None:
            search = search.where(condition)
        with self.read_errors(where):
            for batch in search.to_batches(batch_size=_BATCH_ROWS):
                yield pa.Table.from_batches([batch])

    def nearest(self, query_E: NDArray[np.float32], count: int, where: str | None, *, patches: bool) -> list[Any]:
        """Return the windows whose embeddings are most similar to a query, the best first.

        Args:
            query_E: embedding of the query, of length 1.
            count: number of windows to return.
            where: SQL condition that windows must meet.
            patches: also read the columns `patches` and `embedding`.

        Returns:
            Dicts of the columns, and `similarity`, the cosine.

        Raises:
            ValueError: the condition is invalid.
        """
        skipped = () if patches else ("patches", "embedding")
        columns = [*(name for name in WINDOW_COLUMNS if name not in skipped), "_distance"]
        search = self._windows.search(query_E, vector_column_name="embedding").distance_type("cosine")
        search = search.select(columns).limit(count)
        with self.read_errors():
            if maintenance.windows_at_last_build(self._windows):
                search = search.minimum_nprobes(_MIN_PROBES).maximum_nprobes(0).refine_factor(_REFINE_FACTOR)
        condition = self._condition(where)
        if condition is not None:
            search = search.where(condition, prefilter=True)
        with self.read_errors(where):
            rows: list[Any] = search.to_arrow().to_pylist()
        for row in rows:
            row["similarity"] = 1 - row.pop("_distance")
        return rows

    def _condition(self, where: str | None) -> str | None:
        """Combine the user's condition on windows with the condition that their video is complete."""
        visible = video_not_in(self._hidden)
        if where is None:
            return visible
        condition = in_parentheses(where)
        columns = columns_used(where, self.metadata)
        if not columns & _VIDEO_COLUMNS:
            return f"{condition} AND {visible}" if visible else condition
        if columns & {*_TIMES, *map(str.lower, self.metadata)}:
            others = "start or end" if not self.metadata else f"start, end or {' or '.join(self.metadata)}"
            raise invalid_condition(where, f"it can't use modified together with {others}", self.metadata)
        with self.read_errors(where):
            chosen = self._ids(f"{condition} AND state = 'complete'")
            if 2 * len(chosen) <= self._videos.count_rows("state = 'complete'"):  # list the smaller set of ids
                return video_in(chosen or [-1])
        return video_not_in({*self._ids("state != 'failed'")} - {*chosen})

    # -- maintenance -------------------------------------------------------------------------------------------------

    def tidy(self) -> None:
        """Compact the tables and update the vector index if that saves more than it costs."""
        with self.write_errors():
            for table in (self._videos, self._windows):
                maintenance.tidy(table, self.folder and self.folder / f"{table.name}.lance")
            maintenance.update_vector_index(self._windows)

    def compact(self) -> None:
        """Rewrite the tables without deleted rows, and remove all old versions."""
        with self.write_errors():
            for table in (self._videos, self._windows):
                maintenance.compact(table)


def _chunks(ids: list[int]) -> Iterator[list[int]]:
    for i in range(0, len(ids), _IDS_PER_DELETE):
        yield ids[i : i + _IDS_PER_DELETE]
