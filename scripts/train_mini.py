"""Train the shipped model `mini` on the playground, in stages, on two CPU cores; resumable.

    python scripts/train_mini.py --run runs/mini                    # train, or go on where it stopped
    python scripts/train_mini.py --run runs/mini --export FOLDER    # src/openxclip/models/mini is the shipped one
    python scripts/train_mini.py --run runs/mini --evaluate FOLDER  # accuracies on fresh seeds; renders samples/

stills:  the two towers on single frames: what is it, where, how big, how turned, how visible?
clips:   8 frames with messages and MIT: what does it do? Order is learnt once frames say where things are.
order:   MIT and the texts alone, on frame features that are computed once: most of what is learnt of order is
         learnt here, in minutes. Turns with "clips", where the towers learn on with them.
prompts: as "clips", with the video-specific prompts, which make the scores that users get.

Every loss is a cross-entropy over a list of texts (arXiv 2208.02816, §3.1); each text is encoded once a step.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import evaluate_mini
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from openxclip.config import XCLIPConfig
from openxclip.model import XCLIPModel
from openxclip.playground import ACTION_NAMES, ACTIONS, THINGS, caption, render_clips, render_stills
from openxclip.playground.captions import (
    ACTION_TEMPLATES,
    CAPTION_TEMPLATES,
    NAME_TEMPLATES,
    PLACES,
    SIZES,
    TURNS,
    VISIBILITIES,
)
from openxclip.playground.clips import soften
from openxclip.playground.world import States
from openxclip.processing import CLIPTokenizer
from openxclip.recognition.background import BACKGROUND_TEXTS

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
SIZE, FRAMES, WIDTH, REMEMBERED = 64, 8, 192, 4096


@dataclass
class Stage:
    """Steps, how many frames or clips each sees, peak learning rates of the towers and of what is new."""

    name: str
    steps: int
    batch: int
    rate: float
    new_rate: float


STAGES = (
    Stage("stills", 750, 128, 1e-3, 1e-3),
    Stage("clips", 300, 32, 4e-4, 1e-3),
    Stage("order", 1500, 128, 1e-3, 1e-3),
    Stage("clips", 420, 32, 4e-4, 4e-4),
    Stage("order", 700, 128, 5e-4, 5e-4),
    Stage("clips", 100, 32, 2e-4, 2e-4),
    Stage("prompts", 80, 32, 1e-4, 4e-4),
)
CONFIG = {
    "projection_dim": WIDTH,
    "prompt_num_attention_heads": 3,
    "text_config": {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH,
                    "num_hidden_layers": 3, "num_attention_heads": 3,
                    "bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 49407},
    "vision_config": {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_hidden_layers": 4,
                      "num_attention_heads": 3, "mit_hidden_size": WIDTH, "mit_intermediate_size": 4 * WIDTH,
                      "mit_num_attention_heads": 3, "image_size": SIZE, "patch_size": 8, "num_frames": FRAMES},
}  # fmt: skip


class Texts:
    """Sentences to features. Only the rows of the vocabulary that the playground's sentences use are trained:
    the model in training has a table of these alone, in the order of the full one.
    """

    def __init__(self) -> None:
        tokenizer = CLIPTokenizer()
        things, actions = range(len(THINGS)), range(len(ACTIONS))
        sentences = [caption(t, 0, template=template) for t in things for template in CAPTION_TEMPLATES]
        sentences += [caption(0, a, template=template) for a in actions for template in CAPTION_TEMPLATES]
        sentences += [caption(0, 0, template=template) for template in (*NAME_TEMPLATES, *ACTION_TEMPLATES)]
        sentences += [f"something {word}" for word in (*PLACES, *SIZES, *TURNS, *VISIBILITIES)]
        used = {token for ids in tokenizer([*sentences, *BACKGROUND_TEXTS])["input_ids"] for token in ids}
        self.used = sorted(used)
        self._row = {token: row for row, token in enumerate(self.used)}
        self._tokenizer, self._known = tokenizer, {}

    def ids(self, sentences: list[str]) -> Tensor:
        """(K, L), padded with the end of text, which the causal text tower never looks ahead to."""
        for sentence in set(sentences) - self._known.keys():
            self._known[sentence] = [self._row[token] for token in self._tokenizer(sentence)["input_ids"]]
        rows = [self._known[sentence] for sentence in sentences]
        longest = max(map(len, rows))
        return torch.tensor([row + [len(self.used) - 1] * (longest - len(row)) for row in rows])


def build(used: int) -> XCLIPModel:
    """A fresh model with a table of `used` tokens."""
    config = {**CONFIG, "text_config": {**CONFIG["text_config"], "vocab_size": used}}
    model = XCLIPModel(XCLIPConfig(**config))
    with torch.no_grad():  # places are learnt from patch positions: let them be heard from the start
        nn.init.normal_(model.vision_model.embeddings.position_embedding.weight, std=0.2)
        nn.init.normal_(model.mit.position_embedding, std=0.5)  # and order: frame features have a deviation of 1.5
        nn.init.normal_(model.prompts_visual_projection, std=WIDTH**-0.5)
    return model


def pixels(frames: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """uint8 (…, 3, H, W) to what the model takes; with a generator, softened as video files are."""
    values = frames.float() / 255
    if generator is not None:
        values = soften(values, generator)
    return (values - MEAN[:, None, None]) / STD[:, None, None]


def bins(values: Tensor, low: float, high: float, number: int = 8) -> Tensor:
    """Which of `number` equal parts of [low, high] a value lies in."""
    return ((values - low) / (high - low) * number).long().clamp(0, number - 1)


def stills_loss(model: XCLIPModel, heads: nn.Linear, texts: Texts, stage: Stage, step: int, seed: int) -> dict:
    """Stage 1. Names and places together from the first step: a tower that names alone never learns where."""
    generator = torch.Generator().manual_seed(seed)
    hard = min(1.0, max(0.0, (step / stage.steps - 0.15) / 0.5))  # clean first, difficulty as it learns
    stills = render_stills(stage.batch, generator, size=SIZE, hard=hard)
    pooled_BD = model.vision_model(pixels(stills.frames[:, None], generator).flatten(0, 1), num_frames=1).pooler_output
    image_BE = F.normalize(model.visual_projection(pooled_BD), dim=-1)
    template = NAME_TEMPLATES[step % len(NAME_TEMPLATES)]
    lists = {
        "name": ([caption(t, template=template) for t in range(len(THINGS))], stills.things, 1.0),
        "place": ([f"something {word}" for word in PLACES], torch.tensor(stills.words["place"]), 0.5),
        "size": ([f"something {word}" for word in SIZES], torch.tensor(stills.words["size"]), 0.3),
        "turn": ([f"something {word}" for word in TURNS], torch.tensor(stills.words["turn"]), 0.3),
        "visible": ([f"something {word}" for word in VISIBILITIES], torch.tensor(stills.words["visibility"]), 0.2),
    }
    everything = [sentence for sentences, _, _ in lists.values() for sentence in sentences]
    text_KE = F.normalize(model.get_text_features(texts.ids(everything)), dim=-1)
    logits_BK = (model.logit_scale.exp() * image_BE @ text_KE.T).float()
    losses, start = {}, 0
    for name, (sentences, target_B, weight) in lists.items():
        part = logits_BK[:, start : start + len(sentences)]
        start += len(sentences)
        losses[name] = (F.cross_entropy(part, target_B), weight, (part.argmax(-1) == target_B).float().mean())
    return losses | state_losses(heads(pooled_BD), stills.states)


def state_losses(guesses_N: Tensor, states: States) -> dict:
    """Finer than words can say: read from each frame's class token by linear heads that are thrown away afterwards."""
    losses = {}
    for name, part, target_N in (
        ("x", guesses_N[:, :8], bins(states.x.flatten(), -0.8, 0.8)),
        ("y", guesses_N[:, 8:16], bins(states.y.flatten(), -0.8, 0.8)),
        ("angle", guesses_N[:, 16:24], bins((states.angle.flatten() + math.pi / 8) % (2 * math.pi), 0, 2 * math.pi)),
        ("scale", guesses_N[:, 24:], bins(states.size.flatten(), 0.22, 0.7)),
    ):
        weight = 0.6 if name in "xy" else 0.3
        losses[name] = (F.cross_entropy(part.float(), target_N), weight, (part.argmax(-1) == target_N).float().mean())
    return losses


