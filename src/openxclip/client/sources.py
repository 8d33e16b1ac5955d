"""How a video is sent to a server."""

from __future__ import annotations

import base64
import mimetypes
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

from openxclip.common.files import cannot_read
from openxclip.errors import VideoError


@dataclass(frozen=True)
class ServerVideo:
    """A video that the server has or can get, in place of a file of this machine: exactly one of these is given.

    Args:
        video: id of a video of the server's collection, such as `FoundMoment.video`.
        path: path of a file below one of the server's roots: absolute, or relative to a root.
        upload: id of an upload.
        url: an address that the server fetches, if it was started with `--allow-urls`.
    """

    video: str | None = None
    path: str | None = None
    upload: str | None = None
    url: str | None = None

    def __post_init__(self) -> None:
        if len(self.as_json()) != 1:
            raise ValueError(f"{self}: give exactly one of video, path, upload and url.")

    def as_json(self) -> dict[str, str]:
        """Return the field of a request that names the video."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: str(value) for name, value in values.items() if value is not None}

    def __str__(self) -> str:
        return next(iter(self.as_json().values()), "no video")


ClientVideo = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | ServerVideo


def as_videos(videos: ClientVideo | Sequence[ClientVideo]) -> list[ClientVideo]:
    """Return videos as a list, with the files that folders and globs of this machine stand for.

    Raises:
        TypeError: one is neither a path, bytes, an open file nor a `ServerVideo`.
    """
    given = list(videos) if isinstance(videos, list | tuple) else [videos]
    for video in given:
        is_file = callable(getattr(video, "read", None))
        if not (is_file or isinstance(video, str | os.PathLike | bytes | bytearray | memoryview | ServerVideo)):
            raise TypeError(
                f"{video!r:.80}: a client takes paths, bytes, open files and ServerVideo, not {type(video).__name__}."
            )
    if all(isinstance(video, ServerVideo) for video in given):
        return given  # type: ignore[return-value]
    from openxclip.video import find_videos  # imports PyAV, which videos of the server don't need

    found: list[ClientVideo] = []
    for video in given:
        found += [video] if isinstance(video, ServerVideo) else find_videos([video])  # type: ignore[list-item,arg-type]
    return found


def video_name(video: ClientVideo) -> str:
    """Return what messages and results call a video, as the library does."""
    if isinstance(video, str | os.PathLike):
        return os.fsdecode(os.fspath(video))
    if isinstance(video, ServerVideo):
        return str(video)
    name = getattr(video, "name", None)
    return name if isinstance(name, str) and name else f"<{type(video).__name__}>"


@contextmanager
def as_part(video: ClientVideo) -> Iterator[tuple[str, Any, str]]:
    """Give a video as the file of a form: its name, an open file or bytes, and the type of its content.

    Raises:
        VideoError: the file can't be read, or is a folder of images, which can't be sent.
    """
    name = video_name(video)
    short = Path(name).name or "video"
    media = mimetypes.guess_type(short)[0] or ""
    if not media.startswith(("video/", "image/")):
        media = "application/octet-stream"
    if not isinstance(video, str | os.PathLike):
        yield short, bytes(video) if isinstance(video, bytearray | memoryview) else video, media
        return
    if Path(name).is_dir():
        raise VideoError(name, "is a folder of images, which can't be sent: make a video of it, or name its files.")
    if "://" in name:
        raise VideoError(name, "is an address: ServerVideo(url=…) lets the server fetch it.")
    try:
        file = Path(name).open("rb")  # noqa: SIM115 (closed below: errors of the request are not the file's)
    except OSError as error:
        raise VideoError(name, cannot_read(name, error).removeprefix(f"{name}: ")) from error
    except ValueError as error:
        raise VideoError(name, "is no name of a file.") from error
    with file:
        yield short, file, media


def as_data_url(video: ClientVideo) -> str:
    """Return a video as a data URL.

    Raises:
        VideoError: the file can't be read.
    """
    with as_part(video) as (_, content, media):
        data = content if isinstance(content, bytes) else content.read()
    kind = media if media.startswith("video/") else "video/mp4"  # the server looks at the content
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
