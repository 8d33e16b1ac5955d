"""Check and measure bulk indexing: a Ray cluster and an S3 server as processes of this machine.

`python benchmarks/bulk.py` renders clips and films of the playground (once, below `--data`), runs the parts below,
prints what each found and writes benchmarks/bulk.json. All runs index with mini into an index of moto's S3 server. The
cluster has a head without cores, and two workers of one core each.

- equal: the index that the cluster writes equals, row for row, the local index of the same files.
- kill: the same run is killed `--kills` times at random moments (a worker's raylet, an actor, the driver), and the S3
  server is stopped (SIGSTOP) for `--outage` seconds three times. Nothing may be missing or double, and the table of
  windows may name no file that doesn't exist.
- parts: the same for `--part I/2`, whose processes are killed.
- planted: broken files become dead letters; they are replaced, and `--retry-failed` indexes them.
- speed: two workers of one core each beside one worker of one core, and beside the plain local index on both cores, in
  turns. A large run less a small one, so that starting processes and loading models don't count; the small run is given
  too.
- memory: the peak memory of a driver that has described an index by its model, and plans a manifest of `--paths` paths,
  which is made, not read.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "bulk"))
from s3_server import S3Server  # noqa: E402

BUCKET = "archive"
SIZE = 96  # pixels; decoding takes a small share, so that what is measured is the machinery


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


def log(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


# --- the machines ---


class Cluster:
    """A Ray cluster of processes: a head without cores, and workers.

    Args:
        folder: for logs and sessions.
        workers: cores of each worker.
        environment: environment of the workers.
    """

    def __init__(self, folder: Path, workers: list[int], environment: dict[str, str]) -> None:
        self.folder, self.environment = folder, {**os.environ, **environment, "RAY_USAGE_STATS_ENABLED": "0"}
        self.address = f"127.0.0.1:{free_port()}"
        self.nodes: list[subprocess.Popen[bytes]] = []
        self._start("--head", f"--port={self.address.rpartition(':')[2]}", "--num-cpus=0", "--include-dashboard=false")
        for cores in workers:
            self.add(cores)

    def add(self, cores: int) -> None:
        self._start(f"--address={self.address}", f"--num-cpus={cores}")

    def _start(self, *options: str) -> None:
        command = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--disable-usage-stats", *options]
        command += ["--node-ip-address=127.0.0.1", "--object-store-memory=200000000", "--num-gpus=0"]
        log_file = self.folder / f"node{len(self.nodes)}.log"
        with log_file.open("wb") as out:
            process = subprocess.Popen(command, env=self.environment, stdout=out, stderr=out, start_new_session=True)
        self.nodes.append(process)
        for _ in range(600):  # one after the other: two that start at once can choose the same port
            if b"Ray runtime started" in log_file.read_bytes():
                return
            time.sleep(0.1)
        raise SystemExit(f"a node doesn't start: {log_file.read_text()}")

    def kill_node(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.nodes[number].pid, signal.SIGKILL)
        self.nodes[number].wait()

    def stop(self) -> None:
        for number in reversed(range(len(self.nodes))):
            self.kill_node(number)


def descendants(pid: int) -> list[int]:
    """Return a process and all below it."""
    pids = [pid]
    for each in pids:
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{each}/task").iterdir():
                pids += map(int, (thread / "children").read_text().split())
    return pids


def actors(cluster: Cluster) -> list[int]:
    """Return the processes of actors and of checks of a machine, whose titles Ray has set."""
    found = []
    for node in cluster.nodes[1:]:
        for pid in descendants(node.pid):
            with contextlib.suppress(OSError):
                title = Path(f"/proc/{pid}/cmdline").read_bytes()
                if title.startswith(b"ray::") and b"Agent" not in title and b"IDLE" not in title:
                    found.append(pid)
    return found


# --- data ---


def render(folder: Path, clips: int, films: int, seconds: int) -> Path:
    """Render clips and films, unless an earlier run did; return their folder."""
    videos = folder / f"videos-{clips}-{films}x{seconds}"
    if (videos / "complete").exists():
        return videos
    log(f"rendering {clips} clips and {films} films of {seconds} s")
    shutil.rmtree(videos, ignore_errors=True)
    command = [sys.executable, "-m", "openxclip", "playground", "--quiet", f"--size={SIZE}"]
    subprocess.run([*command, "--out", videos / "clips", f"--clips={clips}"], check=True)
    for seed in range(films):
        out = videos / f"film{seed}"
        subprocess.run([*command, "--out", out, f"--film={seconds}", f"--seed={seed}"], check=True)
    (videos / "complete").touch()
    return videos


def manifest_of(videos: Path) -> Path:
    """Write a manifest of all videos, with a column to filter by."""
    path = videos / "manifest.csv"
    lines = ["path,source"]
    for file in sorted(videos.rglob("*.mp4")):
        name = file.relative_to(videos)
        lines.append(f"{name},{'clips' if name.parts[0] == 'clips' else 'films'}")
    path.write_text("\n".join(lines) + "\n")
    return path


# --- runs of the command ---


@dataclass
class Run:
    """A run of `openxclip index`, and the file with its output."""

    process: subprocess.Popen[bytes]
    output: Path

    @property
    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def finish(self, expected: tuple[int, ...] = (0,), seconds: float = 3600) -> str:
        """Wait for the end and return what it printed; stop the benchmark if its status isn't expected."""
        self.process.wait(seconds)
        output = self.output.read_text()
        if self.process.returncode not in expected:
            raise SystemExit(f"the command ended with status {self.process.returncode}:\n{output[-4000:]}")
        return output


