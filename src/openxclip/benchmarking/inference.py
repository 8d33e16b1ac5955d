"""Measure towers, texts, prompts and the training step within one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
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

Call = Callable[[], Any]


def class_names(length: int = 16, padded: int | None = None) -> Tensor:
    """Return the token ids of 400 texts of 4 to `length` tokens, like class names, padded as transformers does.

    Args:
        length: tokens of the longest text.
        padded: length with padding; default is `length`.
    """
    generator = torch.Generator().manual_seed(1)
    ends = torch.randint(3, 10, (_NAMES,), generator=generator)
    ends[0] = length - 1
    positions = torch.arange(padded or length)
    ids = torch.randint(300, 49000, (_NAMES, len(positions)), generator=generator)
    ids[:, 0] = 49406
    return torch.where(positions < ends[:, None], ids, 49407)


def clips_for(model: XCLIPModel, videos: int) -> Tensor:
    """Return clips of noise (B, T, C, H, W) in the model's size."""
    vision = model.config.vision_config
    return torch.randn(videos, vision.num_frames, vision.num_channels, vision.image_size, vision.image_size)


def _autocast(precision: str) -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")


def _in_inference_mode(call: Call, precision: str) -> Call:
    @torch.inference_mode()
    def run() -> Any:
        with _autocast(precision):
            return call()

    return run


def _methods(ours: Mapping[Precision, Call], documented: Call | None, tuned: Call | None = None) -> dict[str, Call]:
    """Return openxclip's methods and transformers' two methods by the names that `_rows` expects; see `Row`."""
    methods = {f"ours {precision}": torch.no_grad()(call) for precision, call in ours.items()}
    if documented is not None:
        methods["documented"] = torch.no_grad()(documented)
    if tuned is not None:
        methods |= {f"tuned {precision}": _in_inference_mode(tuned, precision) for precision in ours}
    return methods


def _rows(what: str, measured: Medians, notes: Mapping[str, str] | None = None) -> Iterator[Row]:
    """Yield a row for each method of openxclip.

    Args:
        what: description of the rows, to which the precision is added.
        measured: medians of methods named "ours fp32", "tuned fp32", …, and "documented".
        notes: note by precision.
    """
    seconds = measured.seconds
    for precision in [name.removeprefix("ours ") for name in seconds if name.startswith("ours ")]:
        yield Row(
            f"{what} {precision}", "s", seconds[f"ours {precision}"], seconds.get("documented"),
            seconds.get(f"tuned {precision}"), (notes or {}).get(precision, ""), measured.rounds,
        )  # fmt: skip


