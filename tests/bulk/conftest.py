"""Fixtures: an S3 server, and the environment that names it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from s3_server import S3Server

_AMBIENT = ("AWS_", "GOOGLE_", "AZURE_")  # prefixes of the environment variables of object stores


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """A server for the whole session: it takes a second to start. Tests use buckets of their own."""
    pytest.importorskip("moto")
    server = S3Server()
    yield server
    server.close()


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The server, named by the environment of this process and of those that it starts."""
    for name in [name for name in os.environ if name.startswith(_AMBIENT)]:
        monkeypatch.delenv(name)
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server
