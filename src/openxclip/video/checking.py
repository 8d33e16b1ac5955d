"""Verify a collection of videos in several processes, and write a report."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from openxclip.common.cores import num_cores
from openxclip.common.files import atomic_file, cannot_write, checked_target, is_utf8, without_nan
from openxclip.errors import NotWrittenError
from openxclip.video.ahead import ReadAhead
from openxclip.video.finding import find_videos
from openxclip.video.inspection import VideoReport
from openxclip.video.opening import VideoSource, is_one_source, source_name
from openxclip.video.options import ReadOptions
from openxclip.video.worker import DecodeWorker

REPORT_SUFFIXES = (".json", ".jsonl", ".csv")


def check_videos(
    paths: Iterable[VideoSource],
    *,
    jobs: int | None = None,
    full: bool = True,
    read: ReadOptions | None = None,
    on_time: Callable[[str, float, float], object] = lambda path, end, duration: None,
) -> Iterator[VideoReport]:
    """Verify videos in parallel, each in a separate process.

    Args:
        paths: the videos.
        jobs: number of processes; default is one per core.
        full: whether to decode each video to its end; otherwise its packets are checked and its first frame decoded.
        read: options for reading, see `VideoReader`.
        on_time: called during decoding, from other threads, with a video's name, the time reached and the video's
            duration, in seconds.

    Returns:
        A report for each video, in the order given.

    Raises:
        ValueError: `jobs` is below 1.
    """
    if jobs is not None and jobs < 1:
        raise ValueError(f"jobs={jobs} must be 1 or more")

    def inspect(worker: DecodeWorker, source: VideoSource) -> Generator[VideoReport, None, None]:
        yield worker.inspect(source, full=full, read=read, on_time=partial(on_time, source_name(source)))

    return _iter_reports(paths, jobs or num_cores(), inspect)


def _iter_reports(
    paths: Iterable[VideoSource],
    jobs: int,
    inspect: Callable[[DecodeWorker, VideoSource], Generator[VideoReport, None, None]],
) -> Iterator[VideoReport]:
    if isinstance(paths, Sequence):
        jobs = max(1, min(jobs, len(paths)))
    with ExitStack() as stack:
        readers = [partial(inspect, stack.enter_context(DecodeWorker())) for _ in range(jobs)]
        reports = ReadAhead(readers, paths, ahead=2 * jobs + 1, interrupt=stack.close)
        stack.callback(reports.close)
        for step in reports:
            if step.error is not None:
                raise step.error
            if step.piece is not None:
                yield step.piece


def check(
    paths: VideoSource | Iterable[VideoSource],
    *,
    jobs: int | None = None,
    full: bool = True,
    report: str | os.PathLike[str] | None = None,
    read: ReadOptions | None = None,
) -> list[VideoReport]:
    """Verify files, folders and globs, as `openxclip check` does.

    Args:
        paths: see `find_videos`.
        jobs, full, read: see `check_videos`.
        report: file for the reports, see `write_report`.

    Returns:
        A report for each video, in order. Its `is_fine` says whether the video passed.

    Raises:
        ValueError: an argument is invalid, or the report's file can't be created; raised before any video is read.
        NotWrittenError: writing the report failed at the end; the error's `result` is the list of reports.
    """
    if report is not None:
        checked_target(os.fspath(report), *REPORT_SUFFIXES)
    videos = find_videos([paths] if is_one_source(paths) else paths)  # type: ignore[list-item,arg-type]
    reports = list(check_videos(videos, jobs=jobs, full=full, read=read))
    if report is not None:
        try:
            write_report(report, reports)
        except OSError as error:
            raise NotWrittenError(cannot_write(os.fspath(report), error), reports) from error
    return reports


def write_report(path: str | os.PathLike[str], reports: Sequence[VideoReport]) -> None:
    """Write reports atomically, as a JSON list (.json), JSON Lines (.jsonl) or CSV (.csv), chosen by the suffix.

    Raises:
        ValueError: the path has another suffix.
        OSError: the file can't be written.
    """
    target = Path(path)
    if target.suffix.lower() not in REPORT_SUFFIXES:
        raise ValueError(f"{path}: the name must end with {' or '.join(REPORT_SUFFIXES)}.")
    rows = [without_nan(report.as_dict()) for report in reports]
    needs_escapes = not all(is_utf8(report.path) for report in reports)
    if target.suffix.lower() == ".json":
        text = json.dumps(rows, ensure_ascii=needs_escapes, indent=1, allow_nan=False) + "\n"
    elif target.suffix.lower() == ".jsonl":
        text = "".join(json.dumps(row, ensure_ascii=needs_escapes, allow_nan=False) + "\n" for row in rows)
    else:
        text = _to_csv(rows)
    with atomic_file(target) as temporary:
        temporary.write_bytes(text.encode("utf-8", "surrogateescape"))  # CSV can't escape names that aren't UTF-8


def _to_csv(rows: Sequence[dict[str, Any]]) -> str:
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, fieldnames=list(VideoReport(path="").as_dict()))
    writer.writeheader()
    for row in rows:
        writer.writerow(row | {name: "; ".join(row[name]) for name in ("notes", "problems")})
    return table.getvalue()
