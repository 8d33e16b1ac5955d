"""Pictures of MPEG-1 and MPEG-2 that are missing, by the number that each has in its group.

Source: ISO/IEC 13818-2, 6.3.8 and 6.3.9: `temporal_reference` counts the pictures of a group as they are shown.
"""

from __future__ import annotations

_GROUP, _PICTURE = b"\0\0\1\xb8", b"\0\0\1\0"
# Of all pictures, but three at least: where more are missing, or few are there, the numbers mean something else
_MOST_MISSING = 0.01
_FEWEST = 8


class Numbers:
    """The numbers of a stream's pictures, by group."""

    def __init__(self) -> None:
        self._groups: list[list[int]] = []

    def note(self, packet: bytes) -> None:
        """Look at the next packet, in coded order."""
        picture = packet.find(_PICTURE)
        if picture < 0 or picture + 6 > len(packet):
            return
        if not self._groups or 0 <= packet.find(_GROUP) < picture:
            self._groups.append([])
        number = packet[picture + 4] << 2 | packet[picture + 5] >> 6
        if self._groups[-1][-1:] != [number]:  # else the second field of a frame
            self._groups[-1].append(number)

    def missing(self) -> int:
        """How many pictures are missing; 0 where the numbers don't follow the rule everywhere else."""
        total = 0
        for group in self._groups:
            gaps = _gaps(group, is_last=group is self._groups[-1])
            if gaps is None:
                return 0
            total += gaps
        pictures = sum(map(len, self._groups))
        return total if pictures >= _FEWEST and total <= max(3, _MOST_MISSING * pictures) else 0


def _gaps(numbers: list[int], *, is_last: bool) -> int | None:
    """How many numbers of a group are missing; None if they aren't those of pictures, one each.

    Of pictures that are shown before the first coded one, editors leave some out. At the end of a recording, those
    that would have been coded last are missing.
    """
    if len(set(numbers)) < len(numbers):
        return None
    present, first, last = set(numbers), numbers[0], max(numbers)
    if is_last and numbers[-1] == last:
        last = max((n for n in numbers if n < last), default=last)
    return sum(n not in present for n in range(first, last))
