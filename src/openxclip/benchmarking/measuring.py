"""Run methods in turns, take medians, and format the table."""

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

_MIN_ROUNDS = 2
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Rounds:
    """How often each method of a row is measured.

    Attributes:
        number: maximum number of rounds.
        longest: seconds that the rounds of one row may take; slow rows get fewer rounds, at least two.
    """

    number: int
    longest: float = 40.0


class Medians(NamedTuple):
    """Medians of several methods.

    Attributes:
        seconds: median of each method.
        rounds: number of rounds.
    """

    seconds: dict[str, float]
    rounds: int


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        what: what was measured.
        unit: unit of the three medians.
        ours: median of openxclip.
        documented: median of transformers used as in its documentation; None without transformers.
        tuned: median of transformers as an expert would use it: reused text features, texts without padding, inference
            mode, sdpa, and bfloat16 autocast if openxclip computes in bfloat16.
        note: an error or a share of the peak.
        rounds: number of rounds.
    """

    what: str
    unit: str
    ours: float
    documented: float | None = None
    tuned: float | None = None
    note: str = ""
    rounds: int = 1

    def as_dict(self) -> dict[str, Any]:
        """Return the values and ratios for JSON."""
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


def in_turns(methods: Mapping[str, Callable[[], _Result]], rounds: Rounds) -> dict[str, list[_Result]]:
    """Call methods in turns, so that a busy machine slows all of them alike, and return the results of each."""
    results: dict[str, list[_Result]] = {name: [] for name in methods}
    began = time.monotonic()
    for num_done in range(rounds.number):
        spent = time.monotonic() - began
        if num_done >= _MIN_ROUNDS and spent * (num_done + 1) / num_done > rounds.longest:
            break
        for name, method in methods.items():
            results[name].append(method())
    return results


def medians(methods: Mapping[str, Callable[[], Any]], rounds: Rounds) -> Medians:
    """Return the median time of each method, after a warm-up call."""
    for method in methods.values():
        method()
    times = in_turns({name: partial(_seconds, method) for name, method in methods.items()}, rounds)
    seconds = {name: statistics.median(values) for name, values in times.items()}
    return Medians(seconds, len(next(iter(times.values()))))


def gemm_peaks(rounds: int = 15) -> dict[str, float]:
    """Measure the peak of matrix products on this CPU, in operations (2 per multiply-add) per second, by precision.

    The peak is the best of several runs with several shapes, by PyTorch's product and by oneDNN's packed product.
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


def relative_error(ours: torch.Tensor, reference: torch.Tensor) -> float:
    """Return the norm of the difference divided by the reference's norm."""
    return float((ours.float() - reference.float()).norm() / reference.float().norm())


def cpu_name() -> str:
    """Return the CPU's name and half-precision units, if the system reports them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    info = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = info.get("flags", "").split()
    units = [flag for flag in ("avx512_bf16", "avx512_fp16", "amx_bf16") if flag in flags]
    return f"{info.get('model name', platform.machine())} ({', '.join(units) or 'no half-precision units'})"
