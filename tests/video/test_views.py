from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openxclip.video.views import Box, crop_boxes, rescaled


def test_three_crops_are_left_centre_right() -> None:
    assert crop_boxes(height=224, width=398, size=224) == [
        Box(0, 0, 224, 224),
        Box(0, 87, 224, 224),
        Box(0, 174, 224, 224),
    ]
    assert crop_boxes(height=398, width=256, size=224)[2] == Box(174, 16, 224, 224)


def test_three_crops_have_equal_steps_in_an_odd_spare_width() -> None:
    """As mmaction's ThreeCrop: two steps of half the spare width, rounded down."""
    assert [box.left for box in crop_boxes(height=224, width=299, size=224)] == [0, 37, 74]


@pytest.mark.parametrize(
    ("frame", "short_side", "expected"),
    [
        ((256, 340), 224, (224, 298)),  # 297.5
        ((340, 256), 224, (298, 224)),
        ((240, 320), 224, (224, 299)),  # 298.67
        ((240, 320), 256, (256, 341)),
        ((1080, 1920), 224, (224, 398)),
        ((224, 224), 224, (224, 224)),
        ((144, 176), 384, (384, 469)),
    ],
)
def test_the_longer_side_is_rounded(frame: tuple[int, int], short_side: int, expected: tuple[int, int]) -> None:
    """int(length * scale + 0.5), as mmcv's rescale_size."""
    assert rescaled(height=frame[0], width=frame[1], short_side=short_side) == expected


@given(
    size=st.integers(1, 400),
    more=st.integers(0, 400),
    extra=st.integers(0, 400),
    n=st.integers(1, 6),
    tall=st.booleans(),
)
def test_crops_lie_within_and_are_evenly_spaced(size: int, more: int, extra: int, n: int, tall: bool) -> None:
    short, long = size + more, size + more + extra
    height, width = (long, short) if tall else (short, long)
    boxes = crop_boxes(height=height, width=width, size=size, num_crops=n)
    assert len(boxes) == n
    for box in boxes:
        assert (box.height, box.width) == (size, size)
        assert 0 <= box.top <= height - size
        assert 0 <= box.left <= width - size
    if n > 1:
        along = [box.top if tall and extra else box.left for box in boxes]
        assert along[0] == 0
        assert long - size - (n - 1) < along[-1] <= long - size
        assert len({b - a for a, b in pairwise(along)}) == 1
    if n in (1, 3):
        assert boxes[n // 2] == crop_boxes(height=height, width=width, size=size, num_crops=1)[0]


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="100×300 has no crop of 224×224"):
        crop_boxes(height=300, width=100, size=224)
    with pytest.raises(ValueError, match="num_crops=0"):
        crop_boxes(height=300, width=300, size=224, num_crops=0)
    with pytest.raises(ValueError, match="width=0, height=5 and short_side=3"):
        rescaled(height=5, width=0, short_side=3)
