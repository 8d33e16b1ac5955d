"""What each stage of train_mini.py learns from: the model at its start, and the loss of a step.

Every loss is a cross-entropy over a list of texts (arXiv 2208.02816, §3.1); each text is encoded once a step.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
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
    sentences_with_every_word,
)
from torch import Tensor, nn

from openxclip.config import XCLIPConfig
from openxclip.model import XCLIPModel
from openxclip.playground import ACTIONS, SEEN_THINGS, caption, render_clips
from openxclip.playground.clips import Clips, caption_of
from openxclip.playground.motion import States
from openxclip.playground.world import REVERSES
from openxclip.processing import CLIPTokenizer
from openxclip.recognition.background import BACKGROUND_TEXTS

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
SIZE, FRAMES, WIDTH, REMEMBERED = 64, 8, 192, 16384
NAMES = len(SEEN_THINGS)


CONFIG = {
    "projection_dim": WIDTH,
    "prompt_num_attention_heads": 3,
    "text_config": {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH,
                    "num_hidden_layers": 3, "num_attention_heads": 3,
                    "bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 49407},
    "vision_config": {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_hidden_layers": 4,
                      "num_attention_heads": 3, "mit_hidden_size": WIDTH, "mit_intermediate_size": 4 * WIDTH,
                      "mit_num_attention_heads": 3, "mit_num_hidden_layers": 2,
                      "image_size": SIZE, "patch_size": 8, "num_frames": FRAMES},
}  # fmt: skip


@dataclass
class Stage:
    """Steps, how many frames or clips each sees, peak learning rates of the towers and of what is new; and how many
    single frames a step sees beside its clips.
    """

    name: str
    steps: int
    batch: int
    rate: float
    new_rate: float
    stills: int = 0


class Texts:
    """Sentences to features. Only the rows of the vocabulary that the playground's sentences use are trained:
    the model in training has a table of these alone, in the order of the full one.
    """

    def __init__(self, sentences: Iterable[str] | None = None) -> None:
        self._tokenizer = CLIPTokenizer()
        if sentences is None:
            sentences = [*sentences_with_every_word(), *BACKGROUND_TEXTS]
        self.used = sorted({token for ids in self._tokenizer(list(sentences))["input_ids"] for token in ids})
        self._row = {token: row for row, token in enumerate(self.used)}
        self._known: dict[str, list[int]] = {}

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


def pixels(frames: Tensor) -> Tensor:
    """uint8 (…, 3, H, W) to what the model takes."""
    return (frames.float() / 255 - MEAN[:, None, None]) / STD[:, None, None]


# -- what single frames tell -----------------------------------------------------------------------------------------


class Probes(nn.Module):
    """Linear readings of a frame's class token, thrown away after training: finer than words can say.

    Of one thing: x, y, turn and size in eight steps. Of two: which is on the left and which on the right, and where.
    """

    def __init__(self, *, width: int = WIDTH, names: int = NAMES) -> None:
        super().__init__()
        self.parts = {"x": 8, "y": 8, "angle": 8, "scale": 8}
        self.parts |= {"left": names, "right": names, "left x": 8, "right x": 8, "left y": 8, "right y": 8}
        self.read = nn.Linear(width, sum(self.parts.values()))

    def losses(self, pooled_ND: Tensor, states: States, things_NA: Tensor) -> dict:
        """Loss, weight and share of right answers of each reading.

        Args:
            pooled_ND: class tokens.
            states: (N, 2, 1).
            things_NA: indices of the two things; -1 where there is none.
        """
        guesses = dict(zip(self.parts, self.read(pooled_ND).split(list(self.parts.values()), dim=1), strict=True))
        x, y, angle, size, alpha = (getattr(states, f)[..., 0] for f in ("x", "y", "angle", "size", "alpha"))
        visible = (alpha > 0.3) & (things_NA >= 0)
        alone, both = visible[:, 0] & ~visible[:, 1], visible.all(1)
        left = (x[:, 1] < x[:, 0]).long()[:, None]  # which of the two is on the left
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
    """Which of `number` equal parts of [low, high] a value lies in."""
    return ((values - low) / (high - low) * number).long().clamp(0, number - 1)


def _share(right: Tensor) -> float:
    return right.float().mean().item()


def names_target(things_B: Tensor, others_B: Tensor, names: int = NAMES) -> Tensor:
    """(B, names): 1 for the thing, or a half each for two."""
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
    """Names and places together from the first step: a tower that names alone never learns where.

    Args:
        model, probes, texts: what learns.
        batch: frames.
        step: which of the templates is used.
        seed: of the frames.
        hard: see `render_stills`.
        among: the things that are shown, and named in the texts.
    """
    size = model.config.vision_config.image_size
    stills = render_stills(batch, seed, size=size, hard=hard, pairs=0.3 * hard, among=among)
    row = torch.full((max(among) + 2,), -1)  # [-1]: none
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


# -- what clips tell -------------------------------------------------------------------------------------------------


def frame_features(model: XCLIPModel, video_BTCHW: Tensor, *, bag: bool) -> tuple[Tensor, Tensor]:
    """What MIT takes, (B, T, E), and the class tokens that it comes from, (B * T, D)."""
    batch, frames = video_BTCHW.shape[:2]
    pooled_ND = model.vision_model(video_BTCHW.flatten(0, 1), num_frames=1 if bag else frames).pooler_output
    return model.visual_projection(pooled_ND).unflatten(0, (batch, frames)), pooled_ND


class Memory:
    """Frame features of clips, computed once: MIT learns order from them a hundred times faster than from pixels."""

    def __init__(self, model: XCLIPModel, *, bag: bool, block: int = 32) -> None:
        features, self._clips = [], []
        with torch.inference_mode():
            for number in range(REMEMBERED // block):
                clips = render_clips(block, 4 * 10**8 + number, size=SIZE, num_frames=FRAMES, split="seen")
                features.append(frame_features(model, pixels(clips.frames), bag=bag)[0])
                self._clips.append(clips)
        self._features_NTE = torch.cat(features).clone()  # out of inference mode
        self._reverse = torch.tensor([*REVERSES, -1])  # [-1]: empty

    def draw(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Clips]:
        """Features (B, T, E) and the clips that they are of, every other one played backwards."""
        chosen_B = torch.randint(0, len(self._features_NTE), (batch,), generator=generator)
        back_B = torch.rand(batch, generator=generator) < 0.5
        # played backwards, a cat that chases a dog is no dog that chases a cat: only where the world has a word for it
        block = len(self._clips[0].things)
        rows = [(self._clips[i // block], i % block) for i in chosen_B.tolist()]
        picked = {
            name: torch.stack([getattr(clips, name)[i] for clips, i in rows])
            for name in ("things", "actions", "others", "sizes", "tints", "paces")
        }
        has_no_other = picked["others"] < 0
        turned = self._reverse[picked["actions"]] != picked["actions"]
        back_B &= turned | (has_no_other & (picked["actions"] >= 0))
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
    """Actions alone, names alone, and captions beside hard negatives; and neutral texts that win where nothing else
    is right, so that "none of these" means something.
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
    way, template = dice.randrange(2), dice.choice(CAPTION_TEMPLATES)
    action_template, name_template = dice.choice(ACTION_TEMPLATES), dice.choice(NAME_TEMPLATES)
    sentences, target_B, rivals = captions_and_rivals(clips, template, way, dice)
    neutral, actions = len(BACKGROUND_TEXTS), len(ACTIONS)
    shown = clips.actions >= 0
    lists = {
        "action": (
            [caption(None, a, template=action_template, synonym=way) for a in range(actions)],
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
        del lists["name"]  # most of a step's texts
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
    """Cross-entropy over neutral texts and a list. Of some clips the truth is taken off the list: then, and where
    nothing on it is wanted, the neutral texts are right.
    """
    dropped_B = torch.rand(len(own_BK), generator=generator) < 0.1
    own_BK = own_BK.masked_fill((wanted_BK > 0) & dropped_B[:, None], -1e4)
    wanted_BK = wanted_BK * ~dropped_B[:, None]
    none_B1 = 1 - wanted_BK.sum(1, keepdim=True)
    wanted = torch.cat([(none_B1 / neutral_BK.shape[1]).expand_as(neutral_BK), wanted_BK], dim=1)
    return F.cross_entropy(torch.cat([neutral_BK, own_BK], dim=1), wanted)


def captions_and_rivals(clips: Clips, template: str, way: int, dice: random.Random) -> tuple:
    """The clips' captions and hard negatives: the same thing doing its action backwards or another one, another thing
    doing the same, roles exchanged, another other.

    Returns:
        all sentences; the row of each clip's own (-1: empty); and of order pairs and roles: rows of the truth, of its
        rival, the clips and what they differ in, or None if there are none.
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
        how = {"template": template, "synonym": way}
        plain = dice.random() < 0.5  # half of the captions leave out size, tint and pace
        own = row(caption(t, a, other, **how) if plain else caption_of(clips, i, **how))
        target.append(own)
        another = dice.randrange(len(ACTIONS))
        row(caption(t, another, dice.randrange(NAMES) if other is None else other, **how))
        row(caption(dice.randrange(NAMES), a, other, **how))
        if other is not None:
            row(caption(t, a, dice.randrange(NAMES), **how))
        pairs = [("order", caption(t, REVERSES[a], other, **how))] if REVERSES[a] != a else []
        if ACTIONS[a].tells_roles:
            pairs.append(("roles", caption(o, a, t, **how)))
        for kind, sentence in pairs:
            truth.append(row(caption(t, a, other, **how)))
            rival.append(row(sentence))
            rows.append(i)
            kinds.append(kind)
    return list(listed), torch.tensor(target), (truth, rival, rows, kinds) if rows else None
