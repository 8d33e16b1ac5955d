"""Settings for all tests, and fixtures of several rooms: a tiny model folder and small video files."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

# Before PyTorch is loaded, and for every process that a test starts: on a busy machine threads that spin while they
# wait make the suite several times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read once, when huggingface_hub is imported
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import av
import numpy as np
import pytest
import torch
from moving_squares import write_video

from openxclip import XCLIPConfig, XCLIPModel
from openxclip.processing import VideoProcessor
from openxclip.video import DecodeWorker

# Reference models and made files, which tests of several rooms import.
sys.path += [str(Path(__file__).parent / room) for room in ("model", "checkpoints")]

# A shell without job control starts what it runs in the background (`pytest &` in a script) with Ctrl-C ignored, and
# every child inherits that: tests that interrupt a process would wait for it until their time is up.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGTERM) is signal.SIG_IGN:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def pytest_collection_finish() -> None:
    """Leave out of later garbage collections what the imported modules hold: several hundred thousand objects."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def nothing_is_kept(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The cache of who runs the tests stays as it is."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def one_thread(request: pytest.FixtureRequest) -> Iterator[None]:
    """Give PyTorch one thread unless the test is slow: on a busy machine, threads of tiny models mostly wait."""
    before = torch.get_num_threads()
    if request.node.get_closest_marker("slow") is None:
        torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def tidy(request: pytest.FixtureRequest) -> Iterator[None]:
    """Seed random numbers before a test, and free full-size models after it."""
    torch.default_generator.manual_seed(0)  # `torch.manual_seed` also notes who called it, for a GPU's first use
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(0)
    yield
    is_slow = request.node.get_closest_marker("slow") is not None
    if is_slow and request.path.parent.name in ("engine", "model"):
        gc.collect()  # takes half a second, so only where full-size models are made


class KeptWorker(DecodeWorker):
    """A worker that goes on when a pipeline closes it."""

    def close(self) -> None:
        pass


@pytest.fixture(scope="session")
def kept_worker() -> Iterator[DecodeWorker]:
    """A process that reads the videos of one command after the other: to start one for each takes 0.3 s."""
    worker = KeptWorker()
    yield worker
    DecodeWorker.close(worker)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole model of random weights: 4 frames of 32 pixels.

    As in the shipped model, no file has the vocabulary, so it is CLIP's, which a process reads once.
    """
    torch.manual_seed(0)
    config = XCLIPConfig(
        text_config={"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2},
        vision_config={
            "hidden_size": 24,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "mit_hidden_size": 16,
            "mit_intermediate_size": 32,
            "mit_num_attention_heads": 1,
            "image_size": 32,
            "patch_size": 8,
            "num_frames": 4,
        },
        projection_dim=16,
        prompt_num_attention_heads=1,
    )
    folder = tmp_path_factory.mktemp("models") / "tiny"
    XCLIPModel(config).save_pretrained(folder)
    VideoProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three small mp4 files of different colours, ten frames each, one of them in a folder below."""
    folder = tmp_path_factory.mktemp("clips")
    (folder / "more").mkdir()
    for name, colour in (("red2.mp4", (200, 20, 20)), ("red10.mp4", (120, 20, 20)), ("more/blue.mp4", (20, 20, 200))):
        with av.open(str(folder / name), "w") as container:
            stream = container.add_stream("libx264", rate=10)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for i in range(10):
                picture = np.full((48, 64, 3), colour, dtype=np.uint8)
                picture[:, 6 * i : 6 * i + 6] = 255
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
    return folder


@pytest.fixture(scope="session")
def class_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of three videos."""
    root = tmp_path_factory.mktemp("classes")
    for number, (name, step) in enumerate((("goes_down", (3, 0)), ("goes_right", (0, 4)), ("staysPut", (0, 0)))):
        (root / name).mkdir()
        for i in range(3):
            write_video(root / name / f"{i}.mp4", step=step, seed=10 * number + i)
    return root
