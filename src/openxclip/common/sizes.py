"""Format and parse numbers of bytes: 512MiB, 2 GB."""

from __future__ import annotations


def format_bytes(size: int) -> str:
    """Return a number of bytes as text, which `parse_bytes` can parse."""
    for unit, value in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= value:
            return f"{size / value:.3g} {unit}" if size < 1000 * value else f"{size / value:.0f} {unit}"
    return f"{size} bytes"


def parse_bytes(text: str) -> int:
    """Return the number of bytes in a text such as "2GB", "512 MiB" or "1000000".

    Raises:
        ValueError: the text is not a number of bytes.
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
