"""Numbers of bytes as people write and read them: 512MiB, 2 GB."""

from __future__ import annotations


def in_bytes(size: int) -> str:
    """A number of bytes for a reader: `parse_bytes` takes it back."""
    for unit, value in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= value:
            return f"{size / value:.3g} {unit}" if size < 1000 * value else f"{size / value:.0f} {unit}"
    return f"{size} bytes"


def parse_bytes(text: str) -> int:
    """The number of bytes that "2GB", "512 MiB" or "1000000" means.

    Raises:
        ValueError: it means none.
    """
    units = {"": 1, "b": 1, "bytes": 1}
    for power, letter in enumerate("kmgt", start=1):
        units |= {letter: 1000**power, f"{letter}b": 1000**power, f"{letter}ib": 1024**power}
    number = text.strip().rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ").strip()
    unit = text.strip()[len(number) :].strip().lower()
    try:
        return int(float(number) * units[unit])
    except (KeyError, ValueError, OverflowError):
        raise ValueError(f"{text!r} is no amount of memory: write it as 2GB, 512MiB or 1000000") from None
