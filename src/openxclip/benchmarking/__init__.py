"""Measure the speed of openxclip and of transformers on this machine, for `openxclip bench`."""

from openxclip.benchmarking.table import SECTIONS, bench

__all__ = ["SECTIONS", "bench"]
