"""Connect to the database of an index, in a folder or in an object store."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from openxclip.common.files import is_utf8
from openxclip.errors import needs_package
from openxclip.search.store_errors import is_remote

PATIENCE_S = 30.0  # of somebody who waits for a search
_TRIES = 6  # LanceDB itself repeats a request that isn't answered, up to six times in all
_CONNECT_S, _READ_S = 5.0, 30.0  # the longest times for a connection, and between two parts of an answer


def connector(uri: str, options: dict[str, str]) -> Callable[..., Any]:
    """Return the function that connects to a database, after checking that it can be used.

    Args:
        uri: a folder, or another place that LanceDB takes.
        options: see `storage_options`.

    Raises:
        MissingPackageError: LanceDB isn't installed, or is too old.
        ValueError: the name is empty or not valid UTF-8.
    """
    with needs_package("an index", "pyarrow", "search"):
        import pyarrow  # noqa: F401
    with needs_package("an index", "lancedb", "search"):
        import lancedb
        from lancedb.index import IvfSq  # noqa: F401 (old versions of LanceDB lack it)

        if not hasattr(lancedb.DBConnection, "list_tables"):
            raise ImportError(f"version {lancedb.__version__} is too old")
    if not uri or uri.startswith("memory:"):
        raise ValueError(f"{uri!r}: give a folder or an object store to keep the index in.")
    if not is_utf8(uri):
        raise ValueError(f"{uri!r}: the name of an index must be valid UTF-8.")
    return partial(lancedb.connect, storage_options=options) if options else lancedb.connect


def storage_options(uri: str, patience: float = PATIENCE_S) -> dict[str, str]:
    """Return the options with which Lance gives up on an object store that doesn't answer; {} for a folder.

    Credentials and endpoints aren't among them: Lance takes them from the environment.

    Args:
        uri: place of an index.
        patience: about how long one call may wait, in seconds.
    """
    if not is_remote(uri):
        return {}
    wait = min(_READ_S, max(0.5, patience / _TRIES))
    return {
        "connect_timeout": f"{min(_CONNECT_S, wait)}s",
        "read_timeout": f"{wait}s",
        "timeout": "1h",  # of a whole answer, whose parts arrive
        "client_retry_timeout": str(max(1, round(patience / _TRIES))),
    }
