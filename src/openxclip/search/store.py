"""What an index keeps, in LanceDB: a row for each window, and which files could not be read.

Each write is one commit of LanceDB's: whoever reads sees all of it or nothing, and a writer that is killed leaves the
index as it was after its last.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from openxclip.errors import VideoIndexError, needs_package
from openxclip.search.sql import COLUMNS, among, first_line, whole, why_not, window_id
from openxclip.unfinished import take_lock

ABOUT = b"openxclip"  # where the schema's metadata has what the index is of
_WINDOWS, _FAILURES = "windows", "failures"
_ROWS_OF_TABLE = 4096
_FILES_AT_ONCE = 500
_PROBED = 20  # partitions of the index of vectors
_REFINED = 3  # times as many candidates are compared by their whole embeddings
VECTORS_INDEXED_FROM = 50_000  # windows: from there on an index of vectors saves more than it costs
_REBUILT_AT = 4  # times as many
_VECTORS = "vectors_"  # and how many windows there were: the index of vectors' name


class FileState(NamedTuple):
    """A file as it was when it was read.

    Attributes:
        size: in bytes.
        modified: when, in nanoseconds since 1970; both 0 of what is no file.
        content: SHA-256 in hexadecimal digits.
    """

    size: int
    modified: int
    content: str


class Failure(NamedTuple):
    """A file that could not be read, as it was then."""

    size: int
    modified: int
    reason: str


class Store:
    """The tables of one index.

    Args:
        uri: a folder, or what else LanceDB takes: `s3://…`, `gs://…`, `az://…`.

    Raises:
        MissingPackageError: LanceDB isn't installed, or is too old.
        ValueError: the name is empty or no text.
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
        self._failures: Any = None

    def open(self) -> dict[str, Any] | None:
        """What the index says that it is of; None if there is no index yet.

        Raises:
            VideoIndexError: there is something else.
        """
        if "://" not in self.uri:
            folder = Path(self.uri)
            if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
                return None
            if not folder.is_dir():
                raise VideoIndexError(f"{self.uri}: is a file, not the folder of an index.")
        try:
            database = self._connect(self.uri)
            names = set(database.list_tables().tables)
            if _WINDOWS not in names:
                if names - {_FAILURES} or not (names or "://" in self.uri):
                    raise VideoIndexError(f"{self.uri}: is no index of videos: name another folder, or an empty one.")
                return None
            self._windows = database.open_table(_WINDOWS)
            self._failures = database.open_table(_FAILURES)
        except (OSError, RuntimeError, ValueError) as error:
            raise VideoIndexError(f"{self.uri}: the index can't be opened: {first_line(error)}") from error
        about = (self._windows.schema.metadata or {}).get(ABOUT)
        if about is None:
            raise VideoIndexError(f"{self.uri}: is a LanceDB that openxclip didn't make.")
        return dict(json.loads(about))

    def create(self, about: Mapping[str, Any], width: int) -> None:
        """An empty index. The table that `open` asks for is made last.

        Args:
            about: what it is of, as JSON has it.
            width: E.
        """
        import pyarrow as pa

        schema = pa.schema(
            [
                pa.field("id", pa.string(), nullable=False),
                pa.field("path", pa.string(), nullable=False),
                pa.field("number", pa.int32(), nullable=False),
                pa.field("start", pa.float64(), nullable=False),
                pa.field("end", pa.float64(), nullable=False),
                pa.field("duration", pa.float64(), nullable=False),
                pa.field("size", pa.int64(), nullable=False),
                pa.field("modified", pa.int64(), nullable=False),
                pa.field("content", pa.string(), nullable=False),
                pa.field("embedding", pa.list_(pa.float32(), width), nullable=False),
                pa.field("patches", pa.binary()),
            ],
            metadata={ABOUT: json.dumps(about).encode()},
        )
        failures = pa.schema(
            [
                pa.field("path", pa.string()),
                pa.field("size", pa.int64()),
                pa.field("modified", pa.int64()),
                pa.field("reason", pa.string()),
            ]
        )
        try:
            if "://" not in self.uri:
                Path(self.uri).mkdir(parents=True, exist_ok=True)
            database = self._connect(self.uri)
            self._failures = database.create_table(_FAILURES, schema=failures, exist_ok=True)
            self._windows = database.create_table(_WINDOWS, schema=schema, exist_ok=True)
        except (OSError, RuntimeError, ValueError) as error:
            if "://" not in self.uri:
                with suppress(OSError):
                    Path(self.uri).rmdir()  # if it is empty
            raise VideoIndexError(f"{self.uri}: an index can't be made there: {first_line(error)}") from error

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Be the only process of this machine that writes; one elsewhere, at an object store, isn't known of.

        Raises:
            VideoIndexError: another is writing.
        """
        if "://" in self.uri:
            yield
            return
        with Path(self.uri, "writing.lock").open("w") as file:
            if not take_lock(file):
                raise VideoIndexError(
                    f"{self.uri}: another process is writing to the index: try again when it is done."
                )
            yield

    @contextmanager
    def _saying_why(self) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError) as error:
            raise VideoIndexError(f"{self.uri}: the index can't be written: {first_line(error)}") from error

    @property
    def schema(self) -> Any:
        """pyarrow's, of the windows, with what the index is of in its metadata."""
        return self._windows.schema

    @property
    def width(self) -> int:
        """E of the embeddings."""
        return int(self.schema.field("embedding").type.list_size)

    def refresh(self) -> None:
        """See what others have written since."""
        for table in (self._windows, self._failures):
            table.checkout_latest()

    def files(self) -> dict[str, FileState]:
        """Every file that has windows."""
        found = self._rows(self._windows, ["path", "size", "modified", "content"], "number = 0")
        return {row["path"]: FileState(row["size"], row["modified"], row["content"]) for row in found}

    def failures(self) -> dict[str, Failure]:
        """Every file that could not be read."""
        found = self._rows(self._failures, ["path", "size", "modified", "reason"], None)
        return {row["path"]: Failure(row["size"], row["modified"], row["reason"]) for row in found}

    def count(self) -> int:
        """How many windows there are."""
        return int(self._windows.count_rows())

    def write(
        self, rows: Sequence[Mapping[str, Any]], failed: Mapping[str, Failure], *, known: Collection[str]
    ) -> None:
        """Put all windows of some files, in one commit, in the place of those that the index has of them.

        Args:
            rows: columns but for `id`; `embedding` is (E,) float32, `patches` bytes or None.
            failed: files that could not be read; what the index has of them goes.
            known: the files of these that have windows in the index.
        """
        import pyarrow as pa

        gone = [path for path in known if path in failed]
        replaced = [path for path in known if path not in failed]
        if rows:
            schema = self._windows.schema
            columns = {name: [row[name] for row in rows] for name in rows[0] if name != "embedding"}
            columns["id"] = [window_id(row["path"], row["number"]) for row in rows]
            embeddings = np.stack([row["embedding"] for row in rows])
            columns["embedding"] = pa.FixedSizeListArray.from_arrays(pa.array(embeddings.ravel()), embeddings.shape[1])
            table = pa.table({field.name: columns[field.name] for field in schema}, schema=schema)
            with self._saying_why():
                if replaced:
                    self._replace(table, replaced)
                else:
                    self._windows.add(table)
        with self._saying_why():
            _delete(self._windows, gone)
        self.have_not_failed({row["path"] for row in rows} | failed.keys())
        if failed:
            with self._saying_why():
                self._failures.add([{"path": path, **failure._asdict()} for path, failure in failed.items()])

    def have_not_failed(self, paths: Collection[str]) -> None:
        """Forget that files could not be read."""
        with self._saying_why():
            _delete(self._failures, [path for path in self.failures() if path in paths])

    # -- tables, of other indexes ------------------------------------------------------------------------------------

    def tables(self, columns: Sequence[str] | None = None, where: str | None = None) -> Iterator[Any]:
        """All windows, in pyarrow's tables of some thousand.

        Args:
            columns: these alone.
            where: of those alone that meet a condition of SQL.

        Raises:
            ValueError: the condition can't be understood.
        """
        import pyarrow as pa

        search = self._windows.search().select(list(columns or self._windows.schema.names))
        if where is not None:
            search = search.where(whole(where))
        try:
            for batch in search.to_batches(batch_size=_ROWS_OF_TABLE):
                yield pa.Table.from_batches([batch])
        except (ValueError, RuntimeError, OSError) as error:
            raise why_not(where, error) from error

    def write_tables(self, tables: Callable[[], Iterator[Any]], *, known: Collection[str]) -> None:
        """Put all windows of some videos, in the place of those that the index has of them.

        In a few commits, each of which has all windows of its videos: none is ever there by half.

        Args:
            tables: gives the windows each time that it is called, in pyarrow's tables with all columns but `id`.
            known: the files of these that have windows in the index.
        """
        everything = set(known)
        with self._saying_why():
            self._windows.add(self._reader(tables, lambda path: path not in everything))
            paths = sorted(known)
            for i in range(0, len(paths), _FILES_AT_ONCE):
                part = set(paths[i : i + _FILES_AT_ONCE])
                self._replace(self._reader(tables, part.__contains__), part)

    def _reader(self, tables: Callable[[], Iterator[Any]], wants: Callable[[str], bool]) -> Any:
        import pyarrow as pa

        schema = self._windows.schema

        def batches() -> Iterator[Any]:
            for table in tables():
                table = table.filter(pa.array([wants(path) for path in table["path"].to_pylist()]))
                both = zip(table["path"].to_pylist(), table["number"].to_pylist(), strict=True)
                ids = pa.array([window_id(path, number) for path, number in both], pa.string())
                columns = [ids if field.name == "id" else table[field.name].cast(field.type) for field in schema]
                yield from pa.table(columns, schema=schema).to_batches()

        return pa.RecordBatchReader.from_batches(schema, batches())

    def _replace(self, windows: Any, paths: Iterable[str]) -> None:
        """All windows of files by others, in one commit."""
        (
            self._windows.merge_insert("id")
            .when_matched_update_all()
            .when_not_matched_insert_all()
            .when_not_matched_by_source_delete(among(paths))
            .execute(windows)
        )

    # -- upkeep ------------------------------------------------------------------------------------------------------

    def touch(self, states: Mapping[str, FileState]) -> None:
        """Files that were written anew with what they had."""
        import pyarrow as pa

        paths = list(states)
        for i in range(0, len(paths), _FILES_AT_ONCE):
            windows = self._rows(self._windows, ["id", "path"], among(paths[i : i + _FILES_AT_ONCE]))
            columns = {
                "id": pa.array([row["id"] for row in windows], pa.string()),
                "modified": pa.array([states[row["path"]].modified for row in windows], pa.int64()),
            }
            with self._saying_why():
                self._windows.merge_insert("id").when_matched_update_all().execute(pa.table(columns))

    def remove(self, paths: Sequence[str]) -> None:
        """Forget files."""
        with self._saying_why():
            for table in (self._windows, self._failures):
                _delete(table, paths)

    def tidy(self) -> None:
        """Put small pieces together; where there are many windows, have an index of vectors that knows them all."""
        with self._saying_why():
            for table in (self._windows, self._failures):
                table.optimize()
        if self.count() >= max(VECTORS_INDEXED_FROM, _REBUILT_AT * self.vectors_indexed_at()):
            self.index_vectors()

    def vectors_indexed_at(self) -> int:
        """How many windows there were when the index of vectors was built; 0 of none.

        Later ones are put into its partitions, which then are larger and fit worse.
        """
        return max((int(name.removeprefix(_VECTORS)) for name in self._vector_indexes()), default=0)

    def _vector_indexes(self) -> list[str]:
        return [index.name for index in self._windows.list_indices() if index.name.startswith(_VECTORS)]

    def index_vectors(self) -> None:
        """Build the index of vectors anew: partitions of embeddings that are like each other, of 8 bits a number."""
        from lancedb.index import IvfSq

        old = self._vector_indexes()
        new = f"{_VECTORS}{self.count()}"
        with self._saying_why():
            self._windows.create_index("embedding", config=IvfSq(distance_type="cosine"), name=new, replace=True)
            for name in old:
                if name != new:
                    self._windows.drop_index(name)

    def nearest(self, query_E: NDArray[np.float32], count: int, where: str | None, *, patches: bool) -> list[Any]:
        """The windows whose embeddings are the most like a query, the best first, as dicts of COLUMNS.

        Args:
            query_E: of length 1.
            count: how many.
            where: a condition of SQL on the columns, that they must meet.
            patches: with `patches` and `embedding`.

        Returns:
            Each with `similarity`, the cosine.

        Raises:
            ValueError: the condition can't be understood.
        """
        wanted = [*COLUMNS, "_distance", *(["patches", "embedding"] if patches else [])]
        search = self._windows.search(query_E, vector_column_name="embedding").distance_type("cosine")
        search = search.select(wanted).limit(count)
        if self.vectors_indexed_at():
            search = search.nprobes(_PROBED).refine_factor(_REFINED)
        if where is not None:
            search = search.where(whole(where), prefilter=True)
        try:
            rows: list[Any] = search.to_arrow().to_pylist()
        except (ValueError, RuntimeError, OSError) as error:
            raise why_not(where, error) from error
        for row in rows:
            row["similarity"] = 1 - row.pop("_distance")
        return rows

    def _rows(self, table: Any, columns: list[str], where: str | None) -> list[dict[str, Any]]:
        search = table.search().select(columns)
        found: list[dict[str, Any]] = (search.where(where) if where else search).to_arrow().to_pylist()
        return found


def _delete(table: Any, paths: Sequence[str]) -> None:
    for i in range(0, len(paths), _FILES_AT_ONCE):
        table.delete(among(paths[i : i + _FILES_AT_ONCE]))
