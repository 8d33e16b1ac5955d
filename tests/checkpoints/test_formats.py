"""Weights from every source are read correctly, or refused by name."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from made_models import assert_starts_from, authors_model, clip_model, openai_state, script_archive, sizes
from peers import quiet_transformers, relative_delta
from reference import AuthorsXCLIP, hugging_face_state
from safetensors.torch import load_file, save_file
from yacs.config import CfgNode

from openxclip import AutoModel, XCLIPConfig, XCLIPModel, XCLIPProcessor, XCLIPTextModel, XCLIPVisionModel
from openxclip.checkpoints import read_checkpoint
from openxclip.errors import CheckpointError


@pytest.fixture(scope="module")
def authors() -> AuthorsXCLIP:
    return authors_model()


@pytest.fixture(scope="module")
def clip() -> transformers.CLIPModel:
    return clip_model()


@pytest.fixture(scope="module")
def gelu_clip() -> transformers.CLIPModel:
    return clip_model(act="gelu")


def training_checkpoint(authors: AuthorsXCLIP, path: Path, *, zipped: bool = True, prefix: str = "") -> Path:
    """Write a file like the authors' training loop."""
    optimizer = torch.optim.AdamW(authors.parameters(), lr=8e-6)
    for parameter in authors.parameters():
        parameter.grad = torch.ones_like(parameter)
    kept = {name: value.clone() for name, value in authors.state_dict().items()}
    optimizer.step()
    authors.load_state_dict(kept)
    settings = CfgNode(
        {"DATA": {"DATASET": "kinetics400", "NUM_FRAMES": 4}, "MODEL": {"ARCH": "ViT-B/16"}, "BASE": [""]}
    )
    settings.freeze()
    torch.save(
        {
            "model": {prefix + name: value for name, value in authors.state_dict().items()},
            "optimizer": optimizer.state_dict(),
            "lr_scheduler": {"base_values": [8e-6], "t_initial": 10},
            "max_accuracy": 83.8,
            "epoch": 29,
            "config": settings,
        },
        path,
        _use_new_zipfile_serialization=zipped,
    )
    return path


def assert_is(model: Any, authors: AuthorsXCLIP) -> None:
    ids = torch.randint(1, 90, (3, 9), generator=torch.Generator().manual_seed(3))
    ids[:, -1] = 98
    pixels = torch.randn(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        found, expected = model(input_ids=ids, pixel_values=pixels), authors(ids, pixels)
    assert relative_delta(found.logits_per_video, expected["logits_per_video"]) <= 1e-5
    assert relative_delta(found.text_embeds, expected["text_embeds"]) <= 1e-5
    assert relative_delta(found.video_embeds, expected["video_embeds"]) <= 1e-5


# The authors'


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("prefix", ["", "module.", "model."])
def test_training_checkpoints_of_the_authors(authors: AuthorsXCLIP, tmp_path: Path, zipped: bool, prefix: str) -> None:
    path = training_checkpoint(authors, tmp_path / "k400.pth", zipped=zipped, prefix=prefix)
    found = read_checkpoint(path)
    assert (found.kind, found.format) == ("xclip", "authors")
    assert found.info["epoch"] == 29
    assert found.info["max_accuracy"] == 83.8
    assert found.info["settings"]["DATA"] == {"DATASET": "kinetics400", "NUM_FRAMES": 4}
    expected = hugging_face_state(authors.state_dict())
    assert found.tensors.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found.tensors[name], tensor), name
    assert found.num_parameters == sum(tensor.numel() for tensor in expected.values())
    assert found.dtype == "float32"
    for model in (XCLIPModel.from_pretrained(path), AutoModel.from_pretrained(str(path))):
        assert not model.training
        assert_is(model, authors)
    assert found.config["vision_config"]["num_frames"] == 4


def test_bare_weights_and_safetensors(authors: AuthorsXCLIP, tmp_path: Path) -> None:
    torch.save(authors.state_dict(), tmp_path / "bare.pth")
    save_file(authors.state_dict(), tmp_path / "x.safetensors")
    save_file(authors.state_dict(), tmp_path / "no-suffix")
    save_file(hugging_face_state(authors.state_dict()), tmp_path / "hub.safetensors")
    for name in ("bare.pth", "x.safetensors", "no-suffix", "hub.safetensors"):
        assert_is(XCLIPModel.from_pretrained(tmp_path / name), authors)


