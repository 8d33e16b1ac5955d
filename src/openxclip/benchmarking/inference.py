"""What is measured within one process: towers, texts, prompts, the training step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from openxclip.benchmarking.measuring import Medians, Rounds, Row, medians, relative_error
from openxclip.benchmarking.peers import Peer
from openxclip.engine import Precision, optimize
from openxclip.inspection import profile
from openxclip.model import XCLIPModel

_NAMES = 400


def class_names(length: int = 16, padded: int | None = None) -> Tensor:
    """400 texts of 4 to `length` tokens, as class names are long, padded as the documented processor pads."""
    draw = torch.Generator().manual_seed(1)
    ends = torch.randint(3, 10, (_NAMES,), generator=draw)
    ends[0] = length - 1
    places = torch.arange(padded or length)
    ids = torch.randint(300, 49000, (_NAMES, len(places)), generator=draw)
    ids[:, 0] = 49406
    return torch.where(places < ends[:, None], ids, 49407)


def clips_for(model: XCLIPModel, videos: int) -> Tensor:
    """(B, T, C, H, W) noise of the model's size."""
    vision = model.config.vision_config
    return torch.randn(videos, vision.num_frames, vision.num_channels, vision.image_size, vision.image_size)


def _autocast(precision: str) -> AbstractContextManager[Any]:
    return torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else nullcontext()


def _expertly(call: Callable[[], Any], precision: str) -> Callable[[], Any]:
    def run() -> Any:
        with torch.inference_mode(), _autocast(precision):
            return call()

    return run


def _plainly(call: Callable[[], Any]) -> Callable[[], Any]:
    def run() -> Any:
        with torch.no_grad():
            return call()

    return run


def _rows(
    what: str, taken: Medians, precisions: Sequence[Precision], notes: Mapping[Precision, str] | None = None
) -> Iterator[Row]:
    """One for each precision, of ways called "ours fp32", "tuned fp32", …, and "documented"."""
    seconds = taken.seconds
    for precision in precisions:
        yield Row(
            f"{what}, {precision}", "s", seconds[f"ours {precision}"], seconds.get("documented"),
            seconds.get(f"tuned {precision}"), (notes or {}).get(precision, ""), taken.rounds,
        )  # fmt: skip


