"""Receipts: what a worker has written into a store, so that any process can commit it later."""

from __future__ import annotations

import json
import math
import secrets
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from openxclip.common.files import without_nan
from openxclip.search.bulk.failures import Failure
from openxclip.search.bulk.objects import Objects
from openxclip.search.schema import VideoRow

FOLDER = "_receipts"


def new_id() -> str:
    """Return the id of a new receipt; ids sort by time."""
    return f"{time.time_ns():020d}-{secrets.token_hex(6)}"


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What came of some videos. It is written after all fragments that it names, and deleted after their commit.

    Attributes:
        id: its name.
        weights: SHA-256 of the weights of the model that encoded the videos.
        options: the index's settings as JSON, see `openxclip.search.bulk.rows.encoding_options`.
        fragments: metadata of the fragments of windows that aren't committed, as pylance's JSON.
        videos: rows of the videos whose windows are in the fragments ("complete"), and of those that can't be read
            ("failed").
        failures: dead letters: why videos failed.
        node: name of the machine.
        columns: names of the metadata columns of the fragments.
        unchanged: rows of videos that the index has already: the content is the same, but the file has another time.
        created: seconds since 1970, by the clock of that machine.
    """

    id: str
    weights: str
    options: str
    fragments: list[str]
    videos: list[VideoRow]
    failures: list[Failure]
    node: str
    columns: list[str] = field(default_factory=list)
    unchanged: list[VideoRow] = field(default_factory=list)
    created: float = field(default_factory=time.time)

    @property
    def name(self) -> str:
        """Name of its object, below the place of the index."""
        return f"{FOLDER}/{self.id}.json"

    @property
    def complete(self) -> list[VideoRow]:
        """The videos that could be read."""
        return [row for row in self.videos if row.state != "failed"]

    @property
    def paths(self) -> set[str]:
        """The paths of all its videos."""
        return {*(row.path for row in (*self.videos, *self.unchanged)), *(failure.path for failure in self.failures)}

    def to_json(self) -> bytes:
        """Return the receipt as JSON."""
        values = {**asdict(self), "fragments": [json.loads(fragment) for fragment in self.fragments]}
        return json.dumps(without_nan(values), allow_nan=False).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Receipt:
        """Read a receipt.

        Raises:
            ValueError: it is damaged, or written by another version.
        """
        try:
            values: dict[str, Any] = json.loads(content)
            values["fragments"] = [json.dumps(fragment) for fragment in values["fragments"]]
            for name in ("videos", "unchanged"):
                values[name] = [_video(row) for row in values[name]]
            values["failures"] = [Failure(**failure) for failure in values["failures"]]
            return cls(**values)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"the receipt can't be understood: {error}") from error

    def put(self, objects: Objects) -> None:
        """Write the receipt into the store of an index; from then on its windows aren't lost."""
        objects.put(self.name, self.to_json())

    @classmethod
    def list(cls, objects: Objects) -> Iterator[Receipt]:
        """Yield the receipts that wait in the store of an index, the oldest first; damaged ones are left out."""
        for name in waiting(objects):
            receipt = cls.read(objects, name)
            if receipt is not None:
                yield receipt

    @classmethod
    def read(cls, objects: Objects, name: str) -> Receipt | None:
        """Read a receipt; None if it was deleted meanwhile or is damaged."""
        found = objects.get(name)
        if found is None:
            return None
        try:
            return cls.from_json(found[0])
        except ValueError:
            return None

    @staticmethod
    def delete(objects: Objects, receipts: Iterable[Receipt]) -> None:
        """Delete receipts; those that were never written, or are deleted already, are no error."""
        objects.delete(receipt.name for receipt in receipts)


def waiting(objects: Objects) -> Iterator[str]:
    """Yield the names of the receipts in a store, the oldest first."""
    for info in objects.list(FOLDER):
        if info.name.endswith(".json"):
            yield info.name


def _video(values: dict[str, Any]) -> VideoRow:
    duration = values.pop("duration")
    return VideoRow(duration=math.nan if duration is None else duration, **values)
