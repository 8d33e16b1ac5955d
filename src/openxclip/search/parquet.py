"""Export the windows of an index as Parquet, and import them into an index, perhaps on another machine."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from openxclip.common.files import atomic_file, reason_of
from openxclip.errors import VideoIndexError
from openxclip.search.columns import metadata_columns
from openxclip.search.opening import OpenIndex
from openxclip.search.schema import (
    INFO_KEY,
    SCHEMA_VERSION,
    IndexInfo,
    VideoRow,
    embeddings_of,
    videos_schema,
    windows_schema,
)
from openxclip.search.store import Store

SUFFIX = ".parquet"
# Settings that are equal for comparable windows
_COMPARABLE = ("weights", "transforms", "num_frames", "window", "stride", "sampling", "decode")
_COLUMNS = (
    "path", "number", "start", "end", "duration", "size", "modified", "content", "width", "height", "featureless",
    "embedding", "patches",
)  # fmt: skip
_VIDEO_COLUMNS = ("path", "size", "modified", "content", "duration", "width", "height")
_IS_METADATA = {b"openxclip": b"metadata"}  # marks the index's metadata columns among a file's columns
_BATCH_ROWS = 1024  # each row has some tens of kilobytes of patches
_LENGTH_TOLERANCE = 1e-2  # for the length of embeddings; half precision changes it by less


def is_parquet(path: str) -> bool:
    """Return whether a path has the suffix of a Parquet file."""
    return path.lower().endswith(SUFFIX)


def export_windows(store: Store, path: Path) -> int:
    """Write all windows of an index to a file, atomically, and return their number.

    Raises:
        OSError: the file can't be written.
    """
    import pyarrow as pa
    from pyarrow import parquet

    videos = {row.id: row for row in store.complete_videos().values()}
    schema = _schema(store.windows_schema)
    count = 0
    with (
        atomic_file(path) as partial,
        partial.open("wb") as file,
        parquet.ParquetWriter(file, schema, compression="zstd") as writer,
    ):
        for table in store.read_windows():
            rows = [videos[video] for video in table["video"].to_pylist()]
            columns = [
                table[name] if name in table.column_names else pa.array([getattr(row, name) for row in rows])
                for name in schema.names
            ]
            exported = pa.table(columns, schema=schema)
            writer.write_table(exported, row_group_size=_BATCH_ROWS)
            count += len(exported)
    return count


def _schema(windows: Any) -> Any:
    """Return the pyarrow schema of an exported file for the schema of an index's windows."""
    import pyarrow as pa

    videos = videos_schema()
    columns = [(windows if name in windows.names else videos).field(name) for name in _COLUMNS]
    metadata = [windows.field(name).with_metadata(_IS_METADATA) for name in metadata_columns(windows)]
    return pa.schema(columns + metadata, metadata=windows.metadata)


def import_windows(index: OpenIndex, paths: list[str], on_video: Callable[[str, None], object]) -> list[str]:
    """Add the windows of exported files to an index, and create the index if there is none.

    Args:
        index: the index.
        paths: exported files.
        on_video: called with the path of each video.

    Returns:
        The paths of the videos.

    Raises:
        VideoIndexError: a file is damaged, or its windows don't fit the index; or another process is writing.
    """
    if not paths:
        return []
    files = [ParquetWindows(path) for path in paths]
    info = index.info_for_import(files[0].info)
    width = index.store.width if index.info else files[0].width
    for file in files:
        file.check_fits(info, width)
    videos = [file.video_rows() for file in files]
    if index.info is None:
        index.create(info, width)
    info = index.require()
    for file in files:
        index.store.add_columns(file.metadata)
    with index.store.writing():
        for file, rows in zip(files, videos, strict=True):
            _import_file(index.store, file, rows, patches=info.patches)
        index.store.tidy()
    imported = list(dict.fromkeys(path for rows in videos for path in rows))
    for path in imported:
        on_video(path, None)
    return imported


def _import_file(store: Store, file: ParquetWindows, rows: Mapping[str, VideoRow], *, patches: bool) -> None:
    """Add the windows of a file with these videos, and remove the index's old windows of the same paths."""
    import pyarrow as pa

    replaced = [replace(row, state="removed") for row in store.videos() if row.path in rows]
    store.put_videos((replace(row, windows=0) for row in rows.values()), new=True)

    def tables_with_ids() -> Iterator[Any]:
        for table in file.tables(patches=patches):
            ids = [rows[path].id for path in table["path"].to_pylist()]
            yield table.append_column("video", pa.array(ids, pa.int64()))

    store.add_window_tables(tables_with_ids())
    store.put_videos([*(replace(row, state="complete") for row in rows.values()), *replaced])
    store.remove_videos(replaced)


