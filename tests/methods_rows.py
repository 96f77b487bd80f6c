"""One row of a batch as the loops of methods_loops.py see it: attention, amounts and choices.

Plain numbers in float64. A choice says besides whether it hangs on rounding.
"""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

import paper_loops
from paper_loops import visual_positions

SCORE_GAP = 1e-4  # relative, between the last that stays and the first that goes


@dataclass(frozen=True)
class Row:
    """One row of a batch, padding included."""

    queries: np.ndarray  # [L, Hq, W, D]
    keys: np.ndarray  # [L, Hkv, S, D]
    visual: list[bool]
    valid: list[bool]
    retention: float | None = None
    budget: int | None = None
    capacity: list[int] | None = None  # one a layer
    weights: dict = field(default_factory=dict, repr=False)  # attention, once computed

    @property
    def layers(self) -> int:
        return len(self.keys)

    @property
    def tokens(self) -> list[int]:
        return [i for i, valid in enumerate(self.valid) if valid]

    @property
    def first_query(self) -> int:
        return self.keys.shape[2] - self.queries.shape[2]

    def evictable(self, evict_text: bool) -> list[int]:
        return self.tokens if evict_text else visual_positions(self.visual, self.valid)

    def in_window(self, positions) -> list[int]:
        return [i for i in positions if i >= self.first_query]

    def last(self, n: int) -> list[int]:
        return self.tokens[len(self.tokens) - min(n, len(self.tokens)) :]

    def heads(self, which: str) -> list[list[int]]:
        """The query heads that each choice is an average of."""
        query_heads, kv_heads = self.queries.shape[1], self.keys.shape[1]
        parts = kv_heads if which == "per_kv_head" else 1
        return np.arange(query_heads).reshape(parts, -1).tolist()

    def attention(self, layer: int, head: int, judge: int, n: float = 0.0) -> np.ndarray:
        """The model's own, ``[S]``: what a token pays each of those up to itself."""
        if (layer, head, judge, n) not in self.weights:
            key = self.keys[layer, head * self.keys.shape[1] // self.queries.shape[1]]
            query = self.queries[layer, head, judge - self.first_query]
            read = [i for i in self.tokens if i <= judge]
            logits = (key[read] @ query) * key.shape[1] ** -0.5
            row = self.weights[layer, head, judge, n] = np.zeros(len(self.valid))
            row[read] = paper_loops.softmax(logits.tolist(), n)
        return self.weights[layer, head, judge, n]

    def received(self, layer: int, head: int, judges, n: float = 0.0) -> np.ndarray:
        """The sum over the judges, ``[S]``."""
        nothing = np.zeros(len(self.valid))
        return sum((self.attention(layer, head, judge, n) for judge in judges), nothing)


class Choice(NamedTuple):
    kept: list[int]
    """Ascending positions, the tokens that cannot be evicted among them."""
    clear: bool
    """Whether rounding cannot change it."""


def best(scores, candidates, places) -> tuple[list[int], bool]:
    """The candidates with the largest scores, the lower position first."""
    order = sorted(candidates, key=lambda i: (-scores[i], i))
    if places <= 0 or places >= len(order):
        return order[: max(places, 0)], True
    last, next_one = scores[order[places - 1]], scores[order[places]]
    near = {scores[i] for i in candidates if abs(scores[i] - last) <= SCORE_GAP * last}
    return order[:places], last - next_one > SCORE_GAP * last or len(near) == 1


def choose(row, evict_text, budget, scores, always=(), clear=True) -> Choice:
    """The best, after the tokens that always stay. If the budget is less, the latest of those."""
    evictable = row.evictable(evict_text)
    sure = [i for i in reversed(always) if i in evictable][:budget]
    others, decided = best(scores, [i for i in evictable if i not in sure], budget - len(sure))
    text = [i for i in row.tokens if i not in evictable]
    return Choice(sorted([*text, *sure, *others]), decided and clear)


def mean(scores):
    """Of several heads' scores, position by position."""
    return [math.fsum(column) / len(scores) for column in zip(*scores, strict=True)]


def limits(row, evict_text) -> list[int]:
    """What each layer could keep."""
    n = len(row.evictable(evict_text))
    text = len(row.tokens) - n
    slots = row.capacity or [n + text] * row.layers
    return [max(1, min(n, c - text)) if n else 0 for c in slots]


def average(row, evict_text) -> float:
    n = len(row.evictable(evict_text))
    if row.budget is not None:
        return float(min(max(row.budget, 1), n))
    return (0.1 if row.retention is None else row.retention) * n


def total(row, evict_text) -> int:
    n, room = len(row.evictable(evict_text)), sum(limits(row, evict_text))
    if row.budget is not None:
        asked = row.layers * max(row.budget, 1)
    else:
        retention = 0.1 if row.retention is None else row.retention
        asked = math.floor(retention * (row.layers * n) + 0.5)
    return min(max(asked, row.layers), room)


def equal(row, evict_text) -> list[int]:
    """One by one to whoever has the fewest and room for more, the lower layer first."""
    caps, wanted = limits(row, evict_text), total(row, evict_text)
    budgets = [0] * row.layers
    while sum(budgets) < wanted:
        having_room = [layer for layer, cap in enumerate(caps) if budgets[layer] < cap]
        budgets[min(having_room, key=lambda layer: (budgets[layer], layer))] += 1
    return budgets


def with_judges(row, evict_text, judges, budgets) -> list[int]:
    """Everything, if nobody could judge."""
    return budgets if judges else limits(row, evict_text)