def vision(
    name: str,
    model: XCLIPModel,
    peer: Peer | None,
    rounds: Rounds,
    peaks: dict[str, float],
    precisions: list[Precision],
) -> Iterator[Row]:
    """Measure the features of one video, with the plain model and with the optimised model in each precision."""
    pixels = clips_for(model, 1)
    fast = {precision: optimize(model, precision, verbose=False) for precision in precisions}
    ours = {precision: partial(optimized.get_video_features, pixels) for precision, optimized in fast.items()}
    theirs = partial(peer.video, pixels) if peer else None
    methods = _methods(ours, theirs, theirs)
    methods["plain"] = torch.no_grad()(partial(model.get_video_features, pixels))
    reference = methods["documented" if peer else "plain"]()
    measured = medians(methods, rounds)
    seconds, num_rounds = measured
    documented, tuned = seconds.get("documented"), seconds.get("tuned fp32")
    yield Row(f"{name} video, plain fp32", "s", seconds["plain"], documented, tuned, rounds=num_rounds)
    operations = profile(model, num_texts=1).video.flops  # of one video and one text; 2 per multiply-add
    notes: dict[str, str] = {}
    for precision, optimized in fast.items():
        method = f"ours {precision}"
        kernel = str(optimized.kernel.dtype).removeprefix("torch.")
        peak = peaks.get({"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}[kernel])
        share = "" if peak is None else f", {100 * operations / seconds[method] / peak:.0f} % of GEMM peak"
        notes[precision] = f"off {relative_error(methods[method](), reference):.1e}{share}"
    yield from _rows(f"{name} video, optimised", measured, notes)


def texts(
    name: str, model: XCLIPModel, peer: Peer | None, rounds: Rounds, precisions: list[Precision]
) -> Iterator[Row]:
    """Measure 400 new class names, another video with the same names, and the prompts of 8 videos."""
    ids, pixels = class_names(), clips_for(model, 1)
    with torch.no_grad():
        reference = model.get_text_features(ids)
        cold = {precision: optimize(model, precision, verbose=False, texts_kept=0) for precision in precisions}
        ours: dict[Precision, Call] = {p: partial(fast.get_text_features, ids) for p, fast in cold.items()}
        errors = {str(precision): f"off {relative_error(call(), reference):.1e}" for precision, call in ours.items()}
    encode = partial(peer.text, ids) if peer else None
    measured = medians(_methods(ours, encode, encode), rounds)
    yield from _rows(f"{name} {_NAMES} class names, cold,", measured, errors)

    warm = {precision: optimize(model, precision, verbose=False) for precision in precisions}
    methods = _methods(
        {precision: partial(fast, ids, pixels) for precision, fast in warm.items()},
        partial(peer.model, input_ids=ids, pixel_values=pixels) if peer else None,
        partial(peer.score_by_parts, pixels, reference) if peer else None,
    )
    yield from _rows(f"{name} next video, same {_NAMES} names,", medians(methods, rounds))

    width, videos = model.config.projection_dim, 8
    text_BKE, patches_BPE = torch.randn(_NAMES, width).expand(videos, -1, -1), torch.randn(videos, 49, width)
    ours = {precision: partial(fast._prompts, text_BKE, patches_BPE) for precision, fast in warm.items()}
    prompts = partial(peer.model.prompts_generator, text_BKE, patches_BPE) if peer else None
    measured = medians(_methods(ours, prompts, prompts), rounds)
    yield from _rows(f"{name} prompts, {videos} videos x {_NAMES},", measured)


def padded_texts(name: str, model: XCLIPModel, peer: Peer | None, rounds: Rounds) -> Iterator[Row]:
    """Measure the second forward pass with the same 400 texts, padded to 77 tokens."""
    ids, pixels = class_names(padded=77), clips_for(model, 1)
    fast = optimize(model, "fp32", verbose=False)
    documented = partial(peer.model, input_ids=ids, pixel_values=pixels) if peer else None
    measured = medians(_methods({"fp32": partial(fast, ids, pixels)}, documented), rounds)
    yield from _rows(f"{name} forward, {_NAMES} texts at 77, second call,", measured)


def training(name: str, model: XCLIPModel, peer: Peer | None, rounds: Rounds) -> Iterator[Row]:
    """Measure a training step of 2 videos and 400 frozen texts, which the documented method encodes in each step."""
    ids, pixels, labels = class_names(), clips_for(model, 2), torch.tensor([3, 5])
    with torch.no_grad():
        text_KE = model.get_text_features(ids)

    def step(optimizer: torch.optim.Optimizer, loss: Callable[[], Tensor], precision: str) -> Call:
        def run() -> None:
            with _autocast(precision):
                value = loss()
            value.backward()
            optimizer.step()
            optimizer.zero_grad()

        return run

    def freeze_texts_and_make_optimizer(trained: Any, **options: Any) -> torch.optim.Optimizer:
        for part, weight in trained.named_parameters():
            weight.requires_grad_(not part.startswith("text_"))
        return torch.optim.AdamW([p for p in trained.parameters() if p.requires_grad], lr=1e-8, **options)

    def loss() -> Tensor:
        value: Tensor = model(text_features=text_KE, pixel_values=pixels, labels=labels).loss
        return value

    precisions = ("fp32", "bf16")
    ours = freeze_texts_and_make_optimizer(model, fused=True)
    methods = {f"ours {precision}": step(ours, loss, precision) for precision in precisions}
    if peer is not None:

        def documented() -> Tensor:
            logits: Tensor = peer.model(input_ids=ids, pixel_values=pixels).logits_per_video
            return F.cross_entropy(logits, labels)

        def tuned() -> Tensor:
            return F.cross_entropy(peer.score_by_parts(pixels, text_KE), labels)

        theirs = freeze_texts_and_make_optimizer(peer.model)
        methods["documented"] = step(theirs, documented, "fp32")
        methods |= {f"tuned {precision}": step(theirs, tuned, precision) for precision in precisions}
    yield from _rows(f"{name} training step, 2 videos, {_NAMES} texts,", medians(methods, rounds))
    for trained in [model] if peer is None else [model, peer.model]:
        trained.requires_grad_(True)
        trained.zero_grad()
