"""The released checkpoints: sizes, training data, and the accuracies that the paper reports (arXiv 2208.02816)."""

from __future__ import annotations

from dataclasses import dataclass, field

from openxclip.checkpoints.shapes import add_video_parts
from openxclip.config import HEAD_WIDTH, XCLIPConfig


@dataclass(frozen=True)
class Released:
    """A released checkpoint.

    Attributes:
        name: hub id to load it by, or "mini".
        architecture: letter of the vision tower's width / pixels of a patch.
        parameters: number of parameters.
        frames: number of frames of a clip.
        resolution: pixels of a frame's side.
        trained_on: training videos. The training started from OpenAI's CLIP.
        accuracy: percentages that the paper reports: "top1" and "top5" on the test videos of the training's data set,
            or top-1 by the name of another; empty if it reports none.
        measured: protocol of these measurements; "" if there are none.
        authors_file: name of the authors' file; "" if there is none.
    """

    name: str
    architecture: str
    parameters: int
    frames: int
    resolution: int
    trained_on: str
    accuracy: dict[str, float] = field(default_factory=dict)
    measured: str = ""
    authors_file: str = ""

    @property
    def download_bytes(self) -> int:
        """Approximate size of the weights in bytes; 0 for the shipped model."""
        return 0 if self.name == "mini" else 4 * self.parameters  # float32


# By letter of the architecture: width and blocks of the video tower, and the joint width, which is also the text
# tower's. The text tower has 12 blocks.
_TOWERS = {"B": (768, 12, 512), "L": (1024, 24, 768)}

# Parameters at 8 frames and 224 pixels; each further frame adds a position of the joint width.
_BASE32, _BASE16, _LARGE14 = 196_585_729, 194_929_153, 575_673_601

_VIEWS = "4 clips × 3 crops"


def _shots(dataset: str, file: str, accuracies: dict[int, float]) -> list[Released]:
    return [
        Released(
            f"microsoft/xclip-base-patch16-{file}-{shots}-shot", "B/16", _BASE16 + 24 * 512, 32, 224,
            f"{dataset}, {shots} videos a class", {"top1": accuracy}, "1 clip, 1 crop, split 1",
            f"few_{file}_{shots}.pth",
        )
        for shots, accuracy in accuracies.items()
    ]  # fmt: skip


RELEASED: tuple[Released, ...] = (
    Released("mini", "192/8", 15_299_905, 8, 64, "openxclip's rendered playground"),
    Released("microsoft/xclip-base-patch32", "B/32", _BASE32, 8, 224, "Kinetics-400",
             {"top1": 80.4, "top5": 95.0}, _VIEWS, "k400_32_8.pth"),
    Released("microsoft/xclip-base-patch32-16-frames", "B/32", _BASE32 + 8 * 512, 16, 224, "Kinetics-400",
             {"top1": 81.1, "top5": 95.5}, _VIEWS, "k400_32_16.pth"),
    Released("microsoft/xclip-base-patch16", "B/16", _BASE16, 8, 224, "Kinetics-400",
             {"top1": 83.8, "top5": 96.7}, _VIEWS, "k400_16_8.pth"),
    Released("microsoft/xclip-base-patch16-16-frames", "B/16", _BASE16 + 8 * 512, 16, 224, "Kinetics-400",
             {"top1": 84.7, "top5": 96.8}, _VIEWS, "k400_16_16.pth"),
    Released("microsoft/xclip-base-patch16-kinetics-600", "B/16", _BASE16, 8, 224, "Kinetics-600",
             {"top1": 85.3, "top5": 97.1}, _VIEWS, "k600_16_8.pth"),
    Released("microsoft/xclip-base-patch16-kinetics-600-16-frames", "B/16", _BASE16 + 8 * 512, 16, 224, "Kinetics-600",
             {"top1": 85.8, "top5": 97.3}, _VIEWS, "k600_16_16.pth"),
    *_shots("HMDB-51", "hmdb", {2: 53.0, 4: 57.3, 8: 62.8, 16: 64.0}),
    *_shots("UCF-101", "ucf", {2: 76.4, 4: 83.4, 8: 88.3, 16: 91.4}),
    Released("microsoft/xclip-base-patch16-zero-shot", "B/16", _BASE16 + 24 * 512, 32, 224, "Kinetics-400",
             {"HMDB-51": 44.6, "UCF-101": 72.0, "Kinetics-600": 65.2}, "zero-shot, 1 clip, 1 crop", "zero.pth"),
    Released("microsoft/xclip-large-patch14", "L/14", _LARGE14, 8, 224, "Kinetics-400",
             {"top1": 87.1, "top5": 97.6}, _VIEWS, "k400_14_8.pth"),
    Released("microsoft/xclip-large-patch14-16-frames", "L/14", 576_007_425, 16, 336, "Kinetics-400",
             {"top1": 87.7, "top5": 97.4}, _VIEWS, "k400_14_16_336.pth"),
    Released("microsoft/xclip-large-patch14-kinetics-600", "L/14", _LARGE14, 8, 224, "Kinetics-600",
             {"top1": 88.3, "top5": 97.7}, _VIEWS, "k600_14_8.pth"),
)  # fmt: skip


def released_as(name: str) -> Released | None:
    """Return the released checkpoint of that name, which is a hub id or the name of the authors' file."""
    return next((model for model in RELEASED if name and name in (model.name, model.authors_file)), None)


def config_of_released(model: Released) -> XCLIPConfig:
    """Return the configuration of a released checkpoint. No file is read, except for mini.

    MIT and prompts of the large models have the heads of the authors' code (see `XCLIPConfig.has_converters_heads`).
    """
    if model.name == "mini":
        return XCLIPConfig.from_pretrained(model.name)
    letter, _, patch = model.architecture.partition("/")
    width, layers, joint = _TOWERS[letter]
    text = {"hidden_size": joint, "intermediate_size": 4 * joint, "num_attention_heads": joint // HEAD_WIDTH}
    vision = {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // HEAD_WIDTH,
        "image_size": model.resolution,
        "patch_size": int(patch),
    }
    config = {"text_config": text, "vision_config": vision, "projection_dim": joint}
    add_video_parts(config, num_frames=model.frames)
    return XCLIPConfig.from_dict(config)
