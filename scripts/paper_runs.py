"""Train the image–text CLIP of paper.py, and train and evaluate one run of a method.

Both write their file atomically at the end. After an interruption, the training of CLIP resumes and a run starts again.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mini_model import pixels
from mini_stages import Probes, stills_loss
from paper_methods import logits, prepare, text_features
from paper_world import (
    ALONE,
    CLASSES,
    CLUTTERED,
    EVERY_THING,
    QUESTIONS,
    RENDERED,
    SIZE,
    USUAL,
    WIDTH,
    cut,
    exchanged,
    fresh_model,
    render,
    reverse_of,
    words,
)
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from openxclip.common.files import atomic_file
from openxclip.model import XCLIPModel
from openxclip.playground.captions import Scene
from openxclip.training.optimisation import Schedule, Towers, is_fresh, make_optimizer, parameter_groups, set_trainable
from openxclip.video import sample_clips

CLIP_STEPS, CLIP_BATCH, CLIP_LR = 1500, 128, 1e-3
BATCH, LR, FRESH_FACTOR, WEIGHT_DECAY, SMOOTHING = 32, 3e-4, 10.0, 0.05, 0.1
SHOTS, STEPS = 48, 300
FEW = (2, 4, 8, 16)
POSITIONS = 1.0  # standard deviation of MIT's positions at the start
SAVED_EVERY_S = 60.0
VIEWS = tuple(product((1, 2, 4), (1, 3)))  # clips, crops


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        method: name of the method, see paper_methods.
        seed: seed of the fresh weights, the training clips and their order.
        shots: training clips per class.
        steps: steps of BATCH clips.
        towers: CLIP's towers that are trained. The paper trains the visual one, but here the text tower doesn't know
            the verbs yet.
        frames: frames per clip.
        positions: initial standard deviation of MIT's positions; the released code has 0.02.
    """

    method: str
    seed: int
    shots: int = SHOTS
    steps: int = STEPS
    towers: Towers = "both"
    frames: int = 8
    positions: float = POSITIONS

    @property
    def name(self) -> str:
        """Name of the run's file, without the suffix."""
        usual = Run(self.method, self.seed, self.shots)
        parts = [self.method, f"{self.shots}-shot"]
        parts += [f"{key}-{value}" for key, value in asdict(self).items() if value != getattr(usual, key)]
        return "_".join([*parts, f"seed-{self.seed}"])


# -- the image–text CLIP ---------------------------------------------------------------------------------------------


