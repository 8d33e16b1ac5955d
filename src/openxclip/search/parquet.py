"""An index's windows as Parquet, out and in: for other programs, and to put together what several machines made."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from openxclip.common.files import reason_of, written_whole
from openxclip.errors import VideoIndexError
from openxclip.search.schema import ABOUT, SCHEMA_VERSION, VideoRow, new_id, sampling_of
from openxclip.search.store import Store

SUFFIX = ".parquet"
_MUST_AGREE = ("weights", "transforms", "num_frames", "window", "stride")  # or windows can't be compared
_COLUMNS = {
    "path": "string", "number": "int32", "start": "float64", "end": "float64", "duration": "float64", "size": "int64",
    "modified": "int64", "content": "string", "width": "int64", "height": "int64", "featureless": "bool_",
    "embedding": "",
}  # fmt: skip
_ROWS_AT_ONCE = 1024  # with patches, some tens of kilobytes each
_FAR_FROM_ONE = 1e-2  # of an embedding's length: rounding, of half precision too, is less


def write_parquet(store: Store, path: Path) -> int:
    """All windows of an index in one file, which appears whole or not at all; how many there are.

    Raises:
        OSError: it can't be written.
    """
    import pyarrow as pa
    from pyarrow import parquet

    of_id = {row.id: row for row in store.complete().values()}
    kinds = {**{name: getattr(pa, kind)() for name, kind in _COLUMNS.items() if kind}, "patches": pa.binary()}
    kinds["embedding"] = pa.list_(pa.float32(), store.width)
    schema = pa.schema(
        [pa.field(name, kind, nullable=name == "patches") for name, kind in kinds.items()],
        metadata=store.schema.metadata,
    )
    count = 0
    with (
        written_whole(path) as partial,
        partial.open("wb") as file,
        parquet.ParquetWriter(file, schema, compression="zstd") as writer,
    ):
        for table in store.tables():
            videos = [of_id[video] for video in table["video"].to_pylist()]
            columns = {name: table[name] for name in schema.names if name in table.column_names}
            columns["modified"] = pa.array([video.modified for video in videos], pa.int64())
            columns["width"] = pa.array([video.width for video in videos], pa.int64())
            columns["height"] = pa.array([video.height for video in videos], pa.int64())
            columns["content"] = pa.array([video.content for video in videos], pa.string())
            whole = pa.table([columns[name] for name in schema.names], schema=schema)
            writer.write_table(whole, row_group_size=_ROWS_AT_ONCE)
            count += len(whole)
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
            raise VideoIndexError(f"{path}: can't be read as Parquet: {reason_of(error).splitlines()[0]}") from error
        schema = self._file.schema_arrow
        self.about = _about((schema.metadata or {}).get(ABOUT))
        if not self.about:
            raise self._refusal("doesn't say of which model, windows and patches its embeddings are")
        for name in (*_COLUMNS, *(["patches"] if self.about["patches"] else [])):
            if name not in schema.names:
                raise self._refusal(f"has no column {name!r}")
        kind = schema.field("embedding").type
        if not (pa.types.is_fixed_size_list(kind) and pa.types.is_floating(kind.value_type)):
            raise self._refusal(f"has embeddings of type {kind}, not lists of floats of fixed length")
        self.width = int(kind.list_size)

    def _refusal(self, what: str) -> VideoIndexError:
        return VideoIndexError(f"{self.path}: {what}: it must be as `openxclip index --export` writes it.")

    def check(self, about: Mapping[str, Any], width: int) -> None:
        """Refuse windows that can't be in one index with others.

        Raises:
            VideoIndexError: model, plan or width differ, or there are no patches where the index has them.
        """
        if self.about.get("schema") != SCHEMA_VERSION:  # older windows end elsewhere
            raise VideoIndexError(f"{self.path}: was exported by another version of openxclip: export it again.")
        for name in (*_MUST_AGREE, "sampling"):
            own, its = ((sampling_of(of) if name == "sampling" else of[name]) for of in (self.about, about))
            if own != its:
                own, its = str(own)[:60], str(its)[:60]
                raise VideoIndexError(f"{self.path}: its windows are of {name} {own}, the index's of {its}.")
        if self.width != width:
            raise VideoIndexError(f"{self.path}: embeddings of {self.width} numbers, but the index's have {width}.")
        if about["patches"] and not self.about["patches"]:
            raise VideoIndexError(
                f"{self.path}: has no patches, which the index has for reranking: put it into one of its own."
            )

    def videos(self) -> list[str]:
        """List the videos whose windows are in the file, and check every row.

        Raises:
            VideoIndexError: a value is missing or wrong, a window is missing or there twice.
        """
        numbers: dict[str, set[int]] = {}
        rows = 0
        for table in self.tables(patches=bool(self.about["patches"])):
            self._check_values(table)
            rows += len(table)
            for path, number in zip(table["path"].to_pylist(), table["number"].to_pylist(), strict=True):
                numbers.setdefault(path, set()).add(number)
        for path, those in numbers.items():
            if those != set(range(len(those))):
                raise VideoIndexError(
                    f"{self.path}: windows of {path} are missing: their numbers must be 0 to {len(those) - 1}."
                )
        if rows != sum(map(len, numbers.values())):
            raise VideoIndexError(f"{self.path}: a window is there twice, by path and number.")
        return list(numbers)

    def rows(self) -> list[VideoRow]:
        """What an index writes of each video before its windows."""
        found: dict[str, VideoRow] = {}
        for table in self.tables(patches=False):
            for one in table.drop_columns(["embedding", "patches"]).to_pylist():
                row = found.get(one["path"])
                if row is None:
                    of_video = ("path", "size", "modified", "content", "duration", "width", "height")
                    same = {name: one[name] for name in of_video}
                    row = VideoRow(id=new_id(), **same)
                found[row.path] = replace(row, windows=row.windows + 1)
        return list(found.values())

    def _check_values(self, table: Any) -> None:
        for name in table.column_names:
            if table[name].null_count and (name != "patches" or self.about["patches"]):
                raise self._refusal(f"has rows without {name}")
        for name in ("start", "end", "duration"):
            if not np.isfinite(table[name].to_numpy()).all():
                raise self._refusal(f"has a {name} that is no number")
        embeddings = table["embedding"].combine_chunks().flatten().to_numpy().reshape(len(table), -1)
        lengths = np.linalg.norm(embeddings.astype(np.float32), axis=1)
        wrong = np.flatnonzero(~(np.abs(lengths - 1) < _FAR_FROM_ONE))
        if len(wrong):
            path, length = table["path"][int(wrong[0])], lengths[wrong[0]]
            raise VideoIndexError(f"{self.path}: the embedding of {path} has length {length:.3g}: it must be 1.")

    def tables(self, *, patches: bool) -> Iterator[Any]:
        """The windows with all columns of an index but `id`, of its types, some at a time.

        Args:
            patches: with them; else the column is empty.

        Raises:
            VideoIndexError: a column can't be of its type, or the file can't be read.
        """
        import pyarrow as pa

        kinds = [getattr(pa, kind)() for kind in _COLUMNS.values() if kind]
        kinds.append(pa.list_(pa.float32(), self.width))
        try:
            for batch in self._file.iter_batches(batch_size=_ROWS_AT_ONCE):
                table = pa.Table.from_batches([batch])
                columns = {name: table[name].cast(kind) for name, kind in zip(_COLUMNS, kinds, strict=True)}
                own = table["patches"].cast(pa.binary()) if patches else pa.nulls(len(table), pa.binary())
                yield pa.table({**columns, "patches": own})
        except (OSError, pa.ArrowException) as error:
            raise self._refusal(f"can't be read ({reason_of(error).splitlines()[0]})") from error


def _about(text: bytes | None) -> dict[str, Any]:
    """What a schema's metadata says; empty if it doesn't say all that an index must."""
    try:
        about = json.loads(text or b"")
    except ValueError:
        return {}
    needed = (*_MUST_AGREE, "patches", "model")
    return about if isinstance(about, dict) and all(name in about for name in needed) else {}


def add_parquet(store: Store, windows: ParquetWindows, *, patches: bool) -> None:
    """Put a file's windows into an index, in the place of what it has of the same videos.

    Args:
        store: of the index.
        windows: the file's.
        patches: with these.
    """
    import pyarrow as pa

    before = store.videos()
    rows = {row.path: row for row in windows.rows()}
    store.put((replace(row, windows=0) for row in rows.values()), new=True)

    def with_ids() -> Iterator[Any]:
        for table in windows.tables(patches=patches):
            ids = [rows[path].id for path in table["path"].to_pylist()]
            yield table.append_column("video", pa.array(ids, pa.int64()))

    store.add_tables(with_ids())
    replaced = [replace(row, state="removed") for row in before if row.path in rows]
    store.put([*(replace(row, state="complete") for row in rows.values()), *replaced])
    store.forget(replaced)
