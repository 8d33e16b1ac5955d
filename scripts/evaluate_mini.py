"""Export and evaluate `mini` after train_mini.py, and write its model card and samples.

python scripts/evaluate_mini.py FOLDER [--bag FOLDER] --scratch runs/evaluation   # evaluate, write FOLDER's README.md
python scripts/evaluate_mini.py FOLDER --samples samples                          # render samples/ and classify them
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from openxclip.config import XCLIPConfig
from openxclip.model import XCLIPModel
from openxclip.playground import ACTION_NAMES, ACTIONS, SEEN_THINGS, caption, export_clip, render_clips
from openxclip.playground.captions import Scene
from openxclip.playground.questions import Scorer, ask, questions, render_scenes
from openxclip.processing import VideoProcessor, XCLIPProcessor
from openxclip.recognition.background import BACKGROUND_TEXTS

VOCABULARY = 49408
SEEDS = (901, 902, 903)  # multiplied by 1,000,003 they exceed 5 × 10^8; the seeds of the training are lower
SAMPLES = (  # scene and seed of each sample, chosen by eye
    (Scene("cat", "moves left"), 1), (Scene("rocket", "leaves"), 4), (Scene("owl", "vanishes"), 3),
    (Scene("fox", "chases", "chick"), 3), (Scene("eagle", "picks up", "snake"), 4),
    (Scene("mouse", "hides behind", "elephant"), 6),
)  # fmt: skip
DOES = [f"something {caption(None, a)}" for a in range(len(ACTIONS))]
NAMES = [caption(t, template="{a}") for t in range(len(SEEN_THINGS))]


def export(model: XCLIPModel, used: list[int], folder: Path, image_size: int) -> None:
    """Write the trained model as a folder with CLIP's full vocabulary, in half precision.

    Embeddings of tokens that are in no sentence of the playground are small random numbers.

    Args:
        model: model from train_mini.py.
        used: ids of the tokens that it has embeddings of.
        folder: folder to write.
        image_size: side of the frames in pixels.
    """
    values = model.config.to_dict()
    values["text_config"] = {**values["text_config"], "vocab_size": VOCABULARY, "eos_token_id": 49407}
    full = XCLIPModel(XCLIPConfig.from_dict(values))
    state = model.state_dict()
    name = "text_model.embeddings.token_embedding.weight"
    table = torch.randn(VOCABULARY, state[name].shape[1], generator=torch.Generator().manual_seed(0)) * 0.02
    table[used] = state[name]
    full.load_state_dict({**state, name: table})
    full.half().save_pretrained(folder)
    VideoProcessor(size=image_size, crop_size=image_size).save_pretrained(folder)


class Asked:
    """Score clips with the model of a folder; a `questions.Scorer`.

    Args:
        folder: folder of the model.
        bag: score the mean of the frames, without messages, as mini-bag was trained.
    """

    def __init__(self, folder: Path, *, bag: bool = False) -> None:
        self.model = XCLIPModel.from_pretrained(folder).eval()
        self.processor = XCLIPProcessor.from_pretrained(folder)
        self.bag = bag
        self._texts: dict[tuple[str, ...], Tensor] = {}

    @torch.inference_mode()
    def __call__(self, frames_BTCHW: Tensor | list[str], sentences: list[str]) -> Tensor:
        """Return logits (B, K), with prompts unless `bag`.

        Args:
            frames_BTCHW: frames, uint8, or paths of videos.
            sentences: K sentences.
        """
        model, key = self.model, tuple(sentences)
        if key not in self._texts:
            self._texts[key] = model.get_text_features(
                **self.processor(text=sentences, padding=True, return_tensors="pt")
            )
        text_KE = self._texts[key]
        pixels = self.processor(videos=list(frames_BTCHW), return_tensors="pt")["pixel_values"]
        if self.bag:
            pooled_ND = model.vision_model(pixels.flatten(0, 1), num_frames=1).pooler_output
            video_BE = model.visual_projection(pooled_ND).unflatten(0, pixels.shape[:2]).mean(1)
            return model.logit_scale.exp() * F.normalize(video_BE, dim=-1) @ F.normalize(text_KE, dim=-1).T
        return model(text_features=text_KE, video_features=model.encode_video(pixels)).logits_per_video


def evaluate(score: Scorer) -> dict[str, tuple[float, float]]:
    """Return mean and standard deviation of each question's share over the seeds, and print them."""
    rounds = [ask(score, seed) for seed in SEEDS]
    result = {q: (mean(r[q] for r in rounds), stdev(r[q] for r in rounds)) for q in rounds[0]}
    for question, (average, spread) in result.items():
        print(f"{question:60} {100 * average:5.1f} ± {100 * spread:.1f} %", flush=True)
    return result


