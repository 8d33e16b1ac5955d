"""Evaluate a model of the playground on fixed lists of questions.

`questions.json` holds the lists and never changes, so that all models get the same questions; new questions get a new
file. A seed determines only how the clips look.

| list | shows | question |
|---|---|---|
| seen_pairs | things doing what training showed them doing | the action; for one thing alone, also the thing |
| unseen_pairs | seen things doing what training never showed them doing | the action |
| unseen_things | things that training never showed | the action, because their names are untrained words |
| order_pairs | actions of order pairs | the action or its reverse |
| roles | what one thing does to another | the caption or the one with exchanged roles |
| captions | 200 sentences | which of them |
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from openxclip.playground.captions import caption
from openxclip.playground.clips import render_clips
from openxclip.playground.world import ACTION_NAMES, ACTIONS, REVERSES, SEEN_THINGS, THINGS

LISTS = ("seen_pairs", "unseen_pairs", "unseen_things", "order_pairs", "roles", "captions")
_PATH = Path(__file__).parent / "questions.json"

#: Takes clips, uint8 (B, T, 3, H, W), and K sentences; returns scores (B, K), higher for sentences that fit better.
Scorer = Callable[[Tensor, list[str]], Tensor]


class Shown(NamedTuple):
    """Names of what a clip shows; `other` is "" if the action is done to nothing."""

    thing: str
    action: str
    other: str = ""

    @property
    def caption(self) -> str:
        """The caption."""
        return caption(*self.indices()[:2], self.indices()[2] if self.other else None)

    def indices(self) -> tuple[int, int, int]:
        """Return the indices into THINGS, ACTIONS and THINGS; the last is 0 without another thing."""
        return THINGS.index(self.thing), ACTION_NAMES.index(self.action), THINGS.index(self.other or THINGS[0])


@cache
def questions() -> dict[str, tuple[Shown, ...]]:
    """Read what the clips of each list show."""
    lists = json.loads(_PATH.read_text(encoding="utf-8"))
    return {name: tuple(Shown(*entry) for entry in lists[name]) for name in LISTS}


def ask(score: Scorer, seed: int, *, size: int = 128, block: int = 32) -> dict[str, float]:
    """Ask a model all questions and return the shares of right answers.

    Args:
        score: the model.
        seed: seeds how the clips look.
        size: side of the frames, in pixels.
        block: number of clips rendered and scored at once.

    Returns:
        Shares from 0 to 1 by question, including "order: moves left / moves right" for each order pair and
        "action: moves left" for each action (of seen pairs).
    """
    lists, shares = questions(), {}
    actions = [caption(None, a) for a in range(len(ACTIONS))]
    actions = [f"something {does}" for does in actions]
    names = [caption(t, template="{a}") for t in range(len(SEEN_THINGS))]
    for number, name in enumerate(("seen_pairs", "unseen_pairs", "unseen_things")):
        wanted = torch.tensor([shown.indices()[1] for shown in lists[name]])
        sentences = [*actions, *names] if name == "seen_pairs" else actions
        logits = _scores(score, lists[name], sentences, seed + number, size, block)
        hits = logits[:, : len(actions)].argmax(1) == wanted
        shares[f"action, {name.replace('_', ' ')}"] = _share(hits)
        if name == "seen_pairs":
            things = torch.tensor([shown.indices()[0] for shown in lists[name]])
            alone = torch.tensor([not shown.other for shown in lists[name]])
            shares["thing, seen pairs"] = _share((logits[:, len(actions) :].argmax(1) == things)[alone])
            shares |= {f"action: {ACTION_NAMES[a]}": _share(hits[wanted == a]) for a in range(len(ACTIONS))}
    order = _two_way(score, lists["order_pairs"], _reversed, seed + 3, size, block)
    shares["order pairs"] = _share(order)
    kinds = torch.tensor([min(a, REVERSES[a]) for _, a, _ in map(Shown.indices, lists["order_pairs"])])
    for a in sorted(set(kinds.tolist())):
        shares[f"order: {ACTION_NAMES[a]} / {ACTIONS[a].reverse}"] = _share(order[kinds == a])
    shares["who did what"] = _share(_two_way(score, lists["roles"], _exchanged, seed + 4, size, block))
    sentences = [shown.caption for shown in lists["captions"]]
    logits = _scores(score, lists["captions"], sentences, seed + 5, size, block)
    ranks = (logits > logits.diag()[:, None]).sum(1)
    shares |= {"caption R@1": _share(ranks < 1), "caption R@5": _share(ranks < 5)}
    return shares


def clips_of(shown: tuple[Shown, ...] | list[Shown], seed: int, *, size: int = 128) -> Tensor:
    """Render clips that show this, uint8 (B, 8, 3, H, W)."""
    indices = [clip.indices() for clip in shown]
    things, actions, others = (torch.tensor(column) for column in zip(*indices, strict=True))
    return render_clips(len(shown), seed, size=size, things=things, actions=actions, others=others, empty=0.0).frames


def _scores(score: Scorer, shown: tuple[Shown, ...], sentences: list[str], seed: int, size: int, block: int) -> Tensor:
    parts = []
    for start in range(0, len(shown), block):
        clips = clips_of(shown[start : start + block], seed * 1_000_003 + start, size=size)
        parts.append(score(clips, sentences).float().cpu())
    return torch.cat(parts)


def _two_way(
    score: Scorer, shown: tuple[Shown, ...], rival: Callable[[Shown], Shown], seed: int, size: int, block: int
) -> Tensor:
    """Return 1 for each clip whose caption beats its rival, 0.5 for a tie, else 0."""
    sentences = sorted({pair.caption for clip in shown for pair in (clip, rival(clip))})
    rows = {sentence: row for row, sentence in enumerate(sentences)}
    logits = _scores(score, shown, sentences, seed, size, block)
    own = torch.tensor([rows[clip.caption] for clip in shown])
    other = torch.tensor([rows[rival(clip).caption] for clip in shown])
    lead = logits.gather(1, own[:, None]) - logits.gather(1, other[:, None])
    return (lead[:, 0].sign() + 1) / 2


def _reversed(shown: Shown) -> Shown:
    return shown._replace(action=ACTIONS[ACTION_NAMES.index(shown.action)].reverse)


def _exchanged(shown: Shown) -> Shown:
    return shown._replace(thing=shown.other, other=shown.thing)


def _share(right: Tensor) -> float:
    return float(right.float().mean())