class Memory:
    """Frame features of clips, computed once: MIT learns order from them a hundred times faster than from pixels."""

    def __init__(self, model: XCLIPModel, block: int = 32) -> None:
        features, things, actions = [], [], []
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            for number in range(REMEMBERED // block):
                shown = render_clips(block, 4 * 10**7 + number, size=SIZE, num_frames=FRAMES)
                features.append(frame_features(model, pixels(shown.frames))[0].float())
                things.append(shown.things)
                actions.append(shown.actions)
        self.features_NTE, self.things_N, self.actions_N = map(torch.cat, (features, things, actions))
        self.features_NTE = self.features_NTE.clone()  # out of inference mode
        self._reverse = torch.tensor([ACTION_NAMES.index(action.reverse) for action in ACTIONS] + [-1])  # [-1]: empty

    def draw(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Features (B, T, E), things and actions of some clips, every other one played backwards."""
        chosen_B = torch.randint(0, len(self.things_N), (batch,), generator=generator)
        back_B = torch.rand(batch, generator=generator) < 0.5
        features, actions = self.features_NTE[chosen_B], self.actions_N[chosen_B]
        features = torch.where(back_B[:, None, None], features.flip(1), features)
        return features, self.things_N[chosen_B], torch.where(back_B, self._reverse[actions], actions)


def frame_features(model: XCLIPModel, video_BTCHW: Tensor) -> tuple[Tensor, Tensor]:
    """What MIT takes, (B, T, E), and the class tokens that it comes from, (B * T, D)."""
    batch, frames = video_BTCHW.shape[:2]
    pooled_ND = model.vision_model(video_BTCHW.flatten(0, 1), num_frames=frames).pooler_output
    return model.visual_projection(pooled_ND).unflatten(0, (batch, frames)), pooled_ND


def clips_loss(
    model: XCLIPModel, heads: nn.Linear, texts: Texts, stage: Stage, step: int, seed: int, memory: Memory | None = None
) -> dict:
    """Video stages: actions alone, names alone, and captions beside hard negatives; and neutral texts that win
    where nothing else is right, so that "none of these" means something.
    """
    generator, dice = torch.Generator().manual_seed(seed), random.Random(seed)
    if memory is not None:
        frames_BTE, things_B, actions_B = memory.draw(stage.batch, generator)
    else:
        clips = render_clips(stage.batch, generator, size=SIZE, num_frames=FRAMES)
        things_B, actions_B = clips.things, clips.actions
        video = pixels(clips.frames, generator)
    things, actions = things_B.tolist(), actions_B.tolist()
    template = dice.choice(CAPTION_TEMPLATES)
    captions = [caption(t, a, template=template) if t >= 0 else "" for t, a in zip(things, actions, strict=True)]
    listed = {sentence for sentence in captions if sentence}
    for t, a in zip(things, actions, strict=True):
        if t >= 0:
            reverse = ACTION_NAMES.index(ACTIONS[a].reverse)
            for other_t, other_a in ((t, reverse), (t, dice.randrange(len(ACTIONS))), (dice.randrange(len(THINGS)), a)):
                listed.add(caption(other_t, other_a, template=template))
    sentences = sorted(listed)
    where = {sentence: row for row, sentence in enumerate(sentences)} | {"": -1}
    action_template, name_template = dice.choice(ACTION_TEMPLATES), dice.choice(NAME_TEMPLATES)
    lists = {
        "action": ([caption(None, a, template=action_template) for a in range(len(ACTIONS))], actions_B, 1.0),
        "name": ([caption(t, template=name_template) for t in range(len(THINGS))], things_B, 0.7),
    }
    if memory is None:  # most of a step's texts: too dear for steps that need no pixels
        lists["caption"] = (sentences, torch.tensor([where[sentence] for sentence in captions]), 0.7)
    everything = [*BACKGROUND_TEXTS, *(sentence for group, _, _ in lists.values() for sentence in group)]
    text_KE = model.get_text_features(texts.ids(everything))
    losses = {}
    if stage.name == "prompts":
        logits_BK = model(text_features=text_KE, video_features=model.encode_video(video)).logits_per_video.float()
    else:
        if memory is None:
            frames_BTE, pooled_ND = frame_features(model, video)
            states = state_losses(heads(pooled_ND), clips.states)
            losses = {name: (loss, 0.3 * weight, right) for name, (loss, weight, right) in states.items()}
        video_BE = F.normalize(model.mit(frames_BTE).pooler_output, dim=-1)
        logits_BK = (model.logit_scale.exp() * video_BE @ F.normalize(text_KE, dim=-1).T).float()
    neutral = len(BACKGROUND_TEXTS)
    start = neutral
    for name, (group, target_B, weight) in lists.items():
        part = torch.cat([logits_BK[:, :neutral], logits_BK[:, start : start + len(group)]], dim=1)
        start += len(group)
        shown_B = target_B >= 0
        right = (part[:, neutral:].argmax(-1) == target_B)[shown_B].float().mean()
        # Of some clips the truth is taken off the list: then the neutral texts are right.
        dropped_B = shown_B & (torch.rand(len(target_B), generator=generator) < 0.15)
        part = part.masked_fill(F.one_hot(target_B + neutral, part.shape[1]).bool() & dropped_B[:, None], -1e4)
        wanted = F.one_hot((target_B + neutral).clamp(min=0), part.shape[1]).float()
        none_of_these = torch.zeros(part.shape[1])
        none_of_these[:neutral] = 1 / neutral
        wanted = torch.where((shown_B & ~dropped_B)[:, None], wanted, none_of_these)
        losses[name] = (F.cross_entropy(part, wanted), weight, right)
    return losses


def parameter_groups(model: XCLIPModel, heads: nn.Linear, stage: Stage) -> list[dict]:
    """New parts learn faster; no weight decay on vectors and embeddings."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in [*model.named_parameters(), *heads.named_parameters()]:
        if stage.name == "order" and not name.startswith(("mit.", "text_", "logit_scale")):
            continue  # the frame features are remembered: what they come from must stay
        new = name.startswith(("mit.", "prompts_")) or "message_" in name
        groups.setdefault((new, parameter.ndim > 1 and "embedding" not in name), []).append(parameter)
    return [
        {"params": group, "peak": stage.new_rate if new else stage.rate, "weight_decay": 0.05 if decays else 0.0}
        for (new, decays), group in groups.items()
    ]


def train(run: Path, stages: tuple[Stage, ...], stop_after: int | None = None) -> XCLIPModel:
    """Train all stages, or go on from the run's checkpoint; `stop_after` steps of this call, stop."""
    run.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    texts = Texts()
    model, heads = build(len(texts.used)), nn.Linear(WIDTH, 32)
    checkpoint = torch.load(run / "last.pt") if (run / "last.pt").exists() else {"stage": 0, "step": 0}
    if "model" in checkpoint:
        model.load_state_dict(checkpoint["model"])
        heads.load_state_dict(checkpoint["heads"])
    model.train()
    done, saved = 0, time.monotonic()

    def save(stage: int, step: int, optimizer: torch.optim.Optimizer | None) -> None:
        state = {"stage": stage, "step": step, "model": model.state_dict(), "heads": heads.state_dict()}
        state["optimizer"] = optimizer.state_dict() if optimizer else None
        torch.save(state, run / "next.pt")
        (run / "next.pt").replace(run / "last.pt")

    for number in range(checkpoint["stage"], len(stages)):
        stage = stages[number]
        optimizer = torch.optim.AdamW(parameter_groups(model, heads, stage), betas=(0.9, 0.98))
        first = checkpoint["step"] if number == checkpoint["stage"] else 0
        if first:
            optimizer.load_state_dict(checkpoint["optimizer"])
        loss_of = stills_loss if stage.name == "stills" else clips_loss
        if stage.name == "order":
            loss_of = partial(clips_loss, memory=Memory(model))
        seen: dict[str, list[float]] = {}
        began = time.monotonic()
        for step in range(first, stage.steps):
            progress = (step + 1) / stage.steps
            rate = min(1.0, (step + 1) / 100) * (0.03 + 0.97 * (0.5 + 0.5 * math.cos(math.pi * progress)))
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * rate
            model.zero_grad()
            heads.zero_grad()
            with sdpa_kernel(SDPBackend.MATH):  # on CPU, in bfloat16: a fifth off the step
                with torch.autocast("cpu", torch.bfloat16):
                    losses = loss_of(model, heads, texts, stage, step, seed=number * 10**7 + step)
                loss = sum(weight * value for value, weight, _ in losses.values())
                loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            with torch.no_grad():
                model.logit_scale.clamp_(max=math.log(100))
            seen.setdefault("loss", []).append(loss.item())
            for name, (_, _, right) in losses.items():
                seen.setdefault(name, []).append(right.item())
            if (step + 1) % 25 == 0 or step + 1 == stage.steps:
                means = "  ".join(f"{name} {sum(values) / len(values):.3f}" for name, values in seen.items())
                pace = (time.monotonic() - began) / (step + 1 - first)
                print(f"{stage.name} {step + 1}/{stage.steps}  {means}  {pace:.2f} s a step", flush=True)
                seen = {}
            done += 1
            if done == stop_after or time.monotonic() - saved > 60:
                save(number, step + 1, optimizer)
                saved = time.monotonic()
            if done == stop_after:
                return model
        save(number + 1, 0, None)
    return model


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/mini"), help="folder of the checkpoint")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--export", type=Path, help="write the run's model to this folder instead of training")
    parser.add_argument(
        "--evaluate", type=Path, help="ask the model in this folder instead of training; write samples/"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.export:
        texts = Texts()
        model = build(len(texts.used))
        model.load_state_dict(torch.load(arguments.run / "last.pt")["model"])
        evaluate_mini.export(model, texts.used, arguments.export, SIZE)
    if arguments.evaluate:
        training = ", ".join(f"{stage.name} {stage.steps} × {stage.batch}" for stage in STAGES)
        evaluate_mini.report(arguments.evaluate, arguments.run, Path("samples"), training)
    if not (arguments.export or arguments.evaluate):
        train(arguments.run, STAGES)


if __name__ == "__main__":
    main()
