"""Read the rows of manifest files in parts: Parquet, CSV and JSON Lines."""

from __future__ import annotations

import csv
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from openxclip.common.counting import counted
from openxclip.common.files import cannot_read, reason_of
from openxclip.errors import needs_package
from openxclip.search.bulk.items import AT_ONCE

# Digits with leading zeros, and more digits than fit 64 bits, are codes and stay text
_INTEGER = re.compile(r"-?(0|[1-9]\d{0,17})")
_NUMBER = re.compile(r"-?((0|[1-9]\d{0,17})(\.\d*)?|\.\d+)([eE][+-]?\d{1,2})?")
_MAX_INT = 2**63 - 1
_READ_BYTES = 1 << 20  # of a Parquet column at a time


class Rows(ABC):
    """The rows of a manifest file.

    Args:
        file: the file.
        name: what messages call it.

    Attributes:
        names: the names of all columns; of JSON Lines, complete after `scan`.
        notes: sentences about values that are stored in another form.

    Raises:
        ValueError: the file can't be read.
    """

    def __init__(self, file: Path, name: str) -> None:
        self.file, self.name = file, name
        self.names: list[str] = []
        self.notes: list[str] = []

    @abstractmethod
    def scan(self, path: str) -> Iterator[list[str | None]]:
        """Read all rows, learn the columns, and yield the values of the column `path` in parts."""

    @abstractmethod
    def read(self) -> Iterator[dict[str, list[Any]]]:
        """Yield the columns in parts of some thousand rows, with values of the types in `schema`."""

    @abstractmethod
    def schema(self, *, without: str) -> Any:
        """Return the pyarrow schema of the columns, nullable, without one of them. Needs `scan`."""


class ParquetRows(Rows):
    """The rows of a Parquet file, or of a folder of Parquet files with the same columns, which other programs write."""

    def __init__(self, file: Path, name: str) -> None:
        super().__init__(file, name)
        import pyarrow as pa

        self._parts = parquet_parts(file, name) if file.is_dir() else [(file, name)]
        self._stored = _parquet_file(*self._parts[0]).schema_arrow
        for part, called in self._parts[1:]:
            self._check_equal(_parquet_file(part, called).schema_arrow, called)
        self.names = list(self._stored.names)
        for field in self._stored:
            if self.names.count(field.name) > 1:
                raise ValueError(f"{name}: has two columns {field.name!r}: name them differently.")
        self._types = {field.name: self._type(field) for field in self._stored}
        self._path_type: Any = pa.string()

    def _check_equal(self, schema: Any, name: str) -> None:
        """Check that a part has the columns of the first part."""
        first, own = ({field.name: field.type for field in each} for each in (self._stored, schema))
        wrong = sorted(column for column in first.keys() | own.keys() if first.get(column) != own.get(column))
        if wrong:
            raise ValueError(
                f"{name}: its column {wrong[0]!r} is {own.get(wrong[0], 'missing')}, but in {self._parts[0][1]} "
                f"{first.get(wrong[0], 'missing')}: write all parts with the same columns."
            )

    def _type(self, field: Any) -> Any:
        """Return the type in which a column is kept."""
        import pyarrow as pa
        from pyarrow import types

        kind = field.type.value_type if types.is_dictionary(field.type) else field.type
        if types.is_large_string(kind) or types.is_string_view(kind):
            return pa.string()
        if types.is_timestamp(kind) and kind.unit == "ns":
            self.notes.append(f"{self.name}: the times of {field.name} are kept to the microsecond.")
            return pa.timestamp("us", kind.tz)
        if types.is_float16(kind):
            return pa.float32()
        is_plain = (
            types.is_string(kind) or types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind)
            or types.is_timestamp(kind) or types.is_date(kind) or types.is_decimal128(kind) or types.is_null(kind)
        )  # fmt: skip
        if not is_plain:
            raise ValueError(
                f"{self.name}: the column {field.name!r} has the type {field.type}: columns to filter by are text, "
                "numbers, booleans, dates or times: leave it out, or write it as text."
            )
        return kind

    def scan(self, path: str) -> Iterator[list[str | None]]:
        """Yield the paths; the columns are known from the schema."""
        from pyarrow import types

        if not types.is_string(self._types[path]):
            raise ValueError(f"{self.name}: the column {path!r} must be text, but is {self._stored.field(path).type}.")
        for rows in self._batches([path]):
            yield rows[path]

    def read(self) -> Iterator[dict[str, list[Any]]]:
        """Yield the columns in parts."""
        yield from self._batches(self.names)

    def _batches(self, names: list[str]) -> Iterator[dict[str, list[Any]]]:
        import pyarrow as pa

        called = self.name
        try:
            for part, called in self._parts:
                # Reads pages of a column as needed: a row group may have a million rows
                file = _parquet_file(part, called)
                for batch in file.iter_batches(batch_size=AT_ONCE, columns=names, use_threads=False):
                    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
                    yield {name: columns[name].cast(self._types[name], safe=False).to_pylist() for name in names}
        except (OSError, pa.ArrowException) as error:
            raise ValueError(f"{called}: can't be read as Parquet: {_first_line(error)}.") from error

    def schema(self, *, without: str) -> Any:
        """Return the schema; a column without any value is left out, and a note says so."""
        import pyarrow as pa
        from pyarrow import types

        for name, kind in self._types.items():
            if types.is_null(kind):
                self.notes.append(_empty(self.name, name))
        self.names = [name for name in self.names if not types.is_null(self._types[name])]
        return pa.schema([pa.field(name, self._types[name]) for name in self.names if name != without])


