"""Mistakes in the use of a cluster: one clear sentence each."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import openxclip
from openxclip.cli.index import command as index_command
from openxclip.cluster import IndexSettings, connecting, embed_on_cluster, index_on_cluster, indexing, tables
from openxclip.cluster.connecting import Node, check_node
from openxclip.cluster.jobs import name_for_workers
from openxclip.cluster.parts_of_table import Table
from openxclip.errors import ClusterError, MissingPackageError, OpenXCLIPError

SAMPLES = Path(__file__).parent.parent.parent / "samples"
INDEX = ("index", "videos", "--to", "index")


@pytest.fixture
def usage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs `openxclip index` with wrong options in an empty folder, and returns the message."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "videos").mkdir()

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(index_command, [*arguments])
        assert result.exit_code == 2, result.output
        assert [path.name for path in tmp_path.iterdir()] == ["videos"], "nothing is begun"
        return re.sub(r"\s*\n\s*|│", " ", result.output)

    return run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--cluster", "videos", "--to", "index"), "put --cluster without a value after the videos"),
        (("videos", "--to", "index", "--cluster", "ray://head:10001"), "must be auto, local or HOST:PORT"),
        (("videos", "--to", "index", "--part", "3/2"), "must be I/N with I from 1 to N, such as 3/16"),
        (("videos", "--to", "index", "--part", "1/2", "--cluster", "local"), "give one of --cluster, --part and"),
        (("videos", "--to", "index", "--part", "1/2", "--commit"), "give one of --cluster, --part and --commit"),
        (("videos", "--to", "index", "--part", "1/2", "--readers", "1"), "--readers needs --cluster"),
        (("videos", "--to", "index", "--part", "1/2", "--update"), "--update can't be combined with --cluster"),
        (("videos", "more", "--to", "index", "--part", "1/2"), "name one folder, prefix or manifest"),
        (("--to", "index", "--cluster", "local"), "no videos are named"),
        (("videos", "--to", "index", "--cluster", "local", "--device", "cpu"), "--device can't be combined"),
        (("videos", "--to", "index", "--max-failures", "3"), "--max-failures needs --cluster or --part"),
        (("nothing", "--to", "index", "--part", "1/2"), "there is no such file or folder"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    usage: Callable[..., str], arguments: tuple[str, ...], message: str
) -> None:
    assert message in usage(*arguments)


def test_no_cluster_at_the_address() -> None:
    pytest.importorskip("ray")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{found.getsockname()[1]}"
    with (
        pytest.raises(ClusterError, match=rf"^there is no Ray cluster at {address}: start one"),
        connecting.connected(address),
    ):
        pass


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(MissingPackageError, match=r"a cluster needs ray, .* pip install 'openxclip\[cluster\]'"),
        connecting.connected("local"),
    ):
        pass


@pytest.mark.parametrize(
    ("package", "arguments"),
    [
        ("ray", ("--cluster", "local")),
        ("lance", ("--cluster", "local")),
        ("lance", ("--part", "1/2")),
        ("obstore", ("--part", "1/2")),
        ("obstore", ("--commit",)),
    ],
)
def test_without_a_package_nothing_is_begun(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, package: str, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes((SAMPLES / "cat_moves_left.mp4").read_bytes())
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError, match=rf"needs {package}, .* pip install 'openxclip\[cluster\]'"):
        index_command.main(["videos", "--to", "index", *arguments], standalone_mode=False)
    assert [path.name for path in tmp_path.iterdir()] == ["videos"]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (("3.9.1", ""), "runs Python 3.9.1, but this command"),
        ((None, ""), r"has no openxclip: install openxclip\[cluster\]=="),
        ((None, "0.0.1"), r"has openxclip 0.0.1, but this command is \d"),
    ],
)
def test_a_machine_with_other_versions(monkeypatch: pytest.MonkeyPatch, answer: Any, message: str) -> None:
    import platform

    pytest.importorskip("ray")
    python, version = answer

    class Ray:
        def remote(self, function: Any) -> Any:
            return self

        def options(self, **options: Any) -> Any:
            return self

        def get(self, call: Any, timeout: float) -> Any:
            return python or platform.python_version(), version

    monkeypatch.setattr(Ray, "remote", lambda self, function=None: self)
    wrong = check_node(Ray(), Node("a" * 56, "worker-1 (10.0.0.1)", 4, 0))
    assert re.search(f"^worker-1 \\(10.0.0.1\\) {message}", wrong)


def test_a_parquet_file_that_can_not_be_read_is_no_manifest(tmp_path: Path) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"bad")
    for name in ("missing.parquet", "broken.parquet"):
        arguments = [str(tmp_path / name), "--to", str(tmp_path / "index"), "--model", "mini"]
        ran = CliRunner().invoke(index_command, arguments)
        assert ran.exit_code == 1
        assert isinstance(ran.exception, OpenXCLIPError)
        assert "can't be read as Parquet" in str(ran.exception)


def test_workers_get_absolute_paths(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The current folder of a worker is another one."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(Path(openxclip.__file__).parent / "models" / "mini", "model")
    shutil.copytree(SAMPLES, "samples")
    jobs: list[Any] = []
    monkeypatch.setattr(indexing, "connected", lambda address: nullcontext())
    monkeypatch.setattr(indexing._Indexing, "run", lambda self, source, **_: jobs.append((self._job, source)))
    index_on_cluster("samples", "index", settings=IndexSettings(model="model", window=1.0, device="cpu"))
    ((job, source),) = jobs
    assert (job.uri, job.model) == (str(tmp_path / "index"), str(tmp_path / "model"))
    assert {Path(item.path).parent for part in source.items() for item in part} == {tmp_path / "samples"}
    assert Table("rows").uri == str(tmp_path / "rows")
    assert name_for_workers("mini") == "mini"


def test_an_empty_source_or_a_column_of_the_index_itself_creates_no_index(tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos.csv").write_text("path,start\na.mp4,3\n")
    for source, message in (
        ("videos", "no videos in"),
        ("videos.csv", "column 'start': an index has a column of its own"),
    ):
        arguments = [str(tmp_path / source), "--to", str(tmp_path / "index"), "--part", "1/1", "--model", "mini"]
        ran = CliRunner().invoke(index_command, arguments)
        assert ran.exit_code == 2
        assert message in ran.stderr
    assert not (tmp_path / "index" / "windows.lance").exists()


@pytest.mark.parametrize("out", ["rows", "rows.lance"])
def test_rows_are_not_written_among_other_files(out: str, tmp_path: Path) -> None:
    place = tmp_path / out
    place.mkdir()
    (place / "part-1.mp4").write_bytes(b"a video")
    with pytest.raises(
        ValueError, match=r"has files of something else, such as part-1\.mp4: name an empty or new place"
    ):
        embed_on_cluster(SAMPLES, place, model="mini")
    assert [path.name for path in place.iterdir()] == ["part-1.mp4"]


def test_columns_that_the_rows_do_not_have_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "videos.csv").write_text("path,camera,shelf\na.mp4,3,top\n")
    monkeypatch.setattr(tables, "connected", lambda address: (_ for _ in ()).throw(ClusterError("no cluster")))
    said: list[str] = []
    with pytest.raises(ClusterError, match="no cluster"):
        embed_on_cluster(tmp_path / "videos.csv", tmp_path / "rows", model="mini", say=said.append)
    assert said == ["the rows have no camera, shelf of the manifest: join them by path."]


@pytest.mark.slow
def test_a_cluster_of_another_version_of_ray(ray_cluster: Any, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes((SAMPLES / "cat_moves_left.mp4").read_bytes())
    code = "import ray; ray.__version__ = '2.1.0'; from openxclip.cli.main import main; main()"
    ran = subprocess.run(
        [sys.executable, "-c", code, *INDEX, "--model", "mini", "--cluster", ray_cluster.address],
        capture_output=True, text=True, env=ray_cluster.environment, cwd=tmp_path, timeout=120,
    )  # fmt: skip
    assert ran.returncode == 1
    message = ran.stderr.strip().splitlines()[-1]
    assert re.search(r"the cluster at \S+ runs Ray 2\.\d+\.\d+, Python 3\.\S+, but this command Ray 2.1.0", message)
    assert [path.name for path in tmp_path.iterdir()] == ["videos"]
