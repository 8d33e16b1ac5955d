"""How fast this machine is with openxclip, and with transformers beside it: `openxclip bench`."""

from openxclip.benchmarking.table import SECTIONS, bench

__all__ = ["SECTIONS", "bench"]
