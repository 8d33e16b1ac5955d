"""Export, questions and samples of `mini`: what train_mini.py does after training. Used through its flags."""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from torch import Tensor

from openxclip.config import XCLIPConfig
from openxclip.model import XCLIPModel
from openxclip.playground import ACTION_NAMES, ACTIONS, ORDER_PAIRS, THINGS, caption, export_clip, render_clips
from openxclip.processing import VideoProcessor, XCLIPProcessor
from openxclip.recognition.background import BACKGROUND_TEXTS

VOCABULARY = 49408
SEEDS = (9_000_001, 9_000_002, 9_000_003)  # training draws its seeds below 3 × 10^7 by stage and step, never these
SAMPLES = (  # file name → thing, action, seed: worth watching
    ("cat", "moves left", 1), ("rocket", "moves up", 4), ("balloon", "grows", 2), ("owl", "vanishes", 3),
    ("monkey", "goes in circles", 5), ("frog", "bounces", 6),
)  # fmt: skip


def export(model: XCLIPModel, used: list[int], folder: Path, image_size: int) -> None:
    """Write the trained model as a folder with CLIP's full vocabulary, in half precision.

    Rows of tokens that no sentence of the playground has are small random numbers: nobody taught them anything.
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


@torch.inference_mode()
def score(model: XCLIPModel, pixels: Tensor, text_KE: Tensor, batch: int = 32) -> Tensor:
    """Logits (B, K) of the real forward, prompts included."""
    parts = [
        model(text_features=text_KE, video_features=model.encode_video(part)).logits_per_video
        for part in pixels.split(batch)
    ]
    return torch.cat(parts)


def ask(model: XCLIPModel, processor: XCLIPProcessor, seed: int, clips: int, size: int = 128) -> dict[str, float]:
    """Accuracy of each question on `clips` fresh clips (and a tenth as many empty ones)."""
    shown = render_clips(clips, seed, size=size, empty=0.0)
    empty = render_clips(clips // 10, seed + 50, size=size, empty=1.0)

    def encode(sentences: list[str]) -> Tensor:
        with torch.inference_mode():
            return model.get_text_features(**processor(text=sentences, padding=True, return_tensors="pt"))

    def see(frames: Tensor) -> Tensor:
        return processor(videos=list(frames), return_tensors="pt")["pixel_values"]

    names = [caption(t, template="{a}") for t in range(len(THINGS))]
    doings = [caption(None, a, template="something {does}") for a in range(len(ACTIONS))]
    captions = [caption(t, a) for t in range(len(THINGS)) for a in range(len(ACTIONS))]
    neutral = list(BACKGROUND_TEXTS)
    text_KE = encode([*neutral, *names, *doings, *captions])
    B, n, t, a = torch.arange(clips), len(neutral), len(THINGS), len(ACTIONS)
    things_B, actions_B = shown.things, shown.actions
    pixels = see(shown.frames)
    logits = score(model, pixels, text_KE[: n + t + a])
    full = score(model, pixels, text_KE[n + t + a :], batch=8)
    nothing, name, doing = logits[:, :n], logits[:, n : n + t], logits[:, n + t :]
    answers = {
        "thing": name.argmax(1) == things_B,
        "action": doing.argmax(1) == actions_B,
        "caption R@1": full.argmax(1) == things_B * a + actions_B,
        "caption R@5": (full.topk(5, dim=1).indices == (things_B * a + actions_B)[:, None]).any(1),
    }
    reverse = torch.tensor([ACTION_NAMES.index(action.reverse) for action in ACTIONS])[actions_B]
    paired = reverse != actions_B
    two_way = full[B, things_B * a + actions_B] > full[B, things_B * a + reverse]
    answers["order pairs"] = two_way[paired]
    for first, second in ORDER_PAIRS:
        chosen = (actions_B == ACTION_NAMES.index(first)) | (actions_B == ACTION_NAMES.index(second))
        answers[f"order: {first} / {second}"] = two_way[chosen]
    # "None of these": a neutral text wins over ten captions, where one of them is right and where none is.
    ten = torch.stack([torch.randperm(t * a, generator=torch.Generator().manual_seed(i))[:10] for i in range(clips)])
    wrong = torch.where((ten // a == things_B[:, None]) | (ten % a == actions_B[:, None]), -1, ten)
    best_wrong = full.gather(1, wrong.clamp(min=0)).masked_fill(wrong < 0, -math.inf).amax(1)
    truth = full[B, things_B * a + actions_B]
    answers["right caption beats ten wrong ones and the neutral texts"] = (truth > best_wrong) & (
        truth > nothing.amax(1)
    )
    answers["neutral texts beat ten wrong captions"] = nothing.amax(1) > best_wrong
    bare = score(model, see(empty.frames), text_KE[: n + t + a])
    answers["neutral texts win on an empty scene"] = bare[:, :n].amax(1) > bare[:, n:].amax(1)
    for index, action in enumerate(ACTIONS):
        answers[f"action: {action.name}"] = (doing.argmax(1) == actions_B)[actions_B == index]
    return {question: right.float().mean().item() for question, right in answers.items()}


def evaluate(folder: Path, clips: int = 500) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation of every question over the seeds, printed and written to evaluation.json."""
    model, processor = load(folder)
    rounds = [ask(model, processor, seed, clips) for seed in SEEDS]
    result = {q: (mean(r[q] for r in rounds), stdev(r[q] for r in rounds)) for q in rounds[0]}
    for question, (average, spread) in result.items():
        print(f"{question:60} {100 * average:5.1f} ± {100 * spread:.1f} %")
    return result


