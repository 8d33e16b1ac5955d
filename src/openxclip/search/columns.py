"""The metadata columns of an index: columns of a manifest, stored with each window, by which a search can filter."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from openxclip.search.schema import WINDOW_COLUMNS

_RESERVED = {*WINDOW_COLUMNS, "modified"}  # `modified` is a column of the table of videos, which conditions may name


def metadata_columns(schema: Any) -> list[str]:
    """Return the names of the metadata columns in the pyarrow schema of a table of windows."""
    return [name for name in schema.names if name not in WINDOW_COLUMNS]


def new_columns(wanted: Any, schema: Any, uri: str) -> list[Any]:
    """Return the pyarrow fields that a table of windows lacks.

    Args:
        wanted: pyarrow schema of metadata columns.
        schema: pyarrow schema of the table.
        uri: place of the index, for messages.

    Raises:
        ValueError: a name can't be used, or the table has a column of this name and another type.
    """
    new = []
    names = {name.lower(): name for name in schema.names}
    for field in wanted:
        name, kind = field.name, stored_type(field.type)
        if name.lower() in _RESERVED or name.startswith("_"):
            raise ValueError(
                f"column {name!r}: an index has a column of its own under this name: rename it in the manifest."
            )
        if not name.strip() or any(character in name for character in ".`'\""):
            raise ValueError(f"column {name!r}: a condition can't name it: rename it without dots and quotes.")
        if name in schema.names:
            old = schema.field(name).type
            if old != kind:
                raise ValueError(
                    f"column {name!r}: has the type {kind}, but the index {uri} has it as {old}: convert or rename it."
                )
        elif name.lower() in names:
            raise ValueError(
                f"column {name!r}: differs from the column {names[name.lower()]!r} of the index only by its case."
            )
        else:
            names[name.lower()] = name
            new.append(field.with_type(kind).with_nullable(True).remove_metadata())
    return new


def check_names(wanted: Any, uri: str) -> None:
    """Check that an index, which doesn't exist yet, can have these metadata columns. Raises as `new_columns`."""
    import pyarrow as pa

    new_columns(wanted, pa.schema([]), uri)


def stored_type(kind: Any) -> Any:
    """Return the pyarrow type in which an index stores a type: a plain one of the same values."""
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return stored_type(kind.value_type)
    if pa.types.is_null(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    return kind


def columns_to_text(values: Mapping[str, Any]) -> str:
    """Return the values of metadata columns as text that keeps their types: an Arrow table of one row, in base64."""
    import pyarrow as pa

    if not values:
        return ""
    table = pa.table({name: pa.array([value]) for name, value in values.items()})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return base64.b64encode(sink.getvalue()).decode()


def columns_from_text(text: str) -> dict[str, Any]:
    """Return the values that `columns_to_text` was given.

    Raises:
        ValueError: it is another text.
    """
    import pyarrow as pa

    if not text:
        return {}
    values: dict[str, Any] = pa.ipc.open_stream(base64.b64decode(text, validate=True)).read_all().to_pylist()[0]
    return values


def windows_table(rows: Sequence[Mapping[str, Any]], schema: Any) -> Any:
    """Return windows as a pyarrow table.

    Args:
        rows: rows as dicts of columns; `embedding` is (E,) float32, `patches` bytes or None. Metadata columns may be
            missing.
        schema: pyarrow schema of the table of windows.

    Raises:
        ValueError: a value doesn't have the type of its column.
    """
    import pyarrow as pa

    columns = []
    for field in schema:
        if field.name == "embedding":
            values = np.concatenate([np.asarray(row["embedding"], np.float32) for row in rows] or [np.zeros(0, "f4")])
            columns.append(pa.FixedSizeListArray.from_arrays(pa.array(values, pa.float32()), type=field.type))
            continue
        try:
            columns.append(pa.array([row.get(field.name) for row in rows], field.type))
        except (pa.ArrowException, TypeError) as error:
            raise ValueError(f"column {field.name!r}: a value isn't of its type {field.type}: {error}.") from error
    return pa.table(columns, schema=schema)


def with_columns(table: Any, schema: Any) -> Any:
    """Return a pyarrow table of windows with the columns and types of a schema; missing metadata columns are null."""
    import pyarrow as pa

    metadata, given = metadata_columns(schema), table.column_names
    columns = [
        pa.nulls(len(table), field.type)
        if field.name in metadata and field.name not in given
        else table[field.name].cast(field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)
