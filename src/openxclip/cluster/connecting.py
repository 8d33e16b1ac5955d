"""Connect to a Ray cluster, and check that every machine of it runs the same versions as this process."""

from __future__ import annotations

import logging
import os
import platform
import re
import signal
import socket
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from openxclip._version import __version__
from openxclip.common.files import reason_of
from openxclip.errors import ClusterError, needs_package

_CONNECT_S = 10.0
_PROBE_S = 2.0
_HEAD_LOST_S = 40.0  # Ray ends processes that can't reach the head for 60 s
_ANSWER_S = 60.0  # how long a machine may take to say which versions it has


@dataclass(frozen=True)
class Node:
    """One machine of a cluster.

    Attributes:
        id: Ray's id of the node.
        name: its host name, and its address.
        cores: CPU cores that Ray may give away there.
        gpus: GPUs that Ray may give away there.
    """

    id: str
    name: str
    cores: float
    gpus: float


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Connect to a cluster for a block of code, and yield the module `ray`.

    Usage statistics are never sent: they are turned off before Ray is imported.

    Args:
        address: "auto" for the cluster that RAY_ADDRESS names or that runs on this machine, "local" to start one on
            this machine for the block, or the host and port of a cluster's head.

    Raises:
        MissingPackageError: Ray isn't installed.
        ClusterError: there is no cluster at the address, or it runs another version of Ray or Python, or it fails
            during the block.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what newer versions do; it warns otherwise
    if "://" in address and not address.startswith("local"):
        raise ClusterError(
            f"{address}: must be auto, local, or HOST:PORT of the head of the cluster; run the command on a machine "
            "that reaches the other machines."
        )
    with needs_package("a cluster", "ray", "cluster"):
        import ray
    if ray.is_initialized():
        yield ray
        return
    _check_answers(ray, address)
    before = signal.getsignal(signal.SIGTERM)
    local: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
    try:
        with warnings.catch_warnings():
            # Ray starts its processes by fork and exec, of which LanceDB and others warn if they are loaded already
            warnings.filterwarnings("ignore", message=".*fork")
            ray.init(
                address=address,
                namespace="openxclip",
                log_to_driver=False,  # the workers return their errors
                logging_level=logging.ERROR,
                configure_logging=True,
                **local,
            )
    except (ConnectionError, RuntimeError, ValueError, TimeoutError, ray.exceptions.RayError) as error:
        raise ClusterError(_reason(address, error)) from error
    try:
        _restore(before)
        _silence(ray)
        yield ray
    except ray.exceptions.RayError as error:  # those of workers are handled where they occur
        raise ClusterError(f"the cluster at {address} failed: {_first_line(error)}") from error
    finally:
        ray.shutdown()
        _restore(before)


def _restore(handler: Any) -> None:
    """Set the handler of SIGTERM again, which Ray replaces; only the main thread may."""
    try:
        signal.signal(signal.SIGTERM, handler)
    except ValueError:
        return


def _check_answers(ray: Any, address: str) -> None:
    """Check that something answers at an address, which Ray would try for minutes.

    Raises:
        ClusterError: nothing does.
    """
    if address == "local":
        return
    found: str | None = address
    if address == "auto":
        found = os.environ.get("RAY_ADDRESS")
        with suppress(AttributeError):  # a version that looks for clusters in another way
            found = ray._private.services.canonicalize_bootstrap_address("auto")
        if found in (None, "", "auto"):
            raise ClusterError(_no_cluster(address))
    assert found is not None
    try:
        _reach(found, _CONNECT_S)
    except (OSError, ValueError) as error:
        host = found.rpartition(":")[0]
        reason = f"there is no host {host}" if isinstance(error, socket.gaierror) else reason_of(error)
        raise ClusterError(f"{_no_cluster(found)} ({reason}.)") from error


def _reach(address: str, seconds: float) -> None:
    """Connect to HOST:PORT and hang up.

    Raises:
        OSError: nothing answers there in time.
        ValueError: the port is no number.
    """
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=seconds).close()


def _no_cluster(address: str) -> str:
    where = "on this machine, and RAY_ADDRESS names none" if address == "auto" else f"at {address}"
    return (
        f"there is no Ray cluster {where}: start one with `ray start --head`, give its HOST:PORT, or --cluster local "
        "to use the cores of this machine."
    )


