"""Measure clips per second of `openxclip train`, with our model and with transformers' XCLIPModel in the same loop.

    python benchmarks/training.py [--rounds 5] [--steps 4] [--threads 2]

B/32 has random weights. The features of 400 class names are encoded once for each model. A clip has 8 frames of an
H.264 file of 340 x 256, a batch has 2 clips, and AdamW runs in float32. The time includes decoding and augmentation,
and the share of time spent waiting for data is printed too. Both models run in turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from openxclip import XCLIPProcessor
from openxclip.benchmarking.measuring import cpu_name
from openxclip.benchmarking.peers import Peer, random_model
from openxclip.benchmarking.processes import make_labels
from openxclip.benchmarking.videos import make_clip
from openxclip.datasets import Dataset, Sample
from openxclip.model.outputs import XCLIPOutput
from openxclip.recipes import read_recipe
from openxclip.training.distributed import Processes
from openxclip.training.log import read_log
from openxclip.training.loop import TrainingLoop
from openxclip.training.setup import Setup


class Theirs(nn.Module):
    """transformers' model with the interface that the training loop needs; our model encodes the texts."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self._peer = [Peer(model)]  # in a list, so that it isn't a submodule and parameters keep their names
        self._ours = [model]
        self.config = model.config
        for name, part in self._peer[0].model.named_children():
            self.add_module(name, part)
        for name, weight in self._peer[0].model.named_parameters(recurse=False):
            self.register_parameter(name, weight)

    def get_text_features(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self._ours[0].get_text_features(ids, mask)

    def forward(self, pixel_values: Tensor, text_features: Tensor) -> XCLIPOutput:
        return XCLIPOutput(logits_per_video=self._peer[0].score_by_parts(pixel_values, text_features))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    found: dict[str, list[dict[str, float]]] = {"openxclip": [], "transformers": []}
    with tempfile.TemporaryDirectory() as work:
        clip = Path(work, "clip.mp4")
        make_clip(clip, 340, 256)
        classes = tuple(make_labels())
        samples = tuple(Sample(str(clip), label=i) for i in range(2 * (arguments.steps + 1)))
        dataset = Dataset("clips", samples, classes)
        recipe = read_recipe("kinetics", ["model=x", "batch=2", "batch_per_pass=2", "epochs=1", "warmup_epochs=0",
                                          "precision=fp32", "eval_every=0"])  # fmt: skip
        model = random_model("base-patch32")
        for turn in range(arguments.rounds):
            for name, learner in (("openxclip", model), ("transformers", Theirs(model))):
                folder = Path(work, f"{name}{turn}")
                alone = Processes(0, 1, torch.device("cpu"))
                TrainingLoop(Setup(recipe, learner, XCLIPProcessor(), dataset, None, alone), folder).run()  # type: ignore[arg-type]
                steps = [line for line in read_log(folder) if line["kind"] == "step"][1:]  # the first waits for workers
                seconds = sum(line["seconds"] for line in steps)
                found[name].append({
                    "clips_per_second": sum(line["clips"] for line in steps) / seconds,
                    "waited": sum(line["waited"] for line in steps) / seconds,
                })  # fmt: skip
    rows = {
        name: {key: statistics.median(turn[key] for turn in turns) for key in turns[0]} for name, turns in found.items()
    }
    print(f"{cpu_name()}, {arguments.threads} threads, medians of {arguments.rounds} rounds of {arguments.steps} steps")
    for name, row in rows.items():
        print(f"{name:<13} {row['clips_per_second']:.2f} clips/s, {100 * row['waited']:.1f} % waiting for data")
    ratio = rows["transformers"]["clips_per_second"] / rows["openxclip"]["clips_per_second"]
    print(f"time per clip: {ratio:.2f} of transformers'")
    record = {"cpu": cpu_name(), "threads": arguments.threads, "rounds": arguments.rounds, **rows}
    Path(__file__).with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
