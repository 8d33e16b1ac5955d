"""Inference and training on a CUDA GPU, beside transformers where it is installed: one table in under eight minutes.

    python benchmarks/gpu.py [--budget 420] [--json FILE]
    python benchmarks/gpu.py --device cpu --tiny      # the same paths in seconds, for a machine without a GPU

Runs from a checkout; needs torch, numpy and safetensors, and transformers 5 for its rows. Weights are random, the same
on both sides. `ms` is the median of synchronised calls, at least 5, in turns with the other rows of the case. Videos
are float32 on the device, as processors give them; who computes in half precision casts them in the call. `ratio` is to
transformers' eager model (sdpa), used as documented, in that precision (whose convolution in fp32 is TF32 by default);
`peak` the share of that precision's fastest product in this run; `error` the answer's, to the plain model's in float32;
`MiB` what a process needs that trains this alone, inputs aside; `step` what of it is neither weights nor their state.
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import math
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

try:
    import lazy_loader  # noqa: F401
except ImportError:  # this script imports only submodules, so the packages need no lazy names
    import types

    def _no_lazy_names(name: str) -> Any:
        raise AttributeError(name)

    stand_in = types.ModuleType("lazy_loader")
    stand_in.attach_stub = lambda *_: (_no_lazy_names, list, [])  # type: ignore[attr-defined]
    sys.modules["lazy_loader"] = stand_in

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from openxclip.checkpoints.released import RELEASED, config_of_released
from openxclip.config import XCLIPConfig
from openxclip.engine import optimize
from openxclip.inspection.profiling import profile
from openxclip.model import XCLIPModel

try:
    import transformers

    transformers.logging.set_verbosity_error()
except ImportError:
    transformers = None

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
PEER, PARTS, PLAIN, FAST = "transformers", "transformers by its parts", "openxclip plain", "openxclip optimized"
CELLS = {"ratio": "6.2f", "TFLOP/s": "8.2f", "peak": "6.1%", "error": "8.1e", "MiB": "7.0f", "step": "7.0f"}
Ways = dict[str, Callable[[], Tensor]]
MODELS = ("microsoft/xclip-base-patch32", "microsoft/xclip-base-patch16", "microsoft/xclip-large-patch14")
PRESETS: dict[str, dict[str, Any]] = {
    one.name.removeprefix("microsoft/xclip-"): config_of_released(one).to_dict()
    for one in RELEASED
    if one.name in MODELS
}
TINY = {
    "projection_dim": 64,
    "text_config": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2},
    "vision_config": {
        "image_size": 32, "patch_size": 16, "hidden_size": 96, "intermediate_size": 192, "num_hidden_layers": 2,
        "num_attention_heads": 2, "mit_hidden_size": 64, "mit_intermediate_size": 128},
}  # fmt: skip


@dataclass(frozen=True)
class Size:
    models: dict[str, dict[str, Any]]  # texts, training and torch.compile are measured on the first alone
    batches: tuple[int, ...] = (1, 4, 16, 64)  # videos at once
    names: int = 400  # texts
    trained: tuple[int, ...] = (8, 32)  # videos of a training step
    square: int = 8192  # side of the largest product
    rounds: tuple[int, int] = (5, 50)  # fewest and most
    seconds: tuple[float, float] = (1.5, 30.0)  # for the rounds if the fewest allow it; for a case at all
    compiler: str = "inductor"  # torch.compile's backend


class Step:
    """A training step under autocast, which returns its logits; `scores` gives them, or an output that has them."""

    def __init__(self, model: nn.Module, scores: Callable[[], Any], labels: Tensor, precision: str) -> None:
        self.model, self.scores, self.labels, self.dtype = model, scores, labels, DTYPES[precision]
        # a rate at which nothing moves: every way and round meets the same weights
        self.optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-8, fused=True)
        self.scaler = torch.amp.GradScaler(labels.device.type, enabled=precision == "fp16")

    def __call__(self) -> Tensor:
        with torch.autocast(self.labels.device.type, self.dtype):
            scores = self.scores()
            logits: Tensor = getattr(scores, "logits_per_video", scores)
            loss = F.cross_entropy(logits, self.labels)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        return logits.detach()


class Bench:
    """All that is measured, and what came of it."""

    def __init__(self, device: str, size: Size, budget: float, path: Path) -> None:
        self.device, self.size, self.path = torch.device(device), size, path
        self.on_cuda = self.device.type == "cuda"
        self.wait: Callable[[], None] = torch.cuda.synchronize if self.on_cuda else lambda: None
        self.began, self.budget = time.perf_counter(), budget
        self.rows: list[dict[str, Any]] = []
        self.left_out: list[str] = []
        self.remarks: list[str] = []
        self.peaks: dict[str, float] = {}  # FLOP/s by precision

    def run(self) -> None:
        """Every section that there is time for; the JSON file is whole after each."""
        about = versions(self.device)
        print(", ".join(f"{key} {value}" for key, value in about.items()))
        print(f"{'':<52} {'':<38} {'ms':>9}", *(f"{name:>{form[0]}}" for name, form in CELLS.items()), flush=True)
        for title, needed, section in self.sections():
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always", UserWarning)
                try:
                    if self.left() < needed:
                        raise TimeoutError(f"{self.left():.0f} s left of {self.budget:.0f}")
                    gc.collect()
                    if self.on_cuda:
                        torch.cuda.empty_cache()
                    torch.set_float32_matmul_precision("highest")  # PyTorch's default; GEMM leaves another
                    section()
                except Exception as error:  # no memory, or a library of another version: the rest goes on
                    self.leave_out(title, error)
            self.remarks += dict.fromkeys(f"{title}: {each.message}" for each in said)  # refused paths above all
            found = {**about, "seconds": time.perf_counter() - self.began, "gemm_peak_flops": self.peaks,
                     "left_out": self.left_out, "remarks": self.remarks, "rows": self.rows}  # fmt: skip
            self.path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print("", *(f"left out: {what}" for what in self.left_out), *self.remarks, sep="\n", flush=True)

    def sections(self) -> list[tuple[str, float, Callable[[], None]]]:
        """Title, the seconds without which it isn't begun, and what is done; the most important first."""
        first, *others = models = self.size.models
        batches, batch = self.size.batches, min(16, max(self.size.batches))
        return [
            ("GEMM", 0, self.gemm),
            *((f"{name} video, fp16", 5, partial(self.video, name, "fp16", batches)) for name in models),
            (f"{first} texts, fp16", 5, partial(self.texts, first, "fp16")),
            *((f"{first} training, {each}", 10, partial(self.training, first, each)) for each in ("bf16", "fp16")),
            *((f"{name} video, bf16", 5, partial(self.video, name, "bf16", batches)) for name in models),
            (f"{first} video, fp32", 5, partial(self.video, first, "fp32", batches)),
            (f"{first} compiled, x 1", 60, partial(self.video, first, "fp16", (1,), "default")),
            *((f"{name} video, fp32", 5, partial(self.video, name, "fp32", batches)) for name in others),
            *((f"{first} texts, {each}", 5, partial(self.texts, first, each)) for each in ("bf16", "fp32")),
            (f"{first} CUDA graphs, x 1", 45, partial(self.video, first, "fp16", (1,), "reduce-overhead")),
            (f"{first} compiled, x {batch}", 75, partial(self.video, first, "fp16", (batch,), "default")),
        ]

    def gemm(self) -> None:
        """The fastest product of each precision: a large square, and the models' own MLPs."""
        shapes = {"square": (self.size.square,) * 3}
        for name, preset in self.size.models.items():
            vision = XCLIPConfig.from_dict(preset).vision_config
            rows = 16 * vision.num_frames * (1 + (vision.image_size // vision.patch_size) ** 2)
            shapes[f"MLP of {name}, x 16"] = (rows, vision.hidden_size, vision.intermediate_size)
        for way in (*DTYPES, "tf32"):
            torch.set_float32_matmul_precision("high" if way == "tf32" else "highest")
            for name, (rows, width, inner) in shapes.items():
                how = {"device": self.device, "dtype": DTYPES.get(way, torch.float32)}
                product = partial(F.linear, torch.randn(rows, width, **how), torch.randn(inner, width, **how))
                best = min(self.seconds(product, times=10) for _ in range(6))
                speed = 2 * rows * width * inner / best
                self.peaks[way] = max(self.peaks.get(way, 0.0), speed)
                self.add(f"{name}: {rows} x {width} x {inner}", f"GEMM {way}", best, {"TFLOP/s": speed / 1e12})

    def video(self, name: str, precision: str, batches: Sequence[int], compiling: str = "") -> None:
        """`get_video_features` of each batch; also in that mode of torch.compile; ours has the default alone."""
        model, plain, peer = self.models(name, precision)
        fast, tried = (optimize(model, precision, compile=each, verbose=False) for each in (False, True))
        _, pixels = self.inputs(model, max(batches))
        cost = profile(model.config, num_texts=1)  # without what prompts and scores cost
        flops = cost.of([*(part for part in cost.parts if part.startswith(("vision_", "visual_"))), "mit"]).flops
        mode = torch.no_grad if compiling else torch.inference_mode  # whose tensors compiled graphs may choke on
        if compiling:
            torch.compiler.reset()
        with mode():
            right = model.get_video_features(pixels[:4])
        for batch in batches:
            part, case = pixels[:batch], f"{name} video, {precision}, x {batch}"
            ways: Ways = {
                PLAIN: lambda part=part: plain.get_video_features(part.to(plain.dtype)),
                FAST: lambda part=part: fast.get_video_features(part),
            }
            if compiling == "default":
                ways[f"{FAST}, compiled"] = lambda part=part: tried.get_video_features(part)
            calls = {} if peer is None else {PEER: peer.get_video_features}
            if peer is not None and compiling:
                how = {"mode": compiling, "backend": self.size.compiler}
                calls[f"{PEER} compiled, {compiling}"] = torch.compile(peer.get_video_features, dynamic=False, **how)
            for way, call in calls.items():
                ways[way] = lambda part=part, call=call: call(part.to(plain.dtype)).pooler_output
            self.measure(f"{case}{', compile' if compiling else ''}", ways, right, precision, batch * flops, mode)
        self.remarks.append(f"{name} video, {precision}: {(tried if compiling == 'default' else fast).report}")

    def texts(self, name: str, precision: str) -> None:
        """Texts that weren't seen before; the next video over the same texts; the prompts of 8 videos alone."""
        model, plain, peer = self.models(name, precision)
        cold, warm = (optimize(model, precision, texts_kept=kept, verbose=False) for kept in (0, 20_000))
        (ids, pixels), dtype, config = self.inputs(model, 1), plain.dtype, model.config
        number, patches = len(ids), (config.vision_config.image_size // config.vision_config.patch_size) ** 2
        texts_KE = torch.randn(number, config.projection_dim, device=self.device)
        shown = (texts_KE.expand(8, -1, -1), torch.randn(8, patches, config.projection_dim, device=self.device))
        cast = (texts_KE.to(dtype).expand(8, -1, -1), shown[1].to(dtype))
        with torch.inference_mode():
            kept_KE, right = plain.get_text_features(ids), model.get_text_features(ids)
            right_logits, right_prompts = model(ids, pixels).logits_per_video, model.prompts_generator(*shown)
        encoding: Ways = {PLAIN: lambda: plain.get_text_features(ids), FAST: lambda: cold.get_text_features(ids)}
        scoring: Ways = {
            PLAIN: lambda: plain(text_features=kept_KE, pixel_values=pixels.to(dtype)).logits_per_video,
            FAST: lambda: warm(ids, pixels).logits_per_video,
        }
        prompting: Ways = {PLAIN: lambda: plain.prompts_generator(*cast), FAST: lambda: warm._prompts(*shown)}
        if peer is not None:
            encoding[PEER] = lambda: peer.get_text_features(ids).pooler_output
            scoring[PEER] = lambda: peer(input_ids=ids, pixel_values=pixels.to(dtype)).logits_per_video
            scoring[PARTS] = lambda: scored_by_parts(peer, kept_KE, pixels.to(dtype))
            prompting[PEER] = lambda: peer.prompts_generator(*cast)
        flops = float(profile(config, num_texts=number, text_length=ids.shape[1]).texts.flops)
        self.measure(f"{name} {number} texts, cold, {precision}", encoding, right, precision, flops)
        self.measure(f"{name} next video, same {number} texts, {precision}", scoring, right_logits, precision)
        self.measure(f"{name} prompts, 8 videos x {number}, {precision}", prompting, right_prompts, precision)

    def training(self, name: str, precision: str) -> None:
        """Forward, backward and AdamW on frozen texts, which the documented way encodes at each step."""
        model, _, peer = self.models(name, "fp32")
        ids, pixels = self.inputs(model, max(self.size.trained))
        with torch.no_grad():  # not in inference mode, whose tensors no backward pass may keep
            text_KE = model.get_text_features(ids)
        for each in [model] if peer is None else [model, peer]:
            for part, weight in each.train().named_parameters():
                weight.requires_grad_(not part.startswith("text_"))
        for videos in self.size.trained:
            given, labels = pixels[:videos], torch.arange(videos, device=self.device) % len(ids)
            ours = partial(model, text_features=text_KE, pixel_values=given)
            with torch.no_grad():
                right = ours().logits_per_video
            steps: Ways = {"openxclip": Step(model, ours, labels, precision)}
            if peer is not None:
                steps[PEER] = Step(peer, partial(peer, input_ids=ids, pixel_values=given), labels, precision)
                steps[PARTS] = Step(peer, partial(scored_by_parts, peer, text_KE, given), labels, precision)
            case = f"{name} training, {precision}, x {videos}, {len(ids)} texts"
            self.measure(case, steps, right, precision, mode=nullcontext)

    def measure(
        self, case: str, ways: Ways, right: Tensor, precision: str, flops: float = 0, mode: Any = torch.inference_mode
    ) -> None:
        """A row for each way, run in turns. `right` is the answer, or its first rows; `flops` are those of one call."""
        fewest, most = self.size.rounds
        peak = self.peaks.get(precision)
        needed = len(ways) * (3 + fewest) * flops / (0.5 * peak) if peak else 0.0
        if self.left() <= 0 or needed > min(self.size.seconds[1], self.left()):
            self.leave_out(case, f"needs about {needed:.0f} s, {self.left():.0f} s left")
            return
        errors: dict[str, float] = {}
        taken: dict[str, list[float]] = {}
        with mode():
            for way, call in ways.items():
                try:
                    call()  # prepares, compiles
                    answer = call()[: len(right)].double()  # CUDA graphs, if any, are recorded now
                    expected = right[: len(answer)].double()
                    errors[way] = float((answer - expected).norm() / expected.norm())
                    taken[way] = [self.seconds(call)]
                except Exception as error:  # noqa: PERF203
                    self.leave_out(f"{case}, {way}", error)
            once = sum(spent.pop() for way, spent in taken.items())
            for _ in range(max(fewest, min(most, int(self.size.seconds[0] / max(once, 1e-9))))):
                for way, spent in taken.items():
                    spent.append(self.seconds(ways[way]))
        medians = {way: statistics.median(spent) for way, spent in taken.items()}
        for way, median in medians.items():
            numbers = {"error": errors[way]}
            if not math.isfinite(errors[way]):  # which JSON hasn't
                self.remarks.append(f"{case}, {way}: error {numbers.pop('error')}")
            if PEER in medians:
                numbers["ratio"] = median / medians[PEER]
            if flops and peak:
                numbers |= {"TFLOP/s": flops / median / 1e12, "peak": flops / median / peak}
            self.add(case, way, median, numbers | self.memory(ways[way]))

    def seconds(self, call: Callable[[], Any], times: int = 1) -> float:
        """Of one call, from an idle device to an idle device."""
        self.wait()
        began = time.perf_counter()
        for _ in range(times):
            call()
        self.wait()
        return (time.perf_counter() - began) / times

    def memory(self, step: Callable[[], Tensor]) -> dict[str, float]:
        """MiB of a training step at its fullest moment, and what of it is neither weights nor optimizer state."""
        if not (self.on_cuda and isinstance(step, Step)):
            return {}
        state = [value for values in step.optimizer.state.values() for value in values.values()]
        held = sum(tensor.nbytes for tensor in [*step.model.parameters(), *step.model.buffers(), *state])
        self.wait()
        gc.collect()
        before = torch.cuda.memory_allocated()  # other ways' weights among it
        torch.cuda.reset_peak_memory_stats()
        step()
        self.wait()
        more = torch.cuda.max_memory_allocated() - before
        return {"MiB": (held + more) / 2**20, "step": more / 2**20}

    def models(self, name: str, precision: str) -> tuple[XCLIPModel, XCLIPModel, Any]:
        """In float32; with its weights in that precision; and transformers' like the second, or None."""
        torch.manual_seed(0)
        with self.device:  # where random starts take no time
            model = XCLIPModel(XCLIPConfig.from_dict(self.size.models[name])).eval()
        plain = model if precision == "fp32" else copy.deepcopy(model).to(DTYPES[precision])
        if transformers is None:
            return model, plain, None
        try:
            with self.device:
                peer = transformers.XCLIPModel(transformers.XCLIPConfig.from_dict(model.config.to_dict()))
            peer.load_state_dict(plain.state_dict())
            assert peer.config._attn_implementation == "sdpa", peer.config._attn_implementation
            return model, plain, peer.to(plain.dtype).eval()
        except Exception as error:  # of a version that this file doesn't know
            self.leave_out(f"{PEER} of {name}, {precision}", error)
            return model, plain, None

    def inputs(self, model: XCLIPModel, videos: int) -> tuple[Tensor, Tensor]:
        """Texts without padding, which nobody gains by cutting off, and videos."""
        vision, end = model.config.vision_config, model.config.text_config.vocab_size - 1
        ids = torch.randint(1, end - 1, (self.size.names, 16), device=self.device)
        ids[:, 0], ids[:, -1] = end - 1, end
        shape = (videos, vision.num_frames, vision.num_channels, vision.image_size, vision.image_size)
        return ids, torch.randn(shape, device=self.device)

    def left(self) -> float:
        return self.budget - (time.perf_counter() - self.began)

    def add(self, case: str, way: str, seconds: float, numbers: dict[str, float]) -> None:
        """A line of the table; what doesn't apply isn't in its numbers."""
        self.rows.append({"case": case, "way": way, "ms": 1e3 * seconds, **numbers})
        cells = [f"{numbers[n]:{form}}" if n in numbers else " " * int(form[0]) for n, form in CELLS.items()]
        print(f"{case:<52} {way:<38} {1e3 * seconds:9.3f} {' '.join(cells)}".rstrip(), flush=True)

    def leave_out(self, what: str, why: str | Exception) -> None:
        self.left_out.append(f"{what}: {why if isinstance(why, str) else repr(why):.200}")


def scored_by_parts(peer: Any, text_KE: Tensor, pixels: Tensor) -> Tensor:
    """transformers' `logits_per_video` of text features that were kept, which its forward doesn't take."""
    batch, frames = pixels.shape[:2]
    seen = peer.vision_model(pixels.flatten(0, 1))
    video_BE = peer.mit(peer.visual_projection(seen.pooler_output).view(batch, frames, -1))[1]
    patches = peer.prompts_visual_layernorm(seen.last_hidden_state[:, 1:]) @ peer.prompts_visual_projection
    patches_BPE = patches.view(batch, frames, -1, video_BE.shape[-1]).mean(1)
    text_BKE = text_KE.expand(batch, -1, -1)
    text_BKE = text_BKE + peer.prompts_generator(text_BKE, patches_BPE)
    text_BKE, video_BE = (x / x.norm(dim=-1, keepdim=True) for x in (text_BKE, video_BE))
    return torch.einsum("be,bke->bk", video_BE, peer.logit_scale.exp() * text_BKE)


def versions(device: torch.device) -> dict[str, str]:
    name = torch.cuda.get_device_name() if device.type == "cuda" else device.type
    git = ["git", "-C", str(Path(__file__).resolve().parent), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # no git, or no repository
        commit = "unknown"
    peer = "none" if transformers is None else transformers.__version__
    return {"device": name, "torch": torch.__version__, "CUDA": str(torch.version.cuda), PEER: peer, "commit": commit}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a tiny model, one round: shows that it runs, no more")
    parser.add_argument("--budget", type=float, default=420, help="seconds after which nothing is begun")
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    size = Size(PRESETS)
    if options.tiny:  # "eager" traces as inductor does, and compiles nothing, which takes a minute
        size = Size({"tiny": TINY}, (1, 2), 7, (2,), 64, (1, 1), (0.0, math.inf), "eager")
        torch.set_num_threads(1)
    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no CUDA device: try --device cpu --tiny.")
    Bench(options.device, size, options.budget, options.json).run()


if __name__ == "__main__":
    main()
