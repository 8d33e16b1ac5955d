"""Runs that take turns, medians, and the table that they make."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch

from openxclip.engine.linears import Kernel, Linear, can_pack

_FEWEST = 2  # rounds, however long they take
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Rounds:
    """How often each way of a row is measured.

    Attributes:
        number: of rounds.
        longest: seconds that the rounds of one row may take; what takes longer gets fewer of them, at least two.
    """

    number: int
    longest: float = 40.0


class Medians(NamedTuple):
    """Attributes:
    seconds: the median of each way.
    rounds: of how many.
    """

    seconds: dict[str, float]
    rounds: int


@dataclass(frozen=True)
class Row:
    """One line: what was measured, and the medians.

    Attributes:
        what: in words.
        unit: of all three.
        ours: of openxclip.
        documented: of transformers used as its documentation does; None if it isn't there.
        tuned: of transformers as an expert would use it: text features reused and trimmed, inference mode, sdpa, and
            bfloat16 autocast where ours computes in bfloat16.
        note: an error or a share, in words.
        rounds: that these are the medians of.
    """

    what: str
    unit: str
    ours: float
    documented: float | None = None
    tuned: float | None = None
    note: str = ""
    rounds: int = 1

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values, with the ratios."""
        values: dict[str, Any] = {"what": self.what, "unit": self.unit, "openxclip": self.ours}
        for name, peer in (("documented", self.documented), ("tuned", self.tuned)):
            values[name] = peer
            values[f"{name}_ratio"] = None if peer is None else self.ours / peer
        return {**values, "note": self.note, "rounds": self.rounds}

    def __str__(self) -> str:
        text = f"{self.what:<47} {_number(self.ours, self.unit):>10}"
        for peer in (self.documented, self.tuned):
            text += f" {'':>10} {'':>5}" if peer is None else f" {_number(peer, self.unit):>10} {self.ours / peer:5.2f}"
        return f"{text}  {self.note}".rstrip()


HEAD = f"{'':<47} {'openxclip':>10} {'documented':>10} {'ratio':>5} {'tuned':>10} {'ratio':>5}"


def _number(value: float, unit: str) -> str:
    if unit == "s":
        return f"{value:.2f} s" if value >= 1 else f"{1e3 * value:.1f} ms"
    return f"{value:.0f} {unit}"


def in_turns(ways: Mapping[str, Callable[[], _Result]], how: Rounds) -> dict[str, list[_Result]]:
    """What each way returned, round by round: they take turns, so that a busy machine slows all alike."""
    results: dict[str, list[_Result]] = {name: [] for name in ways}
    began = time.monotonic()
    for done in range(how.number):
        spent = time.monotonic() - began
        if done >= _FEWEST and spent * (done + 1) / done > how.longest:
            break
        for name, way in ways.items():
            results[name].append(way())
    return results


def medians(ways: Mapping[str, Callable[[], Any]], how: Rounds) -> Medians:
    """Median seconds of each, after a run that isn't measured."""
    for way in ways.values():
        way()
    taken = in_turns({name: partial(_seconds, way) for name, way in ways.items()}, how)
    return Medians(
        {name: statistics.median(seconds) for name, seconds in taken.items()}, len(next(iter(taken.values())))
    )


def gemm_peaks(rounds: int = 15) -> dict[str, float]:
    """The most operations a second (2 x multiply-adds) that this CPU gave in a product, by precision.

    The best of several runs of several shapes, by PyTorch's own product and by oneDNN's packed one: a limit.
    """
    peaks: dict[str, float] = {}
    with torch.no_grad():
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)):
            if dtype != torch.float32 and not can_pack(dtype):
                continue
            for rows, width, inner in ((400, 768, 3072), (2048, 1024, 4096)):
                x, weight = torch.randn(rows, width).to(dtype), torch.randn(inner, width)
                for packed in (False, True) if can_pack(dtype) else (False,):
                    linear = Linear(weight, None, Kernel(dtype, packed))
                    best = min(_seconds(linear, x) for _ in range(rounds))
                    peaks[name] = max(peaks.get(name, 0.0), 2 * rows * width * inner / best)
    return peaks


def _seconds(call: Callable[..., Any], *arguments: Any) -> float:
    began = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - began


def relative_error(ours: torch.Tensor, right: torch.Tensor) -> float:
    """Norm of the difference over the right answer's."""
    return float((ours.float() - right.float()).norm() / right.float().norm())


def cpu_name() -> str:
    """The CPU's name and what matters of its instructions, where Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    found = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = found.get("flags", "").split()
    units = [flag for flag in ("avx512_bf16", "avx512_fp16", "amx_bf16") if flag in flags]
    return f"{found.get('model name', platform.machine())} ({', '.join(units) or 'no half-precision units'})"
