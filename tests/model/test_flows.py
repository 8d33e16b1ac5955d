"""Snippets of transformers' documentation of X-CLIP, run with both libraries: only the import line differs.

The snippets are strings, so that they run as a user has them. They load a folder that transformers wrote, with random
weights, and a video that is encoded here.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
import torch
import transformers
from peers import TINY, quiet_transformers, relative_delta, their_model, with_settings

SAMPLING = """
import av
import torch
import numpy as np

np.random.seed(0)

def read_video_pyav(container, indices):
    frames = []
    container.seek(0)
    start_index = indices[0]
    end_index = indices[-1]
    for i, frame in enumerate(container.decode(video=0)):
        if i > end_index:
            break
        if i >= start_index and i in indices:
            frames.append(frame)
    return np.stack([x.to_ndarray(format="rgb24") for x in frames])

def sample_frame_indices(clip_len, frame_sample_rate, seg_len):
    converted_len = int(clip_len * frame_sample_rate)
    end_idx = np.random.randint(converted_len, seg_len)
    start_idx = end_idx - converted_len
    indices = np.linspace(start_idx, end_idx, num=clip_len)
    indices = np.clip(indices, start_idx, end_idx - 1).astype(np.int64)
    return indices

container = av.open(file_path)
"""

MATCHING = (
    "from {library} import AutoProcessor, AutoModel"
    + SAMPLING
    + """
# sample 8 frames
indices = sample_frame_indices(clip_len=8, frame_sample_rate=1, seg_len=container.streams.video[0].frames)
video = read_video_pyav(container, indices)

processor = AutoProcessor.from_pretrained(model_name)
model = AutoModel.from_pretrained(model_name)

inputs = processor(
    text=["playing sports", "eating spaghetti", "go shopping"],
    videos=list(video),
    return_tensors="pt",
    padding=True,
)

# forward pass
with torch.no_grad():
    outputs = model(**inputs)

logits_per_video = outputs.logits_per_video  # this is the video-text similarity score
probs = logits_per_video.softmax(dim=1)  # we can take the softmax to get the label probabilities
"""
)

ZERO_SHOT = (
    "from {library} import XCLIPProcessor, XCLIPModel"
    + SAMPLING
    + """
indices = sample_frame_indices(clip_len=32, frame_sample_rate=4, seg_len=container.streams.video[0].frames)
video = read_video_pyav(container, indices)

processor = XCLIPProcessor.from_pretrained(model_name)
model = XCLIPModel.from_pretrained(model_name)

inputs = processor(text=["programming course", "eating spaghetti", "playing football"], videos=list(video), return_tensors="pt", padding=True)

# forward pass
with torch.no_grad():
    outputs = model(**inputs)

probs = outputs.logits_per_video.softmax(dim=1)
"""  # noqa: E501
)

TEXT_FEATURES = """
from {library} import AutoTokenizer, AutoModel

tokenizer = AutoTokenizer.from_pretrained(model_name)
model = AutoModel.from_pretrained(model_name)

inputs = tokenizer(["a photo of a cat", "a photo of a dog"], padding=True, return_tensors="pt")
text_features = model.get_text_features(**inputs)
"""

VIDEO_FEATURES = (
    "from {library} import AutoProcessor, AutoModel"
    + SAMPLING
    + """
indices = sample_frame_indices(clip_len=8, frame_sample_rate=1, seg_len=container.streams.video[0].frames)
video = read_video_pyav(container, indices)

processor = AutoProcessor.from_pretrained(model_name)
model = AutoModel.from_pretrained(model_name)

inputs = processor(videos=list(video), return_tensors="pt")

video_features = model.get_video_features(**inputs)
"""
)

VISION_MODEL = (
    "from {library} import AutoProcessor, XCLIPVisionModel"
    + SAMPLING
    + """
indices = sample_frame_indices(clip_len=8, frame_sample_rate=1, seg_len=container.streams.video[0].frames)
video = read_video_pyav(container, indices)

processor = AutoProcessor.from_pretrained(model_name)
model = XCLIPVisionModel.from_pretrained(model_name)

pixel_values = processor(videos=list(video), return_tensors="pt").pixel_values

batch_size, num_frames, num_channels, height, width = pixel_values.shape
pixel_values = pixel_values.reshape(-1, num_channels, height, width)

outputs = model(pixel_values)
last_hidden_state = outputs.last_hidden_state
"""
)

TEXT_MODEL = """
from {library} import AutoTokenizer, XCLIPTextModel

model = XCLIPTextModel.from_pretrained(model_name)
tokenizer = AutoTokenizer.from_pretrained(model_name)

inputs = tokenizer(["a photo of a cat", "a photo of a dog"], padding=True, return_tensors="pt")

outputs = model(**inputs)
last_hidden_state = outputs.last_hidden_state
pooled_output = outputs.pooler_output  # pooled (EOS token) states
"""

CONFIGURED = """
from {library} import XCLIPConfig, XCLIPTextConfig, XCLIPVisionConfig, XCLIPTextModel, XCLIPVisionModel

