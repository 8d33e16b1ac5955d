"""A whole collection verified, by several processes at once, and the report of it."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from openxclip.common.cores import num_cores
from openxclip.common.files import cannot_write, checked_target, is_utf8, without_nan, written_whole
from openxclip.errors import NotWrittenError
from openxclip.video.ahead import ReadAhead
from openxclip.video.finding import find_videos
from openxclip.video.inspection import VideoReport
from openxclip.video.limits import DEFAULT_LIMITS, Limits
from openxclip.video.opening import VideoSource, check_track, is_one_source, source_name
from openxclip.video.sampling import check_fps
from openxclip.video.worker import DecodeWorker

REPORT_SUFFIXES = (".json", ".jsonl", ".csv")


def check_videos(
    paths: Iterable[VideoSource],
    *,
    jobs: int | None = None,
    full: bool = True,
    fps: float | None = None,
    track: int | None = None,
    limits: Limits = DEFAULT_LIMITS,
    allow_protocols: Sequence[str] = (),
    on_time: Callable[[str, float, float], object] = lambda path, end, duration: None,
) -> Iterator[VideoReport]:
    """Verify videos, several at once, each in a process of its own.

    Args:
        paths: the videos.
        jobs: how many at once; default is one a core.
        full: decode each to its end; else its packets and first frame are looked at.
        limits: what reading one may cost.
        fps, track, allow_protocols: as for `VideoReader`.
        on_time: called now and then, by the threads that wait, with a video's name, how far its decoding has come, and
            its duration, in seconds.

    Returns:
        A report for each, in the order given.

    Raises:
        ValueError: `jobs` is below 1, `track` below 0, or `fps` not above 0.
    """
    if jobs is not None and jobs < 1:
        raise ValueError(f"jobs={jobs} must be 1 or more")
    check_track(track)
    check_fps(fps)
    how = {"full": full, "fps": fps, "track": track, "limits": limits, "allow_protocols": tuple(allow_protocols)}
    return _checked(paths, jobs or num_cores(), how, on_time)


def _checked(
    paths: Iterable[VideoSource],
    jobs: int,
    how: dict[str, Any],
    on_time: Callable[[str, float, float], object],
) -> Iterator[VideoReport]:
    if isinstance(paths, Sequence):
        jobs = max(1, min(jobs, len(paths)))
    workers = [DecodeWorker() for _ in range(jobs)]

    def reader(worker: DecodeWorker, source: VideoSource) -> Generator[VideoReport, None, None]:
        tell = partial(on_time, source_name(source))
        yield worker.inspect(source, **how, on_time=tell)

    def close() -> None:
        for worker in workers:
            worker.close()

    reports = ReadAhead([partial(reader, worker) for worker in workers], paths, ahead=2 * jobs + 1, interrupt=close)
    try:
        for step in reports:
            if step.error is not None:
                raise step.error
            if step.piece is not None:
                yield step.piece
    finally:
        reports.close()
        close()


def check(
    paths: VideoSource | Iterable[VideoSource],
    *,
    jobs: int | None = None,
    full: bool = True,
    report: str | os.PathLike[str] | None = None,
    fps: float | None = None,
    track: int | None = None,
    limits: Limits = DEFAULT_LIMITS,
    allow_protocols: Sequence[str] = (),
) -> list[VideoReport]:
    """Verify one or more files, folders and globs; the twin of `openxclip check`.

    Args:
        paths: see `find_videos`.
        jobs, full, fps, track, limits, allow_protocols: see `check_videos`.
        report: a file to write the reports to, see `write_report`.

    Returns:
        A report for each video, in order: `is_fine` says if it is.

    Raises:
        ValueError: an argument that can't be, or no file can be made where the report is to be; no video is read then.
        NotWrittenError: writing the report failed at the end; its `result` is the list of reports.
    """
    if report is not None:
        check_report_name(report)
    videos = find_videos([paths] if is_one_source(paths) else paths)  # type: ignore[list-item,arg-type]
    reports = list(
        check_videos(videos, jobs=jobs, full=full, fps=fps, track=track, limits=limits, allow_protocols=allow_protocols)
    )
    if report is not None:
        try:
            write_report(report, reports)
        except OSError as error:
            raise NotWrittenError(cannot_write(os.fspath(report), error), reports) from error
    return reports


def write_report(path: str | os.PathLike[str], reports: Sequence[VideoReport]) -> None:
    """Write reports to a file: a JSON list (.json), JSON Lines (.jsonl), or a table (.csv); whole or not at all.

    Raises:
        ValueError: the name ends with none of these.
        OSError: it can't be written.
    """
    target = Path(path)
    if target.suffix.lower() not in REPORT_SUFFIXES:
        raise ValueError(f"{path}: its name must end with {' or '.join(REPORT_SUFFIXES)}.")
    rows = [without_nan(report.as_dict()) for report in reports]
    all_text = all(is_utf8(report.path) for report in reports)  # JSON has an escape for what isn't
    if target.suffix.lower() == ".json":
        text = json.dumps(rows, ensure_ascii=not all_text, indent=1, allow_nan=False) + "\n"
    elif target.suffix.lower() == ".jsonl":
        text = "".join(json.dumps(row, ensure_ascii=not all_text, allow_nan=False) + "\n" for row in rows)
    else:
        table = io.StringIO(newline="")
        writer = csv.DictWriter(table, fieldnames=list(VideoReport(path="").as_dict()))
        writer.writeheader()
        for row in rows:
            writer.writerow(row | {name: "; ".join(row[name]) for name in ("notes", "problems")})
        text = table.getvalue()
    with written_whole(target) as partial:
        partial.write_bytes(text.encode("utf-8", "surrogateescape"))  # of CSV, which has no escapes for odd names


def check_report_name(path: str | os.PathLike[str]) -> Path:
    """The path of a report that can be written.

    Raises:
        ValueError: its name doesn't end with one of `REPORT_SUFFIXES`, or no file can be made there.
    """
    return checked_target(os.fspath(path), *REPORT_SUFFIXES)
