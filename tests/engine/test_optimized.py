"""An optimised model gives the plain model's answers with every part, or lets the plain model answer."""

from __future__ import annotations

import copy
import pickle
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from openxclip import OptimizedXCLIPModel, VideoFeatures, XCLIPConfig, XCLIPModel, optimize
from openxclip.engine import building, linears, precision, towers
from openxclip.engine.linears import Kernel

KERNELS = [
    Kernel(dtype, packed) for dtype in (torch.float32, torch.bfloat16, torch.float16) for packed in (False, True)
]
CLOSE = {torch.float32: 2e-5, torch.bfloat16: 3e-2, torch.float16: 5e-3}


def usable(kernel: Kernel) -> bool:
    return not kernel.packed or linears.can_pack(kernel.dtype)


def configuration(**changes: Any) -> XCLIPConfig:
    act = changes.pop("hidden_act", "quick_gelu")
    return XCLIPConfig(
        text_config={
            "hidden_size": 32, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
            "vocab_size": 200, "max_position_embeddings": 16, "hidden_act": act, "eos_token_id": 199,
        },
        vision_config={
            "hidden_size": 48, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4,
            "mit_hidden_size": 32, "mit_intermediate_size": 64, "mit_num_attention_heads": 2, "image_size": 32,
            "patch_size": 8, "num_frames": 4, "hidden_act": act,
        },
        projection_dim=32, prompt_num_attention_heads=2, prompt_alpha=0.5, **changes,
    )  # fmt: skip


def random_model(**changes: Any) -> XCLIPModel:
    """Return a model whose weights are all random, so that none keeps an initial 0 or 1."""
    torch.manual_seed(1)
    model = XCLIPModel(configuration(**changes)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name != "logit_scale":
                scale = 0.3 if parameter.ndim == 1 else parameter.shape[-1] ** -0.5
                parameter.normal_(std=scale).add_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
    return model


@pytest.fixture
def model() -> XCLIPModel:
    return random_model()


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def some_ids(texts: int = 5, length: int = 16, seed: int = 0) -> Tensor:
    """Return texts of several lengths: 0 is padding, 199 ends a text."""
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, 198, (texts, length), generator=draw)
    ends = torch.randint(2, length, (texts,), generator=draw)
    ids[torch.arange(length) > ends[:, None]] = 0
    ids[torch.arange(texts), ends] = 199
    return ids


def some_pixels(videos: int = 2, frames: int = 4, size: int = 32) -> Tensor:
    return torch.randn(videos, frames, 3, size, size, generator=torch.Generator().manual_seed(2))


def off(ours: Tensor, right: Tensor) -> float:
    assert ours.shape == right.shape
    assert ours.dtype == right.dtype
    return float((ours.double() - right.double()).norm() / right.double().norm())


