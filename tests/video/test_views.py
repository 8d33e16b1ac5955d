from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openxclip.video.views import Box, crop_boxes


def test_three_crops_are_left_centre_right() -> None:
    assert crop_boxes(height=224, width=398, size=224) == [
        Box(0, 0, 224, 224),
        Box(0, 87, 224, 224),
        Box(0, 174, 224, 224),
    ]
    assert crop_boxes(height=398, width=256, size=224)[2] == Box(174, 16, 224, 224)


@given(
    size=st.integers(1, 400),
    more=st.integers(0, 400),
    extra=st.integers(0, 400),
    n=st.integers(1, 6),
    tall=st.booleans(),
)
def test_crops_lie_within_and_reach_both_ends(size: int, more: int, extra: int, n: int, tall: bool) -> None:
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
        assert (along[0], along[-1]) == (0, long - size)
        assert along == sorted(along)
    if n % 2:
        assert boxes[n // 2] == crop_boxes(height=height, width=width, size=size, num_crops=1)[0]


def test_errors_name_the_numbers() -> None:
    with pytest.raises(ValueError, match="100×300 has no crop of 224×224"):
        crop_boxes(height=300, width=100, size=224)
    with pytest.raises(ValueError, match="num_crops=0"):
        crop_boxes(height=300, width=300, size=224, num_crops=0)