def vision(
    name: str, model: XCLIPModel, peer: Peer | None, how: Rounds, peaks: dict[str, float], precisions: list[Precision]
) -> Iterator[Row]:
    """One video of 8 frames: the plain model, then the optimised one in each precision, all in one loop."""
    pixels = clips_for(model, 1)
    fast = {precision: optimize(model, precision, verbose=False) for precision in precisions}
    ways: dict[str, Callable[[], Any]] = {"plain": _plainly(lambda: model.get_video_features(pixels))}
    for precision, optimized in fast.items():
        ways[precision] = _plainly(lambda optimized=optimized: optimized.get_video_features(pixels))  # type: ignore[misc]
    right = ways["plain"]()
    if peer is not None:
        ways["documented"] = _plainly(lambda: peer.video(pixels))
        ways["tuned fp32"] = _expertly(lambda: peer.video(pixels), "fp32")
        ways["tuned bf16"] = _expertly(lambda: peer.video(pixels), "bf16")
        right = ways["documented"]()
    taken, done = medians(ways, how)
    operations = _operations(model)
    documented = taken.get("documented")
    yield Row(f"{name} video, plain fp32", "s", taken["plain"], documented, taken.get("tuned fp32"), rounds=done)
    for precision in precisions:
        kernel = str(fast[precision].kernel.dtype).removeprefix("torch.")
        peak = peaks.get({"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}[kernel])
        share = "" if peak is None else f", {100 * operations / taken[precision] / peak:.0f} % of GEMM peak"
        error = relative_error(ways[precision](), right)
        tuned = taken.get("tuned fp32" if precision == "fp32" else "tuned bf16")
        yield Row(
            f"{name} video, optimised {precision}", "s", taken[precision], documented, tuned,
            f"off {error:.1e}{share}", done,
        )  # fmt: skip


def _operations(model: XCLIPModel) -> float:
    """2 x multiply-adds of the video side, without prompts."""
    return float(profile(model, num_texts=1).video.flops)


def texts(name: str, model: XCLIPModel, peer: Peer | None, how: Rounds, precisions: list[Precision]) -> Iterator[Row]:
    """400 class names that weren't seen before; prompts; and the next video over the same names."""
    ids, pixels = class_names(), clips_for(model, 1)
    ways: dict[str, Callable[[], Any]] = {}
    right, off = _plainly(lambda: model.get_text_features(ids))(), {}
    for precision in precisions:
        cold = optimize(model, precision, verbose=False, texts_kept=0)
        ways[f"ours {precision}"] = _plainly(partial(cold.get_text_features, ids))
        off[precision] = f"off {relative_error(ways[f'ours {precision}'](), right):.1e}"
        if peer is not None:
            ways[f"tuned {precision}"] = _expertly(partial(peer.text, ids), precision)
    if peer is not None:
        ways["documented"] = _plainly(partial(peer.text, ids))
    yield from _rows(f"{name} {_NAMES} class names, cold", medians(ways, how), precisions, off)
    ways = {}
    warm = {precision: optimize(model, precision, verbose=False) for precision in precisions}
    for precision, optimized in warm.items():
        ways[f"ours {precision}"] = _plainly(partial(optimized, ids, pixels))
        if peer is not None:
            ways[f"tuned {precision}"] = _expertly(partial(peer.scored_by_parts, pixels, right), precision)
    if peer is not None:
        ways["documented"] = _plainly(partial(peer.model, input_ids=ids, pixel_values=pixels))
    yield from _rows(f"{name} next video, same {_NAMES} names", medians(ways, how), precisions)
    width, videos = model.config.projection_dim, 8
    text_BKE, patches_BPE = torch.randn(_NAMES, width).expand(videos, -1, -1), torch.randn(videos, 49, width)
    ways = {}
    for precision, optimized in warm.items():
        ways[f"ours {precision}"] = _plainly(partial(optimized._prompts, text_BKE, patches_BPE))
        if peer is not None:
            prompts = partial(peer.model.prompts_generator, text_BKE, patches_BPE)
            ways[f"tuned {precision}"] = _expertly(prompts, precision)
            ways["documented"] = _plainly(prompts)
    yield from _rows(f"{name} prompts, {videos} videos x {_NAMES}", medians(ways, how), precisions)


def padded_texts(name: str, model: XCLIPModel, peer: Peer | None, how: Rounds) -> Iterator[Row]:
    """The whole forward on 400 texts padded to 77, for the second time."""
    ids, pixels = class_names(padded=77), clips_for(model, 1)
    fast = optimize(model, "fp32", verbose=False)
    ways: dict[str, Callable[[], Any]] = {"ours fp32": _plainly(partial(fast, ids, pixels))}
    if peer is not None:
        ways["documented"] = _plainly(partial(peer.model, input_ids=ids, pixel_values=pixels))
    yield from _rows(f"{name} forward, {_NAMES} texts at 77, second call", medians(ways, how), ["fp32"])


def training(name: str, model: XCLIPModel, peer: Peer | None, how: Rounds) -> Iterator[Row]:
    """Forward, backward and AdamW step of 2 videos on 400 frozen texts; the documented way encodes the texts anew."""
    ids, pixels, labels = class_names(), clips_for(model, 2), torch.tensor([3, 5])
    text_KE = _plainly(lambda: model.get_text_features(ids))()

    def step(optimizer: torch.optim.Optimizer, loss: Callable[[], Tensor], precision: str) -> Callable[[], Any]:
        def run() -> None:
            with _autocast(precision):
                value = loss()
            value.backward()
            optimizer.step()
            optimizer.zero_grad()

        return run

    def optimizer(which: Any, **options: Any) -> torch.optim.Optimizer:
        for part, weight in which.named_parameters():
            weight.requires_grad_(not part.startswith("text_"))
        return torch.optim.AdamW([p for p in which.parameters() if p.requires_grad], lr=1e-8, **options)

    ours = optimizer(model, fused=True)
    theirs = optimizer(peer.model) if peer is not None else None
    ways: dict[str, Callable[[], Any]] = {}
    for precision in ("fp32", "bf16"):

        def loss() -> Tensor:
            value: Tensor = model(text_features=text_KE, pixel_values=pixels, labels=labels).loss
            return value

        ways[f"ours {precision}"] = step(ours, loss, precision)
        if peer is not None and theirs is not None:

            def documented() -> Tensor:
                logits: Tensor = peer.model(input_ids=ids, pixel_values=pixels).logits_per_video
                return F.cross_entropy(logits, labels)

            def tuned() -> Tensor:
                return F.cross_entropy(peer.scored_by_parts(pixels, text_KE), labels)

            ways["documented"] = step(theirs, documented, "fp32")
            ways[f"tuned {precision}"] = step(theirs, tuned, precision)
    yield from _rows(f"{name} training step, 2 videos, {_NAMES} texts", medians(ways, how), ["fp32", "bf16"])
    for which in [model] if peer is None else [model, peer.model]:
        which.requires_grad_(True)
        which.zero_grad()
