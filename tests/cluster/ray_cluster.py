"""A Ray cluster for tests: nodes as real processes on this machine, on free ports, which end with the tests."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil

_START_S = 120.0
# Ray's processes get nothing of the test's environment that turns warnings into errors, and no token of the user
ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled", "PYTHONWARNINGS": "ignore"}
# `ray start` as a child that ends when its standard input is closed, also if the tests are killed
_CODE = """
import os, signal, sys, threading

def watch():
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)

threading.Thread(target=watch, daemon=True).start()
from ray.scripts.scripts import main
sys.argv = ["ray", *sys.argv[1:]]
main()
"""


class RayNode:
    """One node of the cluster."""

    def __init__(self, arguments: list[str], environment: dict[str, str]) -> None:
        options = [
            "start", "--block", "--num-cpus=1", "--min-worker-port=0", "--max-worker-port=0",
            "--dashboard-agent-listen-port=0", "--object-store-memory=100000000", "--disable-usage-stats",
        ]  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, "-c", _CODE, *options, *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment,
        )  # fmt: skip

    def actors(self, name: str = "Worker") -> list[psutil.Process]:
        """The processes of actors of a class that run on this node."""
        try:
            below = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        found = []
        for process in below:
            try:
                title = " ".join(process.cmdline())
            except psutil.Error:
                continue
            if title.startswith(f"ray::{name}"):
                found.append(process)
        return found

    def kill(self) -> None:
        """Kill the node with all its processes, as a machine that loses power."""
        try:
            below = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            below = []
        self.process.kill()
        for process in below:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()
        assert self.process.stdin is not None
        self.process.stdin.close()


class RayCluster:
    """A head with one core, and nodes that are added.

    Attributes:
        address: host and port of the head.
        nodes: all nodes, the head first.
    """

    def __init__(self, environment: dict[str, str] | None = None) -> None:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        self.environment = {**os.environ, **ENVIRONMENT, **(environment or {})}
        self._folder = Path(tempfile.mkdtemp(prefix="ray-"))  # short, because the names of sockets are
        head = ["--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={self._folder}"]
        self.nodes = [RayNode(head, self.environment)]
        self._wait(port)

    def add_node(self) -> RayNode:
        """Add a node with one core."""
        node = RayNode([f"--address={self.address}"], self.environment)
        self.nodes.append(node)
        return node

    def kill_a_worker(self) -> bool:
        """Kill the process of one worker, and return whether there was one."""
        for node in self.nodes:
            for actor in node.actors():
                actor.send_signal(signal.SIGKILL)
                return True
        return False

    def close(self) -> None:
        """End all nodes."""
        for node in reversed(self.nodes):
            node.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _wait(self, port: int) -> None:
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            with socket.socket() as tried:
                if tried.connect_ex(("127.0.0.1", port)) == 0:
                    return
            if self.nodes[0].process.poll() is not None:
                break
            time.sleep(0.2)
        self.close()
        raise RuntimeError("the Ray cluster for tests didn't start.")
