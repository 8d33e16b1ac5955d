"""What a model of the playground is asked: fixed lists, so that every model is asked the same.

`questions.json` holds them and is never changed: new questions get a new file. A seed decides only how the clips look.
Appearance aside, the questions are these:

| list | of | is asked |
|---|---|---|
| seen_pairs | things doing what training showed them doing | the action; of one thing alone, the thing too |
| unseen_pairs | seen things doing what training never showed them doing | the action |
| unseen_things | things that training never showed | the action: their names are untrained words |
| order_pairs | actions of order pairs | the action or its reverse? |
| roles | what one thing does to another | who to whom, or the reverse? |
| captions | 200 sentences | which of them? |
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
from openxclip.playground.clips import pairs_of, render_clips
from openxclip.playground.world import ACTION_NAMES, ACTIONS, REVERSES, SEEN_THINGS, THINGS

LISTS = ("seen_pairs", "unseen_pairs", "unseen_things", "order_pairs", "roles", "captions")
_PATH = Path(__file__).parent / "questions.json"

#: From clips, uint8 (B, T, 3, H, W), and K sentences to scores (B, K): the greater, the better a sentence fits.
Scorer = Callable[[Tensor, list[str]], Tensor]


class Shown(NamedTuple):
    """What a clip shows: names; other is "" where it is done to nothing."""

    thing: str
    action: str
    other: str = ""

    @property
    def caption(self) -> str:
        """One sentence."""
        return caption(*self.indices()[:2], self.indices()[2] if self.other else None)

    def indices(self) -> tuple[int, int, int]:
        """Into THINGS, ACTIONS and THINGS; where there is no other, the last is 0."""
        return THINGS.index(self.thing), ACTION_NAMES.index(self.action), THINGS.index(self.other or THINGS[0])


@cache
def questions() -> dict[str, tuple[Shown, ...]]:
    """What is shown in the clips of each list."""
    lists = json.loads(_PATH.read_text(encoding="utf-8"))
    return {name: tuple(Shown(*entry) for entry in lists[name]) for name in LISTS}


def ask(score: Scorer, seed: int, *, size: int = 128, block: int = 32) -> dict[str, float]:
    """Ask a model everything; what share it answers right.

    Args:
        score: the model.
        seed: how the clips look.
        size: of their frames, in pixels.
        block: clips rendered and scored at once.

    Returns:
        Shares from 0 to 1, by question; "order: moves left / moves right" for each order pair, and
        "action: moves left" for each action (of seen pairs).
    """
    lists, right = questions(), {}
    actions = [caption(None, a) for a in range(len(ACTIONS))]
    actions = [f"something {does}" for does in actions]
    names = [caption(t, template="{a}") for t in range(len(SEEN_THINGS))]
    for number, name in enumerate(("seen_pairs", "unseen_pairs", "unseen_things")):
        wanted = torch.tensor([shown.indices()[1] for shown in lists[name]])
        sentences = [*actions, *names] if name == "seen_pairs" else actions
        logits = _scores(score, lists[name], sentences, seed + number, size, block)
        hits = logits[:, : len(actions)].argmax(1) == wanted
        right[f"action, {name.replace('_', ' ')}"] = _share(hits)
        if name == "seen_pairs":
            things = torch.tensor([shown.indices()[0] for shown in lists[name]])
            alone = torch.tensor([not shown.other for shown in lists[name]])
            right["thing, seen pairs"] = _share((logits[:, len(actions) :].argmax(1) == things)[alone])
            right |= {f"action: {ACTION_NAMES[a]}": _share(hits[wanted == a]) for a in range(len(ACTIONS))}
    order = _two_way(score, lists["order_pairs"], _reversed, seed + 3, size, block)
    right["order pairs"] = _share(order)
    kinds = torch.tensor([min(a, REVERSES[a]) for _, a, _ in map(Shown.indices, lists["order_pairs"])])
    for a in sorted(set(kinds.tolist())):
        right[f"order: {ACTION_NAMES[a]} / {ACTIONS[a].reverse}"] = _share(order[kinds == a])
    right["who did what"] = _share(_two_way(score, lists["roles"], _exchanged, seed + 4, size, block))
    sentences = [shown.caption for shown in lists["captions"]]
    logits = _scores(score, lists["captions"], sentences, seed + 5, size, block)
    ranks = (logits > logits.diag()[:, None]).sum(1)
    right |= {"caption R@1": _share(ranks < 1), "caption R@5": _share(ranks < 5)}
    return right


def clips_of(shown: tuple[Shown, ...] | list[Shown], seed: int, *, size: int = 128) -> Tensor:
    """Clips that show this, uint8 (B, 8, 3, H, W)."""
    things, actions, others = (torch.tensor(column) for column in zip(*(one.indices() for one in shown), strict=True))
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
    """Whether each clip's caption beats its rival; a tie counts as half right."""
    sentences = sorted({one.caption for pair in ((one, rival(one)) for one in shown) for one in pair})
    rows = {sentence: row for row, sentence in enumerate(sentences)}
    logits = _scores(score, shown, sentences, seed, size, block)
    own = torch.tensor([rows[one.caption] for one in shown])
    other = torch.tensor([rows[rival(one).caption] for one in shown])
    lead = logits.gather(1, own[:, None]) - logits.gather(1, other[:, None])
    return (lead[:, 0].sign() + 1) / 2


def _reversed(shown: Shown) -> Shown:
    return shown._replace(action=ACTIONS[ACTION_NAMES.index(shown.action)].reverse)


def _exchanged(shown: Shown) -> Shown:
    return shown._replace(thing=shown.other, other=shown.thing)


def _share(right: Tensor) -> float:
    return float(right.float().mean())


def draw_lists(seed: int = 20261124) -> dict[str, list[list[str]]]:
    """How `questions.json` was made, once; a test compares the two."""
    generator = torch.Generator().manual_seed(seed)

    def draw(pairs: Tensor, action: int, number: int) -> list[list[str]]:
        things = pairs[pairs[:, 1] == action, 0]
        drawn = []
        for thing in things[torch.randperm(len(things), generator=generator)[:number]].tolist():
            other = int(torch.randint(0, len(SEEN_THINGS) - 1, (1,), generator=generator))
            other += other >= thing
            has_other = ACTIONS[action].has_other
            drawn.append([THINGS[thing], ACTION_NAMES[action], THINGS[other] if has_other else ""])
        return drawn

    everything = range(len(ACTIONS))
    ordered = [a for a in everything if REVERSES[a] != a]
    told = [a for a in everything if ACTIONS[a].tells_roles]
    seen = pairs_of("seen")
    lists: dict[str, list[list[str]]] = {}
    for name, split in (("seen_pairs", "seen"), ("unseen_pairs", "unseen pairs"), ("unseen_things", "unseen things")):
        lists[name] = [one for a in everything for one in draw(pairs_of(split), a, 12)]
    lists["order_pairs"] = [one for a in ordered for one in draw(seen, a, 24)]
    lists["roles"] = [one for a in told for one in draw(seen, a, 40)]
    several = [one for a in everything for one in draw(seen, a, 7)]
    lists["captions"] = [several[i] for i in torch.randperm(len(several), generator=generator)[:200].tolist()]
    return lists
