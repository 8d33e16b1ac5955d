"""The stages of train_mini.py and their losses.

Every loss is a cross-entropy over a list of texts (arXiv 2208.02816, §3.1). Each text is encoded once per step.

Shapes: B clips or frames, T frames per clip, N = B · T frames, A things, K texts, D width, E joint width.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from mini_data import (
    ACTION_TEMPLATES,
    CAPTION_TEMPLATES,
    NAME_TEMPLATES,
    PLACES,
    STILL_SIZES,
    TURNS,
    VISIBILITIES,
    render_stills,
)
from mini_model import FRAMES, SIZE, WIDTH, Texts, pixels
from torch import Tensor, nn

from openxclip.model import XCLIPModel
from openxclip.playground import ACTIONS, SEEN_THINGS, caption, render_clips
from openxclip.playground.clips import Clips, caption_of
from openxclip.playground.motion import States
from openxclip.playground.world import REVERSES
from openxclip.recognition.background import BACKGROUND_TEXTS

REMEMBERED = 16384  # clips in a `Memory`
NAMES = len(SEEN_THINGS)


@dataclass
class Stage:
    """A stage of the training.

    Attributes:
        name: "stills", "clips", "order" or "prompts".
        steps: number of steps.
        batch: clips per step, or frames in the stage "stills".
        rate: peak learning rate of the towers.
        new_rate: peak learning rate of the parts that CLIP lacks.
        stills: single frames per step, in addition to its clips.
    """

    name: str
    steps: int
    batch: int
    rate: float
    new_rate: float
    stills: int = 0


# -- single frames ---------------------------------------------------------------------------------------------------


class Probes(nn.Module):
    """Linear classifiers of a frame's class token, for details that words don't tell. They are dropped after training.

    For one thing they tell x, y, angle and scale in eight steps. For two things they tell which is on the left and
    which on the right, and where they are.

    Args:
        width: width of the class token.
        names: number of things that may be shown.
    """

    def __init__(self, *, width: int = WIDTH, names: int = NAMES) -> None:
        super().__init__()
        self.parts = {"x": 8, "y": 8, "angle": 8, "scale": 8}
        self.parts |= {"left": names, "right": names, "left x": 8, "right x": 8, "left y": 8, "right y": 8}
        self.read = nn.Linear(width, sum(self.parts.values()))

    def losses(self, pooled_ND: Tensor, states: States, things_NA: Tensor) -> dict:
        """Return loss, weight and share of right answers of each classifier.

        Args:
            pooled_ND: class tokens.
            states: states of the two things, (N, 2, 1).
            things_NA: indices of the two things; -1 for none.
        """
        guesses = dict(zip(self.parts, self.read(pooled_ND).split(list(self.parts.values()), dim=1), strict=True))
        x, y, angle, size, alpha = (getattr(states, f)[..., 0] for f in ("x", "y", "angle", "size", "alpha"))
        visible = (alpha > 0.3) & (things_NA >= 0)
        alone, both = visible[:, 0] & ~visible[:, 1], visible.all(1)
        left = (x[:, 1] < x[:, 0]).long()[:, None]  # index of the thing on the left
        targets = {
            "x": (bins(x[:, 0], -0.8, 0.8), alone, 0.5),
            "y": (bins(y[:, 0], -0.8, 0.8), alone, 0.5),
            "angle": (bins((angle[:, 0] + math.pi / 8) % (2 * math.pi), 0, 2 * math.pi), alone, 0.5),
            "scale": (bins(size[:, 0], 0.18, 0.7), alone, 0.3),
        }
        for side, which in (("left", left), ("right", 1 - left)):
            targets[side] = (things_NA.gather(1, which)[:, 0], both, 0.5)
            targets[f"{side} x"] = (bins(x.gather(1, which)[:, 0], -0.8, 0.8), both, 0.3)
            targets[f"{side} y"] = (bins(y.gather(1, which)[:, 0], -0.8, 0.8), both, 0.2)
        losses = {}
        for name, (target_N, asked_N, weight) in targets.items():
            if asked_N.any():
                part, target = guesses[name][asked_N], target_N[asked_N]
                share = float(asked_N.float().mean())
                losses[name] = (F.cross_entropy(part, target), weight * share, _share(part.argmax(-1) == target))
        return losses


def bins(values: Tensor, low: float, high: float, number: int = 8) -> Tensor:
    """Return the index of the part of [low, high] that each value lies in, out of `number` equal parts."""
    return ((values - low) / (high - low) * number).long().clamp(0, number - 1)


def _share(right: Tensor) -> float:
    return right.float().mean().item()


def names_target(things_B: Tensor, others_B: Tensor, names: int = NAMES) -> Tensor:
    """Return targets (B, names): 1 for the thing, or 0.5 each for two things."""
    target = torch.zeros(len(things_B), names)
    for who in (things_B, others_B):
        rows = who >= 0
        target[rows] += F.one_hot(who[rows], names).float()
    return target / target.sum(1, keepdim=True).clamp(min=1)


def stills_loss(
    model: XCLIPModel,
    probes: Probes,
    texts: Texts,
    batch: int,
    step: int,
    seed: int,
    *,
    hard: float,
    among: Sequence[int] = range(NAMES),
) -> dict:
    """Return the losses of a step on single frames.

    Names and places are trained together from the first step, because a tower that was first trained on names alone
    doesn't learn places.

    Args:
        model, probes, texts: model to train, its probes and its texts.
        batch: number of frames.
        step: number of the step, which chooses the template.
        seed: seed of the frames.
        hard: see `render_stills`.
        among: indices of the things to show and to name.

    Returns:
        Loss, weight and share of right answers by name.
    """
    size = model.config.vision_config.image_size
    stills = render_stills(batch, seed, size=size, hard=hard, pairs=0.3 * hard, among=among)
    row = torch.full((max(among) + 2,), -1)  # row[-1] is for no thing
    row[list(among)] = torch.arange(len(among))
    things, others = row[stills.things], row[stills.others]
    pooled_BD = model.vision_model(pixels(stills.frames), num_frames=1).pooler_output
    image_BE = F.normalize(model.visual_projection(pooled_BD), dim=-1)
    template = NAME_TEMPLATES[step % len(NAME_TEMPLATES)]
    alone = others < 0
    lists = {
        "name": (
            [caption(t, template=template) for t in among],
            names_target(things, others, len(among)),
            1.0,
        )
    }
    for key, words, weight in (
        ("place", PLACES, 0.4), ("size", STILL_SIZES, 0.2), ("turn", TURNS, 0.3), ("visibility", VISIBILITIES, 0.2)
    ):  # fmt: skip
        target = F.one_hot(torch.tensor(stills.words[key]), len(words)).float() * alone[:, None]
        lists[key] = ([f"something {word}" for word in words], target, weight)
    everything = [sentence for sentences, _, _ in lists.values() for sentence in sentences]
    text_KE = F.normalize(model.get_text_features(texts.ids(everything)), dim=-1)
    logits_BK = model.logit_scale.exp() * image_BE @ text_KE.T
    losses, start = {}, 0
    for name, (sentences, target_BK, weight) in lists.items():
        part = logits_BK[:, start : start + len(sentences)]
        start += len(sentences)
        right = (part.argmax(-1) == target_BK.argmax(-1))[alone]
        losses[name] = (F.cross_entropy(part, target_BK), weight, _share(right))
    return losses | probes.losses(pooled_BD, stills.states, torch.stack([things, others], 1))


# -- clips -----------------------------------------------------------------------------------------------------------


def frame_features(model: XCLIPModel, video_BTCHW: Tensor, *, bag: bool) -> tuple[Tensor, Tensor]:
    """Return MIT's input (B, T, E) and the class tokens (N, D) that it is computed from.

    Args:
        model: the model.
        video_BTCHW: pixel values.
        bag: whether frames exchange no messages.
    """
    batch, frames = video_BTCHW.shape[:2]
    pooled_ND = model.vision_model(video_BTCHW.flatten(0, 1), num_frames=1 if bag else frames).pooler_output
    return model.visual_projection(pooled_ND).unflatten(0, (batch, frames)), pooled_ND


class Memory:
    """Cached frame features of clips, from which MIT learns order about a hundred times faster than from pixels."""

    def __init__(self, model: XCLIPModel, *, bag: bool, block: int = 32) -> None:
        features, self._clips = [], []
        with torch.inference_mode():
            for number in range(REMEMBERED // block):
                clips = render_clips(block, 4 * 10**8 + number, size=SIZE, num_frames=FRAMES, split="seen")
                features.append(frame_features(model, pixels(clips.frames), bag=bag)[0])
                self._clips.append(clips)
        self._features_NTE = torch.cat(features).clone()  # a copy, because inference tensors can't be trained on
        self._reverse = torch.tensor([*REVERSES, -1])  # _reverse[-1] is for an empty scene

    def draw(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Clips]:
        """Return features (B, T, E) of random clips, and the clips without frames. About half are played backwards."""
        chosen_B = torch.randint(0, len(self._features_NTE), (batch,), generator=generator)
        back_B = torch.rand(batch, generator=generator) < 0.5
        block = len(self._clips[0].things)
        rows = [(self._clips[i // block], i % block) for i in chosen_B.tolist()]
        picked = {
            name: torch.stack([getattr(clips, name)[i] for clips, i in rows])
            for name in ("things", "actions", "others", "sizes", "tints", "paces")
        }
        has_no_other = picked["others"] < 0
        has_reverse = self._reverse[picked["actions"]] != picked["actions"]
        # "chases" played backwards is no action of the playground, but a single thing's action looks the same
        back_B &= has_reverse | (has_no_other & (picked["actions"] >= 0))
        picked["actions"] = torch.where(back_B, self._reverse[picked["actions"]], picked["actions"])
        features = self._features_NTE[chosen_B]
        features = torch.where(back_B[:, None, None], features.flip(1), features)
        return features, Clips(frames=features, captions=[], states=rows[0][0].states, **picked)


def clips_loss(
    model: XCLIPModel,
    probes: Probes,
    texts: Texts,
    stage: Stage,
    step: int,
    seed: int,
    memory: Memory | None,
    bag: bool,
) -> dict:
    """Return the losses of a step on clips: actions, names, and captions against hard negatives.

    Each list of texts also has neutral texts, which are right if no other text is, see `none_of_these`.

    Args:
        model, probes, texts: model to train, its probes and its texts.
        stage: stage of the training.
        step: number of the step in its stage.
        seed: seed of the clips and templates.
        memory: cached features to train on; None renders new clips.
        bag: whether frames exchange no messages and their features are averaged.

    Returns:
        Loss, weight and share of right answers by name.
    """
    generator, dice = torch.Generator().manual_seed(seed), random.Random(seed)
    losses: dict = {}
    if memory is not None:
        frames_BTE, clips = memory.draw(stage.batch, generator)
    else:
        clips = render_clips(stage.batch, generator, size=SIZE, num_frames=FRAMES, split="seen")
        if stage.name == "prompts":
            video = model.encode_video(pixels(clips.frames))
        else:
            frames_BTE, pooled_ND = frame_features(model, pixels(clips.frames), bag=bag)
            states = clips.states.map(lambda v: v.transpose(1, 2).flatten(0, 1)[..., None])
            things = torch.stack([clips.things, clips.others], 1).repeat_interleave(FRAMES, 0)
            read = probes.losses(pooled_ND, states, things)
            losses = {name: (loss, 0.3 * weight, right) for name, (loss, weight, right) in read.items()}
    synonym, template = dice.randrange(2), dice.choice(CAPTION_TEMPLATES)
    action_template, name_template = dice.choice(ACTION_TEMPLATES), dice.choice(NAME_TEMPLATES)
    sentences, target_B, rivals = captions_and_rivals(clips, template, synonym, dice)
    neutral, actions = len(BACKGROUND_TEXTS), len(ACTIONS)
    shown = clips.actions >= 0
    lists = {
        "action": (
            [caption(None, a, template=action_template, synonym=synonym) for a in range(actions)],
            F.one_hot(clips.actions.clamp(min=0), actions).float() * shown[:, None],
            1.0,
        ),
        "name": (
            [caption(t, template=name_template) for t in range(NAMES)],
            names_target(clips.things, clips.others),
            0.7,
        ),
        "caption": (sentences, F.one_hot(target_B.clamp(min=0), len(sentences)).float() * shown[:, None], 0.7),
    }
    if memory is not None and step % 4:
        del lists["name"]  # saves time: most texts are names
    text_KE = model.get_text_features(
        texts.ids([*BACKGROUND_TEXTS, *(s for group, _, _ in lists.values() for s in group)])
    )
    if stage.name == "prompts":
        logits_BK = model(text_features=text_KE, video_features=video).logits_per_video
    else:
        video_BE = frames_BTE.mean(1) if bag else model.mit(frames_BTE).pooler_output
        logits_BK = model.logit_scale.exp() * F.normalize(video_BE, dim=-1) @ F.normalize(text_KE, dim=-1).T
    start = neutral
    for name, (group, wanted_BK, weight) in lists.items():
        own = logits_BK[:, start : start + len(group)]
        start += len(group)
        right = (own.argmax(-1) == wanted_BK.argmax(-1))[shown]
        losses[name] = (none_of_these(logits_BK[:, :neutral], own, wanted_BK, generator), weight, _share(right))
        if name == "caption" and rivals:
            truth, rival, rows, kinds = rivals
            two = torch.stack([own[rows, truth], own[rows, rival]], 1)
            losses["rival"] = (F.cross_entropy(two, torch.zeros(len(rows), dtype=torch.long)), 0.5, 0.0)
            for kind in ("order", "roles"):
                chosen = torch.tensor([k == kind for k in kinds])
                if chosen.any():
                    losses[kind] = (two.new_zeros(()), 0.0, _share(two[chosen, 0] > two[chosen, 1]))
    return losses


def none_of_these(neutral_BK: Tensor, own_BK: Tensor, wanted_BK: Tensor, generator: torch.Generator) -> Tensor:
    """Return the cross-entropy over neutral texts and a list of texts.

    For a tenth of the clips the right text is removed from the list. Then, and if the list has no right text anyway,
    the neutral texts are right.

    Args:
        neutral_BK: logits of the neutral texts.
        own_BK: logits of the list.
        wanted_BK: target of each text of the list.
        generator: random generator, whose state advances.
    """
    dropped_B = torch.rand(len(own_BK), generator=generator) < 0.1
    own_BK = own_BK.masked_fill((wanted_BK > 0) & dropped_B[:, None], -1e4)
    wanted_BK = wanted_BK * ~dropped_B[:, None]
    none_B1 = 1 - wanted_BK.sum(1, keepdim=True)
    wanted = torch.cat([(none_B1 / neutral_BK.shape[1]).expand_as(neutral_BK), wanted_BK], dim=1)
    return F.cross_entropy(torch.cat([neutral_BK, own_BK], dim=1), wanted)


def captions_and_rivals(clips: Clips, template: str, synonym: int, dice: random.Random) -> tuple:
    """Return the captions of clips and hard negatives.

    A negative has the reverse action, another action, another thing, exchanged roles or another other thing.

    Args:
        clips: the clips.
        template: template of the captions.
        synonym: number of the synonym.
        dice: random generator, whose state advances.

    Returns:
        All sentences; the index of each clip's caption, or -1 for an empty scene; and the rivals, or None if there are
        none. The rivals are four lists: index of the caption, index of the rival (the reverse action or exchanged
        roles), number of the clip, and kind ("order" or "roles").
    """
    listed: dict[str, int] = {}

    def row(sentence: str) -> int:
        return listed.setdefault(sentence, len(listed))

    target, truth, rival, rows, kinds = [], [], [], [], []
    for i, (t, a, o) in enumerate(
        zip(clips.things.tolist(), clips.actions.tolist(), clips.others.tolist(), strict=True)
    ):
        if t < 0:
            target.append(-1)
            continue
        other = None if o < 0 else o
        wording = {"template": template, "synonym": synonym}
        plain = dice.random() < 0.5  # half of the captions don't mention size, tint and pace
        own = row(caption(t, a, other, **wording) if plain else caption_of(clips, i, **wording))
        target.append(own)
        another = dice.randrange(len(ACTIONS))
        row(caption(t, another, dice.randrange(NAMES) if other is None else other, **wording))
        row(caption(dice.randrange(NAMES), a, other, **wording))
        if other is not None:
            row(caption(t, a, dice.randrange(NAMES), **wording))
        pairs = [("order", caption(t, REVERSES[a], other, **wording))] if REVERSES[a] != a else []
        if ACTIONS[a].tells_roles:
            pairs.append(("roles", caption(o, a, t, **wording)))
        for kind, sentence in pairs:
            truth.append(row(caption(t, a, other, **wording)))
            rival.append(row(sentence))
            rows.append(i)
            kinds.append(kind)
    return list(listed), torch.tensor(target), (truth, rival, rows, kinds) if rows else None
