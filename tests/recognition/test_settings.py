"""The Python entry points under PyTorch's global settings, with threads and after forks."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import openxclip
from openxclip import VideoPipeline, XCLIPModel
from openxclip.common.threads import convert_tensor
from openxclip.recognition.classification import Classification

LABELS = ["a red wall", "the sea"]


@contextmanager
def default_device(name: str) -> Iterator[None]:
    torch.set_default_device(name)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextmanager
def more_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


SETTINGS: dict[str, Any] = {
    "default device meta": lambda: default_device("meta"),
    "default device that is absent": lambda: default_device("xpu"),
    "default dtype float64": lambda: default_dtype(torch.float64),
    "default dtype float16": lambda: default_dtype(torch.float16),
    "inference mode": torch.inference_mode,
    "grad mode": torch.enable_grad,
    "deterministic algorithms": deterministic,
    "another number of threads": more_threads,
}


@pytest.fixture(scope="module")
def right(
    tiny_folder: Path, clip_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[Classification], Path]:
    """The classification of a video and a file of its features, without changed settings."""
    video, path = clip_folder / "red2.mp4", tmp_path_factory.mktemp("right") / "right.npz"
    openxclip.embed(video, path, model=tiny_folder, device="cpu", isolate=False)
    return openxclip.classify(video, LABELS, model=tiny_folder, device="cpu", isolate=False), path


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("loaded_under_it", [True, False])
def test_classify_and_embed_under_a_global_setting(
    tiny_folder: Path,
    clip_folder: Path,
    tmp_path: Path,
    setting: str,
    loaded_under_it: bool,
    right: tuple[list[Classification], Path],
) -> None:
    video = clip_folder / "red2.mp4"
    pipeline = VideoPipeline.from_pretrained(tiny_folder, device="cpu", isolate=False)
    openxclip.classify(video, LABELS, model=pipeline)
    with SETTINGS[setting]():
        if loaded_under_it:
            pipeline = VideoPipeline.from_pretrained(tiny_folder, device="cpu", isolate=False)
        got = openxclip.classify(video, LABELS, model=pipeline)
        openxclip.embed(video, tmp_path / "got.npz", model=pipeline)
        again = openxclip.classify(video, LABELS, model=pipeline)
    for result in (got, again):
        assert result[0].error is None
        assert result[0].labels[0].label == right[0][0].labels[0].label
        assert result[0].labels[0].probability == pytest.approx(right[0][0].labels[0].probability, abs=1e-5)
    with np.load(tmp_path / "got.npz") as ours, np.load(right[1]) as theirs:
        np.testing.assert_allclose(ours["pooled"], theirs["pooled"], atol=1e-5)


def test_a_model_loaded_under_inference_mode_can_be_trained(tiny_folder: Path) -> None:
    with torch.inference_mode():
        model = XCLIPModel.from_pretrained(tiny_folder, dtype="float32", device="cpu")
    assert not any(parameter.is_inference() for parameter in model.parameters())
    vision = model.config.vision_config
    pixels = torch.randn(1, vision.num_frames, 3, vision.image_size, vision.image_size)
    model.train().get_video_features(pixels).sum().backward()
    assert model.mit.position_embedding.grad is not None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_converted_weights_equal_those_of_to(dtype: torch.dtype) -> None:
    half = torch.randn(3, 50_000).to(dtype)
    for tensor in (half, half.T, half[:, ::2], half[:1, :5]):
        ours = convert_tensor(tensor, device=None, dtype=torch.float32)
        assert torch.equal(ours, tensor.float())
        assert ours.is_contiguous() or tensor.numel() <= 2**15


def test_results_come_one_by_one(tiny_folder: Path, clip_folder: Path) -> None:

    pipeline = VideoPipeline.from_pretrained(tiny_folder, device="cpu", isolate=False)
    results = openxclip.iter_classify([clip_folder / "red2.mp4"] * 5, LABELS, model=pipeline)
    assert next(results).error is None
    assert len(list(results)) == 4
    with pytest.raises(ValueError, match="no labels to choose from"):
        openxclip.iter_classify(clip_folder, [], model=pipeline)  # at the call
    whole = openxclip.classify(clip_folder, LABELS, model=pipeline)
    assert whole == list(openxclip.iter_classify(clip_folder, LABELS, model=pipeline))


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@pytest.mark.slow
@needs_fork
@pytest.mark.parametrize(
    "before",
    [
        "threading.Thread(target=forever, daemon=True).start(); say(2)",
        "pass",
        "say(2)",
    ],
)
def test_a_forked_process_classifies(tiny_folder: Path, clip_folder: Path, before: str) -> None:
    """After the model was loaded, after it was used, and while another thread uses it."""
    script = f"""
        import os, signal, threading, warnings
        import torch
        import openxclip
        from openxclip import VideoPipeline

        torch.set_num_threads(2)
        torch.ones(1000, 1000) @ torch.ones(1000, 1000) if {before != "pass"} else None
        pipeline = VideoPipeline.from_pretrained({str(tiny_folder)!r}, device="cpu")
        video = {str(clip_folder / "red2.mp4")!r}

        def say(times):
            return openxclip.classify([video] * times, ["a", "b"], model=pipeline)[-1].outcome

        def forever():
            while True:
                say(1)

        {before}
        child = os.fork()
        if not child:
            signal.alarm(60)
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                assert say(3) and say(1)
            told = [str(one.message) for one in warned if "was forked" in str(one.message)]
            assert len(told) == (1 if (os.cpu_count() or 1) > 1 else 0), warned
            assert torch.get_num_threads() == 1
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        os._exit(0 if status == 0 else 1)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


@needs_fork
@pytest.mark.slow
def test_loading_half_precision_weights_starts_no_threads() -> None:
    """A server may load mini, whose weights are float16, and then fork: its children lack no threads."""
    tasks = Path("/proc/self/task")
    if not tasks.is_dir():
        pytest.skip("this system has no /proc")
    script = """
        import os, torch
        torch.set_num_threads(4)
        from openxclip import XCLIPModel
        before = len(os.listdir("/proc/self/task"))
        XCLIPModel.from_pretrained("mini", device="cpu")
        assert len(os.listdir("/proc/self/task")) == before, os.listdir("/proc/self/task")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
