"""Find out whether a store honours conditional writes, on which every commit depends."""

from __future__ import annotations

import secrets
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier

from openxclip.errors import StoreError
from openxclip.search.bulk.objects import Objects

_WRITERS = 16


def check_conditional_writes(objects: Objects) -> None:
    """Check that of 16 concurrent `create` calls for one object one succeeds, and that `replace` notices a change.

    The object is deleted afterwards.

    Raises:
        StoreError: the store doesn't honour conditional writes, or can't be read or written.
    """
    name = f"_probe-{secrets.token_hex(8)}"
    contents = [f"{name} {number}".encode() for number in range(_WRITERS)]
    start = Barrier(_WRITERS)

    def create(content: bytes) -> bool:
        start.wait()
        return objects.create(name, content)

    try:
        with ThreadPoolExecutor(_WRITERS) as pool:
            is_made = list(pool.map(create, contents))
        found = objects.get(name)
        if sum(is_made) != 1 or found is None or found[0] != contents[is_made.index(True)]:
            raise _refused(objects.uri, f"{sum(is_made)} of {_WRITERS} writers made the same object (If-None-Match: *)")
        changed = objects.replace(name, b"changed", found[1])
        if changed is None or objects.replace(name, b"changed again", found[1]) is not None:
            raise _refused(objects.uri, "it replaced a changed object, or didn't replace an unchanged one (If-Match)")
    finally:
        with suppress(StoreError):
            objects.delete([name])


def _refused(uri: str, seen: str) -> StoreError:
    return StoreError(
        f"{uri}: the store doesn't honour conditional writes: {seen}. An index is committed by them; without them "
        "two writers would overwrite each other's work: use a store that honours them (Amazon S3, Google Cloud "
        "Storage, Azure, MinIO, Cloudflare R2), or index into several folders and search them together."
    )
