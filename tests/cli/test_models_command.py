"""`openxclip models`."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import pytest

from openxclip.checkpoints import RELEASED
from openxclip.cli.main import main


def lines(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Any) -> list[str]:
    monkeypatch.setattr(sys, "argv", ["openxclip", "models", *arguments])
    main()
    return list(capsys.readouterr().out.splitlines())


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_json_lines_in_a_pipe(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [json.loads(line) for line in lines(arguments, monkeypatch, capsys)]
    assert [row["name"] for row in rows] == [one.name for one in RELEASED]
    base = next(row for row in rows if row["name"] == "microsoft/xclip-base-patch32")
    assert base["accuracy"] == {"top1": 80.4, "top5": 95.0}
    assert base["download_bytes"] == 4 * base["parameters"] == 786_342_916
    assert base["trained_on"] == "Kinetics-400"
    assert (base["frames"], base["resolution"], base["architecture"]) == (8, 224, "B/32")
    assert rows[0]["name"] == "mini"
    assert rows[0]["accuracy"] == {}


def test_a_table_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    shown = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines([], monkeypatch, capsys)]
    assert all(len(line) <= 80 for line in shown)
    for one in RELEASED:
        assert any(one.name.removeprefix("microsoft/") in line.split() for line in shown), one.name
    text = "\n".join(shown)
    for told in ("80.4, 95.0", "16×336", "K600", "microsoft/xclip-base-patch32"):
        assert told in text
    assert "…" not in text