def none_of_these(score: Scorer, seed: int) -> dict[str, float]:
    """Return how often the neutral texts win if no caption is right, and lose if one is."""
    lists = questions()["captions"]
    clips, captions = render_scenes(lists, seed), [shown.caption for shown in lists]
    logits = score(clips, [*BACKGROUND_TEXTS, *captions])
    neutral, own = logits[:, : len(BACKGROUND_TEXTS)].amax(1), logits[:, len(BACKGROUND_TEXTS) :]
    same = torch.tensor([[a.thing == b.thing or a.action == b.action for b in lists] for a in lists])
    wrong = own.masked_fill(same, -torch.inf)
    ten = torch.stack([wrong[:, i : i + 10].amax(1) for i in range(0, 190, 10)])
    empty = score(render_clips(50, seed, size=128, empty=1.0).frames, [*BACKGROUND_TEXTS, *captions])
    return {
        "right caption beats ten wrong ones and the neutral texts": float(
            ((own.diag() > ten) & (own.diag() > neutral)).float().mean()
        ),
        "neutral texts beat ten wrong captions": float((neutral > ten).float().mean()),
        "neutral texts beat 200 captions on an empty scene": float(
            (empty[:, : len(BACKGROUND_TEXTS)].amax(1) > empty[:, len(BACKGROUND_TEXTS) :].amax(1)).float().mean()
        ),
    }


def through_mp4(score: Asked, scratch: Path, clips: int = 93) -> dict[str, float]:
    """Return accuracies on mp4 files of 48 frames of 256 pixels, read as any video file."""
    scratch.mkdir(parents=True, exist_ok=True)
    right: dict[str, list[float]] = {"thing": [], "action": []}
    per_action, scenes = clips // len(ACTIONS), questions()["seen_pairs"]  # the list has 12 scenes of each action
    shown = [scene for a in range(len(ACTIONS)) for scene in scenes[12 * a :][:per_action]]
    for number, scene in enumerate(shown):
        thing, action, other = (torch.tensor([i]) for i in scene.indices())
        drawn = render_clips(
            1, 905_000_000 + number, size=256, num_frames=48, things=thing, actions=action, others=other, empty=0
        )
        path = export_clip(drawn.frames[0], scratch / f"{number}.mp4")
        logits = score([str(path)], [*DOES, *NAMES])[0]
        right["action"].append(float(logits[: len(DOES)].argmax() == action))
        if not scene.other:
            right["thing"].append(float(logits[len(DOES) :].argmax() == thing))
    return {"clips": len(shown), **{question: mean(values) for question, values in right.items()}}