def with_kernel(model: XCLIPModel, kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> OptimizedXCLIPModel:
    monkeypatch.setattr("openxclip.engine.optimized.choose_dtype", lambda *_: (kernel.dtype, ""))
    monkeypatch.setattr("openxclip.engine.preparation.choose_kernel", lambda *_: kernel)
    return optimize(model, verbose=False)


def is_prepared(model: OptimizedXCLIPModel) -> set[str]:
    parts = model._preparation._current
    return set(parts._prepared) if parts else set()


# When parts are prepared


def test_the_plain_model_answers_first(model: XCLIPModel) -> None:
    fast = OptimizedXCLIPModel(model, prepare_after=1000)
    ids, pixels = some_ids(), some_pixels()
    plain, right = model(ids, pixels), model.get_text_features(ids)
    assert off(fast(ids, pixels).logits_per_video, plain.logits_per_video) < 1e-6  # texts are cut elsewhere
    assert off(fast.get_text_features(ids), right) < 1e-6
    assert not is_prepared(fast)  # and no kernel was chosen
    assert fast._preparation._kernel is None
    for _ in range(10):
        fast.get_video_features(pixels)
    assert is_prepared(fast) == {"video tower"}
    fast.prepare_at_next_use()
    assert off(fast(some_ids(seed=7), pixels).logits_per_video, model(some_ids(seed=7), pixels).logits_per_video) < 2e-5
    assert is_prepared(fast) == {"video tower", "text tower", "prompt generator"}


def test_half_precision_is_prepared_at_once(model: XCLIPModel) -> None:
    if not linears.can_pack(torch.bfloat16):
        pytest.skip("this CPU has no bf16 products")
    fast = OptimizedXCLIPModel(model, "bf16", prepare_after=10**9)
    fast.get_video_features(some_pixels())
    assert is_prepared(fast) == {"video tower"}


# Equal answers


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_every_answer_is_the_plain_models(model: XCLIPModel, kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    if not usable(kernel):
        pytest.skip("this CPU has no such products")
    fast = with_kernel(model, kernel, monkeypatch)
    ids, pixels = some_ids(), some_pixels()
    limit = CLOSE[kernel.dtype]
    ours, right = fast(input_ids=ids, pixel_values=pixels), model(input_ids=ids, pixel_values=pixels)
    for name in ("logits_per_video", "logits_per_text", "text_embeds", "video_embeds"):
        assert off(ours[name], right[name]) < limit, name
    for name in ("vision_model_output", "mit_output"):
        for field in ("last_hidden_state", "pooler_output"):
            assert off(ours[name][field], right[name][field]) < limit, (name, field)
    assert ours.text_model_output is None
    assert off(fast.get_text_features(ids), model.get_text_features(ids)) < limit
    assert off(fast.get_video_features(pixels), model.get_video_features(pixels)) < limit
    for got, wanted in zip(fast.encode_video(pixels), model.encode_video(pixels), strict=True):
        assert off(got, wanted) < limit
    assert is_prepared(fast) == {"video tower", "prompt generator"}  # the texts were known
    fast.get_text_features(some_ids(seed=7))
    assert is_prepared(fast) == {"video tower", "text tower", "prompt generator"}
    assert not fast._preparation.refused
    with torch.inference_mode():
        assert off(fast(input_ids=ids, pixel_values=pixels).logits_per_video.clone(), right.logits_per_video) < limit


@pytest.mark.parametrize("hidden_act", ["gelu", "gelu_new", "relu", "silu", "selu"])
@pytest.mark.parametrize("packed", [False, True])
def test_every_activation(hidden_act: str, packed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model(hidden_act=hidden_act, prompt_hidden_act=hidden_act)
    fast = with_kernel(model, Kernel(torch.float32, packed and linears.can_pack(torch.float32)), monkeypatch)
    ids, pixels = some_ids(), some_pixels()
    assert off(fast(ids, pixels).logits_per_video, model(ids, pixels).logits_per_video) < 2e-5
    assert not fast._preparation.refused


@pytest.mark.parametrize("videos", [1, 3, 40])
@pytest.mark.parametrize("frames", [1, 4, 7])
@pytest.mark.filterwarnings("ignore:the model's temporal positions")
def test_any_batch_and_number_of_frames(model: XCLIPModel, videos: int, frames: int) -> None:
    fast = optimize(model, verbose=False)
    pixels = some_pixels(videos, frames)
    for got, wanted in zip(fast.encode_video(pixels), model.encode_video(pixels), strict=True):
        assert off(got, wanted) < 2e-5
    flat = fast.get_video_features(pixels.flatten(0, 1), num_frames=frames)
    assert off(flat, model.get_video_features(pixels)) < 2e-5


def test_frames_of_another_size(model: XCLIPModel) -> None:
    fast, pixels = optimize(model, verbose=False), some_pixels(size=43)
    for call in (fast, model):
        with pytest.raises(ValueError, match="43x43 but the model's image_size is 32x32"):
            call.get_video_features(pixels)
    ours = fast.get_video_features(pixels, interpolate_pos_encoding=True)
    assert off(ours, model.get_video_features(pixels, interpolate_pos_encoding=True)) < 2e-5


def test_empty_batches_and_bad_shapes_get_the_plain_models_errors(model: XCLIPModel) -> None:
    fast = optimize(model, verbose=False)
    calls: list[tuple[str, tuple[Tensor, ...]]] = [
        ("get_video_features", (some_pixels()[:0],)),
        ("get_video_features", (some_pixels()[:, :0],)),
        ("get_video_features", (some_pixels()[0],)),
        ("get_video_features", (some_pixels()[0, :3],)),
        ("get_text_features", (some_ids()[:0],)),
        ("get_text_features", (some_ids()[:, :0],)),
        ("get_text_features", (torch.ones(2, 17, dtype=torch.long),)),
        ("get_text_features", (torch.full((2, 5), 200),)),
        ("get_text_features", (some_ids(2, 9), torch.ones(2, 8))),
    ]
    for name, arguments in calls:
        assert outcome(getattr(fast, name), *arguments) == outcome(getattr(model, name), *arguments), name


def outcome(call: Any, *arguments: Tensor) -> Any:
    """Return the shape of the result, or the error."""
    try:
        return tuple(call(*arguments).shape)
    except (ValueError, RuntimeError, IndexError) as error:
        return type(error), str(error)


@pytest.mark.parametrize("texts", [1, 2, pytest.param(10_000, marks=pytest.mark.slow)])
def test_any_number_of_texts(model: XCLIPModel, texts: int) -> None:
    fast, ids, pixels = optimize(model, verbose=False), some_ids(texts), some_pixels(1)
    ours, right = fast(ids, pixels), model(ids, pixels)
    assert off(ours.logits_per_video, right.logits_per_video) < 2e-5
    assert off(fast(ids, pixels).logits_per_video, right.logits_per_video) < 2e-5


def test_a_set_of_texts_for_each_video(model: XCLIPModel) -> None:
    fast, pixels = optimize(model, verbose=False), some_pixels(3)
    ids = torch.stack([some_ids(4, seed=seed) for seed in range(3)])
    right = model(ids, pixels)
    assert off(fast(ids, pixels).logits_per_video, right.logits_per_video) < 2e-5
    features = model.get_text_features(ids)
    assert off(fast(text_features=features, pixel_values=pixels).logits_per_video, right.logits_per_video) < 2e-5


def test_masks_and_positions(model: XCLIPModel) -> None:
    fast, ids = optimize(model, verbose=False), some_ids()
    visible = (ids != 0).long()
    assert off(fast.get_text_features(ids, visible), model.get_text_features(ids, visible)) < 2e-5
    assert "text tower" in is_prepared(fast)
    hidden = visible.clone()
    hidden[:, 1] = 0
    right = model.get_text_features(ids, hidden)
    assert off(right, model.get_text_features(ids)) > 1e-3
    assert off(fast.get_text_features(ids, hidden), right) < 2e-5
    positions = torch.arange(16).flip(0)[None]
    right = model.get_text_features(ids, position_ids=positions)
    assert off(fast.get_text_features(ids, position_ids=positions), right) < 2e-5


def test_states_and_attentions_are_the_plain_models(model: XCLIPModel) -> None:
    ours = optimize(model, verbose=False)(some_ids(), some_pixels(), output_attentions=True, output_hidden_states=True)
    right = model(some_ids(), some_pixels(), output_attentions=True, output_hidden_states=True)
    for name in ("text_model_output", "vision_model_output", "mit_output"):
        for field in ("hidden_states", "attentions"):
            assert all(torch.equal(a, b) for a, b in zip(ours[name][field], right[name][field], strict=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_model_in_half_precision(model: XCLIPModel, dtype: torch.dtype) -> None:
    right = model(some_ids(), some_pixels()).video_embeds
    half = copy.deepcopy(model).to(dtype)
    can = linears.can_pack(dtype)
    with nullcontext() if can else pytest.warns(UserWarning, match="products: computing in float32"):
        fast = optimize(half, verbose=False)
    assert fast.kernel.dtype == (dtype if can else torch.float32)
    got = fast(some_ids(), some_pixels())
    assert got.logits_per_video.dtype == dtype
    assert (
        off(got.video_embeds.float(), right) <= off(half(some_ids(), some_pixels()).video_embeds.float(), right) * 1.5
    )


# The same model


def test_everything_is_shared_with_the_plain_model(model: XCLIPModel, tmp_path: Path) -> None:
    fast = optimize(model, verbose=False)
    assert isinstance(fast, XCLIPModel)
    assert all(a is b for a, b in zip(fast.parameters(), model.parameters(), strict=True))
    assert list(fast.state_dict()) == list(model.state_dict())
    fast.save_pretrained(tmp_path / "saved")
    again = XCLIPModel.from_pretrained(tmp_path / "saved")
    assert again.config.architectures == ["XCLIPModel"]
    assert off(again.get_text_features(some_ids()), model.get_text_features(some_ids())) < 1e-6
    fast.train()
    assert model.training
    assert fast.training
    model.eval()
    assert not fast.training
    assert optimize(fast, verbose=False).plain is model
    assert "optimized: cpu" in repr(fast)


def test_copied_and_pickled_after_use(model: XCLIPModel) -> None:
    fast = optimize(model, verbose=False)
    right = fast(some_ids(), some_pixels()).logits_per_video
    for other in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):
        assert all(a is not b for a, b in zip(other.parameters(), model.parameters(), strict=True))
        assert all(a is b for a, b in zip(other.parameters(), other.plain.parameters(), strict=True))
        other.plain.mit.position_embedding.data.normal_()
        changed = other(some_ids(), some_pixels()).logits_per_video
        assert off(changed, other.plain(some_ids(), some_pixels()).logits_per_video) < 2e-5
        assert off(changed, right) > 1e-3
        assert is_prepared(other) == is_prepared(fast)
    assert off(fast(some_ids(), some_pixels()).logits_per_video, right) < 1e-6


def test_global_settings_are_not_changed(model: XCLIPModel) -> None:
    def settings() -> tuple[Any, ...]:
        return (torch.get_num_threads(), torch.get_float32_matmul_precision(), torch.get_default_dtype(),
                torch.backends.mkldnn.enabled, torch.are_deterministic_algorithms_enabled(),
                torch.get_rng_state().tolist())  # fmt: skip

    before = settings()
    optimize(model, "bf16" if linears.can_pack(torch.bfloat16) else "fp32", verbose=False)(some_ids(), some_pixels())
    assert settings() == before


def test_the_choice_is_printed(model: XCLIPModel, capsys: pytest.CaptureFixture[str]) -> None:
    fast = optimize(model, "fp32")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"openxclip.optimize: {fast.report}\n"
    assert "cpu, float32, " in captured.err


def test_bad_arguments(model: XCLIPModel) -> None:
    with pytest.raises(ValueError, match="precision='int8': must be one of auto, fp32, bf16, fp16"):
        optimize(model, "int8")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="texts_kept=-1"):
        optimize(model, texts_kept=-1)
    with pytest.raises(TypeError, match="got a XCLIPVisionModel"):
        optimize(model.vision_model)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"openxclip\.optimize takes an XCLIPModel, got a XCLIPConfig\.$"):
        OptimizedXCLIPModel(model.config)  # type: ignore[arg-type]


# When the plain model answers


def test_gradients_flow_in_grad_mode(model: XCLIPModel) -> None:
    fast = optimize(model, verbose=False)
    with torch.enable_grad():
        pixels = some_pixels().requires_grad_()
        fast(some_ids(), pixels, labels=torch.tensor([0, 1])).loss.backward()
        assert pixels.grad is not None
        assert float(pixels.grad.norm()) > 0
        assert all(p.grad is not None for p in model.parameters())
    assert not is_prepared(fast)


def test_training_after_optimize(model: XCLIPModel) -> None:
    """After each training step, answers are those of the new weights, also for cached texts."""
    fast = optimize(model, verbose=False)
    optimizer = torch.optim.AdamW(fast.parameters(), lr=1e-2)
    ids, pixels = some_ids(), some_pixels()
    answers = []
    for _ in range(3):
        answers.append(fast(ids, pixels).logits_per_video)
        assert off(answers[-1], model(ids, pixels).logits_per_video) < 2e-5
        fast.train()
        with torch.enable_grad():
            fast(ids, pixels, labels=torch.tensor([0, 1])).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        fast.eval()
    assert off(answers[0], answers[1]) > 1e-2
    assert off(answers[1], answers[2]) > 1e-2


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.text_projection.weight.mul_(2.0),
        lambda m: m.text_projection.weight.data.mul_(2.0),
        lambda m: setattr(m.text_projection, "weight", nn.Parameter(m.text_projection.weight * 2)),
        lambda m: setattr(m.text_projection.weight, "data", m.text_projection.weight.data * 2),
        lambda m: setattr(m, "text_projection", _doubled(m)),
        lambda m: m.load_state_dict({**m.state_dict(), "text_projection.weight": m.text_projection.weight * 2}),
        lambda m: m.load_state_dict(
            {**m.state_dict(), "text_projection.weight": m.text_projection.weight * 2}, assign=True
        ),
    ],
    ids=["in place", "through data", "assigned", "data assigned", "module assigned", "loaded", "loaded by assigning"],
)
def test_changed_weights_are_detected(model: XCLIPModel, change: Any) -> None:
    fast, ids = optimize(model, verbose=False), some_ids()
    before = fast.get_text_features(ids)
    change(model)
    assert off(fast.get_text_features(ids), before * 2) < 2e-5
    assert off(model.get_text_features(ids), before * 2) < 2e-5