def test_towers_of_a_file(authors: AuthorsXCLIP, tmp_path: Path) -> None:
    path = training_checkpoint(authors, tmp_path / "k400.pth")
    whole = XCLIPModel.from_pretrained(path)
    for cls, name in ((XCLIPTextModel, "text_model"), (XCLIPVisionModel, "vision_model")):
        tower = cls.from_pretrained(path)
        for key, value in getattr(whole, name).state_dict().items():
            assert torch.equal(tower.state_dict()[key], value)


def test_a_file_gives_a_processor(authors: AuthorsXCLIP, tmp_path: Path) -> None:
    processor = XCLIPProcessor.from_pretrained(training_checkpoint(authors, tmp_path / "k400.pth"))
    assert processor.num_frames == 4
    assert processor.image_processor.size == {"shortest_edge": 32}
    assert processor.image_processor.crop_size == {"height": 32, "width": 32}
    assert processor.image_processor.image_mean == (0.485, 0.456, 0.406)


def test_large_has_twelve_heads_in_mit_and_prompts(tmp_path: Path) -> None:
    large = authors_model(joint=768, text_width=64)
    torch.save({"model": large.state_dict()}, tmp_path / "large.pth")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = XCLIPModel.from_pretrained(tmp_path / "large.pth")
    assert model.config.prompt_num_attention_heads == 12
    assert_is(model, large)


def test_settings_for_loading_a_file(authors: AuthorsXCLIP, tmp_path: Path) -> None:
    path = training_checkpoint(authors, tmp_path / "k400.pth")
    assert XCLIPModel.from_pretrained(path, dtype="bfloat16").dtype == torch.bfloat16
    assert XCLIPModel.from_pretrained(path, prompt_attention_dropout=0.5).config.prompt_attention_dropout == 0.5
    config = XCLIPConfig.from_dict(read_checkpoint(path).config)
    config.prompt_layers = 3
    with pytest.raises(CheckpointError, match=r"prompts_generator.decoder.2"):
        XCLIPModel.from_pretrained(path, config=config)
    with pytest.raises(TypeError, match="typo"):
        XCLIPModel.from_pretrained(path, typo=1)


# OpenAI's


@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("form", ["archive", "state dict"])
def test_openai(clip: transformers.CLIPModel, tmp_path: Path, form: str, half: bool) -> None:
    """OpenAI's files have half precision, so the expected values come from a CLIP in half precision."""
    if half:
        clip = clip_model().half().float()
    state = {**openai_state(clip), **sizes(clip)}
    if half:
        state = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    path = tmp_path / "ViT-B-32.pt"
    if form == "archive":
        script_archive(state, path)
    else:
        torch.save(state, path)
    found = read_checkpoint(path)
    assert (found.kind, found.format) == ("clip", "openai")
    assert found.dtype == ("float16" if half else "float32")
    model = XCLIPModel.from_clip(path, num_frames=4, seed=1)
    assert model.config.vision_config.hidden_act == model.config.text_config.hidden_act == "quick_gelu"
    assert model.dtype == torch.float32
    assert model.config.vision_config.drop_path_rate == 0
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert_starts_from(model, clip)


