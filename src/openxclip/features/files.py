"""Write files of features (.parquet, .npz, .safetensors), with a few hundred rows at a time in memory."""

from __future__ import annotations

import json
import math
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from openxclip.common.files import is_utf8
from openxclip.errors import needs_package

# Columns by name, with a value for each of some rows.
Columns = dict[str, NDArray[Any]]
# Takes names of columns; yields all rows in order, in parts, with these columns and `video`.
Rows = Callable[[Sequence[str]], Iterator[Columns]]
# The dtype and shape of each column, for all rows together.
Shapes = dict[str, tuple[str, tuple[int, ...]]]

METADATA_NAME = "openxclip"
_SAFETENSORS_CODES = {"float32": "F32", "float64": "F64", "int64": "I64"}
_MAX_HEADER = 90_000_000  # bytes; safetensors allows 100 million
_ROWS_PER_GROUP = 1024


def check_suffix(path: Path) -> str:
    """Return the suffix of a file of features.

    Raises:
        MissingPackageError: the package that writes this format isn't installed.
        ValueError: no format has this suffix.
    """
    suffix = path.suffix.lower()
    if suffix not in _WRITERS:
        raise ValueError(f"{path}: its name must end with {', '.join(_WRITERS)}, which chooses the format.")
    if suffix == ".parquet":
        with needs_package(f"{path}: a .parquet file (unlike .npz and .safetensors)", "pyarrow", "parquet"):
            import pyarrow.parquet  # noqa: F401
    return suffix


def check_names(path: Path, names: list[str]) -> None:
    """Raise a ValueError if the format can't store so many names of videos."""
    if path.suffix.lower() == ".safetensors" and len(json.dumps(names)) > _MAX_HEADER // 2:
        raise ValueError(f"{path}: {len(names)} names are too many for safetensors: choose .npz or .parquet.")


def write_features(path: Path, rows: Rows, shapes: Shapes, metadata: Any) -> None:
    """Write a file of features.

    Args:
        path: path of the file, whose suffix decides the format.
        rows: yields the rows; it is called several times.
        shapes: the columns to write.
        metadata: a JSON object, stored under the name "openxclip"; the column `video` has indices into its `paths`.

    Raises:
        OSError: the file can't be written.
    """
    with path.open("wb") as file:
        _WRITERS[path.suffix.lower()](file, rows, shapes, metadata)
        file.flush()
        os.fsync(file.fileno())  # before the file is renamed, so that a system crash leaves no empty file


def _write_safetensors(file: BinaryIO, rows: Rows, shapes: Shapes, metadata: Any) -> None:
    """Write the length of the header, the header in JSON, then the tensors (huggingface.co/docs/safetensors)."""
    header: dict[str, Any] = {"__metadata__": {METADATA_NAME: json.dumps(metadata, allow_nan=False)}}
    end = 0
    for name, (dtype, shape) in shapes.items():
        start, end = end, end + math.prod(shape) * np.dtype(dtype).itemsize
        header[name] = {"dtype": _SAFETENSORS_CODES[dtype], "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # aligns the tensors
    file.write(len(text).to_bytes(8, "little") + text)
    for name in shapes:
        for part in rows([name]):
            file.write(_little_endian(part[name]))


def _write_npz(file: BinaryIO, rows: Rows, shapes: Shapes, metadata: Any) -> None:
    """Write a zip archive of one .npy per column, uncompressed as by numpy.savez; the metadata has shape ()."""
    text = np.array(json.dumps(metadata, allow_nan=False))
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        _write_npy(archive, METADATA_NAME, text.dtype.str, (), [text])
        for name, (dtype, shape) in shapes.items():
            _write_npy(archive, name, dtype, shape, (part[name] for part in rows([name])))


def _write_npy(
    archive: zipfile.ZipFile, name: str, dtype: str, shape: tuple[int, ...], parts: Iterable[NDArray[Any]]
) -> None:
    # a ZipInfo without a date, so that the same features make the same file
    with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
        header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_2_0(member, header)  # type: ignore[arg-type,unused-ignore]
        for part in parts:
            member.write(_little_endian(part))


def _write_parquet(file: BinaryIO, rows: Rows, shapes: Shapes, metadata: Any) -> None:
    """Write a table with a column `path` instead of `video`; arrays become (nested) lists of fixed length."""
    import pyarrow as pa
    from pyarrow import parquet

    # Parquet requires UTF-8. A video with another name has no rows
    paths = [name if is_utf8(name) else "" for name in metadata["paths"]]
    names = [name for name in shapes if name != "video"]
    schema = arrow_schema(shapes, metadata)
    with parquet.ParquetWriter(file, schema, use_dictionary=["path"]) as writer:
        for part in _in_groups(rows(list(shapes))):
            columns = [pa.array([paths[i] for i in part["video"]], pa.string())]
            columns += [arrow_array(part[name]) for name in names]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))


def arrow_schema(shapes: Shapes, metadata: Any) -> Any:
    """Return the pyarrow schema of rows of features: `path` instead of `video`, and lists of fixed length for arrays.

    Args:
        shapes, metadata: see `write_features`.
    """
    import pyarrow as pa

    fields = [pa.field("path", pa.string())]
    for name, (dtype, (_, *inner)) in shapes.items():
        if name != "video":
            arrow_type = pa.from_numpy_dtype(np.dtype(dtype))
            for length in reversed(inner):
                arrow_type = pa.list_(arrow_type, length)
            fields.append(pa.field(name, arrow_type))
    return pa.schema(fields, metadata={METADATA_NAME: json.dumps(metadata, allow_nan=False)})


def arrow_array(values: NDArray[Any]) -> Any:
    """Return an array (N, ...) as a pyarrow array of N numbers, or of N (nested) lists."""
    import pyarrow as pa

    array = pa.array(values.ravel())
    for length in reversed(values.shape[1:]):
        array = pa.FixedSizeListArray.from_arrays(array, length)
    return array


def _in_groups(parts: Iterable[Columns]) -> Iterator[Columns]:
    """Yield the same rows in parts of 1024; the last part may be shorter."""
    held: list[Columns] = []
    count = 0
    for part in parts:
        held.append(part)
        count += len(part["video"])
        if count >= _ROWS_PER_GROUP:
            joined = {name: np.concatenate([columns[name] for columns in held]) for name in part}
            for start in range(0, count - _ROWS_PER_GROUP + 1, _ROWS_PER_GROUP):
                yield {name: column[start : start + _ROWS_PER_GROUP] for name, column in joined.items()}
            count %= _ROWS_PER_GROUP
            held = [{name: column[len(column) - count :] for name, column in joined.items()}]
    if count:
        yield {name: np.concatenate([columns[name] for columns in held]) for name in held[0]}


def _little_endian(array: NDArray[Any]) -> bytes:
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes()


_WRITERS = {".parquet": _write_parquet, ".npz": _write_npz, ".safetensors": _write_safetensors}
