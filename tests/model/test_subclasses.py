"""Subclasses and wrappers of the model: loading, initialisation of added parts, and errors."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from openxclip import (
    XCLIPConfig,
    XCLIPModel,
    XCLIPPreTrainedModel,
    XCLIPTextConfig,
    XCLIPTextModel,
    XCLIPVisionConfig,
    XCLIPVisionModel,
)
from openxclip.errors import CheckpointError


class Headed(XCLIPModel):
    """Adds a head to the model."""

    def __init__(self, config: Any, classes: int = 3) -> None:
        super().__init__(config)
        self.head = nn.Linear(config.projection_dim, classes)
        self.register_buffer("steps", torch.linspace(0, 1, 4), persistent=False)
        assert self.steps.sum().item() == 2.0  # a constructor may look at numbers
        self.post_init()


class Wrapped(XCLIPPreTrainedModel):
    """Holds the model under another name."""

    config_class = XCLIPConfig

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.inner = XCLIPModel(config)
        self.head = nn.Linear(config.projection_dim, config.num_labels)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if module is getattr(self, "head", None):
            nn.init.constant_(module.weight, 0.25)


class Tower(XCLIPPreTrainedModel):
    """Holds the video tower alone."""

    config_class = XCLIPVisionConfig

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.tower = XCLIPVisionModel(config)
        self.head = nn.Linear(config.hidden_size, 2)


class TextTower(XCLIPTextModel):
    """Adds a head to the text tower."""

    def __init__(self, config: XCLIPTextConfig) -> None:
        super().__init__(config)
        self.head = nn.Linear(config.hidden_size, 2)


class WithoutConfigClass(XCLIPPreTrainedModel):
    """Doesn't set `config_class`: as in transformers, it is `XCLIPConfig`."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.inner = XCLIPModel(config)
        self.head = nn.Linear(config.projection_dim, config.num_labels)
        self.post_init()


WHOLE_MODELS = {Headed: "", Wrapped: "inner.", WithoutConfigClass: "inner."}


def same(actual: dict[str, torch.Tensor], whole: dict[str, torch.Tensor], prefix: str, source: str = "") -> bool:
    """Whether each weight of a part equals the folder's."""
    names = [name for name in actual if name.startswith(prefix) and not name.startswith("head.")]
    return bool(names) and all(torch.equal(actual[name], whole[source + name.removeprefix(prefix)]) for name in names)


@pytest.mark.parametrize("cls", [Headed, Wrapped, WithoutConfigClass, Tower, TextTower])
def test_a_new_head_is_initialized_with_one_warning(cls: Any, tiny_folder: Path) -> None:
    with pytest.warns(UserWarning, match=r"start at random.*head\.bias, head\.weight") as caught:
        model = cls.from_pretrained(tiny_folder)
    assert len(caught) == 1
    assert Path(caught[0].filename) == Path(__file__)
    whole = load_file(tiny_folder / "model.safetensors")
    prefix, source = {Tower: ("tower.", "vision_model."), TextTower: ("", "text_model.")}.get(
        cls, (WHOLE_MODELS.get(cls, ""), "")
    )
    assert same(model.state_dict(), whole, prefix, source)
    assert not model.training
    assert all(parameter.requires_grad and not parameter.is_meta for parameter in model.parameters())
    assert model.head.weight.std() > 0 or cls is Wrapped
    if cls is Wrapped:
        assert model.head.weight.unique().tolist() == [0.25]


