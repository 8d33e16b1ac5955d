"""The two tables of an index: one row for each video, one row for each window."""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

SCHEMA_VERSION = 2
ABOUT = b"openxclip"  # the key of the schema's metadata under which the index describes itself

State = Literal["reading", "complete", "failed", "removed"]
Kind = Literal["file", "frames"]


@dataclass(frozen=True, kw_only=True)
class VideoRow:
    """One video of an index.

    Writers change an index in steps that each commit one table. A search sees the windows of complete videos only, so
    that it sees all windows of a video or none, whenever a writer is killed:

    1. a row with the state "reading" is added;
    2. windows are added under its id, and `windows` is counted up;
    3. the state becomes "complete"; in the same commit the row that it replaces, if any, becomes "removed";
    4. windows of "removed" rows are deleted, and then the rows.

    Ids are random, so that several machines can write to one index.

    Attributes:
        id: 63 random bits.
        path: absolute path, URL, or the name of frames that were in memory.
        kind: whether `path` names a file (or URL) or frames that were in memory.
        state: see above; "failed" videos could not be read.
        size: of the file in bytes; of a folder of images, of the files in it.
        modified, changed: the file's modification and inode change time, nanoseconds since 1970.
        inode: the file's.
        content: SHA-256 of the file in hexadecimal; empty if it is no regular file.
        options: how its windows were made, as JSON; a resumed run must agree.
        duration: in seconds; NaN if unknown.
        width, height: of the picture in pixels; 0 if unknown.
        windows: how many are in the index.
        reason: why it could not be read.
    """

    id: int
    path: str
    kind: Kind = "file"
    state: State = "reading"
    size: int = 0
    modified: int = 0
    changed: int = 0
    inode: int = 0
    content: str = ""
    options: str = ""
    duration: float = math.nan
    width: int = 0
    height: int = 0
    windows: int = 0
    reason: str = ""

    @property
    def stamp(self) -> tuple[int, int, int, int]:
        """By which a file that was changed is recognised without reading it."""
        return self.size, self.modified, self.changed, self.inode


def sampling_of(about: Mapping[str, Any]) -> Any:
    """How the frames of an index's windows are chosen; where it doesn't say, it was made when they were counted."""
    return about.get("sampling", "frames")


def new_id() -> int:
    """An id for a video that no other writer will choose."""
    return secrets.randbits(63)


def videos_schema() -> Any:
    """Pyarrow's schema of the table of videos."""
    import pyarrow as pa

    kinds = {"int": pa.int64(), "float": pa.float64()}
    return pa.schema(
        [pa.field(field.name, kinds.get(str(field.type), pa.string()), nullable=False) for field in fields(VideoRow)]
    )


def windows_schema(about: Mapping[str, Any], width: int) -> Any:
    """Pyarrow's schema of the table of windows; what the index is of is in its metadata.

    Args:
        about: as JSON has it.
        width: E of the embeddings.
    """
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("video", pa.int64(), nullable=False),
            pa.field("path", pa.string(), nullable=False),
            pa.field("number", pa.int32(), nullable=False),
            pa.field("start", pa.float64(), nullable=False),
            pa.field("end", pa.float64(), nullable=False),
            pa.field("duration", pa.float64(), nullable=False),
            pa.field("size", pa.int64(), nullable=False),
            pa.field("featureless", pa.bool_(), nullable=False),
            pa.field("embedding", pa.list_(pa.float32(), width), nullable=False),
            pa.field("patches", pa.binary()),
        ],
        metadata={ABOUT: json.dumps({**about, "schema": SCHEMA_VERSION}).encode()},
    )


def videos_table(rows: list[VideoRow]) -> Any:
    """Rows as pyarrow's table."""
    import pyarrow as pa

    return pa.Table.from_pylist([asdict(row) for row in rows], schema=videos_schema())
