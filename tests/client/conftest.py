"""A server with an index of the samples, which the slow tests of this folder ask."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from serving import SAMPLES, Server, running

from openxclip import Client


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("server"), "--root", SAMPLES) as server:
        with Client(server.url) as client:
            done = client.wait(client.index.add("samples"))
            assert done.state == "done"
            assert client.index.info().videos == 6
        yield server
