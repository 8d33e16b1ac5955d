"""Whether pylance, which writes fragments, fits the Lance inside LanceDB, which reads and compacts them."""

from __future__ import annotations

import re
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from openxclip.errors import VideoIndexError, needs_package

# A manifest is a protobuf message. Its field 13 names its writer: {1: "lance", 2: "13.0.0"}
_WRITER = re.compile(rb"\x6a[\x00-\x7f]\n\x05lance\x12([\x01-\x7f])", re.DOTALL)  # and the length of the version


def import_lance() -> Any:
    """Return pylance's module, after checking that its version fits LanceDB's.

    Raises:
        MissingPackageError: pylance isn't installed.
        VideoIndexError: it has another major version than the Lance inside LanceDB.
    """
    with needs_package("indexing in bulk", "lance", "cluster"):
        import lance
    check_same_major(lance.__version__, inner_version())
    return lance


def check_same_major(own: str, inner: str) -> None:
    """Check that two versions of Lance have the same format of tables.

    Args:
        own: version of pylance.
        inner: version of the Lance inside LanceDB.

    Raises:
        MissingPackageError: the major versions differ.
    """
    major = inner.partition(".")[0]
    if own.partition(".")[0] != major:
        raise VideoIndexError(
            f"pylance {own} doesn't fit the Lance {inner} inside LanceDB: install the same major version: "
            f"pip install 'pylance=={major}.*'."
        )


@cache
def inner_version() -> str:
    """Return the version of the Lance inside LanceDB, which it writes into the manifest of each table.

    Raises:
        VideoIndexError: this LanceDB writes manifests of an unknown form.
    """
    import lancedb
    import pyarrow as pa

    with tempfile.TemporaryDirectory() as folder:
        lancedb.connect(folder).create_table("versions", schema=pa.schema([pa.field("id", pa.int64())]))
        versions = {match for path in Path(folder).rglob("*.manifest") for match in writers(path.read_bytes())}
    if len(versions) != 1:
        raise VideoIndexError(
            f"LanceDB {lancedb.__version__} doesn't say which version of Lance it holds, so pylance can't be chosen to "
            "fit: install the versions of openxclip's constraints.txt."
        )
    return versions.pop()


def writers(manifest: bytes) -> list[str]:
    """Return the versions of Lance that the manifest of a table names as its writer: one."""
    found = [manifest[match.end() : match.end() + match[1][0]] for match in _WRITER.finditer(manifest)]
    return [version.decode() for version in found if re.match(rb"\d+\.\d+\.\d+", version)]
