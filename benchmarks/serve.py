"""Measure `openxclip serve` under load, beside a naive server.

`python benchmarks/serve.py` prints a table and writes benchmarks/serve.json. All is on loopback with mini on a CPU, and
the clients use the same cores. Each request sends one of `samples/*.mp4` with 4 labels to /v1/classify. The loads:

- capacity: 8 clients, each of which sends its next request when the last is answered.
- 200 clients that do the same; one that is refused with 429 waits as long as Retry-After says.
- twice the capacity: requests come at random times, whatever happened to earlier ones. A request that isn't answered
  after `--patience` seconds is given up.

The naive server has the same processes: one that speaks HTTP, one with the model, one that decodes. It hands each
request to `openxclip.classify` at once, without a bound, without keeping labels, and answers in the order in which
requests came.

Both servers run. Each of `--rounds` rounds puts each load on each server for its share of `--seconds`. Goodput is the
number of answers with status 200 a second; at twice the capacity it is also given as a share of the capacity in the
same round, as the median of the rounds. Memory is the proportional set size (PSS) of the server and all its processes,
every second; growth is the median of the last fifth of a load's time, over all rounds, less that of the second fifth.
The cores that other programs used meanwhile ("others") show how far a row can be trusted.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LABELS = ["a cat moves left", "a dog bounces", "an owl vanishes", "a rocket leaves"]
QUERY = "&".join(f"labels={label.replace(' ', '+')}" for label in LABELS)


# --- the naive server ---


def naive_model(connection: Any, model: str) -> None:
    """Answer one request after the other, as the process with the model does."""
    import openxclip

    pipeline = openxclip.VideoPipeline.from_pretrained(model, device="cpu")
    while (request := connection.recv()) is not None:
        path, labels = request
        (result,) = openxclip.classify(path, labels, model=pipeline)
        connection.send(None if result.error else (result.outcome, [row.probability for row in result.labels]))


def naive_app(model: str) -> Any:
    """Return an application with one route."""
    import multiprocessing
    import threading

    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=naive_model, args=(theirs, model))
    lock = threading.Lock()

    @contextlib.asynccontextmanager
    async def lifespan(_: Any) -> Any:
        process.start()
        yield
        ours.send(None)
        process.join()

    def forward(path: str, labels: list[str]) -> Any:
        with lock:
            ours.send((path, labels))
            return ours.recv()

    async def classify(request: Any) -> Any:
        with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
            file.write(await request.body())
            file.flush()
            found = await asyncio.to_thread(forward, file.name, request.query_params.getlist("labels"))
        if found is None:
            return JSONResponse({}, status_code=422)
        return JSONResponse({"outcome": found[0], "probabilities": found[1]})

    return Starlette(routes=[Route("/v1/classify", classify, methods=["POST"])], lifespan=lifespan)


def naive_main(port: int, model: str) -> None:
    """Run the naive server until SIGTERM."""
    from granian.constants import Interfaces
    from granian.server.embed import Server

    connections = {"backlog": 1024, "backpressure": 1024}  # as those of openxclip serve
    server = Server(naive_app(model), address="127.0.0.1", port=port, interface=Interfaces.ASGI, **connections)

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, server.stop)
        await server.serve()

    asyncio.run(serve())


# --- the processes that are measured ---


def processes_of(pid: int) -> list[int]:
    """Return a process and its descendants."""
    pids = [pid]
    for each in pids:
        try:
            for thread in Path(f"/proc/{each}/task").iterdir():
                pids += map(int, (thread / "children").read_text().split())
        except OSError:  # noqa: PERF203 (it has ended)
            continue
    return pids


def pss(pid: int) -> int:
    """Return the proportional set size of a process and its descendants, in bytes."""
    total = 0
    for each in processes_of(pid):
        try:
            total += int(Path(f"/proc/{each}/smaps_rollup").read_text().split("Pss:")[1].split()[0]) * 1024
        except (OSError, IndexError):  # noqa: PERF203 (it has ended)
            continue
    return total


def cpu_seconds(pid: int) -> tuple[float, float]:
    """Return the CPU time of a process and its descendants, with those that have ended, and of the whole machine."""
    tick = os.sysconf("SC_CLK_TCK")
    own = 0
    for each in processes_of(pid):
        with contextlib.suppress(OSError):  # it has ended
            own += sum(map(int, Path(f"/proc/{each}/stat").read_text().rpartition(") ")[2].split()[11:15]))
    fields = list(map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]))
    return own / tick, (sum(fields) - fields[3] - fields[4]) / tick  # all but idle and waiting


@dataclass
class Running:
    """A server that runs."""

    process: subprocess.Popen[bytes]
    url: str

    def stop(self) -> int:
        """End it by SIGTERM, and return its status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60)
        finally:
            self.process.kill()
            self.process.wait()


