"""Read members of a tar file by position, from an index of the archive that is made once.

Nothing is ever extracted, so the names in an archive can do no harm. Members that aren't plain files, such as links and
devices, are skipped.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tarfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from openxclip.common.files import atomic_file, cache_folder, reason_of
from openxclip.datasets.files import has_video_suffix
from openxclip.datasets.text import DatasetError
from openxclip.errors import VideoError
from openxclip.video.sniffing import is_hidden

#: Suffixes of the files beside a video that describe it.
TEXT_SUFFIXES = (".cls", ".txt", ".json")
_MAX_TEXT_BYTES = 1 << 20
_VERSION = 1
_SEPARATOR = re.compile(r"(?i)(?<=\.tar)::")


@dataclass(frozen=True)
class TarIndex:
    """The contents of an archive.

    Attributes:
        videos: offset and size in bytes of each video, by member name.
        texts: contents of the small files beside the videos (see `TEXT_SUFFIXES`), by member name.
        problems: messages about skipped members, without the archive's name, which may change.
    """

    videos: dict[str, tuple[int, int]]
    texts: dict[str, str]
    problems: tuple[str, ...] = ()


def split_source(source: str) -> tuple[Path, str] | None:
    """Split "ARCHIVE.tar::MEMBER" into archive and member; return None for a plain path."""
    parts = _SEPARATOR.split(source, maxsplit=1)
    return (Path(parts[0]), parts[1]) if len(parts) == 2 else None


def tar_index(archive: Path) -> TarIndex:
    """Return the index of an archive: from memory, from its file or by reading the archive.

    The index file is beside the archive or, if it can't be written there, in the user's cache. A new index is made when
    the archive's size or modification time has changed.

    Raises:
        DatasetError: the archive can't be read, or is compressed, truncated or damaged.
    """
    try:
        status = archive.stat()
    except (OSError, ValueError) as error:
        raise DatasetError(f"{archive}: can't be read: {reason_of(error)}.") from error
    return _load_index(str(archive), status.st_size, status.st_mtime_ns)


def read_member(archive: Path, member: str) -> bytes:
    """Return the bytes of a video in an archive.

    Raises:
        VideoError: the archive or the member doesn't exist or can't be read.
    """
    offset, size = _position(archive, member)
    try:
        with archive.open("rb") as file:
            file.seek(offset)
            data = file.read(size)
    except OSError as error:
        raise VideoError(f"{archive}::{member}", f"it cannot be read: {reason_of(error)}") from error
    if len(data) < size:
        raise VideoError(f"{archive}::{member}", "the archive ends before it does: copy or download it again")
    return data


def member_size(archive: Path, member: str) -> int:
    """Return the size of a video in an archive in bytes; raise the errors of `read_member`."""
    return _position(archive, member)[1]


def _position(archive: Path, member: str) -> tuple[int, int]:
    try:
        return tar_index(archive).videos[member]
    except DatasetError as error:
        raise VideoError(f"{archive}::{member}", str(error)) from error
    except KeyError:
        raise VideoError(f"{archive}::{member}", "there is no such video in the archive") from None


@lru_cache(maxsize=256)
def _load_index(archive: str, size: int, modified_ns: int) -> TarIndex:
    stamp = {"version": _VERSION, "size": size, "mtime_ns": modified_ns}
    digest = hashlib.sha256(os.fsencode(os.path.abspath(archive))).hexdigest()[:32]  # noqa: PTH100 (keeps links)
    paths = [Path(f"{archive}.index.json"), cache_folder("tars") / f"{digest}.json"]
    for path in paths:
        index = _read_index(path, stamp)
        if index is not None:
            return index
    index = _scan_archive(Path(archive))
    for path in paths:
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(path) as partial:
                partial.write_text(json.dumps({**stamp, **asdict(index)}), encoding="ascii")
            break
    return index


def _read_index(path: Path, stamp: dict[str, int]) -> TarIndex | None:
    """Read an index file; return None if it is damaged, of another archive, or points outside the archive."""
    try:
        content = json.loads(path.read_bytes())
        if any(content[key] != value for key, value in stamp.items()):
            return None
        videos = {str(name): (int(offset), int(size)) for name, (offset, size) in content["videos"].items()}
        texts = {str(name): str(text) for name, text in content["texts"].items()}
        problems = tuple(map(str, content["problems"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    if any(offset < 0 or size < 0 or offset + size > stamp["size"] for offset, size in videos.values()):
        return None
    return TarIndex(videos, texts, problems)


def _scan_archive(archive: Path) -> TarIndex:
    """Make the index of an archive by reading it from beginning to end."""
    videos: dict[str, tuple[int, int]] = {}
    texts: dict[str, str] = {}
    problems: list[str] = []
    last_offset = -1
    try:
        with tarfile.open(archive, "r:") as tar:
            for member in tar:
                if member.offset_data <= last_offset:  # a negative size, which would make tarfile loop forever
                    raise tarfile.ReadError(f"{member.name!r} has a negative offset from the previous member")
                last_offset = member.offset_data
                name = PurePosixPath(member.name)
                is_video = has_video_suffix(name)
                if member.isdir() or is_hidden(name.name) or not (is_video or name.suffix.lower() in TEXT_SUFFIXES):
                    continue
                if not member.isreg() or member.issparse():
                    problems.append(f"{member.name}: left out, since it is not a plain file")
                elif is_video:
                    videos[member.name] = (member.offset_data, member.size)
                elif member.size > _MAX_TEXT_BYTES:
                    problems.append(f"{member.name}: left out, since it has {member.size} bytes: too many for a text")
                else:
                    opened = tar.extractfile(member)
                    assert opened is not None  # it is a plain file
                    texts[member.name] = _decode(opened.read(), f"{archive}::{member.name}")
            end = tar.offset
        with archive.open("rb") as file:
            file.seek(end)
            trailer = file.read(tarfile.BLOCKSIZE)
        if any(trailer):  # tarfile takes a damaged header for the end of the archive
            raise tarfile.ReadError(f"there is no valid header at byte {end}")
        if not trailer:
            problems.append("has no end-of-archive block: it may be truncated")
    except DatasetError:
        raise
    except (tarfile.TarError, OSError, ValueError, EOFError, OverflowError) as error:
        raise DatasetError(
            f"{archive}: is not a complete, uncompressed tar file ({reason_of(error)}): "
            "decompress it (gunzip, unzstd) or copy it again."
        ) from error
    return TarIndex(videos, texts, tuple(problems))


def _decode(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise DatasetError(f"{name}: is not text in UTF-8.") from error