class ParquetWindows:
    """The windows in a file that `export_windows` or a user's program wrote.

    Args:
        path: path of the file.

    Attributes:
        info: description of the index that the windows come from.
        width: E, the size of an embedding.
        metadata: pyarrow schema of the metadata columns of that index.

    Raises:
        VideoIndexError: the file can't be read, or lacks the description or a column.
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
        try:
            self.info = IndexInfo.from_json((schema.metadata or {}).get(INFO_KEY, b""))
        except ValueError as error:
            raise self._invalid("doesn't describe the model, windows and patches of its embeddings") from error
        for name in _COLUMNS:
            if name not in schema.names and (name != "patches" or self.info.patches):
                raise self._invalid(f"has no column {name!r}")
        self.metadata = pa.schema([field for field in schema if _IS_METADATA.items() <= (field.metadata or {}).items()])
        kind = schema.field("embedding").type
        if not (pa.types.is_fixed_size_list(kind) and pa.types.is_floating(kind.value_type)):
            raise self._invalid(f"has embeddings of type {kind}, not lists of floats of fixed length")
        self.width = int(kind.list_size)

    def _invalid(self, problem: str) -> VideoIndexError:
        return VideoIndexError(f"{self.path}: {problem}: it must have the form that `openxclip index --export` writes.")

    def check_fits(self, info: IndexInfo, width: int) -> None:
        """Check that the windows can be compared with an index's.

        Raises:
            VideoIndexError: the model, the windows or the width differ, or only the index has patches.
        """
        if self.info.schema != SCHEMA_VERSION:  # other versions cut windows differently
            raise VideoIndexError(f"{self.path}: was exported by another version of openxclip: export it again.")
        for name in _COMPARABLE:
            own, other = getattr(self.info, name), getattr(info, name)
            if own != other:
                raise VideoIndexError(
                    f"{self.path}: its windows have {name} {str(own)[:60]}, but the index's have {str(other)[:60]}."
                )
        if self.width != width:
            raise VideoIndexError(f"{self.path}: its embeddings have {self.width} numbers, but the index's {width}.")
        if info.patches and not self.info.patches:
            raise VideoIndexError(
                f"{self.path}: has no patches, which the index stores for reranking: add it to an index of its own."
            )

    def video_rows(self) -> dict[str, VideoRow]:
        """Check every window, and return a new row for each video, by path.

        Raises:
            VideoIndexError: a value is missing or wrong, or a window is missing or duplicated.
        """
        videos: dict[str, VideoRow] = {}
        numbers: dict[str, list[int]] = defaultdict(list)
        for table in self.tables(patches=self.info.patches):
            self._check_values(table)
            for values in table.select(["number", *_VIDEO_COLUMNS]).to_pylist():
                numbers[values["path"]].append(values.pop("number"))
                videos.setdefault(values["path"], VideoRow(**values))
        for path, of_video in numbers.items():
            count = len({*of_video})
            if {*of_video} != {*range(count)}:
                raise VideoIndexError(
                    f"{self.path}: windows of {path} are missing: they need the numbers 0 to {count - 1}."
                )
            if len(of_video) > count:
                raise VideoIndexError(f"{self.path}: two windows have the same path and number.")
            videos[path] = replace(videos[path], windows=count)
        return videos

    def _check_values(self, table: Any) -> None:
        for name in table.column_names:
            if table[name].null_count and name not in self.metadata.names and (name != "patches" or self.info.patches):
                raise self._invalid(f"has rows without {name}")
        for name in ("start", "end", "duration"):
            if not np.isfinite(table[name].to_numpy()).all():
                raise self._invalid(f"has a {name} that isn't finite")
        lengths = np.linalg.norm(embeddings_of(table).astype(np.float32), axis=1)
        wrong = np.flatnonzero(~(np.abs(lengths - 1) < _LENGTH_TOLERANCE))
        if len(wrong):
            path, length = table["path"][int(wrong[0])], lengths[wrong[0]]
            raise VideoIndexError(f"{self.path}: the embedding of {path} has length {length:.3g}: it must be 1.")

    def tables(self, *, patches: bool) -> Iterator[Any]:
        """Read the windows as pyarrow tables with an index's columns and types, except for the video's id.

        Args:
            patches: read the patches; if False, their column is null.

        Raises:
            VideoIndexError: a column can't be converted to its type, or the file can't be read.
        """
        import pyarrow as pa

        schema = _schema(windows_schema(self.info, self.width))
        try:
            for batch in self._file.iter_batches(batch_size=_BATCH_ROWS):
                table = pa.Table.from_batches([batch])
                if not patches:
                    nulls = pa.nulls(len(table), pa.binary())
                    table = table.select([*_COLUMNS[:-1], *self.metadata.names]).append_column("patches", nulls)
                fields = [*schema, *self.metadata]
                yield pa.table({field.name: table[field.name].cast(field.type) for field in fields})
        except (OSError, pa.ArrowException) as error:
            raise self._invalid(f"can't be read ({reason_of(error).splitlines()[0]})") from error
