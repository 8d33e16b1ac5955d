"""`openxclip models`."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from openxclip.checkpoints import RELEASED
from openxclip.cli.main import main
from openxclip.hub import RELEASED_MODELS, suggest_model


def lines(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Any) -> list[str]:
    monkeypatch.setattr(sys, "argv", ["openxclip", "models", *arguments])
    main()
    return list(capsys.readouterr().out.splitlines())


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_json_lines_in_a_pipe(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [json.loads(line) for line in lines(arguments, monkeypatch, capsys)]
    assert [row["name"] for row in rows][: len(RELEASED)] == [one.name for one in RELEASED]
    base = next(row for row in rows if row["name"] == "microsoft/xclip-base-patch32")
    assert base["accuracy"] == {"top1": 80.4, "top5": 95.0}
    assert base["download_bytes"] == 4 * base["parameters"] == 786_342_916
    assert base["trained_on"] == "Kinetics-400"
    assert (base["frames"], base["resolution"], base["architecture"]) == (8, 224, "B/32")
    assert rows[0]["name"] == "mini"
    assert rows[0]["accuracy"] == {}


def test_a_table_on_a_terminal_has_names_that_can_be_copied(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    shown = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines([], monkeypatch, capsys)]
    assert all(len(line) <= 80 for line in shown)
    for one in RELEASED:
        assert any(line.split()[:1] == [one.name] for line in shown), one.name
    text = "\n".join(shown)
    for told in ("80.4, 95.0", "16×336", "K600", "HMDB 44.6"):
        assert told in text
    assert "…" not in text
    assert any(line.split()[:2] == ["mini", "here"] for line in shown)


def test_cached_models_are_listed(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("someone/my-xclip", "microsoft/xclip-base-patch32", "someone/not-a-model"):
        repository = tmp_path / f"models--{name.replace('/', '--')}"
        snapshot = repository / "snapshots" / ("0" * 40)
        if name.startswith("someone/not"):
            snapshot.mkdir(parents=True)
            (snapshot / "config.json").write_text('{"model_type": "bert"}')
        else:
            shutil.copytree(tiny_folder, snapshot)
        (repository / "refs").mkdir()
        (repository / "refs/main").write_text("0" * 40)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.utils._cache_manager.HF_HUB_CACHE", str(tmp_path))
    rows = {row["name"]: row for row in map(json.loads, lines(["--json"], monkeypatch, capsys))}
    assert set(rows) == {*(one.name for one in RELEASED), "someone/my-xclip"}
    assert {name for name, row in rows.items() if row["here"]} == {
        "mini", "microsoft/xclip-base-patch32", "someone/my-xclip"
    }  # fmt: skip
    assert (rows["someone/my-xclip"]["frames"], rows["someone/my-xclip"]["resolution"]) == (4, 32)
    assert "did you mean someone/my-xclip?" in suggest_model("someone/my-xlcip")


def test_the_names_of_released_models_are_known_to_the_hub_module() -> None:
    assert {one.name for one in RELEASED} == {*RELEASED_MODELS, "mini"}
