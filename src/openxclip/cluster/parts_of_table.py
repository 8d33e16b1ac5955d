"""Files of rows that many workers write: Parquet files in a folder, or the fragments of a Lance dataset.

A worker writes the rows of a chunk of videos and then a small record, `_parts/NAME.json`, which says what they are.
Only rows that a record names count: a killed worker leaves at most files without a record, which `settle` deletes.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from openxclip.errors import needs_package
from openxclip.search.bulk.failures import Failure, failures_schema
from openxclip.search.bulk.lance_versions import import_lance
from openxclip.search.bulk.objects import Objects
from openxclip.search.bulk.writing import lance_errors
from openxclip.search.paths import absolute_target

if TYPE_CHECKING:
    from openxclip.search.bulk.items import SourceItem

_RECORDS = "_parts"
_RUN = f"{_RECORDS}/_run.json"  # the options of the run, and the schema
_FAILURES = "_failures.parquet"  # programs that read the folder leave out names with an underscore
_FILE_BYTES = 128 << 20  # of rows in one file


@dataclass(frozen=True, kw_only=True)
class Part:
    """What a worker wrote for a chunk of videos.

    Attributes:
        name: hash of the videos and the options.
        files: names of the Parquet files, or the fragments of a Lance dataset as JSON.
        paths: paths of the videos that have rows.
        rows: number of rows.
        footage: length of the videos, in seconds.
        failures: dead letters.
    """

    name: str
    files: list[str]
    paths: list[str]
    rows: int
    footage: float
    failures: list[Failure]

    def to_json(self) -> bytes:
        """Return the record as JSON."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Part:
        """Read a record."""
        values = json.loads(content)
        values["failures"] = [Failure(**failure) for failure in values["failures"]]
        return cls(**values)


class Table:
    """The place of a table, and the records of its parts.

    Args:
        out: a folder, `NAME.lance`, or either in an object store.

    Attributes:
        uri: the place.
        is_lance: whether it is a Lance dataset.
        failures: place of the table of failures, if there are any.

    Raises:
        MissingPackageError: the format needs a package that isn't installed.
        ValueError: the name can't be used.
        StoreError: the store can't be used.
    """

    def __init__(self, out: str | Path) -> None:
        self.uri = absolute_target(out).rstrip("/") or "/"
        self.is_lance = self.uri.lower().endswith(".lance")
        if Path(self.uri).is_file() or self.uri.lower().endswith((".parquet", ".npz", ".safetensors")):
            raise ValueError(f"{out}: many machines write many files: name a folder for .parquet files, or NAME.lance.")
        with needs_package("rows in Parquet or Lance", "pyarrow", "cluster"):
            import pyarrow.parquet  # noqa: F401
        if self.is_lance:
            import_lance()
        place = f"{self.uri}.parts" if self.is_lance else self.uri
        self.objects, self.failures = Objects.open(place), f"{place}/{_FAILURES}"

    def check_place(self) -> None:
        """Check that the place is empty or has a table of this kind, because `settle` deletes files.

        Raises:
            ValueError: it has other files.
        """
        if self.objects.get(_RUN) is not None:
            return
        places = [self.objects, Objects.open(self.uri)] if self.is_lance else [self.objects]
        other = next((info.name for place in places for info in place.list() if not info.name.startswith("_")), None)
        if other is not None:
            raise ValueError(f"{self.uri}: has files of something else, such as {other}: name an empty or new place.")

    # -- workers -----------------------------------------------------------------------------------------------------

    def begin(self, options: dict[str, Any], schema: Any) -> str:
        """Note the options of a run, or compare them with those of the run that began the table.

        Args:
            options: all that the rows depend on besides the videos, for JSON.
            schema: pyarrow schema of the rows.

        Returns:
            The options as JSON.

        Raises:
            ValueError: the table belongs to a run with other options.
        """
        text = json.dumps(options, sort_keys=True, default=str)
        encoded = base64.b64encode(schema.serialize().to_pybytes()).decode()
        if not self.objects.create(_RUN, json.dumps({"options": text, "schema": encoded}).encode()):
            found = self.objects.get(_RUN)
            earlier = {} if found is None else json.loads(json.loads(found[0])["options"])
            now = json.loads(text)
            other = [name for name in {**earlier, **now} if earlier.get(name) != now.get(name)]
            if other:
                old, new = (json.dumps(values.get(other[0]))[:60] for values in (earlier, now))
                more = f", and another {', '.join(other[1:])}" if other[1:] else ""
                raise ValueError(
                    f"{self.uri}: belongs to a run with another {other[0]} ({old}, now {new}){more}: use the same "
                    "options, or another place."
                )
        return text

    def find(self, name: str) -> Part | None:
        """Return the record of a part; None if there is none."""
        found = self.objects.get(f"{_RECORDS}/{name}.json")
        return None if found is None else Part.from_json(found[0])

    def put(self, part: Part) -> None:
        """Write the record of a part, whose rows are written."""
        self.objects.put(f"{_RECORDS}/{part.name}.json", part.to_json())

    def writer(self, name: str, schema: Any) -> PartWriter:
        """Return a writer of the rows of a part."""
        return PartWriter(self, name, schema)

    # -- the driver --------------------------------------------------------------------------------------------------

    def records(self) -> Iterator[Part]:
        """Yield the records of all parts."""
        for info in self.objects.list(_RECORDS):
            found = None if info.name == _RUN else self.objects.get(info.name)
            if found is not None:
                yield Part.from_json(found[0])

    def settle(self) -> tuple[int, int]:
        """Make the table of the parts that have a record, each video once, and write the failures.

        Returns:
            The number of videos and of rows that the table has.
        """
        dropped = self._doubled()
        self._delete(dropped)
        names = {part.name for part in dropped}
        kept, fragments = set[str](), list[str]()
        failures: dict[str, Failure] = {}
        videos = rows = 0
        for part in self.records():
            if part.name not in names:
                videos, rows = videos + len(part.paths), rows + part.rows
                failures.update((failure.path, failure) for failure in part.failures)
                fragments += part.files if self.is_lance else []
                kept.update(() if self.is_lance else part.files)
        done = self.done()
        self._write_failures([failure for path, failure in failures.items() if not _holds(done, [path])[0]])
        if self.is_lance:
            self._commit(fragments)
        else:
            strays = [
                info.name for info in self.objects.list() if _OWN_FILE.fullmatch(info.name) and info.name not in kept
            ]
            self.objects.delete(strays)
        return videos, rows

    def done(self) -> Any:
        """Return the sorted hashes of the videos that have rows, uint64."""
        hashes = [_hashes(part.paths) for part in self.records()]
        return np.sort(np.concatenate([np.zeros(0, np.uint64), *hashes]))

    def _doubled(self) -> list[Part]:
        """Return the parts to drop, so that each video has its rows once; larger parts are kept."""
        done = self.done()
        if len(np.unique(done)) == len(done):
            return []
        seen: set[str] = set()
        dropped = []
        for part in sorted(self.records(), key=lambda part: (-len(part.paths), part.name)):
            if seen.isdisjoint(part.paths):
                seen.update(part.paths)
            else:
                dropped.append(part)
        return dropped

    def _delete(self, parts: Iterable[Part]) -> None:
        for part in parts:
            self.objects.delete([f"{_RECORDS}/{part.name}.json", *(() if self.is_lance else part.files)])

    def _write_failures(self, failures: list[Failure]) -> None:
        if not failures:
            self.objects.delete([_FAILURES])
            return
        import pyarrow as pa
        from pyarrow import parquet

        file = io.BytesIO()
        schema = failures_schema()
        schema = schema.remove(schema.get_field_index("columns"))  # the source has them, and is read again
        parquet.write_table(pa.Table.from_pylist([asdict(row) for row in failures], schema=schema), file)
        self.objects.put(_FAILURES, file.getvalue())

    def _commit(self, fragments: list[str]) -> None:
        import pyarrow as pa

        found = self.objects.get(_RUN)
        if found is None or not fragments:
            return
        schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(json.loads(found[0])["schema"])))
        lance = import_lance()
        parsed = [lance.FragmentMetadata.from_json(fragment) for fragment in fragments]
        with lance_errors(self.uri, "the dataset can't be written"):
            lance.LanceDataset.commit(self.uri, lance.LanceOperation.Overwrite(schema, parsed))


