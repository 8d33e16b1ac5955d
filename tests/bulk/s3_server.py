"""An S3 server for tests: moto's, in a process of its own, on a free port of this machine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress

KEYS = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests"}

# moto looks whether an object exists and then writes it, in as many threads as there are requests: of two conditional
# writes at the same moment both could win. So this server writes one object at a time. It ends when its standard input
# is closed, also if the tests are killed.
_CODE = """
import logging, os, sys, threading
from moto.s3.responses import S3Response
from moto.server import main

logging.getLogger("werkzeug").setLevel(logging.ERROR)
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
lock, put_object = threading.Lock(), S3Response.put_object

def put_one(self):
    with lock:
        return put_object(self)

S3Response.put_object = put_one
main(sys.argv[1:])
"""


class S3Server:
    """A running server, without data.

    Attributes:
        port: port on 127.0.0.1.
        environment: environment variables with which LanceDB, obstore and boto3 use this server.
    """

    def __init__(self) -> None:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port: int = found.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {
            **KEYS, "AWS_ENDPOINT_URL": self.url, "AWS_ENDPOINT": self.url, "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1", "AWS_ALLOW_HTTP": "true", "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost",
        }  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CODE, "-H", "127.0.0.1", "-p", str(self.port)],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, **KEYS},
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.close()
                raise RuntimeError(f"the S3 server for tests didn't start (exit status {self._process.returncode}).")
            time.sleep(0.05)

    @property
    def pid(self) -> int:
        """The server's process."""
        return self._process.pid

    def bucket(self, name: str) -> str:
        """Make a bucket, and return its address: `s3://name`."""
        self._request("PUT", f"/{name}")
        return f"s3://{name}"

    def stop(self) -> None:
        """Stop answering (SIGSTOP): connections are accepted, and nothing is said."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Answer again, the waiting requests too."""
        os.kill(self.pid, signal.SIGCONT)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Stop answering within the block."""
        self.stop()
        try:
            yield
        finally:
            self.go_on()

    @contextmanager
    def checking_credentials(self) -> Iterator[None]:
        """Refuse every key within the block: no user has been made."""
        self._request("POST", "/moto-api/reset-auth", b"0")
        try:
            yield
        finally:
            self._request("POST", "/moto-api/reset-auth", b"inf")

    def close(self) -> None:
        """End the server."""
        self._process.kill()  # also ends a stopped process
        self._process.wait()
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()

    def _answers(self) -> bool:
        try:
            self._request("GET", "/moto-api/")
        except (OSError, urllib.error.URLError):
            return False
        return True

    def _request(self, method: str, path: str, data: bytes | None = None) -> None:
        request = urllib.request.Request(
            self.url + path, data=data, method=method, headers={"Content-Type": "text/plain"}
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        opener.open(request, timeout=30).close()
