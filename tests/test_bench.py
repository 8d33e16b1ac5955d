"""`openxclip bench`: rows, comparisons and output. No test asserts a time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from openxclip import bench
from openxclip.benchmarking import SECTIONS, inference, peers, processes, table
from openxclip.benchmarking.measuring import Rounds, Row, cpu_name, gemm_peaks, in_turns, medians
from openxclip.cli.bench import _MODELS, _SECTIONS, command

TINY = {
    "projection_dim": 32,
    "prompt_num_attention_heads": 2,
    "text_config": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2},
    "vision_config": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
                      "mit_hidden_size": 32, "mit_intermediate_size": 64, "mit_num_attention_heads": 2,
                      "patch_size": 56},
}  # fmt: skip


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in peers.PRESETS:
        monkeypatch.setitem(peers.PRESETS, name, TINY)


def test_the_command_offers_all_models_and_sections() -> None:
    assert tuple(peers.PRESETS) == _MODELS
    assert _SECTIONS == SECTIONS


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
def test_a_table_and_its_json(tmp_path: Path) -> None:
    lines: list[str] = []
    sections = ("vision", "text", "padded", "training")
    threads = torch.get_num_threads()
    rows = bench(["base-patch32", "base-patch16"], sections=sections, rounds=1, threads=1,
                 output=tmp_path / "rows.json", say=lines.append)  # fmt: skip
    assert torch.get_num_threads() == threads
    record = json.loads((tmp_path / "rows.json").read_text(encoding="utf-8"))
    assert [row["what"] for row in record["rows"]] == [row.what for row in rows]
    assert record["threads"] == 1
    assert record["cpu"] == cpu_name()
    assert sum("base-patch16" in row.what for row in rows) == sum("base-patch32 video" in row.what for row in rows)
    assert [str(row) for row in rows] == lines[-len(rows) :]
    for row in record["rows"]:
        assert row["openxclip"] > 0
        assert row["documented_ratio"] == row["openxclip"] / row["documented"]
        assert row["unit"] == "s"
    errors = {row.what: float(row.note.split()[1].rstrip(",")) for row in rows if row.note.startswith("off")}
    assert all(error < (1e-5 if "fp32" in what else 3e-2) for what, error in errors.items())
    assert len(errors) >= 3


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
def test_one_section_by_the_command(tmp_path: Path) -> None:
    arguments = ["--only", "text", "--rounds", "1", "--threads", "1", "--out", str(tmp_path / "rows.json")]
    done = CliRunner().invoke(command, arguments)
    assert done.exit_code == 0, done.output
    rows = json.loads((tmp_path / "rows.json").read_text(encoding="utf-8"))["rows"]
    assert rows
    assert all(row["openxclip"] > 0 and row["documented"] > 0 for row in rows)
    assert all(row["what"] in done.output for row in rows)


@pytest.mark.usefixtures("tiny")
def test_the_peer_is_the_same_model() -> None:
    """The tuned method, which runs the peer by its parts, gives what its forward gives."""
    model = peers.random_model("base-patch32")
    peer = peers.Peer(model)
    ids, pixels = inference.class_names(), inference.clips_for(model, 2)
    with torch.no_grad():
        reference = model(ids, pixels).logits_per_video
        for logits in (
            peer.model(input_ids=ids, pixel_values=pixels).logits_per_video,
            peer.score_by_parts(pixels, peer.text(ids)),
        ):
            assert (logits - reference).abs().max() <= 1e-4 * reference.abs().max()
        assert (peer.video(pixels) - model.get_video_features(pixels)).abs().max() < 1e-5


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
def test_without_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "has_transformers", lambda: False)
    lines: list[str] = []
    rows = bench(sections=["vision", "training"], rounds=1, say=lines.append)
    assert "pip install transformers" in lines[0]
    assert all(row.documented is None and row.tuned is None for row in rows)
    assert len(rows) >= 3


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
def test_whole_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "can_pack", lambda dtype: False)  # only fp32
    rows = bench(sections=["startup", "classify"], rounds=1, say=lambda line: None)
    assert [row.what.split(",")[0] for row in rows] == [
        "openxclip --help", "first result", "classify 20 clips x 400 names", "peak RSS of it",
    ]  # fmt: skip
    assert all(row.documented and row.tuned for row in rows[2:])
    with pytest.raises(RuntimeError, match=r"a measured process failed.*no such thing"):
        processes.run("raise SystemExit('no such thing')")


def test_medians_call_methods_in_turns() -> None:
    order: list[str] = []
    measured = medians({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, Rounds(3))
    assert order == ["a", "b"] * 4
    assert measured.seconds.keys() == {"a", "b"}
    assert measured.rounds == 3


def test_slow_methods_get_fewer_rounds() -> None:
    runs = in_turns({"a": lambda: 1, "b": lambda: 2}, Rounds(9, longest=0.0))
    assert runs == {"a": [1, 1], "b": [2, 2]}


def test_a_row_as_text() -> None:
    row = Row("what", "s", 0.5, 2.0, None, "note")
    assert row.as_dict()["documented_ratio"] == 0.25
    assert row.as_dict()["tuned_ratio"] is None
    assert "500.0 ms" in str(row)
    assert "2.00 s  0.25" in str(row)
    assert str(row).endswith("note")


def test_gemm_peaks() -> None:
    peaks = gemm_peaks(rounds=1)
    assert peaks["fp32"] > 1e8


def test_invalid_arguments() -> None:
    with pytest.raises(ValueError, match="model base-patch8: choose from base-patch32"):
        bench(["base-patch8"])
    with pytest.raises(ValueError, match="section missing: choose from vision"):
        bench(sections=[])
    with pytest.raises(ValueError, match="rounds=0"):
        bench(rounds=0)
    failed = CliRunner().invoke(command, ["--only", "speed"])
    assert failed.exit_code == 2
    assert "'speed' is not one of" in failed.output