class PartWriter:
    """Writes the rows of a chunk of videos.

    Args:
        table: the table.
        name: name of the part.
        schema: pyarrow schema of the rows.
    """

    def __init__(self, table: Table, name: str, schema: Any) -> None:
        self._table, self._name, self._schema = table, name, schema
        self._waiting: list[Any] = []  # pyarrow tables
        self._bytes = 0
        self._files: list[str] = []

    def add(self, rows: Any) -> None:
        """Add rows, a pyarrow table."""
        self._waiting.append(rows)
        self._bytes += rows.nbytes
        if self._bytes >= _FILE_BYTES:
            self._flush()

    def finish(self) -> list[str]:
        """Write what waits, and return the names of the files, or the fragments."""
        self._flush()
        return self._files

    def _flush(self) -> None:
        if not self._waiting:
            return
        import pyarrow as pa
        from pyarrow import parquet

        rows, self._waiting, self._bytes = pa.concat_tables(self._waiting), [], 0
        if self._table.is_lance:
            from lance.fragment import write_fragments

            with lance_errors(self._table.uri, "the dataset can't be written"):
                written = write_fragments(rows, self._table.uri, schema=self._schema)
            self._files += [json.dumps(fragment.to_json()) for fragment in written]
            return
        file = io.BytesIO()
        parquet.write_table(rows, file)
        name = f"part-{self._name}-{len(self._files):03}.parquet"
        self._table.objects.put(name, file.getvalue())
        self._files.append(name)


_OWN_FILE = re.compile(r"part-[0-9a-f]{32}-\d{3,}\.parquet")  # of the names below


def name_of(items: Sequence[SourceItem], options: str) -> str:
    """Return the name of the part for these videos: the same videos with the same options have the same."""
    videos = [[item.path, item.size, item.modified] for item in items]
    return hashlib.sha256(json.dumps([videos, options]).encode()).hexdigest()[:32]


def not_done(parts: Iterable[list[SourceItem]], done: Any) -> Iterator[list[SourceItem]]:
    """Yield the videos without those whose hash is in `done`, sorted uint64."""
    for part in parts:
        is_done = _holds(done, [item.path for item in part])
        yield [item for item, skip in zip(part, is_done, strict=True) if not skip]


def _hashes(paths: Sequence[str]) -> Any:
    digests = [hashlib.blake2b(path.encode("utf-8", "surrogateescape"), digest_size=8).digest() for path in paths]
    return np.frombuffer(b"".join(digests), dtype=np.uint64)


def _holds(hashes: Any, paths: Sequence[str]) -> list[bool]:
    wanted = _hashes(paths)
    if not len(hashes):
        return [False] * len(paths)
    at = np.minimum(np.searchsorted(hashes, wanted), len(hashes) - 1)
    return list((hashes[at] == wanted).tolist())