def load(folder: Path) -> tuple[XCLIPModel, XCLIPProcessor]:
    """The exported model in float32, and its processor."""
    return XCLIPModel.from_pretrained(folder).eval(), XCLIPProcessor.from_pretrained(folder)


def through_mp4(folder: Path, scratch: Path, clips: int = 72) -> dict[str, float]:
    """Accuracies after H.264: files of 48 frames of 256 pixels, decoded and sampled as users' files are."""
    model, processor = load(folder)
    scratch.mkdir(parents=True, exist_ok=True)
    actions = torch.arange(clips) % len(ACTIONS)
    right: dict[str, list[float]] = {"thing": [], "action": []}
    names = [caption(t, template="{a}") for t in range(len(THINGS))]
    doings = [caption(None, a, template="something {does}") for a in range(len(ACTIONS))]
    with torch.inference_mode():
        text_KE = model.get_text_features(**processor(text=[*names, *doings], padding=True, return_tensors="pt"))
    for start in range(0, clips, 12):
        shown = render_clips(
            12, 9_500_000 + start, size=256, num_frames=48, actions=actions[start : start + 12], empty=0
        )
        paths = [export_clip(frames, scratch / f"{start + i}.mp4") for i, frames in enumerate(shown.frames)]
        logits = score(model, processor(videos=[str(p) for p in paths], return_tensors="pt")["pixel_values"], text_KE)
        right["thing"] += (logits[:, : len(THINGS)].argmax(1) == shown.things).tolist()
        right["action"] += (logits[:, len(THINGS) :].argmax(1) == shown.actions).tolist()
    result = {question: mean(map(float, values)) for question, values in right.items()}
    print(f"through mp4, {clips} clips:", result)
    return result


def write_samples(folder: Path, target: Path) -> None:
    """Render the samples and say how mini answers, among all captions there are."""
    target.mkdir(exist_ok=True)
    model, processor = load(folder)
    labels = [caption(t, a) for t in range(len(THINGS)) for a in range(len(ACTIONS))]
    with torch.inference_mode():
        text_KE = model.get_text_features(**processor(text=labels, padding=True, return_tensors="pt"))
    for thing, action, seed in SAMPLES:
        clip = render_clips(
            1, seed, size=256, num_frames=48, empty=0.0, noise=0.01,
            things=torch.tensor([THINGS.index(thing)]), actions=torch.tensor([ACTION_NAMES.index(action)]),
        )  # fmt: skip
        path = export_clip(clip.frames[0], target / f"{thing}_{action}.mp4".replace(" ", "_"))
        chances = score(model, processor(videos=str(path), return_tensors="pt")["pixel_values"], text_KE).softmax(-1)[0]
        index, best = labels.index(caption(THINGS.index(thing), ACTION_NAMES.index(action))), int(chances.argmax())
        print(f"{path.name:32} {'right' if best == index else 'WRONG'}: {labels[best]} {chances[best]:.2f}")


