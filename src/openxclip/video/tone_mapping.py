"""Tone-map HDR pictures (PQ or HLG) to SDR.

Sources: ITU-R BT.2100-2 (PQ, HLG and its OOTF), BT.2390-11 section 5.4 (EETF, the roll-off of highlights),
BT.2408-7 (203 cd/m² is HDR's reference white), BT.1886 (the SDR display), BT.2087-0 (BT.2020 to BT.709).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from openxclip.common.cores import num_cores
from openxclip.video.colour_codes import BT709, BT2020, DISPLAY_P3

_REFERENCE_WHITE = 203.0  # cd/m² (BT.2408); becomes the peak of the SDR display
_PEAK = 1000.0  # cd/m² of HLG's nominal display and of the usual mastering display for PQ
_PQ_LIMIT = 10000.0  # cd/m² of the highest PQ code
_BT2020_LUMA = np.array([0.2627, 0.6780, 0.0593], dtype=np.float32)
# Matrices from linear RGB in each set of primaries to linear RGB in BT.709
PRIMARIES = {
    BT709: np.eye(3, dtype=np.float32),
    BT2020: np.array(
        [[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008350], [-0.018151, -0.100579, 1.118730]],
        dtype=np.float32,
    ),
    DISPLAY_P3: np.array(
        [[1.224940, -0.224940, 0.0], [-0.042057, 1.042057, 0.0], [-0.019638, -0.078636, 1.098274]], dtype=np.float32
    ),
}
STEPS = 65535  # tables of light are indexed by its square root, as a 16-bit code
_PIXELS_AT_ONCE = 1 << 14  # fits into a CPU cache
_PIXELS_FOR_THREADS = 1 << 20  # for fewer, starting threads costs more than it saves


class YCbCr(NamedTuple):
    """Converts 16-bit YCbCr codes to R'G'B' in [0, 1]: matrix times codes, plus offset."""

    matrix: NDArray[np.float32]
    offset: NDArray[np.float32]

    @classmethod
    def from_luma(cls, kr: float, kb: float, *, is_full: bool) -> YCbCr:
        """Make the conversion for luma coefficients (ITU-T H.273) and full or limited range."""
        kg = 1 - kr - kb
        rgb = np.array(
            [[1, 0, 2 * (1 - kr)], [1, -2 * kb * (1 - kb) / kg, -2 * kr * (1 - kr) / kg], [1, 2 * (1 - kb), 0]]
        )
        black, grey = (0, 128 << 8) if is_full else (16 << 8, 128 << 8)
        code_range = np.array([65535, 65535, 65535] if is_full else [219 << 8, 224 << 8, 224 << 8])
        matrix = rgb / code_range
        return cls(matrix.astype(np.float32), (matrix @ [-black, -grey, -grey]).astype(np.float32)[:, None])


