"""The schema of an index: a description of the index, a row per video and a row per window."""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from openxclip.errors import VideoIndexError
from openxclip.video.options import Decode
from openxclip.video.sampling import Sampling

SCHEMA_VERSION = 2
WINDOW_COLUMNS = (
    "video", "path", "number", "start", "end", "duration", "size", "featureless", "embedding", "patches",
)  # fmt: skip
INFO_KEY = b"openxclip"  # key of the Arrow schema's metadata that holds the `IndexInfo`

State = Literal["reading", "complete", "failed", "removed"]


@dataclass(frozen=True, kw_only=True)
class IndexInfo:
    """Description of an index, stored as JSON in the metadata of the table of windows.

    Attributes:
        model: name of the model, or the absolute path of its folder; None if the model was never saved.
        weights: SHA-256 of the model's weights.
        transforms: settings of the model's image processor.
        num_frames: frames per window.
        window, stride: length of a window and distance between window starts, in seconds.
        sampling: how the frames of a window are chosen; "frames" in older indexes without this key.
        patches: whether the index stores patch features, which reranking needs.
        decode: which frames were decoded, see `openxclip.video.ReadOptions`; "all" in older indexes without this key.
        openxclip: version of openxclip that created the index.
        schema: version of the schema.
    """

    model: str | None
    weights: str
    transforms: dict[str, Any]
    num_frames: int
    window: float
    stride: float
    sampling: Sampling = "frames"
    patches: bool
    decode: Decode = "all"
    openxclip: str = ""
    schema: int = SCHEMA_VERSION

    @classmethod
    def from_json(cls, text: bytes) -> IndexInfo:
        """Read a description from JSON.

        Raises:
            ValueError: the text isn't JSON, or a required value is missing.
        """
        values = _json_object(text)
        known = {column.name: values[column.name] for column in fields(cls) if column.name in values}
        try:
            return cls(**{"schema": 1, **known})
        except TypeError as error:
            raise ValueError(f"the description of the index is incomplete: {error}") from error

    def to_json(self) -> bytes:
        """Return the description as JSON, with the attribute names as keys."""
        return json.dumps(asdict(self)).encode()


def read_info(metadata: Mapping[bytes, bytes], uri: str) -> IndexInfo:
    """Read the description of an index from the metadata of its table of windows.

    Args:
        metadata: the table's metadata.
        uri: place of the index, for error messages.

    Raises:
        VideoIndexError: there is no description, or the index has another version of the schema.
        ValueError: the description is damaged.
    """
    if INFO_KEY not in metadata:
        raise VideoIndexError(f"{uri}: is a LanceDB that openxclip didn't make.")
    version = _json_object(metadata[INFO_KEY]).get("schema", 1)
    if version != SCHEMA_VERSION:
        age = "a newer" if version > SCHEMA_VERSION else "an older"
        raise VideoIndexError(f"{uri}: was made by {age} version of openxclip: build it again, in another folder.")
    return IndexInfo.from_json(metadata[INFO_KEY])


def _json_object(text: bytes) -> dict[str, Any]:
    values = json.loads(text)
    if not isinstance(values, dict):
        raise ValueError(f"the description of the index is not a JSON object: {text[:40]!r}")
    return values


class FileStamp(NamedTuple):
    """Size, times and inode of a file, which identify its version without reading it; all 0 if there is no file.

    Attributes:
        size: bytes; for a folder of images, the bytes of the files in it.
        modified, changed: modification time and inode change time, nanoseconds since 1970.
        inode: number of the inode, its lowest 63 bits.
    """

    size: int
    modified: int
    changed: int
    inode: int


@dataclass(frozen=True, kw_only=True)
class VideoRow:
    """One video of an index.

    Only the windows of complete videos are searchable. Each step of a change commits one table, in this order, so that
    a search sees all windows of a video or none, even if the writer is killed between two steps:

    1. Add a row with the state "reading".
    2. Add windows under the row's id, and update `windows`.
    3. Set the state to "complete". The same commit sets the state of the replaced row, if any, to "removed".
    4. Delete the windows of "removed" rows, then the rows.

    The id of a video follows from its content (`openxclip.search.bulk.rows.video_id`), so that several machines can
    write to one index, and what is done twice is recognised. Videos from Parquet files have random ids.

    Attributes:
        id: 63 bits.
        path: absolute path, URL, or the name of frames from memory.
        kind: "file" for files and URLs, "frames" for frames from memory.
        state: see above; "failed" if the video could not be read.
        size, modified, changed, inode: see `FileStamp`.
        content: SHA-256 of the file in hexadecimal; "" if it isn't a regular file.
        options: the index's settings as JSON, which must be the same for resuming.
        duration: seconds; NaN if unknown.
        width, height: size of the picture in pixels; 0 if unknown.
        windows: number of windows in the index.
        reason: why the video could not be read.
    """

    id: int = field(default_factory=lambda: secrets.randbits(63))
    path: str
    kind: Literal["file", "frames"] = "file"
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
    def stamp(self) -> FileStamp:
        """Stamp of the file when it was indexed."""
        return FileStamp(self.size, self.modified, self.changed, self.inode)


def videos_schema() -> Any:
    """Return the pyarrow schema of the table of videos."""
    import pyarrow as pa

    kinds = {"int": pa.int64(), "float": pa.float64()}
    columns = {column.name: kinds.get(str(column.type), pa.string()) for column in fields(VideoRow)}
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns.items()])


def windows_schema(info: IndexInfo, width: int) -> Any:
    """Return the pyarrow schema of the table of windows, with `info` in its metadata.

    Args:
        info: description of the index.
        width: E, the size of an embedding.
    """
    import pyarrow as pa

    kinds = {
        "video": pa.int64(), "path": pa.string(), "number": pa.int32(), "start": pa.float64(), "end": pa.float64(),
        "duration": pa.float64(), "size": pa.int64(), "featureless": pa.bool_(),
        "embedding": pa.list_(pa.float32(), width), "patches": pa.binary(),
    }  # fmt: skip
    columns = [pa.field(name, kind, nullable=name == "patches") for name, kind in kinds.items()]
    return pa.schema(columns, metadata={INFO_KEY: info.to_json()})


def embeddings_of(windows: Any) -> NDArray[Any]:
    """Return the embeddings (N, E) of a pyarrow table of N windows."""
    column = windows["embedding"].combine_chunks()
    return np.asarray(column.flatten()).reshape(-1, column.type.list_size)