def test_video_parts_start_as_in_the_paper(clip: transformers.CLIPModel, tmp_path: Path) -> None:
    torch.save({**openai_state(clip), **sizes(clip)}, tmp_path / "x.pt")
    before = torch.get_rng_state()
    model = XCLIPModel.from_clip(tmp_path / "x.pt", num_frames=5, seed=7)
    assert torch.equal(torch.get_rng_state(), before)
    assert model.mit.position_embedding.shape == (1, 5, 64)
    assert model.config.prompt_num_attention_heads == model.config.vision_config.mit_num_attention_heads == 1
    assert torch.equal(model.prompts_generator.alpha, torch.full((64,), 0.1))
    assert 0.8 < model.prompts_visual_projection.std() < 1.2
    assert 0.01 < model.mit.encoder.layers[0].mlp.fc1.weight.std() < 0.03
    again = XCLIPModel.from_clip(tmp_path / "x.pt", num_frames=5, seed=7).state_dict()
    other = XCLIPModel.from_clip(tmp_path / "x.pt", num_frames=5, seed=8).state_dict()
    for name, value in model.state_dict().items():
        assert torch.equal(again[name], value)
    assert not torch.equal(other["prompts_visual_projection"], model.prompts_visual_projection)
    assert torch.equal(other["visual_projection.weight"], model.visual_projection.weight)
    model.train()
    out = model(input_ids=torch.tensor([[5, 98]]), pixel_values=torch.randn(1, 5, 3, 32, 32), labels=torch.tensor([0]))
    out.loss.backward()


# open_clip's


@pytest.mark.parametrize("size", [32, 48, 64])
def test_open_clip_of_several_resolutions(size: int, tmp_path: Path) -> None:
    clip = clip_model(act="gelu", image_size=size)
    path = tmp_path / "open_clip_pytorch_model.bin"
    torch.save({**openai_state(clip), "attn_mask": torch.zeros(77, 77)}, path)
    with pytest.warns(UserWarning, match="GELU is assumed") as caught:
        model = XCLIPModel.from_clip(path)
    assert len(caught) == 1
    assert model.config.vision_config.image_size == size
    assert model.config.vision_config.hidden_act == "gelu"
    assert_starts_from(model, clip)
    assert XCLIPModel.from_clip(path, hidden_act="quick_gelu").config.text_config.hidden_act == "quick_gelu"


def test_open_clip_training_checkpoint(clip: transformers.CLIPModel, gelu_clip: Any, tmp_path: Path) -> None:
    for model, name in ((clip, "ViT-B-32-quickgelu-b64"), (gelu_clip, "ViT-B-32-b64")):
        state = {f"module.{key}": value for key, value in openai_state(model).items()}
        state["module.logit_scale"] = state["module.logit_scale"][None]
        path = tmp_path / "epoch_3.pt"
        torch.save({"epoch": 3, "name": name, "state_dict": state, "optimizer": {}}, path)
        with warnings.catch_warnings():
            warnings.simplefilter("error" if "quickgelu" in name else "ignore")
            found = read_checkpoint(path)
            assert_starts_from(XCLIPModel.from_clip(path), model)
        assert found.info == {"epoch": 3, "name": name}
        assert found.format == "open_clip"


