"""Pictures of MPEG-1 and MPEG-2 that are missing, by the number that each has in its group.

Source: ISO/IEC 13818-2, 6.3.8 and 6.3.9: `temporal_reference` counts the pictures of a group as they are shown.
"""

from __future__ import annotations

_GROUP, _PICTURE = b"\0\0\1\xb8", b"\0\0\1\0"
_MOST_GAPS = 0.01  # of all groups, but three at least: where there are more, the numbers mean something else


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
        gaps = [_gaps(group, is_last=group is self._groups[-1]) for group in self._groups]
        if None in gaps or sum(bool(gap) for gap in gaps) > max(3, _MOST_GAPS * len(gaps)):
            return 0
        regular = sum(gap == 0 for gap in gaps)
        return sum(gap or 0 for gap in gaps) if 2 * regular >= len(gaps) else 0


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
