"""Readers and workers in forked processes and threads, and on systems or Pythons that lack something."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_videos import encode
from PIL import Image
from processes import PATIENCE, in_fork, is_gone, needs_fork

from openxclip.errors import VideoError
from openxclip.video import ClipPlan, DecodeWorker, ReadOptions, VideoReader, read_clip, sharing, worker, worker_child
from openxclip.video import child as child_module
from openxclip.video.ahead import ReadAhead
from openxclip.video.child import describe_exit
from openxclip.video.sharing import SharedFile


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encode(tmp_path_factory.mktemp("processes") / "clip.mp4", "libx264", count=20)


def run(*command: object, **how: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=PATIENCE, check=False, **how)


@pytest.fixture
def locked() -> Iterator[Callable[[Any], None]]:
    """Return a function that makes another thread hold a lock for the rest of the test."""
    done = threading.Event()
    threads = []

    def hold(lock: Any) -> None:
        held = threading.Event()

        def run() -> None:
            with lock:
                held.set()
                done.wait(PATIENCE)

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        assert held.wait(PATIENCE)

    hold.done = done  # type: ignore[attr-defined]
    yield hold
    done.set()
    for thread in threads:
        thread.join()


# -- forks -------------------------------------------------------------------------------------------------------------


def sources(kind: str, clip: Path, folder: Path) -> Any:
    if kind == "path":
        return clip
    if kind == "bytes":
        return clip.read_bytes()
    if kind == "stream in memory":
        return BytesIO(clip.read_bytes())
    if kind == "npy":
        np.save(folder / "a.npy", np.arange(4 * 6 * 8 * 3, dtype=np.uint8).reshape(4, 6, 8, 3))
        return folder / "a.npy"
    images = [Image.new("RGB", (8, 6), (40 * i, 9, 9)) for i in range(4)]
    if kind == "gif":
        images[0].save(folder / "a.gif", save_all=True, append_images=images[1:])
        return folder / "a.gif"
    for i, image in enumerate(images):
        image.save(folder / f"{i}.png")
    return folder


@needs_fork
@pytest.mark.parametrize(
    "kind",
    [
        "path",
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("gif", "folder", "bytes", "stream in memory", "npy")),
    ],
)
def test_a_forked_process_can_use_the_reader(kind: str, clip: Path, tmp_path: Path) -> None:
    with VideoReader(sources(kind, clip, tmp_path), read=ReadOptions(threads=2)) as reader:
        expected = [int(reader.get_frames([i]).frames_THWC.sum()) for i in (3, 0, 2)]

        def read() -> list[int]:
            return [int(reader.get_frames([i]).frames_THWC.sum()) for i in (3, 0, 2)]

        assert in_fork(read) == str(expected)
        assert in_fork(lambda: in_fork(read)) == str(expected)  # and its own children
        assert read() == expected


@needs_fork
def test_a_file_object_is_refused_in_a_forked_process(clip: Path) -> None:
    with clip.open("rb") as file, VideoReader(file) as reader:
        reader.get_frames([0])
        message = in_fork(lambda: reader.get_frames([0]))
        assert message.startswith("VideoError")
        assert message.endswith("open it in the worker")
        assert in_fork(lambda: (reader.num_frames, reader.close())) == "(20, None)"
        assert len(reader.get_frames([5])) == 1


@needs_fork
def test_a_file_that_changed_is_refused_in_a_forked_process(clip: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((4, 6, 8, 3), np.uint8))
    with VideoReader(path) as reader:
        path.unlink()
        np.save(path, np.zeros((5, 6, 8, 3), np.uint8))
        assert "it has changed since it was opened" in in_fork(lambda: reader.get_frames([0]))


@needs_fork
def test_locks_of_other_threads_are_free_in_a_forked_process(clip: Path, locked: Callable[[Any], None]) -> None:
    with VideoReader(clip) as reader, DecodeWorker() as process:
        for lock in (reader._lock, process._lock, process._starting):
            locked(lock)
        assert in_fork(lambda: (len(reader.get_frames([1])), reader.width, reader.close())) == "(1, 96, None)"
        assert in_fork(lambda: (process.inspect(clip).frames, process.close())) == "(20, None)"
        locked.done.set()  # type: ignore[attr-defined]


@needs_fork
def test_a_fork_by_the_thread_that_holds_a_lock(clip: Path) -> None:
    with VideoReader(clip) as reader:

        def fork(shape: tuple[int, ...]) -> Any:
            results.append(in_fork(lambda: len(reader.get_frames([4]))))
            return np.empty(shape, np.uint8)

        results: list[str] = []
        reader.get_arrays([3], allocate=fork)
        assert results == ["1"]


@needs_fork
def test_a_worker_in_a_forked_process_has_its_own_child(clip: Path) -> None:
    with DecodeWorker() as process:
        process.inspect(clip)
        assert process._child is not None
        ours = process._child._process.pid

        def read() -> object:
            frames = process.inspect(clip).frames
            child = process._child
            process.close()
            return frames, child is not None and child._process.pid != ours

        assert in_fork(read) == "(20, True)"
        assert process.inspect(clip).frames == 20
        assert process._child._process.pid == ours


@needs_fork
def test_the_child_ends_while_a_forked_process_runs(clip: Path) -> None:
    code = (
        "import os, sys, time; from openxclip.video import DecodeWorker; w = DecodeWorker(); w.inspect(sys.argv[1])\n"
        "other = os.fork()\n"
        "if other: print(w._child._process.pid, other, flush=True)\n"
        "time.sleep(100)"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, str(clip)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child, other = map(int, parent.stdout.readline().split())
        time.sleep(0.2)
        parent.kill()
        try:
            assert is_gone(child)
        finally:
            os.kill(other, signal.SIGKILL)


@needs_fork
def test_a_forked_process_with_an_inherited_reader_ends(clip: Path) -> None:
    code = (
        "import gc, os, sys, time, numpy; from openxclip.video import DecodeWorker, ReadOptions, VideoReader\n"
        "from openxclip.video.ahead import ReadAhead\n"
        "r = VideoReader(sys.argv[1], read=ReadOptions(threads=2)); r.get_arrays([0, 9], allocate=numpy.empty)\n"
        "w = DecodeWorker()\n"
        "def read(item):\n    time.sleep(100)\n    yield item\n"
        "a = ReadAhead([read], [1], ahead=1)\n"
        "for end in ('', 'del r', 'r.close(); del r', 'x = [r]; x.append(x); del r, x; gc.collect()'):\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n        exec(end)\n        sys.exit(7)\n"
        "    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    done = run(sys.executable, "-W", "ignore", "-c", code, clip)
    assert (done.stdout, done.stderr) == ("7\n" * 4, "")


@needs_fork
def test_reading_ahead_does_not_wait_for_threads_of_another_process(locked: Callable[[Any], None]) -> None:
    wait = threading.Event()

    def reader(item: int) -> Generator[int, None, None]:
        yield item
        wait.wait(PATIENCE)

    ahead = ReadAhead([reader], [1, 2], ahead=1)
    next(ahead)
    locked(ahead._lock)
    assert in_fork(lambda: next(ahead)).startswith("RuntimeError: this forked process has no threads")
    assert in_fork(ahead.is_ready).startswith("RuntimeError")
    assert in_fork(ahead.close) == "None"
    wait.set()
    locked.done.set()  # type: ignore[attr-defined]
    ahead.close()  # otherwise its thread would wait during later tests


class Clips(torch.utils.data.Dataset[int]):
    def __init__(self, path: Path) -> None:
        self.reader = VideoReader(path)
        self.reader.get_frames([0, 10])

    def __len__(self) -> int:
        return 4

    def __getitem__(self, i: int) -> int:
        return int(self.reader.get_frames([i]).frames_THWC.sum())


@needs_fork
def test_a_data_loader_with_workers(clip: Path) -> None:
    dataset = Clips(clip)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        loader = torch.utils.data.DataLoader(
            dataset, batch_size=None, num_workers=2, multiprocessing_context="fork", timeout=PATIENCE
        )
        assert list(loader) == [dataset[i] for i in range(4)]


def test_a_pickled_reader(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(clip.parent)
    for source in (clip, clip.name, clip.read_bytes(), BytesIO(clip.read_bytes())):
        monkeypatch.chdir(clip.parent)
        with VideoReader(source, read=ReadOptions(fps=7)) as reader:
            monkeypatch.chdir(tmp_path)
            with pickle.loads(pickle.dumps(reader)) as other:
                assert (other.source, other.num_frames, other.limits) == (reader.source, 20, reader.limits)
                assert (other.get_frames([3]).frames_THWC == reader.get_frames([3]).frames_THWC).all()
    with clip.open("rb") as file, VideoReader(file) as reader, pytest.raises(TypeError, match="open it in the worker"):
        pickle.dumps(reader)


# -- threads -----------------------------------------------------------------------------------------------------------


def test_threads_share_a_reader(clip: Path) -> None:
    with VideoReader(clip) as reader:
        expected = [int(reader.get_frames([i]).frames_THWC.sum()) for i in range(20)]
    with VideoReader(clip, read=ReadOptions(threads=2)) as reader, ThreadPoolExecutor(8) as pool:
        order = [(7 * i) % 20 for i in range(80)]
        sizes = [pool.submit(lambda: (reader.width, reader.height)) for _ in range(8)]
        got = list(pool.map(lambda i: int(reader.get_frames([i]).frames_THWC.sum()), order))
    assert got == [expected[i] for i in order]
    assert {size.result() for size in sizes} == {(96, 64)}


def test_a_reader_is_closed_while_threads_read(clip: Path) -> None:
    reader = VideoReader(clip, read=ReadOptions(threads=2))

    def read(i: int) -> str:
        try:
            return str(len(reader.get_frames([i % 20])))
        except VideoError as error:
            return error.reason

    with ThreadPoolExecutor(4) as pool:
        got = [pool.submit(read, i) for i in range(40)]
        got[3].result()
        reader.close()
        reader.close()
    assert {one.result() for one in got} <= {"1", "its reader has been closed: open it again"}
    assert got[-1].result() != "1" or read(0) != "1"


# -- the start of the child --------------------------------------------------------------------------------------------

READ = (
    "import sys; from openxclip.video import DecodeWorker; w = DecodeWorker(); print(w.inspect(sys.argv[1]).frames)\n"
)
NAMES = ("resource", "queue", "av", "json", "numpy", "PIL", "signal", "tempfile", "uuid", "mmap", "threading", "site")


def test_the_child_imports_nothing_from_the_folder_of_the_script(clip: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    # the script imports everything first, because later imports would find the user's modules
    code = "import sys\nhere = sys.path.pop(0)\nimport openxclip.video\nsys.path.insert(0, here)\n" + READ
    (tmp_path / "script.py").write_text(code)
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text(f"open({str(ran)!r}, 'a').write({name!r})\nprint({name!r})\n")
    done = run(sys.executable, "-W", "error", tmp_path / "script.py", clip)
    assert (done.stdout, done.stderr) == ("20\n", "")
    assert not ran.exists()


@pytest.mark.slow
def test_openxclip_in_the_folder_of_the_script(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "openxclip").symlink_to(Path(worker.__file__).parents[1])
    (tmp_path / "resource.py").write_text("raise SystemExit('imported')")
    (tmp_path / "script.py").write_text(READ + "import openxclip; print(openxclip.__file__)")
    done = run(sys.executable, "-W", "error", tmp_path / "script.py", clip)
    assert (done.stdout, done.stderr) == (f"20\n{tmp_path / 'openxclip' / '__init__.py'}\n", "")


def test_a_sitecustomize_that_prints(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('Welcome')")
    done = run(sys.executable, "-W", "error", "-c", READ, clip, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert (done.stdout, done.stderr) == ("Welcome\n20\n", "")


def script(folder: Path, text: str) -> str:
    path = folder / "python"
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("how", "by_descriptor"),
    [
        ('exec "{}" "$@"', True),
        ('echo hello; "{}" "$@"; exit $?', True),
        ('echo hello; exec "{}" "$@"', False),
    ],
)
def test_a_wrapper_script_instead_of_python(
    how: str, by_descriptor: bool, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", script(tmp_path, "#!/bin/sh\n" + how.format(sys.executable)))
    monkeypatch.setattr(sharing, "BY_DESCRIPTOR", by_descriptor)
    with DecodeWorker() as process:
        assert process.inspect(clip).frames == 20
        assert not process._cannot_start


def test_a_wrapper_that_closes_open_files(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrapper = (
        f"#!{sys.executable}\nimport subprocess, sys\nsys.exit(subprocess.call([{sys.executable!r}, *sys.argv[1:]]))"
    )
    monkeypatch.setattr(sys, "executable", script(tmp_path, wrapper))
    with (
        pytest.warns(RuntimeWarning, match=r"ended at once \(status 1\): its pipes were closed before Python started"),
        DecodeWorker() as process,
    ):
        assert process.inspect(clip).frames == 20


def test_the_warning_quotes_the_childs_error(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = "yes noise | head -c 300000 >&2; echo 'no licence' >&2; exit 3"
    monkeypatch.setattr(sys, "executable", script(tmp_path, f"#!/bin/sh\n{noise}"))
    with pytest.warns(RuntimeWarning, match=r"\(status 3\): .*no licence$") as warned, DecodeWorker() as process:
        assert process.inspect(clip).frames == 20
    assert len(str(warned[0].message)) < 700


def test_a_failed_start_is_not_repeated(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = tmp_path / "count"
    monkeypatch.setattr(child_module, "_START_TIMEOUT_S", 0.3)
    monkeypatch.setattr(sys, "executable", script(tmp_path, f"#!/bin/sh\necho x >> '{count}'\necho busy >&2\nsleep 90"))
    message = r"did not respond within 0\.3 s: busy"
    with pytest.warns(RuntimeWarning, match=message) as warned, DecodeWorker() as process:
        assert [process.inspect(clip).frames for _ in range(2)] == [20, 20]
    assert len(warned) == 1
    assert count.read_text() == "x\n"


def test_the_child_ends_with_a_parent_that_is_killed_while_it_starts(clip: Path, tmp_path: Path) -> None:
    slow = "sys.argv[3] = sys.argv[3].replace('from openxclip', 'import time; time.sleep(200)\\nfrom openxclip')"
    wrapper = (
        f"#!{sys.executable}\nimport os, sys\nassert sys.argv[2] == '-c'\n{slow}\n"
        f"os.execv({sys.executable!r}, [{sys.executable!r}, *sys.argv[1:]])"
    )
    code = (
        f"import sys; sys.executable = {script(tmp_path, wrapper)!r}\nfrom openxclip.video import DecodeWorker\n"
        "w = DecodeWorker(); print(w._child._process.pid, flush=True); w.inspect(sys.argv[1])"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(clip)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    assert is_gone(child)


@pytest.mark.parametrize("number", ["EMFILE", "ENOSPC"])
def test_isolation_survives_temporary_errors(number: str, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    def refuse(*args: object) -> None:
        code = getattr(errno, number)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(child_module, "SharedFile", refuse)
    with DecodeWorker() as process:
        with pytest.raises(VideoError, match="cannot be read: no process can be started") as caught:
            process.read_clips(clip, ClipPlan(num_frames=1))
        assert os.strerror(getattr(errno, number)) in caught.value.reason
        assert "Errno" not in caught.value.reason
        monkeypatch.undo()
        assert process.inspect(clip).frames == 20
        assert not process._cannot_start


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (-signal.SIGSEGV, "crashed the decoder (SIGSEGV)"),
        (128 + signal.SIGSEGV, "crashed the decoder (SIGSEGV)"),
        (0xC0000005, "crashed the decoder (status 3221225477)"),
        (-signal.SIGKILL, "was killed"),
        (128 + signal.SIGKILL, "was killed"),
        (-signal.SIGTERM, "cannot be read: the process that read it ended before it was done (SIGTERM)"),
        (1, "cannot be read: the process that read it ended before it was done (status 1)"),
    ],
)
def test_how_a_child_died(status: int, message: str) -> None:
    assert message in describe_exit(status)
    assert ("damaged" in describe_exit(status)) == ("crashed" in message)


# -- other systems -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_reading_without_calls_that_other_systems_lack(clip: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    code = (
        "import os, random, select, signal, sys, threading\n"  # (random needs what it finds on its system)
        "for module, names in ((os, 'register_at_fork memfd_create posix_fallocate sched_getaffinity killpg'),\n"
        "                      (select, 'poll'), (signal, 'setitimer')):\n"
        "    for name in names.split():\n        if hasattr(module, name): delattr(module, name)\n"
        "from pathlib import Path; from openxclip.video import VideoReader, sharing\n"
        "write = lambda: Path(sys.argv[2]).write_bytes(Path(sys.argv[1]).read_bytes())\n"
        "threading.Thread(target=write).start()\n"
        "print(*(VideoReader(path).num_frames for path in (sys.argv[2], sys.argv[1])))\n"
        "sharing.BY_DESCRIPTOR = False\n" + READ
    )
    done = run(sys.executable, "-W", "error", "-c", code, clip, tmp_path / "pipe")
    assert (done.stdout, done.stderr) == ("20 20\n20\n", "")


@pytest.mark.parametrize("by_descriptor", [True, False])
def test_shared_files_without_linux_calls(
    by_descriptor: bool, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "BY_DESCRIPTOR", by_descriptor)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("memfd_create", "posix_fallocate"):
        monkeypatch.delattr(os, name, raising=False)
    file = SharedFile()
    file.allocate((2, 3, 4, 3))[:] = 7
    assert (file.take((2, 3, 4, 3)) == 7).all()
    assert any(tmp_path.iterdir()) != by_descriptor
    with DecodeWorker() as process:
        (frames,) = process.read_clips(clip, ClipPlan(num_frames=4))
        assert (frames.frames_THWC == read_clip(clip, num_frames=4).frames_THWC).all()
        assert process.inspect(clip.read_bytes()).frames == 20
    file.close()
    assert not any(tmp_path.iterdir())


def test_where_memory_cannot_be_limited(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "resource", None)  # type: ignore[arg-type]
        assert not worker_child._MemoryGuard().is_working
    child_module._warn_once.cache_clear()
    warned = []
    for _ in range(2):
        with DecodeWorker() as process, warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert process._child is not None
            out, into = os.pipe()
            os.write(into, b'{"ready": true, "limits_memory": false}\n')
            with open(out, "rb", buffering=0) as forged:  # noqa: PTH123
                process._child._answers, real = forged, process._child._answers
                process._child.wait_until_ready()
            process._child._answers = real
            os.close(into)
            warned += [str(one.message) for one in caught]
    assert warned == ["this system sets no limit to the memory of the process that reads videos"]


@needs_fork
def test_a_file_size_limit_of_the_system(clip: Path) -> None:
    import resource

    def read() -> object:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        with DecodeWorker() as process:
            assert len(process.read_clips(clip, ClipPlan(num_frames=2))) == 1
            return process.read_clips(clip, ClipPlan(num_frames=20))

    message = in_fork(read)
    assert "it cannot be read: there is no room to pass it on between processes" in message
    assert os.strerror(27) in message
    assert "Errno" not in message


@needs_fork
@pytest.mark.parametrize("is_on", [True, False])
def test_a_fork_does_not_change_the_garbage_collector(is_on: bool) -> None:
    before = gc.isenabled()
    try:
        (gc.enable if is_on else gc.disable)()
        assert in_fork(gc.isenabled) == str(is_on)
        assert gc.isenabled() == is_on
    finally:
        (gc.enable if before else gc.disable)()
