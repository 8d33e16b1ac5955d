from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from made_videos import encode
from processes import is_gone

from openxclip.errors import VideoError
from openxclip.video import ClipPlan, DecodeWorker, Limits, ReadOptions, read_clips

HOLDERS = [Path(p) for p in {tempfile.gettempdir(), "/dev/shm"} if Path(p).is_dir()]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encode(tmp_path_factory.mktemp("worker") / "clip.mp4", "libx264", count=20)


@pytest.fixture
def worker() -> Iterator[DecodeWorker]:
    with DecodeWorker() as one:
        yield one


def child_of(worker: DecodeWorker) -> subprocess.Popen[bytes]:
    assert worker._child is not None
    return worker._child._process


def run(code: str, *arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=cwd, check=False)


def test_the_same_frames_as_in_this_process(clip: Path, worker: DecodeWorker, tmp_path: Path) -> None:
    plan = ClipPlan(num_frames=3, num_clips=2, start=0.2)
    expected = read_clips(clip, plan)
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(clip.read_bytes()))
    writer.start()
    with clip.open("rb") as file:
        for source in (clip, str(clip), clip.read_bytes(), tmp_path / "pipe", file):
            got = worker.read_clips(source, plan)
            assert len(got) == 2
            for one, other in zip(got, expected, strict=True):
                assert (one.frames_THWC == other.frames_THWC).all()
                assert (one.times_T == other.times_T).all()
                assert one.indices == other.indices
    writer.join()


def test_frames_belong_to_the_caller(clip: Path, worker: DecodeWorker) -> None:
    (first,) = worker.read_clips(clip, ClipPlan(num_frames=2))
    before = first.frames_THWC.clone()
    worker.read_clips(clip, ClipPlan(num_frames=4, start=0.5))
    assert (first.frames_THWC == before).all()
    first.frames_THWC.fill_(0)


def test_the_child_does_not_import_torch(clip: Path, worker: DecodeWorker) -> None:
    worker.read_clips(clip, ClipPlan(num_frames=2))
    maps = Path(f"/proc/{child_of(worker).pid}/maps")
    assert not maps.exists() or "libtorch" not in maps.read_text()


def test_the_childs_memory_is_limited(clip: Path, worker: DecodeWorker) -> None:
    worker.read_clips(clip, ClipPlan(num_frames=2), read=ReadOptions(limits=Limits(memory=1 << 20, pixels=1 << 20)))
    told = Path(f"/proc/{child_of(worker).pid}/limits")
    for line in told.read_text().splitlines() if told.exists() else []:
        if line.startswith("Max address space"):
            assert int(line.split()[3]) < 8 << 30
    worker.read_clips(clip, ClipPlan(num_frames=2), read=ReadOptions(limits=Limits(memory=None)))
    assert not told.exists() or "Max address space         unlimited" in told.read_text()


def test_errors_equal_those_of_this_process(
    clip: Path, worker: DecodeWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)  # the child was started elsewhere
    for source in ("text.mp4", "gone.mp4", "empty", "", "a\0b", "http://127.0.0.1/a.mp4", b"", b"no video", os.devnull):
        with pytest.raises(VideoError) as here:
            read_clips(source, ClipPlan(num_frames=2))
        with pytest.raises(VideoError) as there:
            worker.read_clips(source, ClipPlan(num_frames=2))
        assert (there.value.source, there.value.reason) == (here.value.source, here.value.reason)
    with pytest.raises(ValueError, match="num_frames=0"):
        worker.read_clips(clip, ClipPlan(num_frames=0))
    with pytest.raises(ValueError, match="fps=0"):
        worker.read_clips(clip, ClipPlan(num_frames=1), read=ReadOptions(fps=0))
    with pytest.raises(TypeError, match="a video is a path"):
        worker.read_clips(7, ClipPlan(num_frames=1))  # type: ignore[arg-type]
    with pytest.raises(VideoError, match="--max-memory"):
        worker.read_clips(clip, ClipPlan(num_frames=2), read=ReadOptions(limits=Limits(memory=1000)))
    assert len(worker.read_clips(clip, ClipPlan(num_frames=2))) == 1