def train_clip(folder: Path) -> Path:
    """Train CLIP on single frames: names, places, sizes and angles of things. Resume if the folder has a state.

    Returns:
        The file with the weights.
    """
    done, unfinished = folder / "clip.pt", folder / "clip_unfinished.pt"
    if done.exists():
        return done
    torch.manual_seed(0)
    model, probes = fresh_model(num_frames=1), Probes(width=WIDTH, names=len(EVERY_THING))
    nn.init.normal_(model.vision_model.embeddings.position_embedding.weight, std=0.2)  # helps to learn places
    learner = nn.ModuleDict({"model": model, "probes": probes})
    optimizer = torch.optim.AdamW(learner.parameters(), betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY, fused=True)
    first, saved, began = 0, time.monotonic(), time.monotonic()
    if unfinished.exists():
        state = torch.load(unfinished)
        learner.load_state_dict(state["learner"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    for step in range(first, CLIP_STEPS):
        for group in optimizer.param_groups:
            cosine = 0.03 + 0.97 * (0.5 + 0.5 * math.cos(math.pi * step / CLIP_STEPS))
            group["lr"] = CLIP_LR * min(1.0, (step + 1) / 100) * cosine
        hard = USUAL * min(1.0, max(0.0, (step / CLIP_STEPS - 0.1) / 0.4))  # begins with plain scenes
        with sdpa_kernel(SDPBackend.MATH):
            losses = stills_loss(model, probes, words(), CLIP_BATCH, step, step, hard=hard, among=EVERY_THING)
            optimizer.zero_grad()
            sum(weight * loss for loss, weight, _ in losses.values()).backward()
        nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=math.log(100))
        if (step + 1) % 100 == 0:
            right = "  ".join(f"{name} {share:.2f}" for name, (_, _, share) in losses.items())
            print(f"CLIP {step + 1}/{CLIP_STEPS}  {right}  {time.monotonic() - began:.0f} s", flush=True)
        if time.monotonic() - saved > SAVED_EVERY_S:
            state = {"learner": learner.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}
            _save(state, unfinished)
            saved = time.monotonic()
    _save(model.state_dict(), done)
    unfinished.unlink(missing_ok=True)
    return done


def _save(state: Any, path: Path) -> None:
    with atomic_file(path) as partial:
        torch.save(state, partial)


# -- one run ---------------------------------------------------------------------------------------------------------


def do(run: Run, folder: Path) -> dict[str, Any]:
    """Train and evaluate a run, and write its result; or read the result if the run is finished.

    Args:
        run: the run.
        folder: folder with clip.pt, and for the result.
    """
    path = folder / f"{run.name}.json"
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    began = time.monotonic()
    model = start(run, folder / "clip.pt")
    with sdpa_kernel(SDPBackend.MATH):  # faster on a CPU for these lengths
        losses = train(run, model)
        trained = time.monotonic()
        answers = {name: ask(run, model, name) for name in QUESTIONS}
        if run == Run("x-clip", run.seed):
            answers |= {f"views {clips}x{crops}": _views(run, model, clips, crops) for clips, crops in VIEWS}
    result = {
        "run": asdict(run), "answers": answers, "loss": sum(losses[-20:]) / len(losses[-20:]),
        "train_seconds": round(trained - began, 1), "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip
    with atomic_file(path) as partial:
        partial.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


def start(run: Run, clip: Path) -> XCLIPModel:
    """Return the model before its training: CLIP's towers, and fresh other parts."""
    torch.manual_seed(1000 + run.seed)
    model = fresh_model(num_frames=run.frames)
    prepare(model, run.method)
    nn.init.normal_(model.mit.position_embedding, std=run.positions)
    towers = {name: value for name, value in torch.load(clip).items() if not is_fresh(name)}
    missing = model.load_state_dict(towers, strict=False)
    assert all(map(is_fresh, missing.missing_keys))
    assert not missing.unexpected_keys
    return model


@lru_cache(maxsize=1)
def _training_clips(seed: int, shots: int, frames: int) -> Tensor:
    """Render the training clips, uint8 (classes · shots, T, 3, H, W), sorted by class."""
    shown = [scene for scene in CLASSES for _ in range(shots)]
    return render(shown, 100 + seed, num_frames=frames, hard=USUAL)


def train(run: Run, model: XCLIPModel) -> list[float]:
    """Train the model in place, with the parameter groups and the schedule of recipes; return the loss of each step.

    Each step takes the next BATCH clips of a random order, and crops each at random.
    """
    clips = _training_clips(run.seed, run.shots, run.frames)
    labels = torch.arange(len(CLASSES)).repeat_interleave(run.shots)
    ids = words().ids([scene.caption for scene in CLASSES])
    set_trainable(model, towers=run.towers, loss="classes")
    groups = parameter_groups(model, lr=LR, fresh_factor=FRESH_FACTOR, weight_decay=WEIGHT_DECAY)
    optimizer = make_optimizer(model, groups, betas=(0.9, 0.98), eps=1e-8)
    schedule = Schedule(total=run.steps, warmup=run.steps // 10, minimum=LR / 100)
    learns_text = run.towers in ("both", "text") or run.method == "vectors"
    draw = torch.Generator().manual_seed(run.seed)
    model.train()
    losses, queue, text = [], torch.empty(0, dtype=torch.long), None
    for step in range(run.steps):
        schedule.apply(optimizer, step)
        while len(queue) < BATCH:
            queue = torch.cat([queue, torch.randperm(len(clips), generator=draw)])
        chosen, queue = queue[:BATCH], queue[BATCH:]
        corners = torch.randint(0, RENDERED - SIZE + 1, (BATCH, 2), generator=draw).tolist()
        frames = torch.stack([cut(clips[i], *corner) for i, corner in zip(chosen.tolist(), corners, strict=True)])
        if text is None or learns_text:
            with torch.set_grad_enabled(learns_text):
                text = text_features(model, run.method, ids)
        targets = F.one_hot(labels[chosen], len(CLASSES)) * (1 - SMOOTHING) + SMOOTHING / len(CLASSES)
        scores = logits(model, run.method, pixels(frames), text)
        loss = F.cross_entropy(scores, targets, reduction="sum") / BATCH
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    return losses


# -- evaluation ------------------------------------------------------------------------------------------------------


@cache
def _test_clips(name: str, frames: int) -> Tensor:
    question = QUESTIONS[name]
    return render(question.shown, 10 + question.seed, num_frames=frames, hard=question.hard)


@torch.inference_mode()
def ask(run: Run, model: XCLIPModel, name: str) -> dict[str, float]:
    """Return shares of right answers to a question.

    Returns:
        "top-1" of the classes; "thing", which is right if the chosen class is about the right thing; "order" and
        "roles", the choice between the caption and its rival (the reverse action or exchanged roles), for clips that
        have one.
    """
    question = QUESTIONS[name]
    text_KE = text_features(model, run.method, words().ids([scene.caption for scene in question.classes]))
    clips = cut(_test_clips(name, run.frames))
    scores = torch.cat([logits(model, run.method, pixels(part), text_KE) for part in clips.split(64)])
    row = {scene: number for number, scene in enumerate(question.classes)}
    first = scores.argmax(1).tolist()
    own = [row[scene] for scene in question.shown]
    things = [scene.thing for scene in question.classes]
    answers = {
        "top-1": _share([a == b for a, b in zip(first, own, strict=True)]),
        "thing": _share([things[a] == things[b] for a, b in zip(first, own, strict=True)]),
    }
    rivals = {
        "order": [reverse_of(scene) for scene in question.shown],
        "roles": [exchanged(scene) if scene.other else scene for scene in question.shown],
    }
    for kind, others in rivals.items():
        leads = [
            (scores[i, own[i]] - scores[i, row[other]]).item()
            for i, (scene, other) in enumerate(zip(question.shown, others, strict=True))
            if other != scene and other in row
        ]
        if leads:
            answers[kind] = sum((lead > 0) + 0.5 * (lead == 0) for lead in leads) / len(leads)
    return answers


@cache
def _long_clips() -> tuple[tuple[Scene, ...], Tensor]:
    """Return scenes and videos of 32 frames, which are long enough for several clips."""
    shown = ALONE * 3
    return shown, render(shown, 20, num_frames=32, hard=CLUTTERED)


@torch.inference_mode()
def _views(run: Run, model: XCLIPModel, clips: int, crops: int) -> dict[str, float]:
    """Return the top-1 accuracy of probabilities averaged over clips and crops, as the paper tests."""
    shown, videos = _long_clips()
    text_KE = text_features(model, run.method, words().ids([scene.caption for scene in CLASSES]))
    edges = (0, (RENDERED - SIZE) // 2, RENDERED - SIZE) if crops == 3 else ((RENDERED - SIZE) // 2,)
    total = torch.zeros(len(shown), len(CLASSES))
    for indices in sample_clips(total=videos.shape[1], num_frames=run.frames, num_clips=clips):
        for left in edges:
            views = cut(videos[:, indices], left)
            parts = [logits(model, run.method, pixels(part), text_KE).softmax(-1) for part in views.split(64)]
            total += torch.cat(parts)
    right = total.argmax(1) == torch.tensor([CLASSES.index(scene) for scene in shown])
    return {"top-1": _share(right.tolist())}


def _share(right: list[bool]) -> float:
    return sum(right) / len(right)