def test_open_clip_with_a_text_module(gelu_clip: transformers.CLIPModel, tmp_path: Path) -> None:
    state = openai_state(gelu_clip)
    text = ("token_embedding.weight", "positional_embedding", "text_projection", "ln_final.", "transformer.")
    state = {f"text.{name}" if name.startswith(text) else name: value for name, value in state.items()}
    save_file(state, tmp_path / "x.safetensors")
    assert_starts_from(XCLIPModel.from_clip(tmp_path / "x.safetensors", hidden_act="gelu"), gelu_clip)


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("weights", ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"])
def test_open_clip_folders(weights: str, quick: bool, tmp_path: Path) -> None:
    """The configuration has the activation and the heads, which no shape tells."""
    clip = clip_model(act="quick_gelu" if quick else "gelu", vision_heads=4, text_heads=2)
    vision = {"image_size": 32, "width": 128, "layers": 2, "patch_size": 8, "head_width": 32}
    config = {
        "embed_dim": 64,
        "quick_gelu": quick,
        "vision_cfg": vision,
        "text_cfg": {"width": 64, "heads": 2, "layers": 2},
    }
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    if weights.endswith("bin"):
        torch.save(openai_state(clip), tmp_path / weights)
    else:
        save_file(openai_state(clip), tmp_path / weights)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_checkpoint(tmp_path).format == "open_clip"
        model = XCLIPModel.from_clip(tmp_path)
    assert model.config.vision_config.num_attention_heads == 4
    assert_starts_from(model, clip)
    (tmp_path / weights).unlink()
    with pytest.raises(CheckpointError, match=r"open_clip_model.safetensors"):
        read_checkpoint(tmp_path)


def test_heads_can_be_given(tmp_path: Path) -> None:
    clip = clip_model(vision_heads=4, text_heads=2)
    torch.save({**openai_state(clip), **sizes(clip)}, tmp_path / "x.pt")
    model = XCLIPModel.from_clip(tmp_path / "x.pt", vision_heads=4, text_heads=2)
    assert_starts_from(model, clip)
    assert XCLIPModel.from_clip(tmp_path / "x.pt").config.vision_config.num_attention_heads == 2


@pytest.mark.parametrize(("width", "heads"), [(768, 12), (896, 14), (1024, 16), (1280, 16), (1408, 16), (1664, 16)])
def test_heads_of_the_known_widths(width: int, heads: int) -> None:
    """open_clip's ViT-B, B-plus, L, H, g and bigG."""
    from openxclip.checkpoints.shapes import config_of

    shapes = {
        "text_model.embeddings.token_embedding.weight": (49408, 1280),
        "text_model.embeddings.position_embedding.weight": (77, 1280),
        "text_model.encoder.layers.0.mlp.fc1.weight": (5120, 1280),
        "vision_model.embeddings.patch_embedding.weight": (width, 3, 14, 14),
        "vision_model.embeddings.position_embedding.weight": (257, width),
        "vision_model.encoder.layers.0.mlp.fc1.weight": (4 * width, width),
        "text_projection.weight": (1024, 1280),
    }
    config = config_of(shapes, hidden_act="gelu")
    assert config["vision_config"]["num_attention_heads"] == heads
    assert config["text_config"]["num_attention_heads"] == 20
    assert config["vision_config"]["image_size"] == 224


# Hugging Face's


@pytest.mark.parametrize("act", ["quick_gelu", pytest.param("gelu", marks=pytest.mark.slow)])
def test_hugging_face_clip_folders(act: str, tmp_path: Path) -> None:
    clip = clip_model(act=act, vision_heads=4)
    with quiet_transformers():
        clip.save_pretrained(tmp_path)
    found = read_checkpoint(tmp_path)
    assert (found.kind, found.format) == ("clip", "huggingface_clip")
    model = XCLIPModel.from_clip(tmp_path)
    assert model.config.vision_config.num_attention_heads == 4
    assert_starts_from(model, clip)
    with pytest.raises(CheckpointError, match=r"no video parts.*from_clip"):
        XCLIPModel.from_pretrained(tmp_path)
    clip_alone = Path(shutil.copy(tmp_path / "model.safetensors", tmp_path / "alone.safetensors"))
    model = XCLIPModel.from_clip(clip_alone, hidden_act=act, vision_heads=4)
    assert_starts_from(model, clip)


# ------------------------------------------------------------ refused files


def test_clip_and_xclip_are_not_confused(clip: Any, authors: AuthorsXCLIP, tmp_path: Path) -> None:
    torch.save({**openai_state(clip), **sizes(clip)}, tmp_path / "clip.pt")
    with pytest.raises(
        CheckpointError, match=r"this is a CLIP \(no video parts\): `openxclip init --from .* --out FOLDER`"
    ):
        XCLIPModel.from_pretrained(tmp_path / "clip.pt")
    torch.save(authors.state_dict(), tmp_path / "xclip.pth")
    with pytest.raises(CheckpointError, match="an X-CLIP already"):
        XCLIPModel.from_clip(tmp_path / "xclip.pth")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["visual.layer1.0.conv1.weight", "visual.attnpool.positional_embedding"], "ResNet"),
        (["logit_bias", "visual.trunk.pos_embed"], "SigLIP"),
        (["visual.trunk.pos_embed"], "timm"),
        (["text_decoder.ln_final.weight"], "CoCa"),
        (["text.transformer.embeddings.word_embeddings.weight"], "text tower of transformers"),
        (["vision_model.head.probe"], "SigLIP"),
        (["visual.transformer.resblocks.0.ls_1.gamma"], "LayerScale"),
        (["something.new"], "1 tensors that no CLIP or X-CLIP has: something.new"),
    ],
)
def test_other_models_are_named(clip: Any, names: list[str], message: str, tmp_path: Path) -> None:
    torch.save({**openai_state(clip), **dict.fromkeys(names, torch.ones(1))}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=message) as caught:
        read_checkpoint(tmp_path / "x.pt")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"visual.conv1.weight": None}, "vision tower alone"),
        ({"token_embedding.weight": None}, "vision tower alone"),
        ({"visual.positional_embedding": torch.ones(15, 128)}, "14 patches"),
        ({"visual.proj": torch.ones(3)}, "visual.proj is"),
        ({"transformer.resblocks.0.attn.in_proj_weight": torch.ones(64, 64)}, "in_proj_weight is"),
        ({"text_projection": None}, "no text_projection.weight"),
        ({"visual.ln_pre.weight": torch.ones(128, dtype=torch.int8)}, "quantised"),
        ({"transformer.resblocks.0.mlp.c_fc.weight": None}, "no text_model.encoder.layers.0.mlp.fc1.weight"),
        ({"transformer.resblocks.7.ln_1.weight": torch.ones(64)}, "numbered"),
    ],
)
def test_shapes_of_no_clip_are_refused(clip: Any, edit: dict[str, Any], message: str, tmp_path: Path) -> None:
    state = {**openai_state(clip), **sizes(clip), **edit}
    torch.save({name: value for name, value in state.items() if value is not None}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=message):
        XCLIPModel.from_clip(tmp_path / "x.pt")