def _silence(ray: Any) -> None:
    """Keep Ray from printing a page for each process that ends; the run says in one line what becomes of its videos."""
    if hasattr(ray._private.worker, "print_to_stdstream"):
        ray._private.worker.print_to_stdstream = lambda *_, **__: None


def _reason(address: str, error: BaseException) -> str:
    text = str(error)
    versions = re.findall(r"^\s*(Ray|Python): (\S+)", text, flags=re.MULTILINE)
    if "ersion mismatch" in text and len(versions) >= 4:
        cluster, own = (
            ", ".join(f"{name} {version}" for name, version in part) for part in (versions[:2], versions[2:4])
        )
        return (
            f"the cluster at {address} runs {cluster}, but this command {own}: use the same versions on all machines."
        )
    if isinstance(error, ConnectionError | TimeoutError) or "authentication" in text.lower():
        return (
            f"what runs at {address} doesn't accept this command: it is no Ray cluster, or wants a token: set "
            "RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or ~/.ray/auth_token as on its head."
        )
    return f"the cluster at {address} can't be used: {text.strip().splitlines()[0] if text.strip() else error!r}"


class Head:
    """The head of a cluster, whose death ends this process: Ray ends it after a minute, without an error to handle.

    Args:
        ray: the module, connected to the cluster.
        say: called with messages for the user.
    """

    def __init__(self, ray: Any, say: Callable[[str], object]) -> None:
        self._address, self._say = str(ray.get_runtime_context().gcs_address), say
        self._lost_at: float | None = None

    def answers(self) -> bool:
        """Return whether the head can be asked now, without Ray, whose calls wait for it.

        Raises:
            ClusterError: it hasn't answered for most of a minute.
        """
        try:
            _reach(self._address, _PROBE_S)
        except OSError as error:
            now = time.monotonic()
            if self._lost_at is None:
                self._lost_at = now
                self._say(f"the head of the cluster at {self._address} doesn't answer ({reason_of(error)}): waiting.")
            if now >= self._lost_at + _HEAD_LOST_S:
                raise ClusterError(
                    f"the head of the cluster at {self._address} was lost. What is done is kept: start a cluster, and "
                    "run the same command to resume."
                ) from error
            return False
        self._lost_at = None
        return True


def nodes(ray: Any) -> list[Node]:
    """Return the machines that are part of the cluster now."""
    found = []
    for node in ray.nodes():
        if node["Alive"]:
            resources = node.get("Resources", {})
            name = f"{node.get('NodeManagerHostname', '?')} ({node.get('NodeManagerAddress', '?')})"
            found.append(Node(node["NodeID"], name, resources.get("CPU", 0.0), resources.get("GPU", 0.0)))
    return found


def check_node(ray: Any, node: Node) -> str:
    """Return what is wrong with a machine: another version, or no openxclip; "" if nothing is.

    The check runs there without a core of its own.

    Raises:
        ClusterError: the machine doesn't run the check; perhaps it was lost, or the process of the check was killed.
    """

    def versions() -> tuple[str, str]:  # sent as code, because the machine may lack openxclip
        import platform

        try:
            from openxclip._version import __version__ as version
        except ImportError:
            version = ""
        return platform.python_version(), version

    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(node.id, soft=False)
    asked = ray.remote(versions).options(num_cpus=0, max_retries=0, scheduling_strategy=there).remote()
    try:
        python, package = ray.get(asked, timeout=_ANSWER_S)
    except Exception as error:  # a lost machine, or one that can't start a process
        ray.cancel(asked, force=True)
        raise ClusterError(f"{node.name} doesn't run tasks: {_first_line(error)}") from error
    own = platform.python_version()
    if python != own:
        return f"{node.name} runs Python {python}, but this command {own}: use the same version on all machines."
    if not package:
        return f"{node.name} has no openxclip: install openxclip[cluster]=={__version__} there."
    if package != __version__:
        return (
            f"{node.name} has openxclip {package}, but this command is {__version__}: use the same version on all "
            "machines."
        )
    return ""


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
