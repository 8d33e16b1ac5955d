"""Numbers with their nouns, in messages."""

from __future__ import annotations


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: 1 video, 2 videos; 1 class, 2 classes."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"