def start(kind: str, model: str, folder: Path, log: Path) -> Running:
    """Start a server and wait until it has answered one request."""
    import httpx

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    if kind == "naive":
        command = [sys.executable, __file__, "--naive", str(port), "--model", model]
    else:
        command = [sys.executable, "-m", "openxclip", "serve", "--model", model, "--port", str(port)]
        command += ["--data", str(folder / "data")]
    kept = {name: value for name, value in os.environ.items() if name != "OPENXCLIP_TOKEN"}
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **kept}  # as the command sets it, so that both servers wait alike
    with log.open("wb") as file:
        process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file, env=environment)
    running = Running(process, f"http://127.0.0.1:{port}")
    content = next((ROOT / "samples").glob("*.mp4")).read_bytes()
    for _ in range(240):
        if process.poll() is not None:
            raise SystemExit(f"the {kind} server ended: {log.read_text()}")
        try:
            answer = httpx.post(f"{running.url}/v1/classify?{QUERY}", content=content, headers=VIDEO, timeout=60)
            if answer.status_code == 200:
                return running
            if answer.status_code not in (429, 503):
                running.stop()
                raise SystemExit(f"the {kind} server answered {answer.status_code}: {answer.text}")
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    running.stop()
    raise SystemExit(f"the {kind} server gave no answer in two minutes: {log.read_text()}")


VIDEO = {"Content-Type": "video/mp4"}


# --- load ---


