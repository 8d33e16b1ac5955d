"""Compare the counts of `profile` with the model: its parameters, operations, and peak of memory."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import FlopCounterMode

import openxclip
from openxclip import CheckpointError, XCLIPConfig, XCLIPModel
from openxclip.checkpoints import RELEASED, names
from openxclip.checkpoints.released import config_of_released
from openxclip.inspection import Cost

NO_NETWORK = {**os.environ, "HF_HUB_OFFLINE": "1"}


def small_config(**vision: Any) -> XCLIPConfig:
    """A configuration of sizes that all differ, so that none can be mistaken for another."""
    return XCLIPConfig(
        text_config={
            "vocab_size": 90,
            "hidden_size": 24,
            "intermediate_size": 72,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "max_position_embeddings": 17,
        },
        vision_config={
            "hidden_size": 40,
            "intermediate_size": 120,
            "num_hidden_layers": 2,
            "num_attention_heads": 5,
            "mit_hidden_size": 32,
            "mit_intermediate_size": 56,
            "mit_num_hidden_layers": 2,
            "mit_num_attention_heads": 4,
            "image_size": 48,
            "patch_size": 12,
            "num_frames": 6,
            **vision,
        },
        projection_dim=32,
        prompt_layers=3,
        prompt_num_attention_heads=2,
    )


CONFIGS = {
    "small": small_config(),
    "edge left over": small_config(image_size=47, patch_size=10),
    "one channel, GELU": small_config(num_channels=1, hidden_act="gelu", mit_num_hidden_layers=1),
    "like the released": XCLIPConfig(
        text_config={"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "vocab_size": 50},
        vision_config={
            "hidden_size": 96,
            "intermediate_size": 384,
            "num_hidden_layers": 3,
            "mit_hidden_size": 64,
            "mit_intermediate_size": 256,
            "mit_num_attention_heads": 1,
            "image_size": 64,
            "patch_size": 8,
        },
        projection_dim=64,
        prompt_num_attention_heads=1,
    ),
}
TEXTS, LENGTH = 11, 13


@pytest.fixture(params=CONFIGS, ids=lambda name: name.replace(" ", "-"))
def config(request: pytest.FixtureRequest) -> XCLIPConfig:
    return CONFIGS[request.param]


def inputs(config: XCLIPConfig, frames: int) -> tuple[Tensor, Tensor]:
    vision = config.vision_config
    pixels = torch.randn(1, frames, vision.num_channels, vision.image_size, vision.image_size)
    ids = torch.randint(0, 40, (TEXTS, LENGTH))
    ids[:, -1] = 49  # the highest id ends a text
    return ids, pixels


# ---------------------------------------------------------------------------------------------------- parameters

_PARTS = {
    r"vision_model\.(embeddings|(pre|post)_layernorm)\.": "vision_embeddings",
    r"vision_model\..*\.message_": "vision_messages",
    r"vision_model\..*\.(self_attn|layer_norm1)\.": "vision_attention",
    r"vision_model\..*\.(mlp|layer_norm2)\.": "vision_mlp",
    r"visual_projection\.": "visual_projection",
    r"mit\.": "mit",
    r"prompts_visual_": "prompts_patches",
    r"prompts_generator\.": "prompts_generator",
    r"logit_scale": "scores",
    r"text_model\.": "text_tower",
    r"text_projection\.": "text_projection",
}


def test_every_parameter_is_counted_in_its_part(config: XCLIPConfig) -> None:
    counted = dict.fromkeys(_PARTS.values(), 0)
    for name, parameter in XCLIPModel(config).named_parameters():
        (part,) = [part for pattern, part in _PARTS.items() if re.match(pattern, name)]
        counted[part] += parameter.numel()
    found = openxclip.profile(config, num_frames=9)  # the parameters stay those of 6 frames
    assert {name: part.parameters for name, part in found.parts.items()} == counted


@pytest.mark.parametrize("released", RELEASED, ids=lambda one: one.name)
def test_released_models_have_the_documented_number_of_parameters(released: Any) -> None:
    found = openxclip.profile(released.name)
    assert found.total.parameters == released.parameters
    assert (found.num_frames, found.image_size) == (released.frames, released.resolution)


# ---------------------------------------------------------------------------------------------------- operations


def counted_flops(model: XCLIPModel, call: Callable[[], object]) -> Callable[[str], int]:
    """Return a function from a pattern of module names ("" for all) to their FLOPs by PyTorch's counter.

    Attention uses the plain kernel, which computes the same products: the counter doesn't know the CPU's fused one.
    """
    with torch.no_grad(), FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        call()
    counts = {name: sum(by_kernel.values()) for name, by_kernel in counter.get_flop_counts().items()}

    def of(pattern: str) -> int:
        if not pattern:
            return counts["Global"]
        found = [count for name, count in counts.items() if re.fullmatch(rf"XCLIPModel\.{pattern}", name)]
        assert found, pattern
        return sum(found)

    return of


@pytest.mark.filterwarnings("ignore:the model's temporal positions")
@pytest.mark.parametrize("frames", [1, 6, 9])
def test_operations_equal_the_count_of_pytorch(config: XCLIPConfig, frames: int) -> None:
    """They are equal: like `profile`, the counter leaves out elementwise operations and ignores causal masks."""
    model = XCLIPModel(config).eval()
    ids, pixels = inputs(config, frames)
    of = counted_flops(model, lambda: model(input_ids=ids, pixel_values=pixels))
    found = openxclip.profile(config, num_texts=TEXTS, text_length=LENGTH, num_frames=frames)
    block = r"vision_model\.encoder\.layers\.\d+"
    attention, mlp = of(rf"{block}\.self_attn"), of(rf"{block}\.mlp")
    counted = {
        "vision_embeddings": of(r"vision_model\.embeddings"),
        "vision_messages": of(block) - attention - mlp,
        "vision_attention": attention,
        "vision_mlp": mlp,
        **{name: of(name) for name in ("visual_projection", "mit", "prompts_generator", "text_projection")},
        "text_tower": of("text_model"),
    }
    flops = {name: part.flops for name, part in found.parts.items()}
    assert {name: flops[name] for name in counted} == counted
    # operations outside the modules
    assert flops["prompts_patches"] + flops["scores"] == of("") - sum(counted.values())
    assert found.total.flops == of("")

    with torch.no_grad():
        text_features, video_features = model.get_text_features(ids), model.encode_video(pixels)
    of = counted_flops(model, lambda: model(text_features=text_features, video_features=video_features))
    assert of("") == flops["prompts_generator"] + flops["scores"]


@pytest.mark.parametrize(
    "name",
    ["microsoft/xclip-base-patch32", pytest.param("microsoft/xclip-large-patch14-16-frames", marks=pytest.mark.slow)],
)
def test_operations_of_released_models_equal_the_count_of_pytorch(name: str) -> None:
    config = next(config_of_released(released) for released in RELEASED if released.name == name)
    with torch.device("meta"):  # shapes without values: nothing is computed
        model = XCLIPModel(config).eval()
        vision = config.vision_config
        pixels = torch.empty(1, vision.num_frames, vision.num_channels, vision.image_size, vision.image_size)
        ids = torch.empty(400, 77, dtype=torch.long)
    counted = counted_flops(model, lambda: model(input_ids=ids, pixel_values=pixels))
    assert openxclip.profile(name).total.flops == counted("")


PAPER = {  # FLOPs in G, arXiv 2208.02816
    "microsoft/xclip-base-patch32": 39,
    "microsoft/xclip-base-patch32-16-frames": 75,
    "microsoft/xclip-base-patch16": 145,
    "microsoft/xclip-base-patch16-16-frames": 287,
    "microsoft/xclip-large-patch14": 658,
    "microsoft/xclip-large-patch14-16-frames": 3086,
}


@pytest.mark.parametrize("name", PAPER)
def test_multiply_adds_equal_the_papers(name: str) -> None:
    found = openxclip.profile(name)
    assert found.video.macs / 1e9 == pytest.approx(PAPER[name], rel=0.03)
    assert found.video.flops == 2 * found.video.macs


def test_without_prompts_base_patch32_is_8_percent_cheaper() -> None:
    found = openxclip.profile("microsoft/xclip-base-patch32")
    prompts = found.of(["prompts_patches", "prompts_generator", "scores"])
    assert (found.video.macs - prompts.macs) / 1e9 == pytest.approx(39 * 0.92, rel=0.03)


# ---------------------------------------------------------------------------------------------------- memory


class Held(TorchDispatchMode):
    """Records the peak number of values in tensors that were created and not freed yet."""

    def __init__(self, *known: Tensor) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known = weakref.WeakSet(tensor.untyped_storage() for tensor in known)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_iter(out):
            storage = tensor.untyped_storage() if isinstance(tensor, Tensor) else None
            if storage is not None and storage not in self.known:
                self.known.add(storage)
                size = storage.nbytes() // 4
                self.now += size
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._freed, size)
        return out

    def _freed(self, size: int) -> None:
        self.now -= size


def held(model: XCLIPModel, call: Callable[[], object], *given: Tensor) -> int:
    with torch.no_grad(), Held(*model.state_dict().values(), *given) as watching:
        call()
    return watching.peak + sum(tensor.numel() for tensor in given if tensor.is_floating_point())


def test_activations_equal_the_models_peak(config: XCLIPConfig) -> None:
    """Within a quarter, since details such as the temporary values of activation functions are not counted."""
    model = XCLIPModel(config).eval()
    ids, pixels = inputs(config, config.vision_config.num_frames)
    found = openxclip.profile(config, num_texts=TEXTS, text_length=LENGTH)
    video = held(model, lambda: model.encode_video(pixels), pixels)
    assert found.video.activations == pytest.approx(video, rel=0.25)
    embeddings = held(model, lambda: model.vision_model.embeddings(pixels[0]), pixels)
    assert found.parts["vision_embeddings"].activations == pytest.approx(embeddings, rel=0.25)
    texts = held(model, lambda: model.get_text_features(ids), ids)
    assert found.texts.activations == pytest.approx(texts, rel=0.25)
    features = torch.randn(40, 32), torch.randn(1, 32), torch.randn(1, 5, 32)
    if config.projection_dim == 32:
        prompts = held(model, lambda: model(text_features=features[0], video_features=features[1:]), *features)
        of_many = openxclip.profile(config, num_texts=40).parts["prompts_generator"]
        assert of_many.activations == pytest.approx(prompts, rel=0.25)


def test_bytes_by_dtype() -> None:
    cost = Cost("video", parameters=10, macs=3, activations=7)
    assert cost.weight_bytes == {"float32": 40, "bfloat16": 20}
    assert cost.activation_bytes == {"float32": 28, "bfloat16": 14}


# ---------------------------------------------------------------------------------------------------- arguments


def test_a_model_by_name_path_or_object(tiny_folder: Path, tmp_path: Path) -> None:
    config = XCLIPConfig.from_pretrained(tiny_folder)
    by_config = openxclip.profile(config)
    assert (by_config.model, by_config.num_frames, by_config.image_size) == ("", 4, 32)
    openxclip.convert(tiny_folder, tmp_path / "tiny.pth", to="authors")
    for name in (tiny_folder, str(tiny_folder), tiny_folder / "model.safetensors", tmp_path / "tiny.pth"):
        assert openxclip.profile(name).parts == by_config.parts, name
        assert openxclip.profile(name).model == str(name)
    assert openxclip.profile(XCLIPModel(config)).parts == by_config.parts
    assert openxclip.profile("mini").total.parameters == XCLIPModel.from_pretrained("mini").num_parameters()


def test_a_folder_takes_precedence_over_a_released_model(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "microsoft").mkdir()
    (tmp_path / "microsoft" / "xclip-base-patch32").symlink_to(tiny_folder)
    monkeypatch.chdir(tmp_path)
    assert openxclip.profile("microsoft/xclip-base-patch32").parts == openxclip.profile(tiny_folder).parts


def test_the_cost_depends_on_the_numbers_of_texts_and_frames() -> None:
    base = openxclip.profile("mini", num_texts=100, num_frames=8)
    more_texts = openxclip.profile("mini", num_texts=200)
    assert more_texts.texts.macs == 2 * base.texts.macs
    assert more_texts.parts["mit"] == base.parts["mit"]
    assert more_texts.parts["scores"].macs == 2 * base.parts["scores"].macs
    more_frames = openxclip.profile("mini", num_texts=100, num_frames=16)
    assert more_frames.parts["vision_mlp"].macs == 2 * base.parts["vision_mlp"].macs
    assert more_frames.texts == base.texts
    shorter = openxclip.profile("mini", num_texts=100, text_length=7)
    assert shorter.texts.macs < base.texts.macs / 10
    assert shorter.video == base.video


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({"num_texts": 0}, "num_texts=0: must be a whole number from 1"),
        ({"num_frames": -1}, "num_frames=-1: must"),
        ({"num_frames": 2.0}, r"num_frames=2\.0: must"),
        ({"num_texts": True}, "num_texts=True: must"),
        ({"num_texts": 1 << 31}, "num_texts=2147483648: must"),
        ({"text_length": 78}, "text_length=78: must be a whole number from 1 to 77"),
        ({"text_length": 0}, "text_length=0: must"),
    ],
)
def test_invalid_numbers_are_refused(numbers: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        openxclip.profile("mini", **numbers)


def test_only_models_are_accepted(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="model is a int"):
        openxclip.profile(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="model is a XCLIPTextModel"):
        openxclip.profile(openxclip.XCLIPTextModel(small_config().text_config))  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="neither a shipped model"):
        openxclip.profile(tmp_path / "none")
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        openxclip.profile(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(CheckpointError, match=r"this is a CLIP \(no video parts\)"):
        openxclip.profile(tmp_path)


def test_a_file_of_a_clip_is_refused(tmp_path: Path) -> None:
    weights = XCLIPModel(small_config()).state_dict()
    of_clip = {name: tensor for name, tensor in weights.items() if names.is_of_clip(name)}
    torch.save(names.to_authors(of_clip), tmp_path / "clip.pt")
    with pytest.raises(CheckpointError, match=r"is a CLIP \(no video parts\)"):
        openxclip.profile(tmp_path / "clip.pt")


def test_released_models_need_neither_network_nor_pytorch(tmp_path: Path) -> None:
    script = (
        "import json, sys, openxclip\n"
        "found = openxclip.profile('microsoft/xclip-large-patch14')\n"
        "print(json.dumps(found.as_dict()))\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=120,
        env={**NO_NETWORK, "HF_HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["total"]["parameters"] == 575_673_601
    assert told["total"]["weight_bytes"] == {"float32": 4 * 575_673_601, "bfloat16": 2 * 575_673_601}
    for kind, parts in (("video", 9), ("texts", 2)):
        of_kind = [part for part in told["parts"].values() if part["per"] == kind]
        assert len(of_kind) == parts
        assert told[kind]["macs"] == sum(part["macs"] for part in of_kind)
        assert told[kind]["activation_bytes"]["float32"] == max(p["activation_bytes"]["float32"] for p in of_kind)
