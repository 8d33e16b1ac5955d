"""A server with a fake engine, shared by tests: its routes take a tenth of a second to build."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving_fakes import VIDEO, make_client
from starlette.testclient import TestClient


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the shared server: films is its root, data its data folder."""
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="session")
def shared_client(home: Path) -> Iterator[TestClient]:
    with make_client(home) as client:
        yield client


@pytest.fixture
def client(shared_client: TestClient, home: Path) -> TestClient:
    """A client of the shared server, which is as new."""
    films = home / "films"
    shutil.rmtree(films)
    films.mkdir()
    (films / "a.mp4").write_bytes(VIDEO)
    state = shared_client.app.state.server
    shutil.rmtree(state.settings.previews, ignore_errors=True)
    shutil.rmtree(state.settings.collection)
    state.settings.collection.mkdir()
    state.visits.end_all()
    state.collection.refresh()
    state.model_info = None
    for part, arguments in (
        (state.engine, ()),
        (state.jobs, ()),
        (state.media, (state.engine, state.settings.previews)),
    ):
        part.__init__(*arguments)
    shared_client.cookies.clear()
    return shared_client
