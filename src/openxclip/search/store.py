"""The tables of an index, in LanceDB: see `schema` for what is in them and in which order they are written.

Each write is one commit: a reader sees all of it or nothing, and a writer that is killed leaves the index as it was
after its last commit.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openxclip.common.locks import take_lock
from openxclip.errors import VideoIndexError, needs_package
from openxclip.search import upkeep
from openxclip.search.schema import ABOUT, SCHEMA_VERSION, VideoRow, videos_schema, videos_table, windows_schema
from openxclip.search.sql import among, columns_named, first_line, not_among, not_understood, whole, why_not

_WINDOWS, _VIDEOS = "windows", "videos"
_ROWS_OF_TABLE = 4096
_IDS_AT_ONCE = 10_000
_PROBED = 20  # partitions of the vector index, at least: others follow until enough windows are found
_REFINED = 3  # times as many candidates are compared by their whole embeddings
_HIDDEN = "state != 'complete' AND state != 'failed'"  # videos whose windows, if any, no search may see
_OF_VIDEOS, _OF_WINDOWS = {"modified"}, {"start", "end"}  # columns that are in one table only


class Store:
    """The tables of one index.

    Args:
        uri: a folder, or another place that LanceDB takes: `s3://…`, `gs://…`, `az://…`.

    Raises:
        MissingPackageError: LanceDB isn't installed, or is too old.
        ValueError: the name is empty or not valid UTF-8.
    """

    def __init__(self, uri: str) -> None:
        with needs_package("an index", "pyarrow", "search"):
            import pyarrow  # noqa: F401
        with needs_package("an index", "lancedb", "search"):
            import lancedb
            from lancedb.index import IvfSq  # noqa: F401 (an old LanceDB lacks it)

            if not hasattr(lancedb.DBConnection, "list_tables"):
                raise ImportError(f"version {lancedb.__version__} is too old")
        if not uri or uri.startswith("memory:"):
            raise ValueError("an index needs a folder, or a place of an object store, that stays.")
        try:
            uri.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{uri!r}: the name of an index must be valid UTF-8.") from None
        self.uri = uri
        self._connect = lancedb.connect
        self._windows: Any = None
        self._videos: Any = None
        self._hidden: list[int] = []  # ids of videos whose windows this version of the tables must not show

    @property
    def folder(self) -> Path | None:
        """The folder of the index; None if it is in an object store."""
        return None if "://" in self.uri else Path(self.uri)

    def open(self) -> dict[str, Any] | None:
        """What the index says that it is of; None if there is no index yet.

        Raises:
            VideoIndexError: there is something else, or it can't be read.
        """
        if self.folder is not None:
            try:
                if not self.folder.exists() or (self.folder.is_dir() and not any(self.folder.iterdir())):
                    return None
            except OSError as error:
                raise VideoIndexError(f"{self.uri}: can't be read: {error.strerror or error}.") from error
            if not self.folder.is_dir():
                raise VideoIndexError(f"{self.uri}: is a file, not the folder of an index.")
        with self._reading():
            database = self._connect(self.uri)
            names = set(database.list_tables().tables)
            if _WINDOWS not in names:
                if names - {_VIDEOS} or not (names or self.folder is None):
                    raise VideoIndexError(f"{self.uri}: is no index of videos: name another folder, or an empty one.")
                return None
            windows = database.open_table(_WINDOWS)
            about = json.loads((windows.schema.metadata or {}).get(ABOUT, b"null"))
            if about is None:
                raise VideoIndexError(f"{self.uri}: is a LanceDB that openxclip didn't make.")
            if about.get("schema") != SCHEMA_VERSION:
                age = "a newer" if about.get("schema", 1) > SCHEMA_VERSION else "an older"
                raise VideoIndexError(
                    f"{self.uri}: was made by {age} version of openxclip: build it again, in another folder."
                )
            self._windows, self._videos = windows, database.open_table(_VIDEOS)
            self.refresh()
        return dict(about)

    def create(self, about: Mapping[str, Any], width: int) -> None:
        """Make an empty index. The table that `open` looks for is made last.

        Args:
            about: what it is of, as JSON has it.
            width: E.
        """
        try:
            if self.folder is not None:
                self.folder.mkdir(parents=True, exist_ok=True)
            database = self._connect(self.uri)
            self._videos = database.create_table(_VIDEOS, schema=videos_schema(), exist_ok=True)
            self._windows = database.create_table(_WINDOWS, schema=windows_schema(about, width), exist_ok=True)
        except (OSError, RuntimeError, ValueError) as error:
            if self.folder is not None:
                with suppress(OSError):
                    self.folder.rmdir()  # if it is empty
            raise VideoIndexError(f"{self.uri}: an index can't be made there: {first_line(error)}") from error

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Be the only process of this machine that writes, after `refresh`. Object stores have no such lock.

        Raises:
            VideoIndexError: another process is writing.
        """
        if self.folder is None:
            self.refresh()
            yield
            return
        try:
            file = (self.folder / "writing.lock").open("w")
        except OSError as error:
            raise VideoIndexError(f"{self.uri}: the index can't be written: {error.strerror or error}.") from error
        with file:
            if not take_lock(file):
                raise VideoIndexError(
                    f"{self.uri}: another process is writing to the index: try again when it is done."
                )
            self.refresh()
            yield

    @contextmanager
    def _saying_why(self) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError) as error:
            raise VideoIndexError(f"{self.uri}: the index can't be written: {first_line(error)}") from error

    @contextmanager
    def _reading(self, where: str | None = None) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError, ValueError) as error:
            if where is not None:
                raise why_not(where, error) from error
            raise VideoIndexError(
                f"{self.uri}: the index can't be read, and may be damaged: {first_line(error)}"
            ) from error

    @property
    def schema(self) -> Any:
        """pyarrow's, of the windows, with what the index is of in its metadata."""
        return self._windows.schema

    @property
    def width(self) -> int:
        """E of the embeddings."""
        return int(self.schema.field("embedding").type.list_size)

    def refresh(self) -> None:
        """See what others have written since: a version of both tables that fit together."""
        with self._reading():
            version = None
            while version != self._videos.version:  # a writer may commit between the two
                self._videos.checkout_latest()
                version = self._videos.version
                self._windows.checkout_latest()
                self._hidden = self._ids(_HIDDEN)
                self._videos.checkout_latest()

    # -- videos ------------------------------------------------------------------------------------------------------

    def videos(self) -> list[VideoRow]:
        """All rows of the table of videos."""
        with self._reading():
            return [VideoRow(**row) for row in self._videos.to_arrow().to_pylist()]

    def videos_table(self) -> Any:
        """Pyarrow's table of the complete videos."""
        with self._reading():
            return self._videos.search().where("state = 'complete'").to_arrow()

    def complete(self) -> dict[str, VideoRow]:
        """The videos that searches see, by path."""
        return {row.path: row for row in self.videos() if row.state == "complete"}

    def number_of_videos(self) -> int:
        """How many videos searches see."""
        with self._reading():
            return int(self._videos.count_rows("state = 'complete'"))

    def put(self, rows: Iterable[VideoRow], *, new: bool = False) -> None:
        """Write rows of the table of videos, in one commit.

        Args:
            rows: each takes the place of the one with its id.
            new: no row with such an id is there.
        """
        table = videos_table(list(rows))
        if not len(table):
            return
        with self._saying_why():
            if new:
                self._videos.add(table)
            else:
                self._videos.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(table)
            self._hidden = self._ids(_HIDDEN)

    def forget(self, rows: Iterable[VideoRow]) -> None:
        """Remove videos, with their windows."""
        gone = list(rows)
        with_windows = [row for row in gone if row.state != "failed"]
        self.put(replace(row, state="removed") for row in with_windows if row.state != "removed")
        with self._saying_why():
            for ids in _parts([row.id for row in with_windows]):
                self._windows.delete(among(ids))
            for ids in _parts([row.id for row in gone]):
                self._videos.delete(f"id IN ({', '.join(map(str, ids))})")
            self._hidden = self._ids(_HIDDEN)

    def _ids(self, where: str) -> list[int]:
        return list(self._videos.search().where(where).select(["id"]).to_arrow()["id"].to_pylist())

    # -- windows -----------------------------------------------------------------------------------------------------

    def count(self) -> int:
        """How many windows searches see."""
        with self._reading():
            return int(self._windows.count_rows(not_among(self._hidden)))

    def number_of_windows(self, video: int) -> int:
        """How many windows the index has of a video, whatever its state."""
        with self._reading():
            return int(self._windows.count_rows(among([video])))

    def add_windows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add windows, in one commit.

        Args:
            rows: the columns; `embedding` is (E,) float32, `patches` bytes or None.
        """
        import pyarrow as pa

        if not rows:
            return
        columns = {name: [row[name] for row in rows] for name in rows[0] if name != "embedding"}
        embeddings = np.stack([row["embedding"] for row in rows])
        columns["embedding"] = pa.FixedSizeListArray.from_arrays(pa.array(embeddings.ravel()), embeddings.shape[1])
        self.add_tables(iter([pa.table(columns)]))

    def add_tables(self, tables: Iterator[Any]) -> None:
        """Add windows in one commit, from pyarrow's tables that have all columns."""
        import pyarrow as pa

        schema = self._windows.schema

        def batches() -> Iterator[Any]:
            for table in tables:
                columns = [table[field.name].cast(field.type) for field in schema]
                yield from pa.table(columns, schema=schema).to_batches()

        with self._saying_why():
            self._windows.add(pa.RecordBatchReader.from_batches(schema, batches()))

    def copy_windows(self, source: VideoRow, target: VideoRow) -> None:
        """Add the windows of one video to another, in one commit."""
        import pyarrow as pa

        def copied() -> Iterator[Any]:
            with self._reading():
                for batch in self._windows.search().where(among([source.id])).to_batches(batch_size=_ROWS_OF_TABLE):
                    table = pa.Table.from_batches([batch])
                    for name, value in (("video", target.id), ("path", target.path)):
                        place = table.column_names.index(name)
                        table = table.set_column(place, name, pa.array([value] * len(table), table[name].type))
                    yield table

        self.add_tables(copied())

    def rename(self, video: int, path: str) -> None:
        """Write another path into the windows of a video."""
        with self._saying_why():
            self._windows.update(where=among([video]), values={"path": path})

    def delete_windows(self, video: int, *, after: int) -> None:
        """Delete the windows of a video from number `after` on."""
        with self._saying_why():
            self._windows.delete(f"{among([video])} AND number >= {after}")

    def tables(self, columns: Sequence[str] | None = None, where: str | None = None) -> Iterator[Any]:
        """The windows of complete videos, in pyarrow's tables of some thousand.

        Args:
            columns: these only.
            where: only windows that meet a condition of SQL.

        Raises:
            ValueError: the condition can't be understood.
        """
        import pyarrow as pa

        condition = self._condition(where)
        search = self._windows.search().select(list(columns or self._windows.schema.names))
        if condition is not None:
            search = search.where(condition)
        with self._reading(where):
            for batch in search.to_batches(batch_size=_ROWS_OF_TABLE):
                yield pa.Table.from_batches([batch])

    def nearest(self, query_E: NDArray[np.float32], count: int, where: str | None, *, patches: bool) -> list[Any]:
        """The windows whose embeddings are the most similar to a query, the best first.

        Args:
            query_E: of length 1.
            count: how many.
            where: only windows that meet a condition of SQL.
            patches: with `patches` and `embedding`.

        Returns:
            Dicts of the columns and `similarity`, the cosine.

        Raises:
            ValueError: the condition can't be understood.
        """
        left_out = () if patches else ("patches", "embedding")
        wanted = [*(name for name in self._windows.schema.names if name not in left_out), "_distance"]
        search = self._windows.search(query_E, vector_column_name="embedding").distance_type("cosine")
        search = search.select(wanted).limit(count)
        with self._reading():
            if upkeep.vectors_indexed_at(self._windows):
                search = search.minimum_nprobes(_PROBED).maximum_nprobes(0).refine_factor(_REFINED)
        condition = self._condition(where)
        if condition is not None:
            search = search.where(condition, prefilter=True)
        with self._reading(where):
            rows: list[Any] = search.to_arrow().to_pylist()
        for row in rows:
            row["similarity"] = 1 - row.pop("_distance")
        return rows

    def _condition(self, where: str | None) -> str | None:
        """The user's condition on windows, and that their video is complete."""
        visible = not_among(self._hidden)
        if where is None:
            return visible
        own = whole(where)
        named = columns_named(where)
        if named & _OF_VIDEOS:
            if named & _OF_WINDOWS:
                raise not_understood(where, "it can't be on a video's modified and a window's start or end at once")
            with self._reading(where):
                chosen = self._ids(f"{own} AND state = 'complete'")
            if 2 * len(chosen) <= self.number_of_videos():
                return among(chosen or [-1])
            others = {*self._ids("state != 'failed'")} - {*chosen}
            return not_among(others)
        return f"{own} AND {visible}" if visible else own

    # -- upkeep ------------------------------------------------------------------------------------------------------

    def tidy(self) -> None:
        """Compact and index, where it pays."""
        with self._saying_why():
            for name, table in self._by_name():
                upkeep.tidy(table, self.folder and self.folder / f"{name}.lance")
            upkeep.keep_vectors_indexed(self._windows)

    def compact(self) -> None:
        """Write the tables without what was deleted, and remove all old versions."""
        with self._saying_why():
            for _, table in self._by_name():
                upkeep.compact(table)

    def _by_name(self) -> Collection[tuple[str, Any]]:
        return ((_VIDEOS, self._videos), (_WINDOWS, self._windows))


def _parts(ids: list[int]) -> Iterator[list[int]]:
    for i in range(0, len(ids), _IDS_AT_ONCE):
        yield ids[i : i + _IDS_AT_ONCE]
