"""What is measured within one process: towers, texts, prompts, the training step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from openxclip.benchmarking.measuring import Row, medians, relative_error
from openxclip.benchmarking.peers import Peer
from openxclip.engine import OptimizedXCLIPModel, Precision, optimize
from openxclip.model import XCLIPModel
from openxclip.profiling import profile

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


def _row(what: str, ways: dict[str, Callable[[], Any]], rounds: int, note: str = "") -> Row:
    taken = medians(ways, rounds)
    return Row(what, "s", taken["ours"], taken.get("documented"), taken.get("tuned"), note)


def vision(
    name: str, model: XCLIPModel, peer: Peer | None, rounds: int, peaks: dict[str, float], precisions: list[Precision]
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
    taken = medians(ways, rounds)
    operations = _operations(model)
    documented = taken.get("documented")
    yield Row(f"{name} video, plain fp32", "s", taken["plain"], documented, taken.get("tuned fp32"))
    for precision in precisions:
        kernel = str(fast[precision].kernel.dtype).removeprefix("torch.")
        peak = peaks.get({"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}[kernel])
        share = "" if peak is None else f", {100 * operations / taken[precision] / peak:.0f} % of GEMM peak"
        error = relative_error(ways[precision](), right)
        tuned = taken.get("tuned fp32" if precision == "fp32" else "tuned bf16")
        yield Row(
            f"{name} video, optimised {precision}", "s", taken[precision], documented, tuned, f"off {error:.1e}{share}"
        )


def _operations(model: XCLIPModel) -> float:
    """2 x multiply-adds of the video side, without prompts."""
    return float(profile(model, num_texts=1).video.flops)


def texts(name: str, model: XCLIPModel, peer: Peer | None, rounds: int, precisions: list[Precision]) -> Iterator[Row]:
    """400 class names that weren't seen before; prompts; and the next video over the same names."""
    ids, pixels = class_names(), clips_for(model, 1)
    for precision in precisions:
        cold = optimize(model, precision, verbose=False, texts_kept=0)
        ways: dict[str, Callable[[], Any]] = {"ours": _plainly(lambda: cold.get_text_features(ids))}  # noqa: B023
        if peer is not None:
            ways["documented"] = _plainly(lambda: peer.text(ids))
            ways["tuned"] = _expertly(lambda: peer.text(ids), precision)
        error = relative_error(ways["ours"](), _plainly(lambda: model.get_text_features(ids))())
        yield _row(f"{name} {_NAMES} class names, cold, {precision}", ways, rounds, f"off {error:.1e}")
    for precision in precisions:
        warm = optimize(model, precision, verbose=False)
        ways = {"ours": _plainly(lambda: warm(ids, pixels).logits_per_video)}  # noqa: B023
        if peer is not None:
            text_KE = _plainly(lambda: peer.text(ids))()
            ways["documented"] = _plainly(lambda: peer.model(input_ids=ids, pixel_values=pixels).logits_per_video)
            ways["tuned"] = _expertly(lambda: peer.scored_by_parts(pixels, text_KE), precision)  # noqa: B023
        yield _row(f"{name} next video, same {_NAMES} names, {precision}", ways, rounds)
    for precision in precisions:
        warm = optimize(model, precision, verbose=False)
        yield _prompts(name, model, warm, peer, rounds, precision)


def _prompts(
    name: str, model: XCLIPModel, warm: OptimizedXCLIPModel, peer: Peer | None, rounds: int, precision: Precision
) -> Row:
    width, videos = model.config.projection_dim, 8
    text_BKE, patches_BPE = torch.randn(_NAMES, width).expand(videos, -1, -1), torch.randn(videos, 49, width)
    ways: dict[str, Callable[[], Any]] = {"ours": _plainly(lambda: warm._prompts(text_BKE, patches_BPE))}
    if peer is not None:
        ways["documented"] = _plainly(lambda: peer.model.prompts_generator(text_BKE, patches_BPE))
        ways["tuned"] = _expertly(lambda: peer.model.prompts_generator(text_BKE, patches_BPE), precision)
    return _row(f"{name} prompts, {videos} videos x {_NAMES}, {precision}", ways, rounds)


def padded_texts(name: str, model: XCLIPModel, peer: Peer | None, rounds: int) -> Iterator[Row]:
    """The whole forward on 400 texts padded to 77, for the second time."""
    ids, pixels = class_names(padded=77), clips_for(model, 1)
    fast = optimize(model, "fp32", verbose=False)
    ways: dict[str, Callable[[], Any]] = {"ours": _plainly(lambda: fast(ids, pixels))}
    if peer is not None:
        ways["documented"] = _plainly(lambda: peer.model(input_ids=ids, pixel_values=pixels))
    yield _row(f"{name} forward, {_NAMES} texts at 77, second call", ways, rounds)


def training(name: str, model: XCLIPModel, peer: Peer | None, rounds: int) -> Iterator[Row]:
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
    for precision in ("fp32", "bf16"):
        ways: dict[str, Callable[[], Any]] = {
            "ours": step(ours, lambda: model(text_features=text_KE, pixel_values=pixels, labels=labels).loss, precision)
        }
        if peer is not None and theirs is not None:

            def documented() -> Tensor:
                logits: Tensor = peer.model(input_ids=ids, pixel_values=pixels).logits_per_video
                return F.cross_entropy(logits, labels)

            def tuned() -> Tensor:
                return F.cross_entropy(peer.scored_by_parts(pixels, text_KE), labels)

            ways["documented"] = step(theirs, documented, "fp32")
            ways["tuned"] = step(theirs, tuned, precision)
        yield _row(f"{name} training step, 2 videos, {_NAMES} texts, {precision}", ways, rounds)
    for which in [model] if peer is None else [model, peer.model]:
        which.requires_grad_(True)
        which.zero_grad()
