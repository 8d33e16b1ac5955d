"""Execute the notebooks in notebooks/ and write their outputs into them.

    python scripts/docs/run_notebooks.py [NAME …]

Each runs in a new kernel, in an empty folder, so that it can't depend on anything else in the repository. A notebook
whose cell raises an error stays as it is. Metadata and pictures are made small and independent of the machine.
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
ENVIRONMENT = {
    "OMP_WAIT_POLICY": "PASSIVE",  # on a busy machine, threads that spin while they wait are slow
    "PYTHONWARNINGS": "ignore:IProgress not found",  # nobody watches a progress bar here
}
COLOURS = 256  # of a picture


def execute(path: Path, folder: str | Path, *, timeout: int = 600) -> NotebookNode:
    """Return a notebook with the outputs of a new run.

    Args:
        path: the notebook, which isn't changed.
        folder: the current folder of the run.
        timeout: seconds for each cell.

    Raises:
        CellExecutionError: a cell raises an error.
    """
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    client = NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(env={**ENVIRONMENT, **os.environ})
    return notebook


def normalise(notebook: NotebookNode) -> None:
    """Remove from a notebook what differs between two runs or machines, and make its pictures smaller."""
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({})
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = smaller(output.data["image/png"])
            if "metadata" in output:
                output.metadata = nbformat.from_dict({})


def smaller(png: str) -> str:
    """Return a picture, a PNG in base64, with fewer colours."""
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    data = io.BytesIO()
    picture.save(data, "PNG", optimize=True)
    return base64.b64encode(data.getvalue()).decode()


def main() -> int:
    """Execute the notebooks; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="names without .ipynb; default: all")
    names = parser.parse_args().names or sorted(path.stem for path in FOLDER.glob("*.ipynb"))
    for name in names:
        path = FOLDER / f"{name}.ipynb"
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            notebook = execute(path, folder)
        normalise(notebook)
        nbformat.write(notebook, path)
        print(f"{path.name}: {time.monotonic() - began:.0f} s, {path.stat().st_size / 1000:.0f} kB", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
