"""The notebooks run from a clean environment, and their committed outputs are complete and say nothing of a machine."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
nbformat = pytest.importorskip("nbformat")

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MACHINE_PATH = re.compile(r"(?<![\w.])/(tmp|home|root|work|var|usr|opt|private|Users|content)/|\b[A-Za-z]:\\")
LINK = re.compile(r"\]\(([^)\s:#]+)(?:#[^)\s]*)?\)")


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def text_of(cell: Any) -> str:
    """What a cell printed."""
    return "".join(output.get("text", "") for output in cell.outputs)


def printed(notebook: Any) -> dict[str, str]:
    """What each cell printed, by the cell's id."""
    return {cell.id: text_of(cell) for cell in code_cells(notebook)}


def percentages(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"(\d+)%", text)]


def check_matching(cells: dict[str, str]) -> None:
    first, *others = (float(line.split("%")[0]) for line in cells["probabilities"].splitlines())
    assert first > 80 > sum(others)
    assert cells["backwards"].strip() == "backwards: an eagle drops a snake"
    outcomes = re.findall(r"outcome: (.*)", cells["classify"])
    assert outcomes == ["an eagle picks up a snake", "none of these"]


def check_long_video(cells: dict[str, str]) -> None:
    events = re.findall(r"([\d.]+) to ([\d.]+) s  (.*)", cells["film"])
    found = {label: where.strip() for where, label in re.findall(r"score [\d.]+   (.{14})   (.*)", cells["moments"])}
    assert found["a dog moves left"] == found["a fox chases a chick"] == "not found"
    right = 0
    for start, end, label in events:
        if found[label] != "not found":
            first, last = map(float, re.findall(r"[\d.]+", found[label]))
            right += float(start) - 0.5 <= (first + last) / 2 <= float(end) + 0.5
    assert len(events) >= 6
    assert right >= 0.75 * len(events)


def check_few_shot(cells: dict[str, str]) -> None:
    before, after = percentages(cells["after"])
    assert before <= 50
    assert after >= 70
    clips, wrong = map(int, re.findall(r"(\d+) clips; (\d+) are", cells["use"])[0])
    assert clips == 24
    assert wrong == len(re.findall(r"more/\w+/\d\.mp4 is called a \w+", cells["use"])) <= 8


def check_search(cells: dict[str, str]) -> None:
    captions = dict(line.split(" ", 1) for line in cells["clips"].splitlines())
    hits = [line.split(": ") for line in cells["min-score"].splitlines()]
    assert len(hits) == 4
    for query, names in hits[:-1]:
        assert captions[names.split(", ")[0]].startswith(query)
    assert hits[-1][1] == "no hit"
    assert "giraffe" in cells["video"].splitlines()[0]
    assert re.search(r"keep 00002\.mp4\s+same\.mp4 the same bytes", cells["duplicates"])
    assert re.search(r"keep 00004\.mp4\s+compressed\.mp4 similarity", cells["duplicates"])
    assert "4 clips" in cells["page"]


def check_trainer(cells: dict[str, str]) -> None:
    losses = [float(loss) for loss in re.findall(r"loss ([\d.]+)", cells["train"])]
    assert losses[-1] < losses[0]
    before, after, chance = percentages(cells["train"])
    assert before <= 50
    assert after >= 75
    assert chance == 25
    assert "config.json" in cells["save"]


def check_timeline(cells: dict[str, str]) -> None:
    events = re.findall(r"([\d.]+) to +([\d.]+) s  (.*)", cells["film"])
    segments = re.findall(r"([\d.]+) to +([\d.]+) s  score [\d.]+  (.*)", cells["timeline"])
    middles = {label: (float(start) + float(end)) / 2 for start, end, label in segments}
    assert set(middles) <= {label for _, _, label in events}
    right = sum(float(start) <= middles.get(label, -1) <= float(end) for start, end, label in events)
    assert right >= 0.75 * len(events) >= 4
    assert cells["write"].startswith("WEBVTT")
    assert cells["write"].count(".mp4") == len(segments)
    assert len(re.findall(r"^[01]\.\d{4}", cells["calibrate"], re.MULTILINE)) == len(events) + 2


CHECKS: dict[str, Callable[[dict[str, str]], None]] = {
    "few_shot": check_few_shot,
    "long_video": check_long_video,
    "matching": check_matching,
    "search": check_search,
    "timeline": check_timeline,
    "trainer": check_trainer,
}


@pytest.fixture(scope="module")
def runner() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run_notebooks", ROOT / "scripts" / "docs" / "run_notebooks.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_notebook_is_checked() -> None:
    assert [path.stem for path in NOTEBOOKS] == sorted(CHECKS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_outputs_are_complete(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        assert cell.outputs, f"cell {cell.id} has no output"
        for output in cell.outputs:
            assert output.output_type != "error", cell.id
            assert output.get("name") != "stderr", f"cell {cell.id}: {output.text}"
    CHECKS[path.stem](printed(notebook))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_notebooks_say_nothing_of_a_machine(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert path.stat().st_size < 300_000
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook.metadata.kernelspec.name == "python3"
    for cell in notebook.cells:
        assert not cell.metadata, cell.id
        texts = [cell.source, *(str(value) for output in cell.get("outputs", []) for value in strings(output))]
        for text in texts:
            assert not MACHINE_PATH.search(text), f"cell {cell.id}: {text[:200]}"


def strings(output: Any) -> list[str]:
    """The texts of an output, without its pictures."""
    data = output.get("data", {})
    return [output.get("text", ""), *(value for kind, value in data.items() if not kind.startswith("image/"))]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_have_what_readers_need(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    sources = {cell.id: cell.source for cell in notebook.cells}
    assert notebook.cells[0].source.startswith("# ")
    assert "%pip install" in sources["install"]
    assert "\n## What goes wrong" in f"\n{notebook.cells[-1].source}"
    lines = [line for source in sources.values() for line in source.splitlines() if line.startswith('MODEL = "mini"')]
    assert len(lines) == 1
    assert "microsoft/xclip-" in lines[0]
    links = [link for source in sources.values() for link in LINK.findall(source)]
    assert any(link.startswith("../docs/") for link in links)
    for link in links:
        assert (path.parent / link).is_file(), link


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path: Path, runner: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # nothing is downloaded
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # the tests that run beside this one take the other processors
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))  # no settings of whoever runs this
    here = tmp_path / "here"
    here.mkdir()
    notebook = runner.execute(path, here)
    CHECKS[path.stem](printed(notebook))
    committed = code_cells(nbformat.read(path, as_version=4))
    for cell, other in zip(code_cells(notebook), committed, strict=True):
        assert [kind(output) for output in cell.outputs if output.get("name") != "stderr"] == [
            kind(output) for output in other.outputs
        ], cell.id
    assert not list(here.iterdir())  # a notebook leaves nothing behind


def kind(output: Any) -> list[str]:
    return sorted(output.get("data", {output.output_type: ""}))


def test_normalised_notebooks_keep_only_what_is_needed(runner: ModuleType) -> None:
    from nbformat.v4 import new_code_cell, new_notebook, new_output

    cell = new_code_cell("1", outputs=[new_output("execute_result", {"text/plain": "1"}, metadata={"a": 1})])
    cell.metadata["execution"] = {"iopub.execute_input": "2026"}
    notebook = new_notebook(
        cells=[cell], metadata={"kernelspec": {"name": "mine", "display_name": "Mine"}, "widgets": {}}
    )
    runner.normalise(notebook)
    assert notebook.metadata == runner.METADATA
    assert not notebook.cells[0].metadata
    assert not notebook.cells[0].outputs[0].metadata
