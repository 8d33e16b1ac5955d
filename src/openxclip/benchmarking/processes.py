"""Measure whole processes: start-up, and time and memory of `classify` in a new process."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch

from openxclip.benchmarking.measuring import Rounds, Row, in_turns
from openxclip.benchmarking.peers import random_model
from openxclip.benchmarking.videos import make_clip
from openxclip.engine import Precision
from openxclip.processing import XCLIPProcessor

PEAK = """
import re
print(int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read()).group(1)) / 1024)
"""  # not ru_maxrss, which starts at the size of the parent process

CLASSIFY = """
import sys, torch, openxclip
torch.set_num_threads(int(sys.argv[1]))
labels = open(sys.argv[3]).read().splitlines()
for result in openxclip.classify(sys.argv[5:], labels, model=sys.argv[2], precision=sys.argv[4]):
    assert result.error is None
"""

DOCUMENTED = """
import sys, av, numpy as np, torch
from transformers import AutoModel, AutoProcessor
torch.set_num_threads(int(sys.argv[1]))
labels = open(sys.argv[3]).read().splitlines()
processor, model = AutoProcessor.from_pretrained(sys.argv[2]), AutoModel.from_pretrained(sys.argv[2])
for path in sys.argv[5:]:
    with av.open(path) as container:
        stream = container.streams.video[0]
        total = stream.frames or sum(1 for _ in container.demux(stream))
        container.seek(0)
        indices = np.linspace(0, total - 1, 8).astype(int)
        frames = [f.to_ndarray(format="rgb24") for i, f in enumerate(container.decode(video=0)) if i in indices]
    inputs = processor(text=labels, videos=list(np.stack(frames)), return_tensors="pt", padding=True)
    with torch.no_grad():
        outputs = model(**inputs)
    outputs.logits_per_video.softmax(dim=1).argmax()
"""

TUNED = """
import sys, av, contextlib, numpy as np, torch
from transformers import AutoModel, AutoProcessor
torch.set_num_threads(int(sys.argv[1]))
labels = open(sys.argv[3]).read().splitlines()
half = torch.autocast("cpu", torch.bfloat16) if sys.argv[4] == "bf16" else contextlib.nullcontext()
processor = AutoProcessor.from_pretrained(sys.argv[2])
model = AutoModel.from_pretrained(sys.argv[2], attn_implementation="sdpa").eval()
with torch.inference_mode(), half:
    ids = processor(text=labels, return_tensors="pt", padding=True).input_ids
    text = model.get_text_features(ids)
    text = getattr(text, "pooler_output", text)
    for path in sys.argv[5:]:
        with av.open(path) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            total = stream.frames or sum(1 for _ in container.demux(stream))
            container.seek(0)
            indices = set(np.linspace(0, total - 1, 8).astype(int).tolist())
            frames = [f.to_ndarray(format="rgb24") for i, f in enumerate(container.decode(stream)) if i in indices]
        pixels = processor(videos=list(np.stack(frames)), return_tensors="pt").pixel_values
        seen = model.vision_model(pixels.flatten(0, 1))
        video = model.mit(model.visual_projection(seen.pooler_output).view(1, 8, -1))[1]
        patches = model.prompts_visual_layernorm(seen.last_hidden_state[:, 1:]) @ model.prompts_visual_projection
        texts = text[None] + model.prompts_generator(text[None], patches.view(1, 8, -1, video.shape[-1]).mean(1))
        texts = texts / texts.norm(dim=-1, keepdim=True)
        video = video / video.norm(dim=-1, keepdim=True)
        (model.logit_scale.exp() * video @ texts[0].T).softmax(dim=1).argmax()
"""

MINIMAL = """
import sys, torch
torch.set_num_threads(int(sys.argv[1]))
from openxclip.model import XCLIPModel
from openxclip.benchmarking.inference import class_names, clips_for
model = XCLIPModel.from_pretrained(sys.argv[2])
with torch.no_grad():
    model(class_names()[1:3], clips_for(model, 1))