def test_names_that_are_not_utf8_can_be_read(clip: Path, worker: DecodeWorker, tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\n'\".mp4"))
    path.write_bytes(clip.read_bytes())
    assert len(worker.read_clips(path, ClipPlan(num_frames=2))) == 1


def test_a_hanging_child_is_killed_at_the_limit(clip: Path, worker: DecodeWorker) -> None:
    worker.read_clips(clip, ClipPlan(num_frames=1))
    hung = child_of(worker)
    os.kill(hung.pid, signal.SIGSTOP)
    with pytest.raises(VideoError, match=r"took longer than the limit of 0\.1 s: .*--max-seconds"):
        worker.read_clips(clip, ClipPlan(num_frames=1), read=ReadOptions(limits=Limits(seconds=0.1)))
    assert hung.returncode == -signal.SIGKILL  # it was waited for, and is no zombie
    assert len(worker.read_clips(clip, ClipPlan(num_frames=1))) == 1
    assert child_of(worker).pid != hung.pid


@pytest.mark.parametrize(
    ("kill", "message"),
    [(signal.SIGSEGV, r"crashed the decoder \(SIGSEGV\)"), (signal.SIGKILL, "was killed, by the system")],
)
def test_the_child_is_killed_while_it_reads(
    kill: signal.Signals, message: str, clip: Path, worker: DecodeWorker
) -> None:
    worker.read_clips(clip, ClipPlan(num_frames=1))
    dying = child_of(worker)
    os.kill(dying.pid, signal.SIGSTOP)  # so that the read doesn't end

    def end() -> None:
        os.kill(dying.pid, kill)
        os.kill(dying.pid, signal.SIGCONT)

    timer = threading.Timer(0.2, end)
    timer.start()
    with pytest.raises(VideoError, match=message):
        worker.read_clips(clip, ClipPlan(num_frames=1))
    timer.join()
    assert dying.returncode == -kill
    assert len(worker.read_clips(clip, ClipPlan(num_frames=1))) == 1


def test_the_child_is_killed_between_two_reads(clip: Path, worker: DecodeWorker) -> None:
    worker.read_clips(clip, ClipPlan(num_frames=1))
    child_of(worker).kill()
    child_of(worker).wait()
    assert len(worker.read_clips(clip, ClipPlan(num_frames=1))) == 1


@pytest.mark.slow
def test_invalid_answers_of_the_child_are_refused(clip: Path, worker: DecodeWorker) -> None:
    answers = [b"[]\n", b"garbage\n", b"\xff\n", b"{}\n", b'{"shape": ["x"]}\n', b'{"shape": [9999999, 9999, 9, 3]}\n']
    for answer in [*answers, b'{"shape": [1, 64, 96, 3], "times": [], "indices": []}\n']:
        worker.read_clips(clip, ClipPlan(num_frames=1))
        assert worker._child is not None
        real = worker._child._answers
        out, into = os.pipe()
        os.write(into, answer)
        os.close(into)
        with open(out, "rb") as forged:  # noqa: PTH123
            worker._child._answers = forged
            with pytest.raises(VideoError):
                worker.read_clips(clip, ClipPlan(num_frames=1))
        assert real is not None
        worker._child._answers = real
        worker._child.end()


def test_threads_share_a_worker(clip: Path, worker: DecodeWorker) -> None:
    def read(start: float) -> tuple[int, ...]:
        return worker.read_clips(clip, ClipPlan(num_frames=1, start=start))[0].indices

    starts = [0.04 * i for i in range(20)]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(read, starts))
    assert got == [read(start) for start in starts]


def test_closing_while_the_child_reads(clip: Path) -> None:
    worker = DecodeWorker()
    worker.read_clips(clip, ClipPlan(num_frames=1))
    child = child_of(worker)
    os.kill(child.pid, signal.SIGSTOP)
    timer = threading.Timer(0.2, worker.close)
    timer.start()
    with pytest.raises(VideoError):
        worker.read_clips(clip, ClipPlan(num_frames=1))
    timer.join()
    assert child.returncode is not None
    with pytest.raises(VideoError, match="has been closed"):
        worker.read_clips(clip, ClipPlan(num_frames=1))