def _doubled(model: XCLIPModel) -> nn.Linear:
    linear = nn.Linear(32, 32, bias=False).eval()
    linear.weight = nn.Parameter(model.text_projection.weight * 2)
    return linear


def test_refresh_after_undetectable_changes(model: XCLIPModel) -> None:
    fast, ids = optimize(model, verbose=False), some_ids()
    before = fast.get_text_features(ids)
    model.text_projection.weight.data[1, 1] += 100
    fast.refresh()
    after = fast.get_text_features(ids)
    assert off(after, before) > 0.1
    assert off(after, model.get_text_features(ids)) < 2e-5


def test_foreign_modules_and_hooks_are_run(model: XCLIPModel) -> None:
    class Adapter(nn.Module):
        def __init__(self, base: nn.Linear) -> None:
            super().__init__()
            self.base = base
            self.weight, self.bias = base.weight, base.bias

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.base(x) + 1
            return out

    fast, ids = optimize(model, verbose=False), some_ids()
    before = fast.get_text_features(ids)
    layer = model.text_model.encoder.layers[0]
    layer.mlp.fc1 = Adapter(layer.mlp.fc1).eval()
    with pytest.warns(UserWarning, match="Adapter in it"):
        after = fast.get_text_features(ids)
    assert off(after, before) > 1e-3
    assert torch.equal(after, model.get_text_features(ids))
    layer.mlp.fc1 = layer.mlp.fc1.base
    fast.refresh()
    hook = layer.mlp.fc1.register_forward_hook(lambda _module, _inputs, out: out + 1)
    assert torch.equal(fast.get_text_features(ids), model.get_text_features(ids))
    assert off(fast.get_text_features(ids), before) > 1e-3
    hook.remove()
    assert off(fast.get_text_features(ids), before) < 2e-5


