"""What a source of videos is: the videos of a folder, of a prefix in an object store, or of a manifest, in parts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

AT_ONCE = 4096  # videos in one part of a source


@dataclass(frozen=True, slots=True)
class SourceItem:
    """One video of a source.

    Attributes:
        path: absolute path or URL, under which the index has the video.
        size: bytes; 0 if unknown.
        modified: modification time, in nanoseconds since 1970; 0 if unknown.
        etag: the object store's mark of this version of the object; "" if unknown.
        columns: the video's values in the columns of the manifest.
        content: SHA-256 of the version that the index has; "" if it has none.
    """

    path: str
    size: int = 0
    modified: int = 0
    etag: str = ""
    columns: dict[str, Any] = field(default_factory=dict)
    content: str = ""


class Source(ABC):
    """Videos to index, listed in parts, so that memory doesn't grow with their number.

    Attributes:
        count: number of videos; None until it is known.
        notes: sentences about what was left out or changed; complete when `items` has ended.
    """

    def __init__(self) -> None:
        self.count: int | None = None
        self.notes: list[str] = []

    @property
    def columns(self) -> Any:
        """The pyarrow schema of the metadata columns, all nullable; empty if there are none."""
        import pyarrow as pa

        return pa.schema([])

    @abstractmethod
    def items(self) -> Iterator[list[SourceItem]]:
        """Yield the videos in parts of some thousand, from the beginning in each call.

        Raises:
            ValueError: the source can't be listed or understood, or has no videos.
        """

    @abstractmethod
    def describe(self) -> str:
        """Return a few words for what the source is."""


class ListedSource(Source):
    """Videos that another part of the program lists, such as the dead letters of an index.

    Args:
        name: what the source is, for messages.
        parts: starts a list of videos in parts.
    """

    def __init__(self, name: str, parts: Callable[[], Iterator[list[SourceItem]]]) -> None:
        super().__init__()
        self._name, self._parts = name, parts

    def items(self) -> Iterator[list[SourceItem]]:
        """Yield the videos in the parts of the list."""
        yield from (part for part in self._parts() if part)

    def describe(self) -> str:
        """Return the name."""
        return self._name


def in_parts(items: Iterator[SourceItem]) -> Iterator[list[SourceItem]]:
    """Group videos into parts of `AT_ONCE`."""
    part: list[SourceItem] = []
    for item in items:
        part.append(item)
        if len(part) == AT_ONCE:
            yield part
            part = []
    if part:
        yield part
