"""Read manifests: lists of videos in Parquet, CSV or JSON Lines, with columns to filter by."""

from __future__ import annotations

import os
import posixpath
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from openxclip.common.counting import counted
from openxclip.common.files import is_utf8
from openxclip.search.bulk.items import Source, SourceItem
from openxclip.search.bulk.manifest_files import CsvRows, JsonRows, ParquetRows, Rows, parquet_metadata
from openxclip.search.bulk.objects import Objects
from openxclip.search.bulk.repeats import find_repeated_hashes, hashes_of
from openxclip.search.paths import absolute_path
from openxclip.search.schema import INFO_KEY

_PATH = "path"  # the column of the videos' paths
_READERS: dict[str, type[Rows]] = {
    ".parquet": ParquetRows,
    ".csv": CsvRows,
    ".jsonl": JsonRows,
    ".ndjson": JsonRows,
}


def is_manifest(name: str) -> bool:
    """Return whether a source is a manifest by its name, and not windows that `openxclip index --export` wrote."""
    suffix = os.path.splitext(name.rstrip("/"))[1].lower()  # noqa: PTH122 (Path would change an address)
    if os.path.isdir(name):  # noqa: PTH112
        return suffix == ".parquet" and any(Path(name).rglob("*.parquet"))
    if suffix not in _READERS:
        return False
    return suffix != ".parquet" or "://" in name or INFO_KEY not in parquet_metadata(Path(name), name)


class ManifestSource(Source):
    """The videos that a manifest lists.

    The first use reads the whole manifest once, to find its columns' types and paths that are there twice; each call of
    `items` reads it again. A manifest in an object store is copied to a temporary file first.

    Args:
        name: path or address of the file, .parquet, .csv, .jsonl or .ndjson, or of a folder NAME.parquet of Parquet
            files. Relative paths in it are relative to the folder of the file, or of NAME.parquet.

    Raises:
        ValueError: the file can't be read, or has no column `path`.
        StoreError: the object store can't be read.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        name = name.rstrip("/")
        is_address = "://" in name
        self._name = name if is_address else absolute_path(name)
        self._folder = self._name.rpartition("/")[0] if is_address else os.path.dirname(self._name)  # noqa: PTH120
        reader = _READERS[os.path.splitext(name)[1].lower()]  # noqa: PTH122
        file = self._copy() if is_address else Path(self._name)
        if is_address and reader is ParquetRows and INFO_KEY in parquet_metadata(file, self._name):
            raise ValueError(
                f"{name}: has windows of an index, not paths of videos: copy it here, and add it by itself."
            )
        self._rows = reader(file, self._name)
        if _PATH not in self._rows.names:
            names = ", ".join(self._rows.names) or "none"
            raise ValueError(f"{name}: a manifest needs a column {_PATH!r}: it has {names}.")
        self._repeated: set[int] | None = None
        self._schema: Any = None

    def _copy(self) -> Path:
        """Copy the manifest from its object store to temporary files, which live as long as this object."""
        folder, _, name = self._name.rpartition("/")
        copy = Path(tempfile.mkdtemp(prefix="openxclip-manifest-"))
        weakref.finalize(self, shutil.rmtree, copy, ignore_errors=True)
        objects, names = Objects.open(folder), [name]
        if name.lower().endswith(".parquet"):
            parts = (f"{name}/{info.name}" for info in Objects.open(self._name).list())
            names = [part for part in parts if part.endswith(".parquet")] or names
        for each in names:
            (copy / each).parent.mkdir(parents=True, exist_ok=True)
            with (copy / each).open("wb") as file:
                for chunk in objects.read_chunks(each):
                    file.write(chunk)
        return copy / name

    @property
    def columns(self) -> Any:
        """The pyarrow schema of all columns but `path`."""
        self._scan()
        return self._schema

    def items(self) -> Iterator[list[SourceItem]]:
        """Yield the videos in parts, in the order of the manifest; a path that is there twice, once."""
        repeated = self._scan()
        names = [name for name in self._rows.names if name != _PATH]
        yielded: set[str] = set()  # of the paths that may be repeated
        for rows in self._rows.read():
            columns = [rows[name] for name in names]
            part: list[SourceItem] = []
            for row, path in enumerate(self._paths(rows[_PATH])):
                if path is None:
                    continue
                if repeated and hash(path) in repeated:
                    if path in yielded:
                        continue
                    yielded.add(path)
                values = {name: column[row] for name, column in zip(names, columns, strict=True)}
                part.append(SourceItem(path, columns=values))
            if part:
                yield part

    def _paths(self, written: list[Any]) -> Iterator[str | None]:
        """Yield absolute paths, and None where the manifest has none that can be stored."""
        for path in written:
            yield self._absolute(path) if path and is_utf8(path) else None

    def _absolute(self, path: str) -> str:
        if path.startswith("file://"):
            path = unquote(path.removeprefix("file://"))
        if "://" in path:
            return path
        if "://" in self._folder:  # of the manifest
            if path.startswith("/"):
                return posixpath.normpath(path)
            scheme, _, folder = self._folder.partition("://")
            return f"{scheme}://{posixpath.normpath(f'{folder}/{path}')}"
        if path.startswith("/") and "//" not in path and "/." not in path:
            return path.rstrip("/")
        return os.path.normpath(os.path.join(self._folder, path))  # noqa: PTH118

    def _scan(self) -> set[int]:
        """Read the manifest once; return the hashes of paths that may be there twice."""
        if self._repeated is not None:
            return self._repeated
        total = missing = 0

        def hashes() -> Iterator[Any]:
            nonlocal total, missing
            for rows in self._rows.scan(_PATH):
                paths = [path for path in self._paths(rows) if path is not None]
                total += len(rows)
                missing += len(rows) - len(paths)
                yield hashes_of(paths)

        repeated, surplus = find_repeated_hashes(hashes(), self._name)
        if total == missing:
            raise ValueError(f"{self._name}: lists no videos.")
        self._schema = self._rows.schema(without=_PATH)
        self.count = total - missing - surplus
        self.notes = list(self._rows.notes)
        if missing:
            rows = "1 row has" if missing == 1 else f"{missing} rows have"
            is_or_are = "is" if missing == 1 else "are"
            self.notes.append(f"{self._name}: {rows} no path, or none in UTF-8, and {is_or_are} left out.")
        if surplus:
            rows = "1 row repeats the path" if surplus == 1 else f"{surplus} rows repeat the paths"
            self.notes.append(f"{self._name}: {rows} of earlier rows, whose columns are kept.")
        self._repeated = repeated
        return repeated

    def describe(self) -> str:
        """Return the name, with the number of videos if it is known."""
        return self._name if self.count is None else f"{self._name} ({counted(self.count, 'video')})"
