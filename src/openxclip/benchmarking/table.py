"""`bench`: measure all sections and report them as one table."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Iterator, Sequence
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

    Both run in turns, with the same number of threads and the same random weights, and medians are compared. On a busy
    machine only the ratios are meaningful.

    Args:
        models: names in `PRESETS`; only "vision" is measured for all of them, the other sections for the first.
        sections: names in `SECTIONS`.
        rounds: maximum number of rounds.
        longest: seconds that the rounds of one row may take; slow rows get fewer rounds, at least two.
        threads: threads of PyTorch; None keeps the present number.
        clips: video files for "classify"; default is a generated one.
        output: JSON file to write the rows to.
        say: called with each line of the table.
        on_row: called with each row.

    Raises:
        ValueError: a model or section is unknown, or `rounds` is below 1.
        NotWrittenError: `output` can't be written; the error's `result` has the rows.
    """
    for given, known, what in ((models, PRESETS, "model"), (sections, SECTIONS, "section")):
        unknown = [name for name in given if name not in known]
        if unknown or not given:
            raise ValueError(f"{what} {', '.join(unknown) or 'missing'}: must be of {', '.join(known)}.")
    if rounds < 1:
        raise ValueError(f"rounds={rounds}: must be 1 or more.")
    before = torch.get_num_threads()
    try:
        if threads is not None:
            torch.set_num_threads(threads)
        return _bench(models, sections, Rounds(rounds, longest), clips, output, say, on_row)
    finally:
        torch.set_num_threads(before)


def _bench(
    models: Sequence[str],
    sections: Sequence[str],
    rounds: Rounds,
    clips: Sequence[str | Path],
    output: str | Path | None,
    say: Callable[[str], Any],
    on_row: Callable[[Row], object],
) -> list[Row]:
    versions = {"openxclip": openxclip.__version__, "torch": torch.__version__, "python": platform.python_version()}
    if processes.has_transformers():
        import transformers

        versions["transformers"] = transformers.__version__
        transformers.logging.set_verbosity_error()
    else:
        say("transformers isn't installed: nothing to compare with (pip install transformers).")
    peaks = gemm_peaks()
    say(f"{cpu_name()}, {torch.get_num_threads()} threads, medians of {rounds.number} rounds or fewer")
    say(", ".join(f"{name} {version}" for name, version in versions.items()))
    say("GEMM peak: " + ", ".join(f"{name} {peak / 1e9:.0f} GFLOP/s" for name, peak in peaks.items()))
    say(HEAD)
    rows = []
    record: dict[str, Any] = {
        "cpu": cpu_name(), "threads": torch.get_num_threads(), "versions": versions,
        "date": datetime.now(timezone.utc).date().isoformat(), "gemm_peak_flops": peaks,
    }  # fmt: skip
    unwritten: OSError | None = None
    for row in _rows(models, sections, rounds, clips, peaks):
        say(str(row))
        on_row(row)
        rows.append(row)
        if output is not None and unwritten is None:  # after each row, so that an interrupted run keeps its rows
            record["rows"] = [row.as_dict() for row in rows]
            try:
                with atomic_file(Path(output)) as partial:
                    partial.write_text(
                        json.dumps(without_nan(record), indent=1, allow_nan=False) + "\n", encoding="utf-8"
                    )
            except OSError as error:  # the other rows are still measured and shown
                unwritten = error
    if unwritten is not None:
        raise NotWrittenError(cannot_write(str(output), unwritten), rows)
    return rows


def _rows(
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
        if number:
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
        with processes.Folder([Path(clip) for clip in clips]) as folder:
            if "startup" in sections:
                yield from processes.startup(rounds, folder)
            if "classify" in sections:
                yield from processes.end_to_end(rounds, folder, precisions)
