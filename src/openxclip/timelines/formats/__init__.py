"""Timelines as files that players, editors and tools for annotation read."""

from openxclip.timelines.formats.writing import (
    FORMATS,
    TimelineWriter,
    check_target,
    format_timelines,
    split_format,
    write_timelines,
)

__all__ = ["FORMATS", "TimelineWriter", "check_target", "format_timelines", "split_format", "write_timelines"]
