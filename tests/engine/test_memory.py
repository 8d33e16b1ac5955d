"""Only memory that can be read from a file again is released."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from openxclip.engine import memory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a page map")
NUMBERS = 1 << 20


def resident(weight: Tensor) -> float:
    """Return the MiB of the weight that are in memory."""
    import numpy as np

    first, last = weight.data_ptr() // 4096, (weight.data_ptr() + 4 * weight.numel()) // 4096
    with open("/proc/self/pagemap", "rb") as file:  # noqa: PTH123
        file.seek(8 * first)
        words = np.frombuffer(file.read(8 * (last - first)), dtype=np.uint64)
    return float((words >> np.uint64(63)).sum()) / 256


def mapped(path: Path) -> Tensor:
    torch.arange(NUMBERS, dtype=torch.float32).numpy().tofile(path)
    return torch.from_file(str(path), shared=False, size=NUMBERS, dtype=torch.float32)


def test_mapped_weights_are_released_and_stay_readable(tmp_path: Path) -> None:
    weight = mapped(tmp_path / "weight")
    total = float(weight.sum())
    assert resident(weight) > 3.9
    memory.release([weight])
    assert resident(weight) < 0.1
    assert float(weight.sum()) == total
    assert torch.equal(weight, torch.arange(NUMBERS, dtype=torch.float32))


@pytest.mark.parametrize("where", [0, NUMBERS // 2, NUMBERS - 1])
def test_changed_weights_are_kept(tmp_path: Path, where: int) -> None:
    weight = mapped(tmp_path / "weight")
    weight.data[where] = -1
    memory.release([weight])
    assert float(weight[where]) == -1
    weight.mul_(2)
    memory.release([weight])
    assert torch.equal(weight[1:where], 2 * torch.arange(NUMBERS, dtype=torch.float32)[1:where])
    assert float(weight[where]) == -2


def test_unmapped_weights_are_kept() -> None:
    weights = [torch.arange(NUMBERS, dtype=torch.float32), torch.ones(3), torch.empty(0), torch.ones(9, 9).T]
    memory.release(weights)
    assert torch.equal(weights[0], torch.arange(NUMBERS, dtype=torch.float32))
    assert all((weight == 1).all() for weight in weights[1:])


def test_nothing_is_released_without_a_page_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_PAGEMAP", str(tmp_path / "none"))
    memory.release([mapped(tmp_path / "weight")])
    (tmp_path / "short").write_bytes(b"12")
    monkeypatch.setattr(memory, "_PAGEMAP", str(tmp_path / "short"))
    weight = mapped(tmp_path / "other")
    assert float(weight[5]) == 5
    memory.release([weight])
    assert float(weight[5]) == 5


def test_neighbours_in_the_file_are_kept(tmp_path: Path) -> None:
    weight = mapped(tmp_path / "weight")
    first, second = weight.split(NUMBERS // 2)
    second.mul_(3)
    assert float(first.sum()) > 0
    memory.release([first])
    assert float(second[0]) == 3 * NUMBERS // 2
    assert float(first[7]) == 7
