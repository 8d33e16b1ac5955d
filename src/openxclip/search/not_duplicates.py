"""Remember which pairs of videos are no duplicates, in a text file in the index's folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from openxclip.common.files import atomic_file, reason_of, user_path
from openxclip.errors import VideoIndexError
from openxclip.search.paths import absolute_path
from openxclip.search.schema import VideoRow

FILE = "not-duplicates.tsv"


class NotDuplicates:
    """The remembered pairs of an index.

    Each line of the file has two paths and the SHA-256 of each file, separated by tabs. The two SHA-256 identify a
    pair, so it remains valid if a file is moved, but not if a file changes. Paths identify files without a SHA-256, and
    the files of a pair whose SHA-256 are equal.

    Args:
        uri: place of the index.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._path = None if "://" in uri else Path(uri) / FILE

    def pairs(self) -> set[frozenset[str]]:
        """Return the pairs as `pair_key` identifies them.

        Raises:
            VideoIndexError: the file is damaged or can't be read.
        """
        return {pair_key((line[0], line[2]), (line[1], line[3])) for line in self._lines()}

    def add(self, pairs: Iterable[tuple[str | Path, str | Path]], videos: Mapping[str, VideoRow]) -> None:
        """Remember pairs of paths.

        Args:
            pairs: pairs of paths to remember.
            videos: rows of the index's videos, by path.

        Raises:
            ValueError: a path isn't in the index or is paired with itself, or the index is in an object store.
            VideoIndexError: the file can't be read or written.
        """
        lines: list[list[str]] = []
        for pair in pairs:
            first, second = (absolute_path(path) for path in pair)
            for path in (first, second):
                if path not in videos:
                    raise ValueError(f"{path}: isn't in the index {self._uri}.")
                if {"\t", "\n"} & set(path):
                    raise ValueError(f"{path!r}: a path with a tab or a line break can't be remembered.")
            if first == second:
                raise ValueError(f"{first}: is paired with itself: two different videos are needed.")
            lines.append([first, second, videos[first].content, videos[second].content])
        if not lines:
            return
        if self._path is None:
            raise ValueError(f"{self._uri}: pairs can be remembered only in a local folder, not in an object store.")
        known = self._lines()
        new = [line for i, line in enumerate(lines) if line not in known and line not in lines[:i]]
        if not new:
            return
        try:
            with atomic_file(self._path) as partial:
                partial.write_text("".join("\t".join(line) + "\n" for line in [*known, *new]), encoding="utf-8")
        except OSError as error:
            raise VideoIndexError(f"{self._path}: can't be written: {reason_of(error)}.") from error

    def _lines(self) -> list[list[str]]:
        if self._path is None:
            return []
        try:
            text = self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as error:
            raise VideoIndexError(f"{self._path}: can't be read: {reason_of(error)}.") from error
        lines = [line.split("\t") for line in text.split("\n") if line.strip()]
        for number, line in enumerate(lines, 1):
            if len(line) != 4:
                raise VideoIndexError(
                    f"{self._path}: line {number} has {len(line)} columns, not 4: correct it, or delete the file."
                )
        return lines


def remember(
    uri: str, pairs: Iterable[tuple[str | Path, str | Path]], videos: Mapping[str, VideoRow]
) -> set[frozenset[str]]:
    """Remember pairs, and return all pairs of the index; see `NotDuplicates`."""
    remembered = NotDuplicates(uri)
    remembered.add(pairs, videos)
    return remembered.pairs()


def pair_key(first: tuple[str, str], second: tuple[str, str]) -> frozenset[str]:
    """Return a key for a pair of videos, each given as its path and SHA-256."""
    if first[1] == second[1]:
        return frozenset((first[0], second[0]))
    return frozenset(f"sha256:{content}" if content else path for path, content in (first, second))


def read_pairs(path: str | Path) -> list[tuple[str, str]]:
    """Read pairs from a file: two paths per line, separated by a tab.

    Raises:
        ValueError: a line has another form, or the file can't be read.
    """
    try:
        text = user_path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it isn't UTF-8"
        raise ValueError(f"{path}: can't be read: {reason}.") from error
    pairs: list[tuple[str, str]] = []
    for number, line in enumerate(text.split("\n"), 1):
        columns = [column.strip() for column in line.split("\t")]
        if columns == [""]:
            continue
        if len(columns) != 2 or not all(columns):
            raise ValueError(f"{path}: line {number} must be two paths with a tab between, not {line!r}.")
        pairs.append((columns[0], columns[1]))
    return pairs