def index(source: Path | str | None, to: str, *options: str, environment: dict[str, str]) -> Run:
    """Start `openxclip index`."""
    command = [sys.executable, "-m", "openxclip", "index", *([str(source)] if source else []), "--to", to, *options]
    output = Path(tempfile.mkstemp(suffix=".txt")[1])
    with output.open("wb") as file:
        process = subprocess.Popen(
            command, env={**os.environ, **environment}, stdout=file, stderr=file, start_new_session=True
        )
    return Run(process, output)


def rows_of(uri: str, environment: dict[str, str]) -> dict[tuple[str, int], dict[str, Any]]:
    """Return the windows of an index by path and number, read by the library; end if one is there twice."""
    code = f"""
import pickle, sys
from openxclip.search.store import Store
store = Store({uri!r})
store.open()
rows = [row for table in store.read_windows() for row in table.to_pylist()]
pickle.dump((rows, [vars(row) for row in store.videos()]), sys.stdout.buffer)
"""
    found = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, check=True, capture_output=True
    )
    import pickle

    windows, videos = pickle.loads(found.stdout)
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for row in windows:
        key = row["path"], row["number"]
        if key in rows:
            raise SystemExit(f"{uri}: window {key} is there twice")
        rows[key] = row
    left = [row["path"] for row in videos if row["state"] not in ("complete", "failed")]
    if left:
        raise SystemExit(f"{uri}: {len(left)} videos are left in another state, such as {left[0]}")
    return rows


def differences(found: dict[Any, Any], expected: dict[Any, Any]) -> dict[str, Any]:
    """Compare two indexes row for row."""
    import numpy as np

    largest, other = 0.0, 0
    for key in found.keys() & expected.keys():
        one, two = dict(found[key]), dict(expected[key])
        largest = max(largest, float(np.abs(np.subtract(one.pop("embedding"), two.pop("embedding"))).max()))
        for row in (one, two):
            row.pop("patches", None)
        other += one != two
    return {
        "windows": len(found), "missing": len(expected.keys() - found.keys()),
        "too_many": len(found.keys() - expected.keys()), "largest_difference": largest, "other_columns_differ": other,
    }  # fmt: skip


def check(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of the report, or stop the benchmark if an index isn't what it should be."""
    wrong = [
        name for name in ("missing", "too_many", "other_columns_differ", "files_that_are_missing") if row.get(name)
    ]
    if wrong or row["largest_difference"] > 1e-5:
        raise SystemExit(f"the index differs from the local one: {row}")
    return row


def orphans_referenced(uri: str, environment: dict[str, str]) -> int:
    """Return how many files the current version of the table of windows names that don't exist."""
    code = f"""
import lance
from openxclip.search.bulk.objects import Objects
data = lance.dataset({uri + "/windows.lance"!r})
named = {{file.path for fragment in data.get_fragments() for file in fragment.metadata.files}}
there = {{info.name.rpartition("/")[2] for info in Objects.open({uri + "/windows.lance/data"!r}).list()}}
print(len(named - there))
"""
    found = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, check=True, capture_output=True
    )
    return int(found.stdout)