CARD = """---
license: apache-2.0
library_name: openxclip
tags: [x-clip, video-classification, zero-shot]
---
# mini

A small X-CLIP ({parameters:.1f} M parameters, {size} × {size} pixels, 8 frames) that ships with openxclip, so that
everything can be tried without a download. **It knows only the rendered world of `openxclip.playground`**: one of
{things} Twemoji things on a soft coloured background, doing one of {actions} actions. On real
footage its answers mean nothing: take `microsoft/xclip-base-patch32` or another released checkpoint there.

- things: {thing_list}
- actions: {action_list}

Words that are not in the playground's sentences ("{example}" is one) were never trained.

## What was measured

{clips} clips a seed, {seeds} seeds that training did not see; mean ± standard deviation over the seeds.

| question | chance | mini |
|---|---|---|
{table}

After H.264 compression ({mp4_clips} mp4 files of 256 pixels and 48 frames, read as any video file is; one draw):
things {mp4_thing:.0f} %, actions {mp4_action:.0f} %.

| action, among {actions} | right |
|---|---|
{action_table}

## What it has not learnt

{weak}

## How it was trained

`scripts/train_mini.py`, on two CPU cores that other work shared, in an hour: {training}
(steps × batch; "order" trains MIT and the texts alone, on remembered frame features).
The counts are those of the one run that there was; it was watched and changed on its way (the first stage of clips was
planned longer, MIT's positions were made louder in it, shaking was made wider after the second), so the script as it
stands has not been run from start to end. No pretrained weights.

The graphics are Twemoji, CC-BY 4.0 (see `openxclip/playground/CREDITS.md`).
"""


def write_card(result: dict[str, Any], folder: Path, training: str) -> None:
    """README.md of the model folder, from what was measured."""
    model, _ = load(folder)
    things, actions = len(THINGS), len(ACTIONS)
    chance = {"thing": 1 / things, "action": 1 / actions, "order pairs": 0.5, "caption R@1": 1 / (things * actions)}
    chance["caption R@5"] = 5 * chance["caption R@1"]
    among = {"thing": f", among {things}", "action": f", among {actions}", "order pairs": ", all, two-way"}
    rows, action_rows = [], []
    for question, (average, spread) in result["questions"].items():
        measured = f"{100 * average:.1f} ± {100 * spread:.1f} %"
        if question.startswith("action: "):
            action_rows.append(f"| {question[8:]} | {measured} |")
        else:
            odds = chance.get(question, 0.5 if question.startswith("order: ") else None)
            where = among.get(question, f", among {things * actions}" if question.startswith("caption") else "")
            rows.append(f"| {question}{where} | {f'{100 * odds:.2g} %' if odds else ''} | {measured} |")
    weak = [
        f"- {question}: {100 * average:.0f} % right"
        + (", as good as guessing" if question.startswith("order: ") and average < 0.55 else "")
        for question, (average, _) in result["questions"].items()
        if average < (0.6 if question.startswith("order: ") else 0.75) and question.startswith(("order: ", "action: "))
    ]
    text = CARD.format(weak="\n".join(weak),
        parameters=sum(p.numel() for p in model.parameters()) / 1e6, size=model.config.vision_config.image_size,
        things=things, actions=actions, thing_list=", ".join(THINGS), action_list=", ".join(ACTION_NAMES),
        example="dancing", clips=result["clips"], seeds=len(SEEDS), table="\n".join(rows),
        action_table="\n".join(action_rows), mp4_clips=result["mp4"]["clips"], mp4_thing=100 * result["mp4"]["thing"],
        mp4_action=100 * result["mp4"]["action"], training=training,
    )  # fmt: skip
    (folder / "README.md").write_text(text)


def report(folder: Path, scratch: Path, samples: Path, training: str, clips: int = 500) -> None:
    """Ask everything, write the card and the samples; the numbers are kept as evaluation.json in `scratch`."""
    result: dict[str, Any] = {"clips": clips, "questions": evaluate(folder, clips)}
    result["mp4"] = through_mp4(folder, scratch / "mp4") | {"clips": 72}
    (scratch / "evaluation.json").write_text(json.dumps(result, indent=1) + "\n")
    write_card(result, folder, training)
    write_samples(folder, samples)
