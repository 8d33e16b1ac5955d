"""Text features are computed once."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from openxclip.common.forking import ForkSafeLock


class TextCache:
    """Features of texts by their token ids, the least recently used forgotten first.

    Args:
        capacity: how many texts are kept; 20,000 of 512 numbers are 40 MB.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._known: OrderedDict[bytes, Tensor] = OrderedDict()
        self._lock = ForkSafeLock()

    def __len__(self) -> int:
        return len(self._known)

    def features(self, ids_KL: Tensor, ends_K: Tensor, encode: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """(K, E) in the order of the texts.

        Args:
            ids_KL: token ids.
            ends_K: where each text's end-of-text is: what comes after it doesn't tell texts apart.
            encode: makes the features (N, E) of those that aren't known from their ids and ends.
        """
        rows, ends = ids_KL.cpu().numpy(), ends_K.tolist()
        keys = [row[: end + 1].tobytes() for row, end in zip(rows, ends, strict=True)]
        with self._lock:
            found = {key: self._known[key] for key in keys if key in self._known}
        missing: dict[bytes, int] = {}
        for number, key in enumerate(keys):
            if key not in found:
                missing.setdefault(key, number)
        if missing:  # outside the lock: two threads may encode the same text, and neither waits for the other
            chosen = torch.tensor(list(missing.values()), device=ids_KL.device)
            fresh = encode(ids_KL[chosen], ends_K[chosen])
            found.update(zip(missing, fresh.unbind(0), strict=True))
        self._keep(keys, found)
        return torch.stack([found[key] for key in keys])

    def _keep(self, keys: Sequence[bytes], found: dict[bytes, Tensor]) -> None:
        with self._lock:
            for key in dict.fromkeys(keys):
                if key not in self._known:
                    self._known[key] = found[key].clone()  # of its own, not a row that keeps a whole batch alive
                self._known.move_to_end(key)
            while len(self._known) > self.capacity:
                self._known.popitem(last=False)


class QueryCache:
    """What the prompts' first layer makes of a set of texts, for the last few sets."""

    def __init__(self, capacity: int = 4) -> None:
        self._sets: deque[tuple[Tensor, Tensor]] = deque(maxlen=capacity)

    def queries(self, text_KE: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """(K, E), computed where these texts are not among the last. Sets are compared by value, a tenth of a
        millisecond for 400 texts, because whoever holds the tensor may change it.
        """
        for known_KE, queries_KE in tuple(self._sets):
            if known_KE.shape == text_KE.shape and known_KE.dtype == text_KE.dtype and torch.equal(known_KE, text_KE):
                return queries_KE
        queries_KE = compute(text_KE)
        self._sets.append((text_KE.clone(), queries_KE))
        return queries_KE