# Initializing a XCLIPTextModel with microsoft/xclip-base-patch32 style configuration
configuration = XCLIPTextConfig(num_hidden_layers=1)
model = XCLIPTextModel(configuration)
text_config = model.config

configuration = XCLIPVisionConfig(num_hidden_layers=1)
model = XCLIPVisionModel(configuration)
vision_config = model.config

configuration = XCLIPConfig(text_config=text_config.to_dict(), vision_config=vision_config.to_dict())
"""

MERGES = [
    *("e a", "ea t", "eat i", "eati n", "i ng</w>"),
    *("s p", "sp a", "c a", "ca t</w>", "d o", "do g</w>", "a n", "i n", "in g</w>", "p l", "pl a", "pla y"),
]


def run(flow: str, library: str, folder: Path, file_path: Path) -> SimpleNamespace:
    names: dict[str, Any] = {"model_name": str(folder), "file_path": str(file_path)}
    source = flow.replace("{library}", library)
    if library == "transformers":
        with quiet_transformers():
            exec(source, names)
    else:
        exec(source, names)
    return SimpleNamespace(**names)


def byte_letters() -> list[str]:
    """The 256 letters for bytes in byte-level BPE: printable bytes are themselves, others start at U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(0x100 + i) for i in range(len(others))]


def vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """A small CLIP vocabulary: bytes, bytes that end a word, some merges, and the two special tokens at the end."""
    letters = byte_letters()
    merges: list[tuple[str, str]] = []
    known = {*letters, *(letter + "</w>" for letter in letters)}
    for merge in MERGES:
        first, _, second = merge.partition(" ")
        if first in known and second in known and (first, second) not in merges:
            merges.append((first, second))
            known.add(first + second)
    assert len(merges) > 10
    words = [*letters, *(letter + "</w>" for letter in letters), *("".join(merge) for merge in merges)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    return {word: number for number, word in enumerate(words)}, merges


CONFIG = with_settings(TINY, vision_image_size=224, vision_patch_size=32, text_vocab_size=len(vocabulary()[0]))
CONFIG_32 = with_settings(CONFIG, vision_num_frames=32)


def write_folder(folder: Path, config: dict[str, Any]) -> Path:
    vocab, merges = vocabulary()
    tokenizer = transformers.CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=77)
    frames = transformers.VideoMAEImageProcessorPil(image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225])
    with quiet_transformers():
        their_model(config, seed=2).save_pretrained(folder)
        transformers.XCLIPProcessor(frames, tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("flows") / "xclip-8", CONFIG)


@pytest.fixture(scope="module")
def folder_32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("flows") / "xclip-32", CONFIG_32)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of 300 frames in 10 seconds: a disc that moves over a slowly changing background."""
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    rows, columns = np.mgrid[0:180, 0:240]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 240, 180, "yuv420p", 2_000_000
        for index in range(300):
            frame = np.empty((180, 240, 3), np.uint8)
            frame[..., 0] = (columns + index) % 256
            frame[..., 1] = rows + index // 6
            frame[..., 2] = 128
            disc = (columns - 120 - 80 * np.sin(index / 20)) ** 2 + (rows - 90 - 50 * np.cos(index / 33)) ** 2
            frame[disc < 900] = (250, 240, index % 256)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def assert_same_inputs(ours: Any, theirs: Any) -> None:
    assert set(ours.keys()) == set(theirs.keys())
    for name in theirs.keys():  # noqa: SIM118 — neither is a plain dict
        assert ours[name].shape == theirs[name].shape, name
        assert ours[name].dtype == theirs[name].dtype, name
        if name != "pixel_values":
            assert torch.equal(ours[name], theirs[name]), name
    if "pixel_values" in theirs.keys():  # noqa: SIM118
        level = 1 / 255 / 0.224
        difference = (ours["pixel_values"] - theirs["pixel_values"]).abs()
        assert difference.max() <= level * 1.01
        assert difference.mean() <= level * 0.05


def assert_same_probabilities(ours: Any, theirs: Any) -> None:
    """Frames may differ by a level: results are close, and equal on transformers' own pixels."""
    assert ours.probs.shape == (1, 3)
    assert ours.probs.sum().item() == pytest.approx(1.0, abs=1e-5)
    assert theirs.probs.max() - theirs.probs.min() > 0.02  # so that texts differ
    print(f"probabilities differ by {(ours.probs - theirs.probs).abs().max():.1e}")
    torch.testing.assert_close(ours.probs, theirs.probs, atol=1e-3, rtol=0)
    with torch.no_grad():
        on_theirs = ours.model(**dict(theirs.inputs.items())).logits_per_video.softmax(dim=1)
    torch.testing.assert_close(on_theirs, theirs.probs, atol=1e-5, rtol=0)


