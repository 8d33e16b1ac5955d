"""Random access to the members of a tar file: an index of where each lies, made once, and reading by it.

Nothing is ever extracted, so that names in the archive are only names; what isn't a plain file in it (links, devices)
is passed over.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tarfile
import uuid
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from openxclip.common.files import cache_folder, reason_of
from openxclip.datasets.files import is_video
from openxclip.datasets.samples import DatasetError
from openxclip.errors import VideoError
from openxclip.video.looking import is_hidden

#: Suffixes of what tells about a video, beside it in the archive.
TEXT_SUFFIXES = (".cls", ".txt", ".json")
_MOST_TEXT_BYTES = 1 << 20
_VERSION = 1


@dataclass(frozen=True)
class TarIndex:
    """What is in an archive.

    Attributes:
        videos: by member, where its bytes begin, and how many there are.
        texts: by member, what small files beside the videos say (see `TEXT_SUFFIXES`).
        problems: what was passed over, in words, without the archive's name, which may change.
    """

    videos: dict[str, tuple[int, int]]
    texts: dict[str, str]
    problems: tuple[str, ...] = ()


def tar_index(archive: Path) -> TarIndex:
    """The index of an archive: kept in memory, else beside it or in the user's cache, else made and put there.

    An index is of the archive as it was: with another size or time of change of the archive it is made again.

    Raises:
        DatasetError: the archive can't be read, is compressed, cut off or damaged.
    """
    try:
        status = archive.stat()
    except (OSError, ValueError) as error:
        raise DatasetError(f"{archive}: can't be read: {getattr(error, 'strerror', None) or error}.") from error
    return _index_of(str(archive), status.st_size, status.st_mtime_ns)


def read_bytes(archive: Path, member: str) -> bytes:
    """The bytes of a video in an archive.

    Raises:
        VideoError: it isn't there, or can't be read.
    """
    offset, size = _place(archive, member)
    try:
        with archive.open("rb") as file:
            file.seek(offset)
            data = file.read(size)
    except OSError as error:
        raise VideoError(f"{archive}::{member}", f"it cannot be read: {error.strerror or error}") from error
    if len(data) < size:
        raise VideoError(f"{archive}::{member}", "the archive ends before it does: copy or download it again")
    return data


def size_in_bytes(archive: Path, member: str) -> int:
    """How large a video in an archive is; errors are those of `read_bytes`."""
    return _place(archive, member)[1]


def _place(archive: Path, member: str) -> tuple[int, int]:
    try:
        return tar_index(archive).videos[member]
    except DatasetError as error:
        raise VideoError(f"{archive}::{member}", str(error)) from error
    except KeyError:
        raise VideoError(f"{archive}::{member}", "there is no such video in the archive") from None


@lru_cache(maxsize=256)
def _index_of(archive: str, size: int, changed_ns: int) -> TarIndex:
    stamp = {"version": _VERSION, "size": size, "mtime_ns": changed_ns}
    places = [Path(f"{archive}.index.json"), cache_folder("tars") / f"{_digest(archive)}.json"]
    for place in places:
        index = _read_index(place, stamp)
        if index is not None:
            return index
    index = _made_index(Path(archive))
    for place in places:
        with contextlib.suppress(OSError):
            place.parent.mkdir(parents=True, exist_ok=True)
            beside = place.with_name(f".{place.name}.{uuid.uuid4().hex}")
            try:
                beside.write_text(json.dumps({**stamp, **asdict(index)}), encoding="ascii")
                beside.replace(place)
            finally:
                beside.unlink(missing_ok=True)
            break
    return index


def _read_index(path: Path, stamp: dict[str, int]) -> TarIndex | None:
    """The index in a file, if it is one of the archive as it is; what it says is believed only within the archive."""
    try:
        found = json.loads(path.read_bytes())
        if any(found[key] != value for key, value in stamp.items()):
            return None
        videos = {str(name): (int(offset), int(size)) for name, (offset, size) in found["videos"].items()}
        texts = {str(name): str(text) for name, text in found["texts"].items()}
        problems = tuple(map(str, found["problems"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    if any(offset < 0 or size < 0 or offset + size > stamp["size"] for offset, size in videos.values()):
        return None
    return TarIndex(videos, texts, problems)


def _made_index(archive: Path) -> TarIndex:
    videos: dict[str, tuple[int, int]] = {}
    texts: dict[str, str] = {}
    problems: list[str] = []
    last = -1
    try:
        with tarfile.open(archive, "r:") as tar:
            for member in tar:
                if member.offset_data <= last:  # a size below 0, which would lead round in circles
                    raise tarfile.ReadError(f"{member.name!r} would come before what is before it")
                last = member.offset_data
                name = PurePosixPath(member.name)
                suffix = name.suffix.lower()
                if member.isdir() or is_hidden(name.name) or not (is_video(name) or suffix in TEXT_SUFFIXES):
                    continue
                if not member.isreg() or member.issparse():
                    problems.append(f"{member.name}: is not a plain file, and left out")
                elif is_video(name):
                    videos[member.name] = (member.offset_data, member.size)
                elif member.size > _MOST_TEXT_BYTES:
                    problems.append(f"{member.name}: has {member.size} bytes, which is no label or caption")
                else:
                    opened = tar.extractfile(member)
                    assert opened is not None  # it is a plain file
                    texts[member.name] = _text(opened.read(), f"{archive}::{member.name}")
            end = tar.offset
        with archive.open("rb") as file:
            file.seek(end)
            rest = file.read(tarfile.BLOCKSIZE)
        if any(rest):  # tarfile takes a damaged header for the end
            raise tarfile.ReadError(f"what comes at byte {end} is no member")
        if not rest:
            problems.append("has no mark at its end: it may have been cut off")
    except DatasetError:
        raise
    except (tarfile.TarError, OSError, ValueError, EOFError, OverflowError) as error:
        raise DatasetError(
            f"{archive}: is not a whole tar file without compression ({reason_of(error)}): "
            "unpack it if it is compressed (gunzip, unzstd), or copy it again."
        ) from error
    return TarIndex(videos, texts, tuple(problems))


def _text(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise DatasetError(f"{name}: is not text in UTF-8.") from error


def _digest(archive: str) -> str:
    return hashlib.sha256(os.fsencode(os.path.abspath(archive))).hexdigest()[:32]  # noqa: PTH100 (as it is called)