def confusions(score: Scorer, target: Path, seeds: tuple[int, ...] = (911, 912, 913)) -> dict[str, Any]:
    """Draw the confusion matrix of the actions, and return the most common confusions of actions and of things."""
    counts = torch.zeros(len(ACTIONS), len(ACTIONS))
    named: dict[str, list[float]] = {name: [] for name in SEEN_THINGS}
    wrong: dict[str, dict[str, int]] = {name: {} for name in SEEN_THINGS}
    for seed in seeds:
        lists = questions()["seen_pairs"]
        clips = render_scenes(lists, seed * 1_000_003)
        logits = score(clips, [*DOES, *NAMES])
        for row, scene in zip(logits, lists, strict=True):
            counts[scene.indices()[1], row[: len(DOES)].argmax()] += 1
        things = torch.arange(len(SEEN_THINGS))  # all stay still, so that the action makes no difference
        still = torch.full_like(things, ACTION_NAMES.index("stays still"))
        frames = render_clips(len(things), seed, size=128, things=things, actions=still, empty=0).frames
        for name, guess in zip(SEEN_THINGS, score(frames, NAMES).argmax(1).tolist(), strict=True):
            named[name].append(float(SEEN_THINGS[guess] == name))
            if SEEN_THINGS[guess] != name:
                wrong[name][SEEN_THINGS[guess]] = wrong[name].get(SEEN_THINGS[guess], 0) + 1
    draw_matrix(counts / counts.sum(1, keepdim=True), target)
    off = (counts / counts.sum(1, keepdim=True)).fill_diagonal_(0)
    worst = [(i // len(ACTIONS), i % len(ACTIONS)) for i in off.flatten().topk(10).indices.tolist()]
    things = sorted(SEEN_THINGS, key=lambda name: mean(named[name]))[:12]
    return {
        "taken for": [f"{ACTION_NAMES[a]} for {ACTION_NAMES[b]} ({100 * off[a, b]:.0f} %)" for a, b in worst],
        "things": [f"{n} ({', '.join(wrong[n])})" for n in things if wrong[n]],
    }


def draw_matrix(shares: Tensor, target: Path, cell: int = 14) -> None:
    """Draw a confusion matrix: a row for each shown action, a column for each answer, darker for larger shares."""
    margin, n = 150, len(ACTIONS)
    image = Image.new("RGB", (margin + n * cell + 4, margin + n * cell + 4), "white")
    pen = ImageDraw.Draw(image)
    for i, name in enumerate(ACTION_NAMES):
        pen.text((margin - 6, margin + i * cell + cell // 2), name, fill="black", anchor="rm")
        label = Image.new("RGB", (margin - 8, cell), "white")
        ImageDraw.Draw(label).text((0, cell // 2), name, fill="black", anchor="lm")
        image.paste(label.rotate(90, expand=True), (margin + i * cell, 2))
        for j in range(n):
            share = float(shares[i, j])
            colour = tuple(round(255 * (1 - share * part)) for part in (0.95, 0.75, 0.35))
            x, y = margin + j * cell, margin + i * cell
            pen.rectangle((x, y, x + cell - 1, y + cell - 1), fill=colour, outline=(225, 225, 225))
    image.save(target, optimize=True)


def write_samples(score: Asked, target: Path) -> None:
    """Render the samples, and print which caption scores highest among those of the same things with all actions."""
    target.mkdir(exist_ok=True)
    for shown, seed in SAMPLES:
        thing, action, other = (torch.tensor([i]) for i in shown.indices())
        clip = render_clips(
            1, seed, size=256, num_frames=48, things=thing, actions=action, others=other, empty=0, hard=0.3
        )
        path = export_clip(clip.frames[0], target / f"{shown.caption.partition(' ')[2]}.mp4".replace(" ", "_"))
        others = {a.name: (shown.other or "dog") if a.has_other else "" for a in ACTIONS}
        labels = [Scene(shown.thing, action, other).caption for action, other in others.items()]
        labels += [Scene(shown.other, shown.action, shown.thing).caption] if shown.other else []
        chances = score([str(path)], labels).softmax(-1)[0]
        best = labels[int(chances.argmax())]
        print(f"{path.name:40} {'right' if best == shown.caption else 'WRONG'}: {best} {chances.max():.2f}")


CARD = (Path(__file__).parent / "mini_card.md").read_text(encoding="utf-8")
BAG = """ *mini-bag* is the comparison. It was
trained on the same clips in the same stages, except the one with prompts. Its frames don't exchange messages and their
features are averaged, so it can't know their order."""
CHANCE = {
    "action": 1 / len(ACTIONS), "thing": 1 / len(SEEN_THINGS), "order": 0.5, "who": 0.5,
    "caption R@1": 1 / 200, "caption R@5": 5 / 200,
}  # fmt: skip


def write_card(result: dict[str, Any], folder: Path) -> None:
    """Write the model folder's README.md with the results."""
    model = XCLIPModel.from_pretrained(folder)
    asked, bag = result["mini"], result.get("bag", {})

    def percent(pair: tuple[float, float]) -> str:
        return f"{100 * pair[0]:.1f} ± {100 * pair[1]:.1f} %"

    def table(lines: list[list[str]]) -> str:
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    names = ["mini", *(["mini-bag"] if bag else [])]
    rows = [["question", "chance", *names], ["---"] * (2 + len(names))]
    actions = [[f"action, among {len(ACTIONS)}, seen pairs", *names], ["---"] * (1 + len(names))]
    for question, pair in asked.items():
        shares = [percent(pair), *([percent(bag[question])] if bag else [])]
        if question.startswith("action: "):
            actions.append([question[8:], *shares])
        else:
            chance = next(value for start, value in CHANCE.items() if question.startswith(start))
            rows.append([question, f"{100 * chance:.2g} %", *shares])
    for question, share in result["none of these"].items():
        rows.append([question, "", f"{100 * share:.1f} %", *[""] * (len(names) - 1)])
    mp4 = result["mp4"]
    text = CARD.format(
        parameters=sum(p.numel() for p in model.parameters()) / 1e6,
        size=model.config.vision_config.image_size,
        things=len(SEEN_THINGS),
        actions=len(ACTIONS),
        thing_list=", ".join(SEEN_THINGS),
        action_list=", ".join(ACTION_NAMES),
        bag=BAG if bag else "",
        table=table(rows),
        action_table=table(actions),
        mp4_clips=mp4["clips"],
        mp4_thing=100 * mp4["thing"],
        mp4_action=100 * mp4["action"],
        taken_for="; ".join(result["confusions"]["taken for"]),
        worst_things="; ".join(result["confusions"]["things"]),
    )
    (folder / "README.md").write_text(text, encoding="utf-8")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--bag", type=Path, help="folder of mini-bag, to evaluate as well")
    parser.add_argument("--scratch", type=Path, default=Path("runs/evaluation"))
    parser.add_argument("--samples", type=Path, help="only render samples into this folder")
    arguments = parser.parse_args()
    score = Asked(arguments.folder)
    if arguments.samples:
        write_samples(score, arguments.samples)
        return
    result: dict[str, Any] = {"mini": evaluate(score)}
    if arguments.bag:
        result["bag"] = evaluate(Asked(arguments.bag, bag=True))
    result["none of these"] = none_of_these(score, 904_000_000)
    result["mp4"] = through_mp4(score, arguments.scratch / "mp4")
    result["confusions"] = confusions(score, arguments.folder / "confusion.png")
    print(json.dumps({key: result[key] for key in ("none of these", "mp4", "confusions")}, indent=1))
    (arguments.scratch / "evaluation.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    write_card(result, arguments.folder)


if __name__ == "__main__":
    main()