def parquet_metadata(file: Path, name: str) -> dict[bytes, bytes]:
    """Return the metadata of the schema of a Parquet file, or of the first one in a folder."""
    part = parquet_parts(file, name)[0] if file.is_dir() else (file, name)
    return dict(_parquet_file(*part).schema_arrow.metadata or {})


def parquet_parts(folder: Path, name: str) -> list[tuple[Path, str]]:
    """Return the Parquet files of a folder, in the order of their names, and what messages call them.

    Raises:
        ValueError: there are none, or they are in folders of their own, whose names would be lost.
    """
    below = sorted(path.relative_to(folder) for path in folder.rglob("*.parquet") if path.is_file())
    below = [path for path in below if not any(part.startswith(("_", ".")) for part in path.parts)]
    if not below:
        raise ValueError(f"{name}: has no .parquet files.")
    deep = next((path for path in below if len(path.parts) > 1), None)
    if deep is not None:
        raise ValueError(
            f"{name}: its parts are in folders of their own, such as {deep.parent}, whose names would be lost: write "
            "what they say as a column, and the parts into one folder."
        )
    return [(folder / path, f"{name}/{path}") for path in below]


def _parquet_file(file: Path, name: str) -> Any:
    with needs_package(f"{name}: a .parquet file", "pyarrow", "search"):
        import pyarrow as pa
        from pyarrow import parquet
    try:
        return parquet.ParquetFile(file, buffer_size=_READ_BYTES, pre_buffer=False)
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"{name}: can't be read as Parquet: {_first_line(error)}.") from error


def _first_line(error: BaseException) -> str:
    return reason_of(error).splitlines()[0].rstrip(".")


def _empty(file: str, column: str) -> str:
    return f"{file}: the column {column} has no values and is left out."


class _Kinds:
    """Finds the narrowest kind that holds every value of each column: boolean, integer, number or text."""

    ORDER = ("boolean", "integer", "number", "text")

    def __init__(self) -> None:
        self.of: dict[str, str | None] = {}  # in the order of the columns; None if no value was seen
        self.mixed: set[str] = set()  # columns with values of different kinds

    def add(self, column: str, kind: str | None) -> None:
        known = self.of.setdefault(column, None)
        if kind is None or kind == known:
            return
        if known is None:
            self.of[column] = kind
        elif {known, kind} == {"integer", "number"}:
            self.of[column] = "number"
        else:
            self.of[column] = "text"
            self.mixed.add(column)

    def schema(self, names: list[str]) -> Any:
        import pyarrow as pa

        types = {"boolean": pa.bool_(), "integer": pa.int64(), "number": pa.float64(), "text": pa.string()}
        return pa.schema([pa.field(name, types[str(self.of[name])]) for name in names])