@dataclass
class Load:
    """What happened to requests."""

    seconds: float = 0.0
    times: dict[str, list[float]] = field(default_factory=dict)  # by status, seconds of each request
    memory: list[int] = field(default_factory=list)  # bytes, every second
    codes: Counter[str] = field(default_factory=Counter)  # of refusals
    cpu: Counter[str] = field(default_factory=Counter)  # seconds of a core by whom
    shares: list[float] = field(default_factory=list)  # goodput of each round, as a share of the capacity

    def add(self, status: str, taken: float) -> None:
        self.times.setdefault(status, []).append(taken)

    def merge(self, other: Load) -> None:
        """Add what happened in another round."""
        self.seconds += other.seconds
        for status, times in other.times.items():
            self.times.setdefault(status, []).extend(times)
        self.memory += other.memory
        self.codes.update(other.codes)
        self.cpu.update(other.cpu)
        self.shares += other.shares

    @property
    def goodput(self) -> float:
        """Answers with status 200 a second."""
        return len(self.times.get("200", [])) / self.seconds

    def row(self) -> dict[str, Any]:
        """Return the figures."""
        good, refused = sorted(self.times.get("200", [])), sorted(self.times.get("429", []))
        return {
            "seconds": round(self.seconds, 2),
            "statuses": {status: len(times) for status, times in sorted(self.times.items())},
            "codes": dict(self.codes),
            "goodput": round(self.goodput, 2),
            **({"of_capacity": round(statistics.median(self.shares), 3)} if self.shares else {}),
            **({"of_capacity_by_round": [round(share, 3) for share in self.shares]} if self.shares else {}),
            "p50_s": quantile(good, 0.5),
            "p99_s": quantile(good, 0.99),
            "refused_p50_s": quantile(refused, 0.5),
            "refused_p99_s": quantile(refused, 0.99),
            "refused_max_s": quantile(refused, 1.0),
            "cores": {name: round(used / self.seconds, 2) for name, used in self.cpu.items()},
            **self._memory(),
        }  # fmt: skip

    def _memory(self) -> dict[str, float]:
        fifth = max(1, len(self.memory) // 5)
        last, second = self.memory[-fifth:], self.memory[fifth : 2 * fifth] or self.memory
        growth = statistics.median(last) - statistics.median(second)
        return {"memory_mb": round(statistics.median(last) / 1e6, 1), "memory_growth_mb": round(growth / 1e6, 1)}


def quantile(times: list[float], share: float) -> float | None:
    """Return a quantile of ascending times, or None if there are none."""
    return round(times[min(len(times) - 1, int(share * len(times)))], 4) if times else None


class Connection:
    """A connection that is kept; plain HTTP/1.1, because a client with more features would need the server's cores."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, content: bytes) -> tuple[str, dict[str, str], bytes]:
        """Send a request; return the status, the headers with small names, and the body of the answer."""
        if self._streams is not None and self._streams[0].at_eof():  # servers close connections that wait
            self.close()
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        head = (
            f"POST /v1/classify?{QUERY} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nContent-Type: video/mp4\r\n"
            f"Content-Length: {len(content)}\r\n\r\n"
        )
        writer.write(head.encode() + content)
        await writer.drain()
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        if headers.get("connection", "").lower() == "close":
            self.close()
        return first.split()[1], headers, body

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


class Generator:
    """Sends requests to a server and notes what happens."""

    def __init__(self, running: Running, patience: float) -> None:
        self.running, self.load, self.patience = running, Load(), patience
        self.port = int(running.url.rpartition(":")[2])
        self.videos = [path.read_bytes() for path in sorted((ROOT / "samples").glob("*.mp4"))]
        self.free: list[Connection] = []
        self.sent = 0

    async def ask(self) -> float:
        """Send a request, and return how long the server asks to wait."""
        content = self.videos[self.sent % len(self.videos)]
        self.sent += 1
        connection = self.free.pop() if self.free else Connection(self.port)
        began, pause = time.perf_counter(), 0.0
        try:
            status, headers, body = await asyncio.wait_for(connection.post(content), self.patience)
            pause = float(headers.get("retry-after", 0))
            if status != "200":
                self.load.codes[json.loads(body).get("error", {}).get("code", "?")] += 1
            self.free.append(connection)
        except (asyncio.TimeoutError, OSError, EOFError) as error:
            status = "given up" if isinstance(error, asyncio.TimeoutError) else type(error).__name__
            connection.close()
        self.load.add(status, time.perf_counter() - began)
        return pause

    async def closed(self, clients: int, seconds: float) -> None:
        """Let clients send one request after the other."""
        end = time.perf_counter() + seconds

        async def client() -> None:
            while time.perf_counter() < end:
                pause = await self.ask()
                await asyncio.sleep(min(pause, max(0.0, end - time.perf_counter())))

        await asyncio.gather(*(client() for _ in range(clients)))

    async def open(self, rate: float, seconds: float) -> None:
        """Send requests at random times, at a mean rate."""
        draw, tasks = random.Random(0), []
        at = began = time.perf_counter()
        while at < began + seconds:
            await asyncio.sleep(max(0.0, at - time.perf_counter()))
            tasks.append(asyncio.create_task(self.ask()))
            at += draw.expovariate(rate)
        await asyncio.gather(*tasks)

    async def watch(self) -> None:
        while True:
            self.load.memory.append(await asyncio.to_thread(pss, self.running.process.pid))
            await asyncio.sleep(1)

    async def measure(self, work: Any) -> Load:
        """Run a load to its end, and return what happened."""
        watching = asyncio.create_task(self.watch())
        before, own = cpu_seconds(self.running.process.pid), time.process_time()
        began = time.perf_counter()
        await work
        self.load.seconds = time.perf_counter() - began
        after, own = cpu_seconds(self.running.process.pid), time.process_time() - own
        server, machine = after[0] - before[0], after[1] - before[1]
        self.load.cpu.update(server=server, clients=own, others=max(0.0, machine - server - own))
        watching.cancel()
        for connection in self.free:
            connection.close()
        return self.load


def generate(running: Running, kind: str, amount: float, seconds: float, patience: float = 600.0) -> Load:
    """Put one load on a server: `closed` has `amount` clients, `open` that many requests a second."""

    async def work() -> Load:
        generator = Generator(running, patience)
        load = generator.closed(int(amount), seconds) if kind == "closed" else generator.open(amount, seconds)
        return await generator.measure(load)

    return asyncio.run(work())


HEADER = (
    f"{'':34}{'good/s':>9}{'share':>9}{'p50':>10}{'p99':>10}{'429 p99':>10}{'MB':>9}{'growth':>9}{'others':>8}  answers"
)


def show(name: str, load: Load) -> None:
    def ms(seconds: float | None) -> str:
        return "" if seconds is None else f"{1000 * seconds:.0f} ms"

    row = load.row()
    statuses = ", ".join(f"{count} x {status}" for status, count in row["statuses"].items())
    share = f"{row['of_capacity']:.1%}" if load.shares else ""
    print(
        f"{name:34}{row['goodput']:>9.1f}{share:>9}{ms(row['p50_s']):>10}{ms(row['p99_s']):>10}"
        f"{ms(row['refused_p99_s']):>10}{row['memory_mb']:>9.0f}{row['memory_growth_mb']:>9.1f}"
        f"{row['cores']['others']:>8.2f}  {statuses}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--naive", type=int, metavar="PORT", help=argparse.SUPPRESS)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--seconds", type=float, default=90, help="seconds for each load and server, all rounds")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument(
        "--patience", type=float, default=30, help="seconds after which a request is given up, open load"
    )
    parser.add_argument("--small", action="store_true", help="one round of 6 seconds: a minute or two in all")
    parser.add_argument("--only", choices=["openxclip", "naive"])
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    if arguments.naive:
        naive_main(arguments.naive, arguments.model)
        return
    from openxclip.benchmarking.measuring import cpu_name

    seconds, rounds = (6.0, 1) if arguments.small else (arguments.seconds, arguments.rounds)
    seconds /= rounds
    kinds = [kind for kind in ("openxclip", "naive") if arguments.only in (None, kind)]
    names = ("8 clients (capacity)", f"{arguments.clients} clients", "twice the capacity")
    loads = {(name, kind): Load() for name in names for kind in kinds}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        servers = {}
        for kind in kinds:
            servers[kind] = start(kind, arguments.model, Path(folder), Path(folder) / f"{kind}.txt")
            stack.callback(servers[kind].process.kill)
            generate(servers[kind], "closed", 8, min(5.0, seconds))  # warm-up
        for number in range(rounds):
            print(f"\nround {number + 1} of {rounds}\n{HEADER}", flush=True)
            capacity: dict[str, float] = {}
            for name, kind in loads:  # in turns, because other work on the machine changes with time
                if name == "twice the capacity":
                    found = generate(servers[kind], "open", 2 * capacity[kind], seconds, arguments.patience)
                    found.shares.append(found.goodput / capacity[kind])
                else:
                    found = generate(servers[kind], "closed", int(name.split()[0]), seconds)
                    capacity.setdefault(kind, found.goodput)
                show(f"{kind}, {name}", found)
                loads[name, kind].merge(found)
        exits = {kind: server.stop() for kind, server in servers.items()}
    print(f"\nall rounds\n{HEADER}")
    rows = {}
    for (name, kind), load in loads.items():
        show(f"{kind}, {name}", load)
        rows[f"{kind}, {name}"] = load.row()
    machine = {"cpu": cpu_name(), "cores": os.cpu_count(), "clients_on_the_same_cores": True}
    report = {"machine": machine, "model": arguments.model, "rounds": rounds, "rows": rows, "exit_status": exits}
    arguments.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