def test_a_garbage_collected_worker_ends_its_child(clip: Path) -> None:
    before = {folder: set(os.listdir(folder)) for folder in HOLDERS}  # noqa: PTH208
    worker = DecodeWorker()
    worker.read_clips(clip, ClipPlan(num_frames=4))
    assert all(not {n for n in set(os.listdir(f)) - before[f] if "openxclip" in n} for f in HOLDERS)  # noqa: PTH208
    child = child_of(worker)
    del worker
    assert child.returncode is not None


def test_a_copy_has_its_own_child(clip: Path, worker: DecodeWorker) -> None:
    with pickle.loads(pickle.dumps(worker)) as other:
        assert len(other.read_clips(clip, ClipPlan(num_frames=1))) == 1
        assert child_of(other).pid != child_of(worker).pid


@pytest.mark.parametrize(("executable", "message"), [("", "no Python interpreter"), ("/bin/false", "ended at once")])
def test_videos_are_read_here_if_no_child_can_be_started(
    executable: str, message: str, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    with pytest.warns(RuntimeWarning, match=message) as warned, DecodeWorker() as worker:  # noqa: PT031
        assert len(worker.read_clips(clip, ClipPlan(num_frames=2))) == 1
        assert worker.inspect(clip).frames == 20
    assert len(warned) == 1


READ = (
    "import sys; from openxclip.video import DecodeWorker; w = DecodeWorker(); print(w.inspect(sys.argv[1]).frames)\n"
)


def test_the_child_imports_nothing_from_the_current_folder(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "script.py").write_text(READ)
    for name in ("json.py", "av.py", "numpy.py"):
        (tmp_path / "elsewhere" / name).write_text("raise SystemExit('imported')")
    command = [sys.executable, "-W", "error", str(tmp_path / "script.py"), str(clip)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path / "elsewhere", check=False)
    assert (done.stdout, done.stderr) == ("20\n", "")


def test_the_child_ends_with_a_parent_that_is_killed(clip: Path) -> None:
    code = READ + "print(w._child._process.pid, flush=True); import time; time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, str(clip)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "20\n"
        child = int(parent.stdout.readline())
        parent.kill()
    assert is_gone(child)


def test_a_program_ends_while_a_read_hangs(clip: Path) -> None:
    code = READ + (
        "import os, signal, threading, time\n"
        "from openxclip.video.ahead import ReadAhead\n"
        "os.kill(w._child._process.pid, signal.SIGSTOP)\n"
        "def read(name): yield w.inspect(name)\n"
        "ahead = ReadAhead([read], [sys.argv[1]] * 3, ahead=2)\n"
        "time.sleep(0.2)\n"
        "print(w._child._process.pid)\n"
    )
    started = time.monotonic()
    done = run(code, clip)
    assert time.monotonic() - started < 50  # the limit of that read is 120 s
    assert (done.returncode, done.stderr) == (0, "")
    assert is_gone(int(done.stdout.split()[1]))


def test_ctrl_c(clip: Path) -> None:
    code = READ + (
        "import os, signal; os.kill(w._child._process.pid, signal.SIGSTOP)\n"
        "print(w._child._process.pid, flush=True); w.inspect(sys.argv[1])"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(clip)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert parent.stdout is not None
    parent.stdout.readline()
    child = int(parent.stdout.readline())
    time.sleep(0.3)
    os.killpg(parent.pid, signal.SIGINT)
    _, stderr = parent.communicate(timeout=30)
    assert parent.returncode == -signal.SIGINT
    assert stderr.count("Traceback") == 1
    assert stderr.rstrip().endswith("KeyboardInterrupt")
    assert is_gone(child)


def test_the_child_ignores_modules_in_the_current_folder(tmp_path: Path) -> None:
    clip = encode(tmp_path / "clip.mkv", "ffv1", count=20)
    for name in ("json", "queue", "av", "numpy", "PIL"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nraise SystemExit\n")
    script = (
        "import os, openxclip\nfrom openxclip.video import DecodeWorker\n"
        f"os.chdir({str(tmp_path)!r})\nprint(DecodeWorker().inspect({str(clip)!r}).frames)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("20\n", "")
    assert not (tmp_path / "ran").exists()
