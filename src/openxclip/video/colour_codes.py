"""Code points for colour: ITU-T H.273, as FFmpeg and PyAV number them."""

from __future__ import annotations

UNSPECIFIED = 2
BT709, BT601, BT2020 = 1, 5, 9  # matrices; BT709 and BT2020 are primaries too
DISPLAY_P3 = 12  # primaries
PQ, HLG = 16, 18  # transfer characteristics
LIMITED, FULL = 1, 2  # ranges

# FFmpeg's names
MATRICES = {
    0: "rgb",
    BT709: "bt709",
    4: "fcc",
    BT601: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    8: "ycgco",
    BT2020: "bt2020nc",
    10: "bt2020c",
    14: "ictcp",
}
TRANSFERS = {
    1: "bt709",
    4: "gamma22",
    5: "gamma28",
    6: "smpte170m",
    7: "smpte240m",
    8: "linear",
    13: "srgb",
    14: "bt2020-10",
    15: "bt2020-12",
    PQ: "pq",
    HLG: "hlg",
}
RANGES = {LIMITED: "limited", FULL: "full"}
