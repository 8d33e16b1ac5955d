"""The dead letters of an index: which videos could not be indexed, and why."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from openxclip.errors import StoreError, VideoIndexError
from openxclip.search.bulk.items import SourceItem
from openxclip.search.columns import columns_from_text
from openxclip.search.connecting import PATIENCE_S, connector, storage_options
from openxclip.search.sql import path_in
from openxclip.search.store_errors import problem_of, sentence_of

TABLE = "failures"
_BATCH = 4096  # rows
_PATHS_PER_DELETE = 1000


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A video that could not be indexed.

    Attributes:
        path: path or URL of the video.
        reason: why, in words for a user.
        attempts: how often it was tried.
        node: the machine that tried it last.
        time: when it was tried last, seconds since 1970.
        columns: its values in the columns of the manifest, as `columns_to_text` returns them.
    """

    path: str
    reason: str
    attempts: int = 1
    node: str = ""
    time: float = field(default_factory=time.time)
    columns: str = ""


def failures_schema() -> Any:
    """Return the pyarrow schema of the table."""
    import pyarrow as pa

    kinds = {"path": pa.string(), "reason": pa.string(), "attempts": pa.int32(), "node": pa.string()}
    kinds |= {"time": pa.float64(), "columns": pa.string()}
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in kinds.items()])


class Failures:
    """The table of failures in an index's database; the first `record` creates it. One process at a time writes.

    Args:
        uri: place of the index.
        patience: about how long one call waits for an object store that doesn't answer, in seconds.

    Raises:
        StoreError: of each method, the table can't be read or written because of the object store.
        VideoIndexError: of each method, it can't be for another reason.
    """

    def __init__(self, uri: str, *, patience: float = PATIENCE_S) -> None:
        self._uri, self._connect = uri, connector(uri, storage_options(uri, patience))
        self._opened: Any = None

    def record(self, rows: Iterable[Failure]) -> None:
        """Write failures; each replaces an earlier one of the same path, whose attempts it adds to its own.

        A failure that is written again, with the same time, counts once.
        """
        import pyarrow as pa

        new = {row.path: row for row in rows}
        if not new:
            return
        with self._errors("can't be written"):
            table = self._table(create=True)
            old = {row.path: row for row in self._read(new)}
            before = {path: row.attempts for path, row in old.items() if row.time < new[path].time}
            values = [
                {**asdict(row), "attempts": row.attempts + before.get(path, 0)}
                for path, row in new.items()
                if path not in old or path in before
            ]
            data = pa.Table.from_pylist(values, schema=failures_schema())
            table.merge_insert("path").when_matched_update_all().when_not_matched_insert_all().execute(data)

    def rows(self, batch: int = _BATCH) -> Iterator[list[Failure]]:
        """Yield the failures in parts, in no order."""
        with self._errors("can't be read"):
            table = self._table()
            if table is None:
                return
            for part in table.search().to_batches(batch_size=batch):
                yield [Failure(**row) for row in part.to_pylist()]

    def items(self, batch: int = _BATCH) -> Iterator[list[SourceItem]]:
        """Yield the videos of the failures in parts, in no order, with their metadata."""
        for part in self.rows(batch):
            yield [SourceItem(row.path, columns=columns_from_text(row.columns)) for row in part]

    def remove(self, paths: Iterable[str]) -> None:
        """Remove the failures of these paths; others are ignored."""
        with self._errors("can't be written"):
            table = self._table()
            if table is None:
                return
            for part in _parts(sorted({*paths})):
                table.delete(path_in(part))

    def count(self) -> int:
        """Return the number of failures."""
        with self._errors("can't be read"):
            table = self._table()
            return int(table.count_rows()) if table is not None else 0

    def _read(self, paths: Collection[str]) -> Iterator[Failure]:
        for part in _parts(list(paths)):
            for row in self._table().search().where(path_in(part)).to_arrow().to_pylist():
                yield Failure(**row)

    def _table(self, *, create: bool = False) -> Any:
        """Return the latest version of the table; None if there is none."""
        if self._opened is None:
            database = self._connect(self._uri)
            if create:
                self._opened = database.create_table(TABLE, schema=failures_schema(), exist_ok=True)
            elif TABLE in database.list_tables().tables:
                self._opened = database.open_table(TABLE)
        if self._opened is not None:
            self._opened.checkout_latest()
        return self._opened

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError, ValueError) as error:
            problem = problem_of(self._uri, error)
            if problem is not None:
                raise StoreError(problem.message, may_pass=problem.may_pass) from error
            raise VideoIndexError(sentence_of(self._uri, error, f"the table of failures {what}")) from error


def _parts(paths: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(paths), _PATHS_PER_DELETE):
        yield paths[start : start + _PATHS_PER_DELETE]