def test_a_part_in_training_mode(model: XCLIPModel) -> None:
    model.vision_model.encoder.layers[1].drop_path.rate = 0.5
    fast = optimize(model, verbose=False)
    fast.get_video_features(some_pixels())
    model.vision_model.encoder.layers[1].train()
    many = torch.stack([fast.get_video_features(some_pixels()) for _ in range(8)])
    assert float(many.std(0).max()) > 0


@pytest.mark.parametrize("part", ["VisionTower", "Integration", "TextTower", "Prompts"])
def test_a_part_that_fails_its_self_test_is_refused(
    model: XCLIPModel, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = type("Wrong", (getattr(towers, part),), {})
    original = getattr(towers, part).__call__

    def slightly_wrong(self: Any, *arguments: Any, **options: Any) -> Any:
        out = original(self, *arguments, **options)
        return tuple(o * 1.001 for o in out) if isinstance(out, tuple) else out * 1.001

    wrong.__call__ = slightly_wrong  # type: ignore[method-assign]
    monkeypatch.setattr(building, part, wrong)
    fast = optimize(model, verbose=False)
    with pytest.warns(UserWarning, match=r"the prepared .* is not used.*self-test is off by"):
        ours = fast(some_ids(), some_pixels()).logits_per_video
    assert off(ours, model(some_ids(), some_pixels()).logits_per_video) < 2e-5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fast(some_ids(), some_pixels())  # warned once


def test_parts_are_refused_without_a_product(model: XCLIPModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_such(*_: Any) -> None:
        raise RuntimeError("no such primitive")

    monkeypatch.setattr(linears.Linear, "__call__", no_such)
    monkeypatch.setattr(linears.Linear, "added_to", no_such)
    monkeypatch.setattr("openxclip.engine.preparation.choose_kernel", lambda *_: Kernel(torch.float32))
    fast = optimize(model, verbose=False)
    with pytest.warns(UserWarning, match="no such primitive") as warned:
        ours = fast(some_ids(), some_pixels()).logits_per_video
    assert len(warned) == 3
    assert off(ours, model(some_ids(), some_pixels()).logits_per_video) < 1e-6


def test_without_the_private_operator(model: XCLIPModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linears, "can_pack", lambda dtype: False)
    monkeypatch.setattr(precision, "can_pack", lambda dtype: False)
    fast = optimize(model, verbose=False)
    assert not fast.kernel.packed
    assert (
        off(fast(some_ids(), some_pixels()).logits_per_video, model(some_ids(), some_pixels()).logits_per_video) < 2e-5
    )
    with pytest.warns(UserWarning, match="this CPU has no bf16 products: computing in float32"):
        assert optimize(model, "bf16", verbose=False).kernel.dtype == torch.float32


@pytest.mark.parametrize(
    ("wanted", "machine", "packed"),
    [("", "x86_64", True), ("auto", "AMD64", True), ("", "aarch64", False), ("packed", "arm64", True),
     ("dense", "x86_64", False)],
)  # fmt: skip
def test_the_kernel_is_chosen_by_rule(
    model: XCLIPModel, wanted: str, machine: str, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(linears.LINEAR_VARIABLE, wanted)
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(linears, "can_pack", lambda dtype: True)
    fast = optimize(model, verbose=False)
    assert fast.kernel == Kernel(torch.float32, packed=packed)
    assert ("packed by oneDNN" if packed else "dense") in fast.report


def test_an_unknown_kernel_is_refused(model: XCLIPModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(linears.LINEAR_VARIABLE, "fast")
    with pytest.raises(ValueError, match="OPENXCLIP_LINEAR='fast': must be dense, packed or auto"):
        optimize(model)


def test_another_kernel_can_be_set(model: XCLIPModel) -> None:
    fast = optimize(model, verbose=False)
    right = fast(some_ids(), some_pixels()).logits_per_video
    dense = Kernel(torch.float32)
    fast.use_kernel(dense)
    assert fast.kernel == dense
    assert off(fast(some_ids(), some_pixels()).logits_per_video, right) < 2e-5
    assert fast._preparation._current is not None
    assert fast._preparation._current.video(1).tower._kernel == dense  # type: ignore[union-attr]


def test_overflow_of_float16(model: XCLIPModel, monkeypatch: pytest.MonkeyPatch) -> None:
    fast = with_kernel(model, Kernel(torch.float16), monkeypatch)
    with pytest.warns(UserWarning, match="float16 overflowed on a video"):
        ours = fast.get_video_features(some_pixels() * 1e6)
    assert off(ours, model.get_video_features(some_pixels() * 1e6)) < 1e-6


@pytest.mark.slow
def test_export_sees_the_plain_model(model: XCLIPModel) -> None:
    fast = optimize(model, verbose=False)

    class Features(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = fast

        def forward(self, pixels: Tensor) -> Tensor:
            return self.inner.get_video_features(pixels)

    exported = torch.export.export(Features().eval(), (some_pixels(),)).module()
    assert off(exported(some_pixels()), model.get_video_features(some_pixels())) < 2e-5


# Many threads


@pytest.mark.slow
def test_eight_threads(model: XCLIPModel) -> None:
    """The first calls, which prepare parts, run at once; texts overlap and exceed the cache."""
    fast = optimize(model, verbose=False, texts_kept=6)
    inputs = [(some_ids(4, seed=seed % 5), some_pixels(1 + seed % 3)) for seed in range(24)]
    rights = [model(*both).logits_per_video for both in inputs]
    start = threading.Barrier(8)

    def work(first: int) -> list[float]:
        start.wait()
        with torch.no_grad():
            return [off(fast(*inputs[i]).logits_per_video, rights[i]) for i in range(first, 24, 8) for _ in range(3)]

    with ThreadPoolExecutor(8) as threads:
        assert max(error for errors in threads.map(work, range(8)) for error in errors) < 2e-5
    assert len(fast._preparation._current.texts._cached) <= 6  # type: ignore[union-attr]


# Texts are encoded once


def count_encoded(fast: OptimizedXCLIPModel, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    counts: list[int] = []
    original = towers.TextTower.__call__

    def counted(self: Any, ids: Tensor, ends: Tensor) -> Tensor:
        counts.append(len(ids))
        return original(self, ids, ends)

    fast.get_text_features(some_ids(1, seed=99))  # the first call runs the self-test
    monkeypatch.setattr(towers.TextTower, "__call__", counted)
    return counts


def test_known_texts_are_not_encoded_again(model: XCLIPModel, monkeypatch: pytest.MonkeyPatch) -> None:
    fast, ids = optimize(model, verbose=False), some_ids(6)
    counts = count_encoded(fast, monkeypatch)
    first = fast.get_text_features(ids)
    shuffled = fast.get_text_features(ids[[3, 3, 5, 0]])
    assert torch.equal(shuffled, first[[3, 3, 5, 0]])
    longer = torch.nn.functional.pad(some_ids(6, 12), (0, 4))
    longer[:, 12:] = 7  # tokens after the end don't tell texts apart
    fast.get_text_features(some_ids(6, 12))
    fast.get_text_features(longer)
    assert counts == [6, 6]
    first.zero_()  # callers may change what they got
    assert float(fast.get_text_features(ids).norm()) > 0
    fast.get_text_features(torch.cat([ids, some_ids(2, seed=5)]))
    assert counts == [6, 6, 2]


def test_the_least_recently_used_text_is_forgotten(model: XCLIPModel, monkeypatch: pytest.MonkeyPatch) -> None:
    fast, ids = optimize(model, verbose=False, texts_kept=3), some_ids(5)
    counts = count_encoded(fast, monkeypatch)
    fast.get_text_features(ids[:3])
    fast.get_text_features(ids[:1])
    fast.get_text_features(ids[3:4])  # drops text 1, because text 0 was used later
    fast.get_text_features(ids[[0, 2, 3]])
    assert counts == [3, 1]
    fast.get_text_features(ids[1:2])
    assert counts == [3, 1, 1]
    none = optimize(model, verbose=False, texts_kept=0)
    assert off(none.get_text_features(ids), model.get_text_features(ids)) < 2e-5


def test_queries_of_the_prompts_are_computed_once(model: XCLIPModel, monkeypatch: pytest.MonkeyPatch) -> None:
    fast, videos = optimize(model, verbose=False), model.encode_video(some_pixels())
    texts = [model.get_text_features(some_ids(4, seed=seed)) for seed in range(6)]
    fast(text_features=texts[0], video_features=videos)
    counts = []
    original = towers.Prompts.queries
    monkeypatch.setattr(towers.Prompts, "queries", lambda self, text: counts.append(1) or original(self, text))
    for text in texts[:3] * 2:
        fast(text_features=text, video_features=videos)
    assert len(counts) == 2
    texts[0].mul_(2)  # the caller changes its tensor in place
    right = model(text_features=texts[0], video_features=videos).logits_per_video
    assert off(fast(text_features=texts[0], video_features=videos).logits_per_video, right) < 2e-5
    assert len(counts) == 3


@pytest.mark.parametrize("texts", [1, 2, 5, 40])
def test_few_texts_with_many_videos_and_the_reverse(model: XCLIPModel, texts: int) -> None:
    """Candidates of a search are hundreds of videos with one text; no patch is projected then."""
    fast, draw = optimize(model, verbose=False), torch.Generator().manual_seed(0)
    layer = towers.Prompts(model, Kernel(torch.float32))._layers[0]
    assert layer.favours_few(texts, 49) == (texts < 10)
    features = torch.randn(texts, 32, generator=draw)
    for videos in (1, 3, 300):
        pair = VideoFeatures(torch.randn(videos, 32, generator=draw), torch.randn(videos, 49, 32, generator=draw))
        right = model(text_features=features, video_features=pair).logits_per_video
        assert off(fast(text_features=features, video_features=pair).logits_per_video, right) < 2e-5
        own = torch.randn(videos, texts, 32, generator=draw)  # other texts for each video
        right = model(text_features=own, video_features=pair).logits_per_video
        assert off(fast(text_features=own, video_features=pair).logits_per_video, right) < 2e-5
