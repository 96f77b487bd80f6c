"""What a method is: who judges the tokens, how many stay in each layer, and which."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor

from aircache_ext import ops
from aircache_ext.methods.amount import Amount


class Tokens(NamedTuple):
    """What the positions of a cache hold."""

    visual: Tensor
    """``[B, S]`` bool, True where a token is of an image or a video."""
    valid: Tensor | None = None
    """``[B, S]`` bool, False where it is padding; None if none is."""

    def on(self, device: torch.device) -> Tokens:
        valid = None if self.valid is None else self.valid.to(device)
        return Tokens(self.visual.to(device), valid)

    @property
    def readable(self) -> Tensor:
        """``[B, S]`` bool: all but padding."""
        return torch.ones_like(self.visual) if self.valid is None else self.valid


class Prompt(NamedTuple):
    """What was read: layers of one shape on one device."""

    queries: list[Tensor]
    """Per layer ``[B, Hq, W, D]``, those of the last ``W`` positions."""
    keys: list[Tensor]
    """Per layer ``[B, Hkv, S, D]``."""
    tokens: Tokens
    amount: Amount = Amount()
    scale: float | None = None
    layers: tuple[int, ...] = ()
    """Which of the model's these are, if they are not all."""

    @property
    def window(self) -> int:
        return self.queries[0].shape[2]

    def need(self, rows: int, method: Method) -> None:
        """Refuses a window that lacks the queries of the last ``rows`` tokens."""
        needed = min(rows, self.tokens.visual.shape[1])
        if self.window < needed:
            raise ValueError(
                f"the window has {self.window} queries but {type(method).__name__} needs those of "
                f"the last {needed} positions"
            )

    def rows(self, judges: Tensor) -> Tensor:
        """``judges`` ``[B, S]`` as the ops take them, ``[L, B, W]`` bool."""
        rows = judges[:, judges.shape[1] - self.window :]
        return rows.expand(len(self.queries), -1, -1).contiguous()

    def judged(self, judges: Tensor) -> Tensor:
        """``[B]`` bool: rows where the window holds a judge."""
        return judges[:, judges.shape[1] - self.window :].any(1)

    def scores(
        self, judges: Tensor, scored: Tensor, heads: ops.Heads, softmax_n: float = 0.0
    ) -> Tensor:
        """What ``judges`` pay attention to, by the model's own softmax: the mean over them for
        every token of ``scored``. Both ``[B, S]`` bool; returns ``[L, B, H, S]`` fp32."""
        return ops.window_scores(
            self.queries,
            self.keys,
            self.rows(judges),
            visual=scored,
            valid=self.tokens.valid,
            scale=self.scale,
            heads=heads,
            softmax="full",
            softmax_n=softmax_n,
        )

    def query_heads(self) -> list[Prompt]:
        """One prompt for each query head of a group, where every KV head has that head alone."""
        group = self.queries[0].shape[1] // self.keys[0].shape[1]
        return [self._replace(queries=[q[:, i::group] for q in self.queries]) for i in range(group)]


class Seen(NamedTuple):
    """What a method saw in some layers."""

    scores: tuple[Tensor, ...]
    """What it ranks the tokens by: mostly one, ``[L, B, H, S]`` fp32."""
    statistics: tuple[Tensor, ...] = ()
    """What its budgets follow, each ``[L, B, ...]``."""
    judged: Tensor | None = None
    """``[B]`` bool, False where nobody could judge; None: nowhere."""
    window: int = 0
    """``W`` of the queries, where the budgets depend on it."""


class Method(ABC):
    """The base of all methods, which are frozen dataclasses of their parameters.

    A method must say what it sees in the layers (:meth:`observe`). It may say how the layers share
    what stays (:meth:`share`; equally, if it does not) and how the tokens rank when that is known
    (:meth:`rank`; by the score that was seen). In each layer the highest stay.

    Layers of several shapes or devices are observed in groups. The budgets follow all of them: what
    was seen comes together then, but for the scores, which stay where their layers are.
    """

    evict_text: bool = False
    """Whether text competes with visual tokens. If not, all of it stays."""

    window_size: int | None = None
    """How many of the last tokens judge, if that is a parameter. ``CompressedCache`` must keep the
    queries of so many."""

    def window(self, instruction: int) -> int | None:
        """How many of a prompt's last queries it needs to see; ``instruction`` tokens follow the
        last visual one.

        0 only where ``instruction`` is 0: nobody but these tokens can judge, and without one a
        ``CompressedCache`` evicts nothing. 0 always: it needs no queries, and may be given none.
        None: it makes do with any number, and more are better."""
        return 1

    @abstractmethod
    def observe(self, prompt: Prompt) -> Seen: ...

    def share(self, layers: int, seen: Seen, tokens: Tokens, amount: Amount) -> Tensor:
        """``[L, B]`` int32, for all layers: how many of the evictable tokens stay. ``seen`` comes
        without scores."""
        return amount.equal(layers, self.evictable(tokens), tokens.valid)

    def rank(self, scores: tuple[Tensor, ...], budgets: Tensor, tokens: Tokens) -> Tensor:
        """``[L, B, H, S]`` fp32 from the scores that were seen and the budgets ``[L, B]``."""
        return scores[0]

    def evictable(self, tokens: Tokens) -> Tensor:
        """``[B, S]`` bool. Padding may be marked, too."""
        return torch.ones_like(tokens.visual) if self.evict_text else tokens.visual

    def budgets(self, layers: int, seen: Seen, tokens: Tokens, amount: Amount) -> Tensor:
        """``[L, B]`` int32: :meth:`share`, and everything in rows that nobody could judge."""
        budgets = self.share(layers, seen._replace(scores=()), tokens, amount)
        if seen.judged is None:
            return budgets
        most = amount.most(layers, self.evictable(tokens), tokens.valid)
        return torch.where(seen.judged, budgets, most)