@pytest.mark.parametrize("cls", [Headed, Wrapped, WithoutConfigClass, Tower, TextTower])
def test_a_saved_subclass_loads_without_a_warning(cls: Any, tiny_folder: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = cls.from_pretrained(tiny_folder)
    model.save_pretrained(tmp_path)
    again, info = cls.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert not info["mismatched_keys"]
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


@pytest.mark.parametrize("cls", WHOLE_MODELS)
def test_the_base_class_loads_a_subclass_folder(cls: Any, tiny_folder: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cls.from_pretrained(tiny_folder).save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match=r"not used.*head\.bias, head\.weight"):
        model = XCLIPModel.from_pretrained(tmp_path)
    assert same(model.state_dict(), load_file(tiny_folder / "model.safetensors"), "")


@pytest.mark.filterwarnings("ignore:.*start at random:UserWarning")
def test_arguments_of_the_constructor(tiny_folder: Path) -> None:
    assert Headed.from_pretrained(tiny_folder, 5).head.out_features == 5
    assert Headed.from_pretrained(tiny_folder, classes=7).head.out_features == 7
    assert Wrapped.from_pretrained(tiny_folder, num_labels=4).head.out_features == 4
    with pytest.raises(TypeError, match="clases"):
        Headed.from_pretrained(tiny_folder, clases=7)


@pytest.mark.filterwarnings("ignore:.*start at random:UserWarning")
def test_a_head_gets_the_dtype_of_the_model(tiny_folder: Path, tmp_path: Path) -> None:
    assert Headed.from_pretrained(tiny_folder, dtype=torch.bfloat16).head.weight.dtype == torch.bfloat16
    XCLIPModel.from_pretrained(tiny_folder).half().save_pretrained(tmp_path)
    assert {p.dtype for p in Headed.from_pretrained(tmp_path, dtype="auto").parameters()} == {torch.float16}


@pytest.mark.parametrize("cls", [Headed, Wrapped])
@pytest.mark.parametrize("spoil", ["missing", "misshapen", "unexpected"])
def test_incomplete_own_parts_are_refused(cls: Any, spoil: str, tiny_folder: Path, tmp_path: Path) -> None:
    state = load_file(tiny_folder / "model.safetensors")
    if spoil == "missing":
        del state["mit.position_embedding"]
    elif spoil == "misshapen":
        state["visual_projection.weight"] = torch.zeros(3, 5)
    else:
        state["mit.extra.weight"] = torch.zeros(2)
    save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((tiny_folder / "config.json").read_text())
    with pytest.raises(CheckpointError, match=spoil):
        cls.from_pretrained(tmp_path)


def test_ignore_mismatched_sizes_of_a_head(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="head"):
        Headed.from_pretrained(tiny_folder).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"head\.weight \(3, 16\), the config says \(5, 16\)"):
        Headed.from_pretrained(tmp_path, 5)
    with pytest.warns(UserWarning, match=r"head\.bias, head\.weight"):
        model, info = Headed.from_pretrained(tmp_path, 5, ignore_mismatched_sizes=True, output_loading_info=True)
    assert ("head.weight", (3, 16), (5, 16)) in info["mismatched_keys"]
    assert model.head.weight.std() > 0


def test_ignore_mismatched_sizes_of_positions(tiny_folder: Path) -> None:
    change = {"vision_config": {"num_frames": 6}}
    with pytest.raises(CheckpointError, match=r"mit\.position_embedding"):
        XCLIPModel.from_pretrained(tiny_folder, **change)
    with pytest.warns(UserWarning, match=r"mit\.position_embedding"):
        model = XCLIPModel.from_pretrained(tiny_folder, ignore_mismatched_sizes=True, **change)
    assert model.mit.position_embedding.shape == (1, 6, 16)
    assert 0.01 < model.mit.position_embedding.std() < 0.03
    whole = load_file(tiny_folder / "model.safetensors")
    for name, value in model.state_dict().items():
        assert name == "mit.position_embedding" or torch.equal(value, whole[name]), name


def test_a_long_list_of_names_is_truncated(tiny_folder: Path) -> None:
    class Deep(XCLIPModel):
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.heads = nn.ModuleList(nn.Linear(2, 2) for _ in range(20))

    with pytest.warns(UserWarning, match=r"heads\.\d+\.\w+ and 30 more"):
        Deep.from_pretrained(tiny_folder)