def tone_map(
    codes: Sequence[NDArray[np.uint16]], ycbcr: YCbCr | None, *, is_pq: bool, primaries: int
) -> NDArray[np.uint8]:
    """Convert an HDR picture to SDR in BT.709.

    Args:
        codes: three arrays (H, W) of 16 bits: Y, Cb and Cr, or R, G and B in full range.
        ycbcr: the conversion of YCbCr codes to R'G'B'; None for RGB.
        is_pq: whether the transfer is PQ; otherwise it is HLG.
        primaries: a key of `PRIMARIES`.

    Returns:
        RGB of shape (H, W, 3).
    """
    to_light = _pq_light() if is_pq else _hlg_scene_light()
    gain, ootf, to_sdr, to_bt709 = _highlight_gain(), _hlg_ootf(), _sdr_codes(), PRIMARIES[primaries]
    height, width = codes[0].shape
    out = np.empty((height, width, 3), dtype=np.uint8)

    def convert(rows: slice) -> None:
        codes_3N = np.stack([channel[rows].ravel() for channel in codes])
        if ycbcr:
            signal_3N = ycbcr.matrix @ codes_3N.astype(np.float32) + ycbcr.offset
            codes_3N = (signal_3N.clip(0, 1) * np.float32(STEPS) + np.float32(0.5)).astype(np.uint16)
        light_3N = np.take(to_light, codes_3N)
        if not is_pq:
            light_3N *= np.take(ootf, _root_index(_BT2020_LUMA @ light_3N))
        light_3N *= np.take(gain, _root_index(light_3N.max(axis=0) * np.float32(_PEAK / _PQ_LIMIT)))
        light_3N = (to_bt709 @ light_3N).clip(0, 1)
        out[rows] = np.take(to_sdr, _root_index(light_3N)).T.reshape(-1, width, 3)

    step = max(1, _PIXELS_AT_ONCE // width)
    bands = [slice(top, top + step) for top in range(0, height, step)]
    if height * width < _PIXELS_FOR_THREADS:
        for band in bands:
            convert(band)
    else:
        with ThreadPoolExecutor(num_cores()) as threads:  # NumPy releases the GIL
            list(threads.map(convert, bands))
    return out


def _root_index(light: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return the index of light in [0, 1] in a table of light; the square root makes it fine enough near black."""
    return np.asarray(np.sqrt(light) * np.float32(STEPS) + np.float32(0.5), dtype=np.uint16)


def _light_of_steps() -> NDArray[np.float64]:
    """Return the light at each index of a table of light."""
    return np.linspace(0, 1, STEPS + 1) ** 2


_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32


def _pq_from_nits(nits: Any) -> Any:
    power = (nits / _PQ_LIMIT) ** _M1
    return ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2


def _nits_from_pq(signal: Any) -> Any:
    root = signal ** (1 / _M2)
    return _PQ_LIMIT * (np.maximum(root - _C1, 0) / (_C2 - _C3 * root)) ** (1 / _M1)


@lru_cache(maxsize=1)
def _pq_light() -> NDArray[np.float32]:
    """Return the display light of each PQ code; 1 is `_PEAK`."""
    return np.asarray(_nits_from_pq(np.linspace(0, 1, 65536)) / _PEAK, dtype=np.float32)


@lru_cache(maxsize=1)
def _hlg_scene_light() -> NDArray[np.float32]:
    """Return the scene light of each HLG code, in [0, 1]."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    signal = np.linspace(0, 1, 65536)
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    return np.asarray(np.clip(scene, 0, 1), dtype=np.float32)


@lru_cache(maxsize=1)
def _hlg_ootf() -> NDArray[np.float32]:
    """Return a table of the factors from scene light to display light, by luminance. The gamma is 1.2."""
    return np.asarray(_light_of_steps() ** 0.2, dtype=np.float32)


@lru_cache(maxsize=1)
def _highlight_gain() -> NDArray[np.float32]:
    """Return a table of the factors from HDR light (1 is `_PEAK`) to SDR light (1 is the SDR display's peak).

    This is BT.2390's EETF, with black at 0 on both sides. The index is a pixel's greatest component as a share of
    `_PQ_LIMIT`. All three components get the same factor, which keeps the hue.
    """
    nits = np.maximum(_light_of_steps() * _PQ_LIMIT, 1e-6)
    e1 = np.minimum(_pq_from_nits(nits) / _pq_from_nits(_PEAK), 1)
    top = _pq_from_nits(_REFERENCE_WHITE) / _pq_from_nits(_PEAK)
    knee = 1.5 * top - 0.5
    t = np.maximum(e1 - knee, 0) / (1 - knee)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * top
    sdr_nits = np.where(e1 < knee, nits, _nits_from_pq(spline * _pq_from_nits(_PEAK)))
    return np.asarray(sdr_nits / _REFERENCE_WHITE * _PEAK / nits, dtype=np.float32)


@lru_cache(maxsize=1)
def _sdr_codes() -> NDArray[np.uint8]:
    """Return a table of the 8-bit codes of SDR light: the inverse of BT.1886 with black at 0."""
    return np.asarray(np.rint(_light_of_steps() ** (1 / 2.4) * 255), dtype=np.uint8)