def test_missing_tensors_are_named(clip: Any, authors: AuthorsXCLIP, tmp_path: Path) -> None:
    state = {**openai_state(clip), **sizes(clip)}
    del state["visual.ln_post.bias"]
    torch.save(state, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"vision_model.post_layernorm.bias"):
        XCLIPModel.from_clip(tmp_path / "x.pt")
    state = authors.state_dict()
    del state["prompts_generator.alpha"]
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=r"prompts_generator.alpha"):
        XCLIPModel.from_pretrained(tmp_path / "x.pth")


@pytest.mark.parametrize("content", [[1], {"a": 1}, {"model": {}}, {"model": 3}, torch.zeros(3)], ids=str)
def test_other_files_are_refused(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=r"x.pth: holds"):
        read_checkpoint(tmp_path / "x.pth")


def test_two_text_towers_are_refused(clip: Any, tmp_path: Path) -> None:
    state = openai_state(clip)
    torch.save({**state, "text.token_embedding.weight": state["token_embedding.weight"] + 1}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="text tower twice"):
        read_checkpoint(tmp_path / "x.pt")


def test_two_logit_scales_are_refused(clip: Any, tmp_path: Path) -> None:
    torch.save({**openai_state(clip), "logit_scale": torch.ones(2)}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="logit_scale"):
        XCLIPModel.from_clip(tmp_path / "x.pt", hidden_act="quick_gelu")


def test_impossible_headers_of_safetensors_are_refused(tmp_path: Path) -> None:
    for shape, dtype, message in (([9] * 100_000, "F32", "impossible sizes"), ([1], "F8_E4M3", "type F8_E4M3")):
        header = json.dumps({"a": {"dtype": dtype, "shape": shape, "data_offsets": [0, 4]}}).encode()
        (tmp_path / "x.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"1234")
        with pytest.raises(CheckpointError, match=message):
            read_checkpoint(tmp_path / "x.safetensors")


def test_damaged_safetensors(clip: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file(openai_state(clip), path)
    whole = path.read_bytes()
    for content in (whole[:-1], whole[:100], whole + b"x", b"\xff" * 100, (1 << 40).to_bytes(8, "little") + b"{}", b""):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="safetensors"):
            read_checkpoint(path)
    assert len(load_file(shutil.copy(write(path, whole), tmp_path / "y.safetensors"))) == len(openai_state(clip))


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_other_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no config.json or open_clip_config.json"):
        read_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "siglip"}')
    with pytest.raises(CheckpointError, match="'siglip'"):
        read_checkpoint(tmp_path)
    (tmp_path / "config.json").unlink()
    (tmp_path / "open_clip_config.json").write_text('{"model_cfg": {"custom_text": true}}')
    with pytest.raises(CheckpointError, match="two towers"):
        read_checkpoint(tmp_path)
