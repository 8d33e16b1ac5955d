"""Evaluate a model of the playground on fixed lists of questions.

`questions.json` holds the lists and never changes, so that all models get the same questions; new questions get a new
file. A seed determines only how the clips look.

| list | clips show | model chooses |
|---|---|---|
| seen_pairs | things with actions that training showed them do | the action; also the thing if it is alone |
| unseen_pairs | seen things with actions that training never showed them do | the action |
| unseen_things | things that training never showed | the action (the things' names are untrained words) |
| order_pairs | actions of order pairs | the action or its reverse |
| roles | one thing acting on another | the caption or the caption with exchanged roles |
| captions | 200 different scenes | one of the 200 captions |
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from openxclip.playground.captions import Scene, caption
from openxclip.playground.clips import render_clips
from openxclip.playground.world import ACTION_NAMES, ACTIONS, REVERSES, SEEN_THINGS

LISTS = ("seen_pairs", "unseen_pairs", "unseen_things", "order_pairs", "roles", "captions")
_PATH = Path(__file__).parent / "questions.json"

Scorer = Callable[[Tensor, list[str]], Tensor]
"""Takes clips, uint8 (B, T, 3, H, W), and K sentences; returns scores (B, K), higher for sentences that fit better."""

_ListScorer = Callable[[str, list[str]], Tensor]
"""Takes the name of a list of N scenes and K sentences; returns scores (N, K)."""


@cache
def questions() -> dict[str, tuple[Scene, ...]]:
    """Return the scenes of each list."""
    lists = json.loads(_PATH.read_text(encoding="utf-8"))
    return {name: tuple(Scene(*entry) for entry in lists[name]) for name in LISTS}


def ask(score: Scorer, seed: int, *, size: int = 128, block: int = 32) -> dict[str, float]:
    """Ask a model all questions and return the shares of right answers.

    Args:
        score: scores clips and sentences with the model.
        seed: seeds how the clips look.
        size: side of the frames, in pixels.
        block: number of clips rendered and scored at once.

    Returns:
        Shares from 0 to 1 by question, including "order: moves left / moves right" for each order pair and
        "action: moves left" for each action, measured on seen pairs.
    """
    lists = questions()

    def score_list(name: str, sentences: list[str]) -> Tensor:
        first_seed, parts = (seed + LISTS.index(name)) * 1_000_003, []
        for start in range(0, len(lists[name]), block):
            clips = render_scenes(lists[name][start : start + block], first_seed + start, size=size)
            parts.append(score(clips, sentences).float().cpu())
        return torch.cat(parts)

    return _ask_actions(score_list) | _ask_order(score_list) | _ask_captions(score_list)


def render_scenes(scenes: Sequence[Scene], seed: int, *, size: int = 128) -> Tensor:
    """Render a clip of each scene, uint8 (B, 8, 3, H, W)."""
    indices = [scene.indices() for scene in scenes]
    things, actions, others = (torch.tensor(column) for column in zip(*indices, strict=True))
    return render_clips(len(scenes), seed, size=size, things=things, actions=actions, others=others, empty=0.0).frames


def _ask_actions(score_list: _ListScorer) -> dict[str, float]:
    shares = {}
    actions = [caption(action=a, template="something {does}") for a in range(len(ACTIONS))]
    names = [caption(t, template="{a}") for t in range(len(SEEN_THINGS))]
    for name in ("seen_pairs", "unseen_pairs", "unseen_things"):
        scenes = questions()[name]
        wanted = torch.tensor([scene.indices()[1] for scene in scenes])
        logits = score_list(name, [*actions, *names] if name == "seen_pairs" else actions)
        is_right = logits[:, : len(actions)].argmax(1) == wanted
        shares[f"action, {name.replace('_', ' ')}"] = _mean(is_right)
        if name == "seen_pairs":
            things = torch.tensor([scene.indices()[0] for scene in scenes])
            is_alone = torch.tensor([not scene.other for scene in scenes])
            shares["thing, seen pairs"] = _mean((logits[:, len(actions) :].argmax(1) == things)[is_alone])
            shares |= {f"action: {ACTION_NAMES[a]}": _mean(is_right[wanted == a]) for a in range(len(ACTIONS))}
    return shares


def _ask_order(score_list: _ListScorer) -> dict[str, float]:
    points = _compare_with_rivals(score_list, "order_pairs", _reverse)
    shares = {"order pairs": _mean(points)}
    actions = [scene.indices()[1] for scene in questions()["order_pairs"]]
    pairs = torch.tensor([min(a, REVERSES[a]) for a in actions])  # by their first action
    for a in sorted(set(pairs.tolist())):
        shares[f"order: {ACTION_NAMES[a]} / {ACTIONS[a].reverse}"] = _mean(points[pairs == a])
    return shares


def _ask_captions(score_list: _ListScorer) -> dict[str, float]:
    roles = _compare_with_rivals(score_list, "roles", _exchange_roles)
    logits = score_list("captions", [scene.caption for scene in questions()["captions"]])
    ranks = (logits > logits.diag()[:, None]).sum(1)
    return {"who did what": _mean(roles), "caption R@1": _mean(ranks < 1), "caption R@5": _mean(ranks < 5)}


def _compare_with_rivals(score_list: _ListScorer, name: str, make_rival: Callable[[Scene], Scene]) -> Tensor:
    """Return 1 for each scene whose caption scores higher than its rival's, 0.5 for a tie, else 0."""
    scenes = questions()[name]
    sentences = sorted({pair.caption for scene in scenes for pair in (scene, make_rival(scene))})
    columns = {sentence: column for column, sentence in enumerate(sentences)}
    logits = score_list(name, sentences)
    own = torch.tensor([columns[scene.caption] for scene in scenes])
    rival = torch.tensor([columns[make_rival(scene).caption] for scene in scenes])
    lead = logits.gather(1, own[:, None]) - logits.gather(1, rival[:, None])
    return (lead[:, 0].sign() + 1) / 2


def _reverse(scene: Scene) -> Scene:
    return scene._replace(action=ACTIONS[ACTION_NAMES.index(scene.action)].reverse)


def _exchange_roles(scene: Scene) -> Scene:
    return scene._replace(thing=scene.other, other=scene.thing)


def _mean(values: Tensor) -> float:
    return float(values.float().mean())
