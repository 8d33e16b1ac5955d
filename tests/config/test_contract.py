"""The contract of time: its JSON, what is refused, and that models keep it wherever they are written."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import transformers
from made_contracts import contract_in, with_contract
from peers import quiet_transformers

import openxclip
from openxclip import CheckpointError, XCLIPConfig, XCLIPModel
from openxclip.config import NEUTRAL_TEXTS, LabelThreshold, TimeContract
from openxclip.recognition import BACKGROUND_TEXTS

WRITTEN = {
    "window": 1.5,
    "stride": 0.5,
    "frames": 4,
    "threshold": 0.6,
    "neutral_texts": ["a wall", "nobody"],
    "labels": {"a dog barks": {"threshold": 0.8, "false_alarms_per_hour": 0.5, "extrapolated": True}},
}


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    return with_contract(tiny_folder, tmp_path / "model", WRITTEN)


def test_json_is_read_and_written() -> None:
    contract = TimeContract.from_dict(WRITTEN)
    assert (contract.window, contract.stride, contract.num_frames, contract.threshold) == (1.5, 0.5, 4, 0.6)
    assert contract.neutral_texts == ("a wall", "nobody")
    assert contract.labels == {"a dog barks": LabelThreshold(threshold=0.8, false_alarms=0.5, is_extrapolated=True)}
    assert json.loads(json.dumps(contract.to_dict())) == WRITTEN
    assert TimeContract.from_dict(contract.to_dict()) == contract


def test_defaults() -> None:
    for contract in (TimeContract(), TimeContract.from_dict({}), TimeContract.from_dict(dict.fromkeys(WRITTEN))):
        assert contract == TimeContract()
        assert (contract.window, contract.stride_seconds, contract.threshold) == (None, None, 0.5)
        assert contract.neutral_texts == NEUTRAL_TEXTS
    assert TimeContract().to_dict() == {"threshold": 0.5, "neutral_texts": list(NEUTRAL_TEXTS)}
    assert BACKGROUND_TEXTS is NEUTRAL_TEXTS


def test_a_label_may_have_a_threshold_of_its_own() -> None:
    contract = TimeContract.from_dict(WRITTEN)
    assert (contract.threshold_of("a dog barks"), contract.threshold_of("a dog runs")) == (0.8, 0.6)


def test_arguments_come_before_the_contract() -> None:
    contract = TimeContract(window=2, num_frames=8)
    assert contract.windows() == (2, 1, 8)
    assert contract.windows(stride=0.5, num_frames=16) == (2, 0.5, 16)
    assert contract.windows(window=3) == (3, None, 8)
    assert contract.windows(window=3, stride=2) == (3, 2, 8)
    assert TimeContract(window=2, stride=0.25).windows() == (2, 0.25, None)
    assert TimeContract().windows() == (None, None, None)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ("2 s", "'2 s' must be an object with window"),
        ([1], r"\[1\] must be an object with window"),
        ({"window": 0}, "window=0: must be a number of seconds, 0.001 or more"),
        ({"window": "2"}, "window='2': must be a number of seconds"),
        ({"window": True}, "window=True: must be a number of seconds"),
        ({"window": 10**400}, "window=10+: must be a number of seconds"),
        ({"window": float("nan")}, "window=nan: must be a number of seconds"),
        ({"window": 2, "stride": -1}, "stride=-1: must be a number of seconds"),
        ({"stride": 1}, "stride=1 is from one window to the next: give window too"),
        ({"frames": 0}, "frames=0: must be a whole number, 1 or more"),
        ({"frames": 8.0}, "frames=8.0: must be a whole number"),
        ({"threshold": 1.1}, "threshold=1.1: must be a number from 0 to 1"),
        ({"threshold": "half"}, "threshold='half': must be a number from 0 to 1"),
        ({"neutral_texts": []}, r"neutral_texts=\[\]: must be a list of one or more texts"),
        ({"neutral_texts": "a video"}, "neutral_texts='a video': must be a list"),
        ({"neutral_texts": {"a video": 1}}, "neutral_texts=.*: must be a list"),
        (
            {"neutral_texts": ["a video", " "]},
            "neutral_texts=.*: must be a list of one or more texts, none of them emp",
        ),
        ({"labels": []}, r"labels=\[\]: must be an object"),
        ({"labels": {"a": 0.5}}, "labels: 'a' is 0.5, but must be an object"),
        ({"labels": {"a": {"threshold": 0.5}}}, "labels: 'a' has no false_alarms_per_hour"),
        ({"labels": {"a": {"threshold": 2, "false_alarms_per_hour": 1}}}, "labels: 'a': threshold=2: must be"),
        (
            {"labels": {"a": {"threshold": 0.5, "false_alarms_per_hour": 0}}},
            "'a': false_alarms=0: must be a number abo",
        ),
        ({"labels": {"a": {"threshold": 0.5, "false_alarms_per_hour": 1, "extrapolated": 1}}}, "is_extrapolated=1"),
    ],
)
def test_wrong_values_are_refused_and_named(values: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        TimeContract.from_dict(values)
    with pytest.raises(CheckpointError, match=f"^the model: config.json: openxclip: .*{said}"):
        TimeContract.of_config(XCLIPConfig(openxclip=values))


def test_labels_must_have_thresholds() -> None:
    with pytest.raises(ValueError, match=r"labels: 'a' is 0\.5, but must be a LabelThreshold"):
        TimeContract(labels={"a": 0.5})  # type: ignore[dict-item]


def test_an_unknown_key_is_ignored_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="unknown key, which is ignored: 'treshold': did you mean 'threshold'"):
        assert TimeContract.from_dict({"treshold": 0.9}).threshold == 0.5
    own = {"threshold": 0.5, "false_alarms_per_hour": 1, "of": "later"}
    with pytest.warns(UserWarning, match=r"unknown key, which is ignored: 'of'\."):
        TimeContract.from_dict({"labels": {"a": own}})


def test_a_model_without_the_key_has_the_default(tiny_folder: Path) -> None:
    assert TimeContract.of_config(XCLIPConfig.from_pretrained(tiny_folder)) == TimeContract()
    assert "openxclip" not in XCLIPConfig().to_dict()


def test_mini_has_one() -> None:
    contract = openxclip.VideoPipeline.from_pretrained("mini", device="cpu", isolate=False).contract
    assert contract.window is not None
    assert contract.num_frames == 8


def test_a_pipeline_reads_the_contract(folder: Path) -> None:
    pipeline = openxclip.VideoPipeline.from_pretrained(folder, device="cpu", isolate=False)
    assert pipeline.contract == TimeContract.from_dict(WRITTEN)
    pipeline.model.config.openxclip = {"threshold": -1}
    with pytest.raises(CheckpointError, match=f"^{folder}: config.json: openxclip: threshold=-1: must be"):
        _ = pipeline.contract


def test_openxclip_keeps_the_key(folder: Path, tmp_path: Path) -> None:
    model = XCLIPModel.from_pretrained(folder)
    model.save_pretrained(tmp_path / "saved")
    assert contract_in(tmp_path / "saved") == WRITTEN
    model.half().save_pretrained(tmp_path / "half")
    assert contract_in(tmp_path / "half") == WRITTEN
    openxclip.optimize(model.float().eval()).save_pretrained(tmp_path / "optimized")
    assert contract_in(tmp_path / "optimized") == WRITTEN
    openxclip.convert(folder, tmp_path / "x.pth", to="authors")
    openxclip.convert(tmp_path / "x.pth", tmp_path / "back")
    assert contract_in(tmp_path / "back") == WRITTEN
    config = XCLIPConfig.from_pretrained(folder)
    assert config.to_diff_dict()["openxclip"] == WRITTEN
    assert XCLIPConfig(**config.to_diff_dict()) == config


def test_transformers_keeps_the_key(folder: Path, tmp_path: Path) -> None:
    """Of every version of transformers in which this runs."""
    with quiet_transformers():
        config = transformers.AutoConfig.from_pretrained(folder)
        model = transformers.XCLIPModel.from_pretrained(folder)
    assert config.openxclip == model.config.openxclip == WRITTEN
    config.save_pretrained(tmp_path / "config")
    model.save_pretrained(tmp_path / "model-saved")
    for saved in ("config", "model-saved"):
        assert contract_in(tmp_path / saved) == WRITTEN
    assert TimeContract.of_config(XCLIPConfig.from_pretrained(tmp_path / "model-saved")).window == 1.5
    assert XCLIPConfig.of(model.config).openxclip == WRITTEN


def test_info_shows_the_contract(folder: Path, tiny_folder: Path, tmp_path: Path) -> None:
    described = openxclip.info(folder)
    assert getattr(described, "contract", None) == WRITTEN
    assert described.problems == []
    half = openxclip.info(with_contract(tiny_folder, tmp_path / "half", {"window": 3}))
    assert getattr(half, "contract", {})["stride"] == 1.5
    assert getattr(openxclip.info(tiny_folder), "contract", 1) is None
    wrong = openxclip.info(with_contract(tiny_folder, tmp_path / "wrong", {"window": -3}))
    assert wrong.problems == ["config.json: openxclip: window=-3: must be a number of seconds, 0.001 or more."]
    assert getattr(wrong, "contract", 1) is None


def test_an_x_clip_from_a_clip_has_none(tmp_path: Path) -> None:
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1}
    clip = transformers.CLIPModel(
        transformers.CLIPConfig(
            text_config=small,
            vision_config={**small, "image_size": 32, "patch_size": 16},
            projection_dim=32,
            openxclip=WRITTEN,
        )
    )
    clip.save_pretrained(tmp_path / "clip")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = XCLIPModel.from_clip(tmp_path / "clip")
    assert not hasattr(model.config, "openxclip")
    assert "openxclip" not in model.config.to_dict()