class _TextRows(Rows):
    """The rows of a text file, whose values state no types."""

    _convert: ClassVar[dict[str, Callable[[Any], Any]]]
    _takes_all = False  # whether a value can be invalid in a column of text

    def __init__(self, file: Path, name: str) -> None:
        super().__init__(file, name)
        self._kinds = _Kinds()

    @abstractmethod
    def _rows(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the number of each row's line, and its values; None or no value where it is missing."""

    @abstractmethod
    def _kind(self, value: Any, column: str, line: int) -> str:
        """Return the kind of a value."""

    def scan(self, path: str) -> Iterator[list[str | None]]:
        """Yield the paths, and find the kinds of the other columns."""
        part: list[str | None] = []
        for line, row in self._rows():
            value = row.get(path)
            if value is not None and not isinstance(value, str):
                raise ValueError(f"{self.name}, line {line}: the path must be text, not {value!r}.")
            part.append(value)
            for column, content in row.items():
                if column != path and (self._takes_all or self._kinds.of.get(column) != "text"):
                    self._kinds.add(column, None if content is None else self._kind(content, column, line))
            if len(part) == AT_ONCE:
                yield part
                part = []
        yield part
        self._kinds.of.pop(path, None)
        columns = [name for name in dict.fromkeys([*self.names, *self._kinds.of]) if name != path]
        known = [name for name in columns if self._kinds.of.get(name) is not None]
        self.notes += [_empty(self.name, name) for name in columns if name not in known]
        self.notes += [
            f"{self.name}: the column {name} has values of different kinds and is kept as text."
            for name in known
            if name in self._kinds.mixed
        ]
        self.names = [path, *known]

    def read(self) -> Iterator[dict[str, list[Any]]]:
        """Yield the columns in parts, with the types that `scan` found."""
        convert = {name: self._convert[self._kinds.of.get(name) or "text"] for name in self.names}
        part: list[dict[str, Any]] = []

        def columns() -> dict[str, list[Any]]:
            return {
                name: [None if (value := row.get(name)) is None else change(value) for row in part]
                for name, change in convert.items()
            }

        for _, row in self._rows():
            part.append(row)
            if len(part) == AT_ONCE:
                yield columns()
                part = []
        yield columns()

    def schema(self, *, without: str) -> Any:
        """Return the schema of the columns with values."""
        return self._kinds.schema([name for name in self.names if name != without])


class CsvRows(_TextRows):
    """The rows of a CSV file with a header, in UTF-8. An empty value is missing."""

    _convert: ClassVar = {"boolean": lambda text: text.lower() == "true", "integer": int, "number": float, "text": str}

    def __init__(self, file: Path, name: str) -> None:
        super().__init__(file, name)
        with self._reading() as reader:
            self._header: list[str] = next(reader, [])
        self.names = list(self._header)
        for column in self.names:
            if not column or self.names.count(column) > 1:
                raise ValueError(f"{name}: its first line must name each column, once: it is {','.join(self.names)}.")

    @contextmanager
    def _reading(self) -> Iterator[Any]:
        reader = None
        try:
            with self.file.open(encoding="utf-8-sig", newline="") as lines:
                reader = csv.reader(lines)
                yield reader
        except OSError as error:
            raise ValueError(cannot_read(self.name, error)) from error
        except (csv.Error, UnicodeDecodeError) as error:
            reason = f"it is not text in UTF-8 ({error.reason})" if isinstance(error, UnicodeDecodeError) else error
            line = 1 + (reader.line_num if reader else 0)
            raise ValueError(f"{self.name}, line {line}: can't be read as CSV: {reason}.") from error

    def _rows(self) -> Iterator[tuple[int, dict[str, Any]]]:
        width = len(self._header)
        with self._reading() as reader:
            next(reader, None)
            for values in reader:
                if not values:
                    continue  # an empty line
                if len(values) != width:
                    raise ValueError(
                        f"{self.name}, line {reader.line_num}: has {counted(len(values), 'value')}, but the header "
                        f"names {counted(width, 'column')}."
                    )
                yield reader.line_num, {name: value for name, value in zip(self._header, values, strict=True) if value}

    def _kind(self, value: str, column: str, line: int) -> str:
        if value.lower() in ("true", "false"):
            return "boolean"
        if _INTEGER.fullmatch(value):
            return "integer"
        return "number" if _NUMBER.fullmatch(value) else "text"


class JsonRows(_TextRows):
    """The rows of a file with a JSON object in each line, in UTF-8. null is missing."""

    _convert: ClassVar = {"boolean": bool, "integer": int, "number": float, "text": lambda value: _as_text(value)}
    _takes_all = True

    def __init__(self, file: Path, name: str) -> None:
        super().__init__(file, name)
        first = next(self._rows(), (0, {}))[1]
        self.names = list(first)

    def _rows(self) -> Iterator[tuple[int, dict[str, Any]]]:
        number = 0
        try:
            with self.file.open(encoding="utf-8-sig") as lines:
                for number, line in enumerate(lines, start=1):
                    if line.strip():
                        row = json.loads(line)
                        if not isinstance(row, dict):
                            raise ValueError(f"{self.name}, line {number}: must be a JSON object with a path.")
                        yield number, row
        except json.JSONDecodeError as error:
            raise ValueError(f"{self.name}, line {number}: can't be read as JSON: {error.msg}.") from error
        except UnicodeDecodeError as error:
            raise ValueError(f"{self.name}, line {number + 1}: is not text in UTF-8 ({error.reason}).") from error
        except OSError as error:
            raise ValueError(cannot_read(self.name, error)) from error

    def _kind(self, value: Any, column: str, line: int) -> str:
        if isinstance(value, bool):
            return "boolean"
        if isinstance(value, int):
            return "integer" if abs(value) <= _MAX_INT else "text"
        if isinstance(value, float):
            return "number"
        if isinstance(value, str):
            return "text"
        raise ValueError(
            f"{self.name}, line {line}: {column!r} has a value of the type {type(value).__name__}: columns to filter "
            "by are text, numbers or booleans: leave it out, or write it as text."
        )


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
