"""A server with the samples, which the slow tests of this folder ask."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from serving import SAMPLES, Server, running

from openxclip import Client


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("server"), "--root", SAMPLES) as server:
        with Client(server.url) as client:
            client.embed_texts(["a cat"])  # the model is loaded now, which tests of memory take for granted
        yield server
