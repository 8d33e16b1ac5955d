"""Search several indexes as one: for example one for each year of an archive, or on each disk.

The parts are asked at the same time, and their candidates are merged before they are reranked. So the hits are those of
one index of all videos.
"""

from __future__ import annotations

import heapq
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import fields, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from openxclip.errors import VideoIndexError
from openxclip.pipeline import VideoPipeline
from openxclip.search.opening import OpenIndex
from openxclip.search.schema import IndexInfo, VideoRow
from openxclip.search.store import Store

_THREADS = 32  # parts that are asked at the same time; they wait for disks and networks
_MAY_DIFFER = {"model", "openxclip", "patches"}  # in the descriptions of indexes that are searched together
_T = TypeVar("_T")


def open_indexes(
    uri: str | Path | Sequence[str | Path],
    model: str | Path | VideoPipeline | None,
    settings: Mapping[str, Any],
    loading: Mapping[str, Any],
    **options: Any,
) -> OpenIndex:
    """Open one index, or several to search them as one. See `OpenIndex` for the arguments and errors."""
    if isinstance(uri, str | Path):
        return OpenIndex(uri, model, settings, loading, **options)
    return OpenPartitions(uri, model, settings, loading, **options)


class OpenPartitions(OpenIndex):
    """Several indexes that are searched as one, and can't be changed.

    Args:
        uris: places of the indexes.
        model, settings, loading, options: see `OpenIndex`.

    Raises:
        MissingPackageError: LanceDB isn't installed, or is too old.
        ValueError: there is no place, or one twice; or the indexes have different models or settings.
        VideoIndexError: a place holds no index.
    """

    def __init__(
        self,
        uris: Sequence[str | Path],
        model: str | Path | VideoPipeline | None,
        settings: Mapping[str, Any],
        loading: Mapping[str, Any],
        **options: Any,
    ) -> None:
        if not uris:
            raise ValueError("there is no index to open: name one or more.")
        parts = [OpenIndex(uri, model, settings, loading, **options) for uri in uris]
        places = [part.store.uri for part in parts]
        for place in places:
            if places.count(place) > 1:
                raise ValueError(f"{place}: is named {places.count(place)} times: name each index once.")
        self._model, self._pipeline = model, None
        self._settings = {name: value for name, value in settings.items() if value is not None}
        self._loading = {name: value for name, value in loading.items() if value is not None}
        infos = [part.require() for part in parts]
        for place, info in zip(places[1:], infos[1:], strict=True):
            _check_same(places[0], infos[0], place, info)
        self.store = PartitionedStore([part.store for part in parts])
        self.info = replace(infos[0], patches=all(info.patches for info in infos))
        without = [place for place, info in zip(places, infos, strict=True) if not info.patches]
        if without and len(without) < len(places):
            warnings.warn(
                f"{without[0]}: has no patch features, and others of these indexes have: so hits of none are reranked "
                "with prompts, unless rerank= is given.",
                RuntimeWarning,
                stacklevel=4,  # the caller of `VideoIndex.open`
            )

    def refresh(self) -> IndexInfo | None:
        """Load the latest versions and return the description."""
        self.store.refresh()
        return self.info

    def check_model(self) -> None:
        """Refuse to change the indexes."""
        _refuse()

    def require_one(self) -> NoReturn:
        """Refuse what can't be done with several indexes at once."""
        _refuse()


class PartitionedStore(Store):
    """The reading half of a store, over several stores."""

    def __init__(self, parts: Sequence[Store]) -> None:
        self.parts = list(parts)
        self.uri = ", ".join(part.uri for part in parts)
        self._pool = ThreadPoolExecutor(min(len(self.parts), _THREADS), thread_name_prefix="openxclip-part")

    @property
    def folder(self) -> None:
        """None: there are several."""
        return

    @property
    def uris(self) -> list[str]:
        """The places of the parts."""
        return [part.uri for part in self.parts]

    def refresh(self) -> None:
        """Load the latest version of each part."""
        self._of_all(lambda part: part.refresh())

    @contextmanager
    def writing(self, lease: object = None) -> Iterator[None]:
        """Refuse to change the indexes."""
        _refuse()
        yield

    @property
    def windows_schema(self) -> Any:
        """The pyarrow schema of the first part's table of windows, with what the others have besides."""
        import pyarrow as pa

        first, *others = (part.windows_schema for part in self.parts)
        return pa.unify_schemas([first, *(other.remove_metadata() for other in others)])

    def videos(self) -> list[VideoRow]:
        """Return the videos of all parts, in every state; a video with the same id in several parts once."""
        return list({row.id: row for rows in self._of_all(lambda part: part.videos()) for row in rows}.values())

    def has_videos(self) -> bool:
        """Return whether there is any video, in any state."""
        return any(part.has_videos() for part in self.parts)

    def rows_of(self, paths: Sequence[str]) -> list[VideoRow]:
        """Return the videos with these paths, in every state."""
        return [row for rows in self._of_all(lambda part: part.rows_of(paths)) for row in rows]

    def count_windows(self) -> int:
        """Return the number of searchable windows."""
        return sum(self._of_all(lambda part: part.count_windows()))

    def read_windows(self, columns: Sequence[str] | None = None, where: str | None = None) -> Iterator[Any]:
        """Read the searchable windows, one part after the other; see `Store.read_windows`."""
        return chain.from_iterable(part.read_windows(columns, where) for part in self.parts)

    def nearest(self, query_E: NDArray[np.float32], count: int, where: str | None, *, patches: bool) -> list[Any]:
        """Return the windows of all parts that are most similar to a query; see `Store.nearest`."""
        found = self._of_all(lambda part: part.nearest(query_E, count, where, patches=patches))
        merged = heapq.merge(*found, key=lambda row: -row["similarity"])
        return list(islice(_once(merged), count))

    def _of_all(self, ask: Callable[[Store], _T]) -> list[_T]:
        """Ask all parts at the same time, and return their answers in order."""
        return list(self._pool.map(ask, self.parts))


def _once(rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield each window once: a video that two parts have has the same id in both."""
    seen: set[tuple[int, int]] = set()
    for row in rows:
        key = row["video"], row["number"]
        if key not in seen:
            seen.add(key)
            yield row


def _check_same(first_uri: str, first: IndexInfo, uri: str, info: IndexInfo) -> None:
    """Check that the hits of two indexes can be compared.

    Raises:
        ValueError: one of the values differs.
    """
    if info.weights != first.weights:
        raise ValueError(
            f"{uri}: was made with the model {info.model}, and {first_uri} with {first.model}, which has other "
            "weights: features of two models can't be compared."
        )
    for column in fields(IndexInfo):
        own, other = getattr(info, column.name), getattr(first, column.name)
        if column.name not in _MAY_DIFFER and own != other:
            raise ValueError(
                f"{uri}: was made with {column.name}={own}, and {first_uri} with {column.name}={other}: only indexes "
                "of the same settings can be searched together."
            )


def _refuse() -> NoReturn:
    raise VideoIndexError("several indexes that were opened together can only be searched: open the one to change.")
