"""Decoding runs of packets, and comparing what comes of them with what is known."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from openxclip.video.coded import CodedStream, ContradictionError
from openxclip.video.keyframes import HEAD_BYTES
from openxclip.video.nal import is_unreferred
from openxclip.video.runs import PacketIndex, Run, fingerprint


class UndecodableError(Exception):
    """Packets that a wanted frame needs are damaged.

    Attributes:
        number: of the frame.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def frames_of_run(
    coded: CodedStream, index: PacketIndex, run: Run, wanted: Collection[int], *, skips: bool, trusts_keys: bool
) -> Iterator[tuple[int, Any]]:
    """The wanted frames that a run of packets gives, each with its number, ascending.

    Args:
        coded: the stream.
        index: what is known of it.
        run: the packets.
        wanted: numbers of frames; those of other runs don't matter.
        skips: leave out what the wanted frames don't need, where packets say so.
        trusts_keys: whether the first packet of the run is known to be a key frame.

    Raises:
        ContradictionError: other frames than expected.
        UndecodableError: a wanted frame is damaged. Only said where nothing is skipped and frames weren't counted: else
            damage is a contradiction, too.
    """
    numbers, floor = index.numbers(run), index.floor(run)
    due = {number for number in numbers.values() if number >= floor}
    needed = due & set(wanted)
    damaged = False
    last_seen = floor - 1
    for frame in coded.decode(_packets_of_run(coded, index, run, needed, skips=skips, trusts_keys=trusts_keys)):
        if frame is None:
            damaged = True
            continue
        coded.frames_decoded += 1
        number = numbers.get(frame.pts)
        if number is None and index.prints is not None:
            continue  # of a packet that gave no frame when frames were counted
        if number is not None and number < floor:
            continue  # of the group before, whose frames it needs
        if number is None or number <= last_seen:
            raise ContradictionError
        last_seen = number
        due.discard(number)
        if number in needed:
            if index.prints is not None and fingerprint(frame) != index.prints[number]:
                raise ContradictionError
            yield number, frame
            needed.discard(number)
    if skips or index.prints is not None:
        if needed:
            raise ContradictionError
    elif damaged and needed:
        raise UndecodableError(min(needed))
    elif due and not damaged:
        raise ContradictionError


def _packets_of_run(
    coded: CodedStream, index: PacketIndex, run: Run, wanted: Collection[int], *, skips: bool, trusts_keys: bool
) -> Iterator[Any]:
    context = coded.stream.codec_context
    skips = skips and index.can_skip
    stamps = index.stamps[run.first : run.last + 1].tolist()
    unwanted = index.unwanted(run, [int(index.shown[number]) for number in wanted]).tolist() if skips else ()
    for position, packet in coded.packets_at(index.packets, run.first, run.last):
        at = position - run.first
        packet.pts = stamps[at]
        if not trusts_keys and not at and not packet.is_keyframe:
            raise ContradictionError
        if skips:
            if unwanted[at] and (index.is_intra or _is_unreferred(coded, packet)):
                continue  # a decoder that got it to skip it would still keep one of its threads from other packets
            if not index.is_intra:
                context.skip_frame = "NONREF" if unwanted[at] else "DEFAULT"
        yield packet


def _is_unreferred(coded: CodedStream, packet: Any) -> bool:
    head = bytes(memoryview(packet)[:HEAD_BYTES])
    return is_unreferred(head, codec=coded.codec, length_size=coded.length_size)
