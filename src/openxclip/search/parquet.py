"""An index's windows as Parquet, out and in: for other programs, and to put together what several machines made."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from openxclip.errors import VideoIndexError
from openxclip.files import written_whole
from openxclip.search.store import ABOUT, Store

_MUST_AGREE = ("weights", "transforms", "num_frames", "window", "stride")  # or windows can't be compared
_NEEDED = ("path", "number", "start", "end", "duration", "size", "modified", "content", "embedding")
_ROWS_AT_ONCE = 1024  # with patches, some tens of kilobytes each
_FAR_FROM_ONE = 1e-2  # of an embedding's length: rounding, of half precision too, is less


def write_parquet(store: Store, path: Path) -> int:
    """All windows of an index in one file, which appears whole or not at all; how many there are.

    Raises:
        ValueError: the file's name doesn't end with .parquet.
        OSError: it can't be written.
    """
    from pyarrow import parquet

    if path.suffix.lower() != ".parquet":
        raise ValueError(f"{path}: its name must end with .parquet.")
    count = 0
    with written_whole(path) as partial, parquet.ParquetWriter(partial, store.schema, compression="zstd") as writer:
        for table in store.tables():
            writer.write_table(table, row_group_size=_ROWS_AT_ONCE)
            count += len(table)
    return count


class ParquetWindows:
    """The windows in a file that `write_parquet` or a program of the user's wrote.

    Args:
        path: of the file.

    Attributes:
        about: what they are of, as the index's that they come from.
        width: E of the embeddings.

    Raises:
        VideoIndexError: it can't be read, or has no such windows.
    """

    def __init__(self, path: str) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        self.path = path
        try:
            self._file = parquet.ParquetFile(path)
        except (OSError, pa.ArrowException) as error:
            raise VideoIndexError(f"{path}: can't be read as Parquet: {str(error).splitlines()[0]}") from error
        schema = self._file.schema_arrow
        text = (schema.metadata or {}).get(ABOUT)
        missing = [name for name in _NEEDED if name not in schema.names]
        if text is None or missing:
            what = f"has no column {missing[0]!r}" if missing else "doesn't say of which model its embeddings are"
            raise VideoIndexError(f"{path}: {what}: it must be as `openxclip index --export` writes it.")
        self.about: dict[str, Any] = json.loads(text)
        kind = schema.field("embedding").type
        if not (pa.types.is_fixed_size_list(kind) and pa.types.is_floating(kind.value_type)):
            raise VideoIndexError(f"{path}: embedding is of type {kind}: it must be a list of floats of fixed length.")
        self.width = int(kind.list_size)

    def check(self, about: Mapping[str, Any], width: int) -> None:
        """Refuse windows that can't be in one index with others.

        Raises:
            VideoIndexError: model, plan or width differ, or there are no patches where the index has them.
        """
        for name in _MUST_AGREE:
            if self.about.get(name) != about[name]:
                own, its = (str(value)[:60] for value in (self.about.get(name), about[name]))
                raise VideoIndexError(f"{self.path}: its windows are of {name} {own}, the index's of {its}.")
        if self.width != width:
            raise VideoIndexError(f"{self.path}: embeddings of {self.width} numbers, but the index's have {width}.")
        if about["patches"] and not self.about.get("patches"):
            raise VideoIndexError(
                f"{self.path}: has no patches, which the index has for reranking: put it into one of its own."
            )

    def counts(self) -> dict[str, int]:
        """How many windows there are of each video.

        Raises:
            VideoIndexError: a window is missing, or there twice.
        """
        numbers: dict[str, set[int]] = {}
        rows = 0
        for batch in self._file.iter_batches(batch_size=65536, columns=["path", "number"]):
            rows += len(batch)
            for path, number in zip(batch["path"].to_pylist(), batch["number"].to_pylist(), strict=True):
                numbers.setdefault(path, set()).add(number)
        for path, those in numbers.items():
            if those != set(range(len(those))):
                raise VideoIndexError(
                    f"{self.path}: of {path} it has not all windows: their numbers must be 0 to {len(those) - 1}."
                )
        if rows != sum(map(len, numbers.values())):
            raise VideoIndexError(f"{self.path}: a window is there twice, by path and number.")
        return {path: len(those) for path, those in numbers.items()}

    def tables(self, *, patches: bool) -> Iterator[Any]:
        """The windows with all columns of an index but `id`, some at a time.

        Args:
            patches: with them; else the column is empty.

        Raises:
            VideoIndexError: an embedding isn't finite and of length 1.
        """
        import pyarrow as pa

        for batch in self._file.iter_batches(batch_size=_ROWS_AT_ONCE):
            table = pa.Table.from_batches([batch])
            embeddings = np.stack(table["embedding"].to_numpy(zero_copy_only=False)).astype(np.float32)
            lengths = np.linalg.norm(embeddings, axis=1)
            wrong = np.flatnonzero(~(np.abs(lengths - 1) < _FAR_FROM_ONE))
            if len(wrong):
                raise VideoIndexError(
                    f"{self.path}: the embedding of {table['path'][int(wrong[0])]} has length {lengths[wrong[0]]:.3g}: "
                    "it must be 1."
                )
            columns = {name: table[name] for name in _NEEDED}
            columns["patches"] = table["patches"] if patches else pa.nulls(len(table), pa.binary())
            yield pa.table(columns)


def add_parquet(store: Store, windows: ParquetWindows, *, patches: bool) -> list[str]:
    """Put a file's windows into an index, with patches if it has them; the videos that they are of.

    The windows of a video that is in the index already take the place of what it has. What a run that is killed has put
    there stays, and the same again completes it.
    """
    counts = windows.counts()
    known = {path for table in store.tables(["path"]) for path in table["path"].to_pylist()} & counts.keys()
    for table in windows.tables(patches=patches):
        store.write_table(table, known=known)
    store.cut({path: counts[path] for path in known})
    store.have_not_failed(counts)
    return list(counts)
