"""Caches of text features and of what depends only on them."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from openxclip.common.forking import ForkSafeLock


class TextCache:
    """Features of texts by their token ids. The least recently used are dropped first.

    Args:
        capacity: maximum number of texts; 20,000 features of 512 numbers take 40 MB.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._cached: OrderedDict[bytes, Tensor] = OrderedDict()
        self._lock = ForkSafeLock()

    def features(self, ids_KL: Tensor, ends_K: Tensor, encode: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Return features (K, E).

        Args:
            ids_KL: token ids.
            ends_K: position of each text's end-of-text; the tokens after it don't matter.
            encode: returns the features (N, E) of uncached texts from their ids and ends.
        """
        keys = [ids[: end + 1].tobytes() for ids, end in zip(ids_KL.cpu().numpy(), ends_K.tolist(), strict=True)]
        with self._lock:
            features = {key: self._cached[key] for key in keys if key in self._cached}
        missing: dict[bytes, int] = {}
        for row, key in enumerate(keys):
            if key not in features:
                missing.setdefault(key, row)
        if missing:  # outside the lock: two threads may encode the same text, but neither waits for the other
            rows_N = torch.tensor(list(missing.values()), device=ids_KL.device)
            encoded_NE = encode(ids_KL[rows_N], ends_K[rows_N])
            features.update(zip(missing, encoded_NE.unbind(0), strict=True))
        self._keep(keys, features)
        return torch.stack([features[key] for key in keys])

    def _keep(self, keys: Sequence[bytes], features: dict[bytes, Tensor]) -> None:
        with self._lock:
            for key in dict.fromkeys(keys):
                if key not in self._cached:
                    self._cached[key] = features[key].clone()  # a row alone would keep the whole batch in memory
                self._cached.move_to_end(key)
            while len(self._cached) > self.capacity:
                self._cached.popitem(last=False)


class QueryCache:
    """Queries of the prompts' first layer, for the last four sets of texts."""

    def __init__(self) -> None:
        self._sets: deque[tuple[Tensor, Tensor]] = deque(maxlen=4)

    def queries(self, text_KE: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """Return queries (K, E), which are computed if these texts are not among the last sets.

        Sets are compared by value, since callers may change their tensors. 400 texts take a tenth of a millisecond.
        """
        for cached_KE, queries_KE in tuple(self._sets):
            is_same_kind = cached_KE.shape == text_KE.shape and cached_KE.dtype == text_KE.dtype
            if is_same_kind and torch.equal(cached_KE, text_KE):
                return queries_KE
        queries_KE = compute(text_KE)
        self._sets.append((text_KE.clone(), queries_KE))
        return queries_KE
