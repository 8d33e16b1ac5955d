"""Fixtures: a Ray cluster, an S3 server, and the command as a process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ray_cluster import ENVIRONMENT, RayCluster

sys.path.append(str(Path(__file__).parent.parent / "bulk"))  # for the S3 server of those tests

_AMBIENT = ("AWS_", "GOOGLE_", "AZURE_")


@pytest.fixture(scope="session")
def store() -> Iterator[Any]:
    """An S3 server."""
    pytest.importorskip("moto")
    from s3_server import S3Server

    server = S3Server()
    yield server
    server.close()


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[Any]:
    """A cluster of a head and another node, with one core each."""
    pytest.importorskip("ray")
    cluster = RayCluster()
    cluster.add_node()
    yield cluster
    cluster.close()


@pytest.fixture
def environment(store: Any) -> dict[str, str]:
    """The environment of commands: it names the S3 server, and no cluster."""
    own = {name: value for name, value in os.environ.items() if not name.startswith((*_AMBIENT, "RAY_"))}
    return {**own, **ENVIRONMENT, **store.environment, "HF_HUB_OFFLINE": "1"}


@pytest.fixture
def start(environment: dict[str, str]) -> Callable[..., subprocess.Popen[str]]:
    """Starts the command."""

    def run(*arguments: Any, cwd: Path | str = os.sep) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", "from openxclip.cli.main import main; main()", *map(str, arguments)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=cwd,
        )  # fmt: skip

    return run


@pytest.fixture
def command(start: Callable[..., subprocess.Popen[str]]) -> Callable[..., Any]:
    """Runs the command, and returns its exit status and what it printed."""

    def run(*arguments: Any, **how: Any) -> subprocess.CompletedProcess[str]:
        process = start(*arguments, **how)
        out, err = process.communicate(timeout=400)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    return run