# --- the parts ---


class Bench:
    """What all parts share: the folder, the S3 server and the data."""

    def __init__(self, arguments: argparse.Namespace, folder: Path) -> None:
        self.arguments, self.folder = arguments, folder
        self.videos = render(arguments.data, arguments.clips, arguments.films, arguments.seconds)
        self.manifest = manifest_of(self.videos)
        self.s3 = S3Server()
        self.s3.bucket(BUCKET)
        self.environment = {**self.s3.environment, "RAY_AUTH_MODE": "disabled"}  # nobody else reaches the cluster
        self.model = ["--model", "mini", "--no-patches"]
        self.random = random.Random(arguments.seed)
        self._local: dict[Any, Any] | None = None

    def uri(self, name: str) -> str:
        return f"s3://{BUCKET}/{name}-{time.time_ns()}.index"

    @contextlib.contextmanager
    def cluster(self, *workers: int) -> Iterator[Cluster]:
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        cluster = Cluster(folder, list(workers), self.environment)
        try:
            yield cluster
        finally:
            cluster.stop()

    def local(self) -> dict[Any, Any]:
        """Return the rows of the plain local index of all files."""
        if self._local is None:
            to = str(self.folder / "local.index")
            began = time.perf_counter()
            index(self.manifest, to, *self.model, environment=self.environment).finish()
            log(f"local index: {time.perf_counter() - began:.0f} s")
            self._local = rows_of(to, self.environment)
        return self._local

    # -- equal -------------------------------------------------------------------------------------------------------

    def equal(self) -> dict[str, Any]:
        expected, to = self.local(), self.uri("equal")
        with self.cluster(1, 1) as cluster:
            began = time.perf_counter()
            index(self.manifest, to, *self.model, f"--cluster={cluster.address}", environment=self.environment).finish()
            seconds = time.perf_counter() - began
        found = differences(rows_of(to, self.environment), expected)
        return check({**found, "seconds": round(seconds, 1)})

    # -- kill --------------------------------------------------------------------------------------------------------

    def kill(self) -> dict[str, Any]:
        to, killed = self.uri("kill"), {"actor": 0, "node": 0, "driver": 0, "store": 0}
        kinds = ["store"] * self.arguments.outages + [
            ("actor", "node", "driver")[number % 3] for number in range(self.arguments.kills)
        ]
        self.random.shuffle(kinds)
        runs = 0
        with self.cluster(1, 1) as cluster:
            options = [*self.model, f"--cluster={cluster.address}"]
            process = index(self.manifest, to, *options, environment=self.environment)
            runs += 1
            while kinds:
                time.sleep(self.random.uniform(*self.arguments.between))
                if process.has_ended:
                    log(f"the run ended before {len(kinds)} of the kills: a new index")
                    output = process.finish()
                    log(output.strip().splitlines()[-1])
                    check(differences(rows_of(to, self.environment), self.local()))
                    to = self.uri("kill")
                    process = index(self.manifest, to, *options, environment=self.environment)
                    continue
                kind = kinds.pop()
                log(f"kill: {kind}")
                killed[kind] += 1
                if kind == "store":
                    with self.s3.stopped():
                        time.sleep(self.arguments.outage)
                elif kind == "driver":
                    process.kill()
                    process = index(self.manifest, to, *options, environment=self.environment)
                    runs += 1
                elif kind == "actor":
                    os.kill(self.actor_of(cluster, process), signal.SIGKILL)
                else:
                    cluster.kill_node(self.random.randrange(1, len(cluster.nodes)))
                    cluster.add(1)
            output = process.finish()
        log(output.strip().splitlines()[-1])
        found = differences(rows_of(to, self.environment), self.local())
        found["files_that_are_missing"] = orphans_referenced(to, self.environment)
        return check({**found, **{f"killed_{name}": number for name, number in killed.items()}, "runs": runs})

    def actor_of(self, cluster: Cluster, process: Run) -> int:
        """Return the process of an actor, when there is one."""
        while not (found := actors(cluster)):
            if process.has_ended:
                raise SystemExit(f"the command ended without starting an actor:\n{process.output.read_text()}")
            time.sleep(0.1)
        return found[0]

    # -- parts -------------------------------------------------------------------------------------------------------

    def parts(self) -> dict[str, Any]:
        to, kills = self.uri("parts"), 0
        options = {number: [*self.model, f"--part={number}/2"] for number in (1, 2)}
        running = {
            number: index(self.manifest, to, *each, environment=self.environment) for number, each in options.items()
        }
        while running:
            time.sleep(self.random.uniform(*self.arguments.between))
            for number, process in list(running.items()):
                if process.has_ended:
                    process.finish()
                    del running[number]
            if running and kills < self.arguments.kills:
                number, process = self.random.choice(list(running.items()))
                process.kill()
                running[number] = index(self.manifest, to, *options[number], environment=self.environment)
                kills += 1
        index(self.manifest, to, "--commit", environment=self.environment).finish()
        found = differences(rows_of(to, self.environment), self.local())
        found["files_that_are_missing"] = orphans_referenced(to, self.environment)
        return check({**found, "killed": kills})

    # -- planted -----------------------------------------------------------------------------------------------------

    def planted(self) -> dict[str, Any]:
        files = sorted(self.videos.glob("clips/*.mp4"))[: self.arguments.planted * 4]
        folder = self.folder / "planted"
        folder.mkdir()
        broken = self.random.sample(files, self.arguments.planted)
        for file in files:
            (folder / file.name).write_bytes(b"not a video" if file in broken else file.read_bytes())
        to = self.uri("planted")
        with self.cluster(1, 1) as cluster:
            options = [*self.model, f"--cluster={cluster.address}"]
            output = index(folder, to, *options, environment=self.environment).finish((1,))
            log(output.strip().splitlines()[-1])
            before = {path for path, _ in rows_of(to, self.environment)}
            for file in broken:
                shutil.copyfile(file, folder / file.name)
            output = index(None, to, *options, "--retry-failed", environment=self.environment).finish()
            log(output.strip().splitlines()[-1])
        after = {path for path, _ in rows_of(to, self.environment)}
        if len(before) != len(files) - len(broken) or len(after) != len(files):
            raise SystemExit(f"of {len(files)} files, {len(broken)} broken: {len(before)} indexed, then {len(after)}")
        return {"files": len(files), "broken": len(broken), "indexed_before": len(before), "indexed_after": len(after)}

    # -- speed -------------------------------------------------------------------------------------------------------

    def subset(self, count: int) -> Path:
        """Return a manifest of some clips and two films."""
        lines = self.manifest.read_text().splitlines()
        clips = [line for line in lines[1:] if line.endswith("clips")][:count]
        films = [line for line in lines[1:] if line.endswith("films")][: count // 150]
        path = self.videos / f"timed-{count}.csv"
        path.write_text("\n".join([lines[0], *clips, *films]) + "\n")
        return path

    def marginal(self, *options: str) -> tuple[float, float]:
        """Return the seconds that a large run takes longer than a small one, and the seconds of the small one."""
        times = []
        for count in (self.arguments.timed // 4, self.arguments.timed):
            began = time.perf_counter()
            index(self.subset(count), self.uri("speed"), *self.model, *options, environment=self.environment).finish()
            times.append(time.perf_counter() - began)
        return times[1] - times[0], times[0]

    def speed(self) -> dict[str, Any]:
        more: dict[str, list[float]] = {}
        small: dict[str, list[float]] = {}
        with self.cluster(1) as one, self.cluster(1, 1) as two:
            runs = {"local": [], "1 worker": [f"--cluster={one.address}"], "2 workers": [f"--cluster={two.address}"]}
            for number in range(self.arguments.rounds):
                for name in list(runs)[:: 1 if number % 2 else -1]:
                    seconds, start = self.marginal(*runs[name])
                    more.setdefault(name, []).append(seconds)
                    small.setdefault(name, []).append(start)
                log(f"round {number + 1}: {', '.join(f'{name} {more[name][-1]:.1f} s' for name in runs)}")
            shares = self.shares(two)
        ratios = {
            "1_worker_by_2_workers": [a / b for a, b in zip(more["1 worker"], more["2 workers"], strict=True)],
            "2_workers_by_local": [a / b for a, b in zip(more["2 workers"], more["local"], strict=True)],
        }
        medians = {name: round(statistics.median(values), 3) for name, values in ratios.items()}
        return {"seconds": more, "seconds_small": small, "ratios": ratios, **medians, "cores": shares}

    def shares(self, cluster: Cluster) -> dict[str, float]:
        """Return the cores in use by what, in a run on two workers."""

        def used(pids: list[int]) -> float:
            total = 0
            for pid in pids:
                with contextlib.suppress(OSError):
                    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
                    total += sum(map(int, fields[11:15]))
            return total / os.sysconf("SC_CLK_TCK")

        options = [*self.model, f"--cluster={cluster.address}"]
        run = index(self.subset(self.arguments.timed), self.uri("shares"), *options, environment=self.environment)
        while not actors(cluster):
            time.sleep(0.2)
        time.sleep(8)  # the workers have loaded the model
        workers = {pid for actor in actors(cluster) for pid in descendants(actor)}
        nodes = {pid for node in cluster.nodes for pid in descendants(node.pid)} - workers
        groups = {
            "workers": list(workers), "ray": list(nodes), "driver": [run.process.pid], "s3": [self.s3.pid],
        }  # fmt: skip
        before, began = {name: used(pids) for name, pids in groups.items()}, time.perf_counter()
        time.sleep(10)
        seconds = time.perf_counter() - began
        found = {name: round((used(pids) - before[name]) / seconds, 3) for name, pids in groups.items()}
        run.finish()
        return found

    # -- memory ------------------------------------------------------------------------------------------------------

    def memory(self) -> dict[str, Any]:
        path = self.folder / "paths.parquet"
        import pyarrow as pa
        import pyarrow.parquet as pq

        count, step = self.arguments.paths, 100_000
        with pq.ParquetWriter(path, pa.schema([("path", pa.string()), ("camera", pa.int32())])) as writer:
            for start in range(0, count, step):
                numbers = range(start, min(start + step, count))
                names = [f"s3://{BUCKET}/camera{number % 997}/2026/{number:010}.mp4" for number in numbers]
                cameras = pa.array([number % 997 for number in numbers], pa.int32())
                writer.write_table(pa.table({"path": names, "camera": cameras}))
        code = f"""
import time
import lancedb, openxclip.cluster, ray, torch  # what a driver imports
from openxclip.cluster import IndexSettings
from openxclip.search.bulk.planning import plan
from openxclip.search.bulk.sources import open_source
index = IndexSettings(model="mini").open({str(self.folder / "memory.index")!r})
index.pipeline()  # creates the index
index.release_model()
began = time.perf_counter()
count = sum(len(chunk) for chunk in plan(open_source({str(path)!r}), None))
print(count, time.perf_counter() - began)
"""
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        output, usage = process.stdout.read() if process.stdout else "", os.wait4(process.pid, 0)[2]
        planned, seconds = output.split()
        return {"paths": int(planned), "seconds": round(float(seconds), 1), "peak_mb": round(usage.ru_maxrss / 1024)}


PARTS = ("equal", "kill", "parts", "planted", "speed", "memory")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(tempfile.gettempdir()) / "openxclip-bulk")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"some of {', '.join(PARTS)}")
    parser.add_argument("--clips", type=int, default=5000)
    parser.add_argument("--films", type=int, default=20)
    parser.add_argument("--seconds", type=int, default=60, help="length of a film")
    parser.add_argument("--timed", type=int, default=1000, help="clips of the large run of speed")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--outages", type=int, default=3)
    parser.add_argument("--outage", type=float, default=30.0, help="seconds")
    parser.add_argument("--between", type=float, nargs=2, default=(5.0, 25.0), help="seconds between two kills")
    parser.add_argument("--planted", type=int, default=50)
    parser.add_argument("--paths", type=int, default=10_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    from openxclip.benchmarking.measuring import cpu_name

    report: dict[str, Any] = {"rows": {}}
    if arguments.json.exists():
        report = json.loads(arguments.json.read_text())  # parts can be run one after the other
    report["machine"] = {"cpu": cpu_name(), "cores": os.cpu_count()}
    arguments.data.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(arguments, Path(folder))
        try:
            for name in arguments.parts.split(","):
                began = time.perf_counter()
                row = getattr(bench, name)()
                report["rows"][name] = {**row, "took_s": round(time.perf_counter() - began)}
                log(f"{name}: {json.dumps(report['rows'][name])}")
                arguments.json.write_text(json.dumps(report, indent=1) + "\n")
        finally:
            bench.s3.close()


if __name__ == "__main__":
    main()
