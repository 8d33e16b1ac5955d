"""`bench`: measure all sections and report them as one table."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

import openxclip
from openxclip.benchmarking import inference, processes, videos
from openxclip.benchmarking.measuring import HEAD, Rounds, Row, cpu_name, gemm_peaks
from openxclip.benchmarking.peers import PRESETS, Peer, random_model
from openxclip.common.files import atomic_file, cannot_write, without_nan
from openxclip.engine import Precision
from openxclip.engine.linears import can_pack
from openxclip.errors import NotWrittenError

SECTIONS = ("vision", "text", "padded", "training", "decode", "startup", "classify")


def bench(
    models: Sequence[str] = ("base-patch32",),
    *,
    sections: Sequence[str] = SECTIONS,
    rounds: int = 5,
    longest: float = 40.0,
    threads: int | None = None,
    clips: Sequence[str | Path] = (),
    output: str | Path | None = None,
    say: Callable[[str], Any] = print,
    on_row: Callable[[Row], object] = lambda row: None,
) -> list[Row]:
    """Measure openxclip on this CPU, and transformers if it is installed, as `openxclip bench` does.

    Both run in turns with the same threads and the same random weights, and their medians are compared. On a busy
    machine only the ratios are meaningful.

    Args:
        models: names in `PRESETS`; "vision" is measured for all of them, the other sections for the first only.
        sections: names in `SECTIONS`.
        rounds: maximum number of rounds.
        longest: seconds that the rounds of one row may take; slow rows get fewer rounds, at least two.
        threads: number of PyTorch's threads; None keeps the current number.
        clips: video files for "classify"; default is a generated one.
        output: JSON file to write the rows to.
        say: called with each line of the table.
        on_row: called with each row.

    Returns:
        The rows of the table.

    Raises:
        ValueError: a model or section is unknown, or `rounds` is below 1.
        NotWrittenError: `output` can't be written; the error's `result` has the rows.
    """
    for given, known, what in ((models, PRESETS, "model"), (sections, SECTIONS, "section")):
        unknown = [name for name in given if name not in known]
        if unknown or not given:
            raise ValueError(f"{what} {', '.join(unknown) or 'missing'}: choose from {', '.join(known)}.")
    if rounds < 1:
        raise ValueError(f"rounds={rounds}: must be 1 or more.")
    with _num_threads(threads):
        peaks = gemm_peaks()
        record = _describe_machine(peaks)
        if "transformers" not in record["versions"]:
            say("transformers isn't installed: nothing to compare with (pip install transformers).")
        say(f"{record['cpu']}, {record['threads']} threads, medians of {rounds} rounds or fewer")
        say(", ".join(f"{name} {version}" for name, version in record["versions"].items()))
        say("GEMM peak: " + ", ".join(f"{name} {peak / 1e9:.0f} GFLOP/s" for name, peak in peaks.items()))
        say(HEAD)
        rows: list[Row] = []
        write_error: OSError | None = None
        for row in _measure(models, sections, Rounds(rounds, longest), clips, peaks):
            say(str(row))
            on_row(row)
            rows.append(row)
            if output is not None and write_error is None:  # after each row, so that an interruption loses none
                try:
                    _write(Path(output), {**record, "rows": [row.as_dict() for row in rows]})
                except OSError as error:  # measure and show the other rows nevertheless
                    write_error = error
    if write_error is not None:
        raise NotWrittenError(cannot_write(str(output), write_error), rows)
    return rows


@contextmanager
def _num_threads(threads: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        if threads is not None:
            torch.set_num_threads(threads)
        yield
    finally:
        torch.set_num_threads(before)


def _describe_machine(peaks: dict[str, float]) -> dict[str, Any]:
    versions = {"openxclip": openxclip.__version__, "torch": torch.__version__, "python": platform.python_version()}
    if processes.has_transformers():
        import transformers

        versions["transformers"] = transformers.__version__
        transformers.logging.set_verbosity_error()
    return {
        "cpu": cpu_name(), "threads": torch.get_num_threads(), "versions": versions,
        "date": datetime.now(timezone.utc).date().isoformat(), "gemm_peak_flops": peaks,
    }  # fmt: skip


def _write(path: Path, record: dict[str, Any]) -> None:
    with atomic_file(path) as partial:
        partial.write_text(json.dumps(without_nan(record), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _measure(
    models: Sequence[str], sections: Sequence[str], rounds: Rounds, clips: Sequence[str | Path], peaks: dict[str, float]
) -> Iterator[Row]:
    precisions: list[Precision] = ["fp32"]
    if can_pack(torch.bfloat16):
        precisions.append("bf16")
    for number, name in enumerate(models):
        model = random_model(name)
        peer = Peer(model) if processes.has_transformers() else None
        if "vision" in sections:
            yield from inference.vision(name, model, peer, rounds, peaks, precisions)
        if number > 0:  # the other sections measure only the first model
            continue
        if "text" in sections:
            yield from inference.texts(name, model, peer, rounds, precisions)
        if "padded" in sections:
            yield from inference.padded_texts(name, model, peer, rounds)
        if "training" in sections:
            yield from inference.training(name, model, peer, rounds)
    if "decode" in sections:
        yield from videos.decoding(rounds)
    if "startup" in sections or "classify" in sections:
        with processes.temporary_files(clips) as files:
            if "startup" in sections:
                yield from processes.startup(rounds, files)
            if "classify" in sections:
                yield from processes.end_to_end(rounds, files, precisions)