"""

_VERBS = ("playing", "cleaning", "opening", "riding", "washing", "throwing", "making", "jumping", "cooking", "reading")


def make_labels(number: int = 400) -> list[str]:
    """Return labels that are as long as usual class names."""
    things = ("guitar", "horse", "window", "bread", "ball", "shoes", "paper", "garden fence", "ice cream", "bottle")
    places = ("", " in a pool", " outside", " at home")
    return [f"{verb} {thing}{place}" for verb in _VERBS for thing in things for place in places][:number]


class Usage(NamedTuple):
    """What a process needed: its time in seconds and its peak memory in MiB."""

    seconds: float
    peak: float


def run(script: str, *arguments: str) -> Usage:
    """Run a script in a new process.

    Raises:
        RuntimeError: the process failed; the message has the last line of its output.
    """
    began = time.perf_counter()
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, "-W", "ignore", "-c", script + PEAK, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if result.returncode:
        raise RuntimeError(f"a measured process failed: {result.stderr.strip().splitlines()[-1:]}")
    return Usage(time.perf_counter() - began, float(result.stdout.split()[-1]))


def _medians(methods: Mapping[str, Callable[[], Usage]], rounds: Rounds) -> tuple[dict[str, Usage], int]:
    """Return the medians of each method, and the number of rounds."""
    next(iter(methods.values()))()  # loads files into the page cache
    runs = in_turns(methods, rounds)
    measured = {name: Usage(*map(statistics.median, zip(*usages, strict=True))) for name, usages in runs.items()}
    return measured, len(next(iter(runs.values())))


class Files(NamedTuple):
    """Paths of the files that the measured processes read: a model, 400 labels, 2 labels and 20 clips."""

    model: str
    labels: str
    two_labels: str
    clips: list[str]


@contextmanager
def temporary_files(clips: Sequence[str | Path]) -> Iterator[Files]:
    """Write a B/32 model of random weights and labels, and a clip if none is given; repeat the clips up to 20."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        model = root / "model"
        random_model("base-patch32").save_pretrained(model)
        XCLIPProcessor().save_pretrained(model)
        for number in (400, 2):
            (root / f"{number}.txt").write_text("\n".join(make_labels(number)), encoding="utf-8")
        if not clips:
            make_clip(root / "clip.mp4", 340, 256)
            clips = [root / "clip.mp4"]
        paths = [str(clip) for clip in clips]
        yield Files(str(model), str(root / "400.txt"), str(root / "2.txt"), (paths * 20)[:20])


def has_transformers() -> bool:
    """Return whether transformers is installed."""
    return find_spec("transformers") is not None


def startup(rounds: Rounds, files: Files) -> Iterator[Row]:
    """Measure `--help` and the first result, and compare the latter with only importing, loading and computing."""
    threads = str(torch.get_num_threads())
    show_help = partial(run, "from openxclip.cli.main import cli; cli(['--help'], standalone_mode=False)")
    measured, num_rounds = _medians({"ours": show_help}, rounds)
    yield Row("openxclip --help", "s", measured["ours"].seconds, rounds=num_rounds)
    methods = {
        "ours": partial(run, CLASSIFY, threads, files.model, files.two_labels, "fp32", files.clips[0]),
        "minimal": partial(run, MINIMAL, threads, files.model),
    }
    measured, num_rounds = _medians(methods, rounds)
    note = "documented: import torch + load + compute by the plain model alone"
    seconds, minimal = measured["ours"].seconds, measured["minimal"].seconds
    yield Row("first result, one clip, 2 labels", "s", seconds, minimal, note=note, rounds=num_rounds)


def end_to_end(rounds: Rounds, files: Files, precisions: Sequence[Precision]) -> Iterator[Row]:
    """Measure a process that classifies 20 clips with 400 names, including its start."""
    threads = str(torch.get_num_threads())

    def method(script: str, precision: str) -> Callable[[], Usage]:
        return partial(run, script, threads, files.model, files.labels, precision, *files.clips)

    methods = {str(precision): method(CLASSIFY, precision) for precision in precisions}
    if has_transformers():
        methods["documented"] = method(DOCUMENTED, "fp32")
        methods |= {f"tuned {precision}": method(TUNED, precision) for precision in precisions}
    measured, num_rounds = _medians(methods, rounds)
    for number, unit, what in ((0, "s", "classify 20 clips x 400 names"), (1, "MiB", "peak RSS of it")):
        for precision in precisions:
            documented, tuned = measured.get("documented"), measured.get(f"tuned {precision}")
            yield Row(
                f"{what}, {precision}", unit, measured[precision][number],
                documented and documented[number], tuned and tuned[number], rounds=num_rounds,
            )  # fmt: skip