def test_text_video_matching(folder: Path, video: Path) -> None:
    ours, theirs = (run(MATCHING, library, folder, video) for library in ("openxclip", "transformers"))
    assert ours.video.shape == (8, 180, 240, 3)
    assert_same_inputs(ours.inputs, theirs.inputs)
    assert_same_probabilities(ours, theirs)
    assert ours.inputs["pixel_values"].shape == (1, 8, 3, 224, 224)


def test_zero_shot_classification_of_a_longer_video(folder_32: Path, video: Path) -> None:
    ours, theirs = (run(ZERO_SHOT, library, folder_32, video) for library in ("openxclip", "transformers"))
    assert ours.video.shape == (32, 180, 240, 3)
    assert_same_inputs(ours.inputs, theirs.inputs)
    assert_same_probabilities(ours, theirs)


def test_a_longer_clip_with_a_model_for_eight_frames(folder: Path, video: Path) -> None:
    """transformers fails here; openxclip interpolates with a warning."""
    with pytest.warns(UserWarning, match=r"8 frames.*32"):
        ours = run(ZERO_SHOT, "openxclip", folder, video)
    assert ours.probs.shape == (1, 3)
    assert torch.isfinite(ours.probs).all()


def test_text_features(folder: Path, video: Path) -> None:
    ours, theirs = (run(TEXT_FEATURES, library, folder, video) for library in ("openxclip", "transformers"))
    assert_same_inputs(ours.inputs, theirs.inputs)
    assert isinstance(ours.text_features, torch.Tensor)  # as in transformers 4; 5 returns an object
    assert relative_delta(ours.text_features, theirs.text_features.pooler_output) <= 1e-5


def test_video_features(folder: Path, video: Path) -> None:
    ours, theirs = (run(VIDEO_FEATURES, library, folder, video) for library in ("openxclip", "transformers"))
    assert_same_inputs(ours.inputs, theirs.inputs)
    assert isinstance(ours.video_features, torch.Tensor)
    assert relative_delta(ours.video_features, theirs.video_features.pooler_output) <= 0.02
    on_theirs = ours.model.get_video_features(**dict(theirs.inputs.items()))
    assert relative_delta(on_theirs, theirs.video_features.pooler_output) <= 1e-5


def test_vision_model(folder: Path, video: Path) -> None:
    """Compared with the tower of the whole model, because transformers 5 can't load a tower from its folder."""
    ours = run(VISION_MODEL, "openxclip", folder, video)
    theirs = run(VIDEO_FEATURES, "transformers", folder, video)
    assert ours.last_hidden_state.shape == (8, 50, 96)
    with torch.no_grad():
        expected = theirs.model.vision_model(ours.pixel_values)
    assert relative_delta(ours.last_hidden_state, expected.last_hidden_state) <= 1e-5
    assert relative_delta(ours.outputs.pooler_output, expected.pooler_output) <= 1e-5


def test_text_model(folder: Path, video: Path) -> None:
    ours = run(TEXT_MODEL, "openxclip", folder, video)
    theirs = run(TEXT_FEATURES, "transformers", folder, video)
    with torch.no_grad():
        expected = theirs.model.text_model(**theirs.inputs)
    assert relative_delta(ours.last_hidden_state, expected.last_hidden_state) <= 1e-5
    assert relative_delta(ours.pooled_output, expected.pooler_output) <= 1e-5


@pytest.mark.slow
def test_configurations(folder: Path, video: Path) -> None:
    ours, theirs = (run(CONFIGURED, library, folder, video) for library in ("openxclip", "transformers"))
    for name in ("text_config", "vision_config"):
        for key, value in getattr(ours, name).to_dict().items():
            assert theirs.configuration.to_dict()[name][key] == value, key


def test_a_folder_of_transformers_4(folder: Path, video: Path, tmp_path: Path) -> None:
    """It has preprocessor_config.json, vocab.json and merges.txt, but no processor_config.json or tokenizer.json."""
    older = tmp_path / "older"
    older.mkdir()
    for name in ("config.json", "model.safetensors"):
        (older / name).write_bytes((folder / name).read_bytes())
    vocab, merges = vocabulary()
    (older / "vocab.json").write_text(json.dumps(vocab))
    lines = ["#version: 0.2", *(" ".join(merge) for merge in merges)]
    (older / "merges.txt").write_text("\n".join(lines) + "\n")
    frames = transformers.VideoMAEImageProcessorPil(image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225])
    frames.save_pretrained(older)
    assert (older / "preprocessor_config.json").is_file()
    newer = run(MATCHING, "openxclip", folder, video)
    actual = run(MATCHING, "openxclip", older, video)
    assert torch.equal(actual.inputs["input_ids"], newer.inputs["input_ids"])
    assert torch.equal(actual.inputs["pixel_values"], newer.inputs["pixel_values"])
    assert torch.equal(actual.probs, newer.probs)
