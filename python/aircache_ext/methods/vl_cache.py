"""VL-Cache: the tokens after the image judge; dense layers keep more."""

from dataclasses import dataclass

import torch
from torch import Tensor

from aircache_ext import _checks, ops
from aircache_ext.methods import always
from aircache_ext.methods.amount import Amount
from aircache_ext.methods.instruction import instruction
from aircache_ext.methods.method import Method, Prompt, Seen, Tokens


@dataclass(frozen=True, kw_only=True)
class VLCache(Method):
    """VL-Cache (arXiv 2410.23317): post-vision attention, and budgets by its density.

    The tokens after the last visual one judge, with the model's own softmax. A weight counts if it
    is at least ``threshold`` times the largest of its row (ThresholdFilter); the share of those
    that count is a layer's density. Of ``retention * L`` a layer keeps its part of the densities,
    but from 1 % to 100 % of its tokens (Algorithm 1). The clip is not made up for: the total may
    differ from ``retention``, as in the paper; but ``retention=1`` evicts nothing (ours). The most
    recent tokens, ``recent`` of each budget, stay in any case; the others rank by the attention
    they got.

    The paper is silent on grouped queries: the mean over the query heads of a KV head ranks, all
    query heads count. Its budgets are real numbers: here they are rounded, halves up. Its recent
    tokens belong to its experiments (section 5), for all methods alike. Its ranking has text and
    image together: ``evict_text=True``. No code is public; the re-implementations in EffiVLM-Bench
    (an equal recent window in all layers) and GUI-KV (an absolute threshold, pooling) differ.

    Args:
        threshold: p, in (0, 1].
        recent: share of the budget in [0, 1] that the last tokens of the prompt take, rounded down.
        heads: ``"per_kv_head"``, or ``"shared"``: one set of tokens for all KV heads.
        evict_text: whether text competes with visual tokens. If not, all of it stays.
    """

    threshold: float = 0.01
    recent: float = 0.1
    heads: ops.Heads = "per_kv_head"
    evict_text: bool = False

    def __post_init__(self) -> None:
        _checks.check_threshold(self.threshold)
        _checks.check_share("recent", self.recent)
        _checks.check_heads(self.heads)
        _checks.check_flag("evict_text", self.evict_text)

    def window(self, instruction: int) -> int:
        return instruction

    def observe(self, prompt: Prompt) -> Seen:
        readable = prompt.tokens.readable
        judges = instruction(prompt.tokens)
        scores, counts = ops.window_scores_and_counts(
            prompt.queries,
            prompt.keys,
            prompt.rows(judges),
            visual=readable,
            valid=prompt.tokens.valid,
            scale=prompt.scale,
            heads=self.heads,
            threshold=self.threshold,
        )
        # Of the weights, whose number differs between layers by that of the query heads alone.
        density = counts.double() / prompt.queries[0].shape[1]
        return Seen((scores,), statistics=(density,), judged=prompt.judged(judges))

    def share(self, layers: int, seen: Seen, tokens: Tokens, amount: Amount) -> Tensor:
        (density,) = seen.statistics  # [L, B], all by the same unknown factor too large
        evictable = self.evictable(tokens)
        n = (evictable & tokens.readable).sum(1)  # [B]
        average, total = amount.average(n), density.sum(0)
        part = torch.where(total > 0, density / total, 1 / layers)  # alike, if all are NaN
        budget = (part * layers * average).maximum(0.01 * n).minimum(n)
        budget = torch.where(average >= n, n, budget)
        most = amount.most(layers, evictable, tokens.valid)
        return (budget + 0.5).floor().clamp(min=1).minimum(most).int()

    def rank(self, scores: tuple[Tensor, ...], budgets: Tensor, tokens: Tokens) -> Tensor:
        return always.keep(scores[0], always.recent(tokens.readable, budgets, self.recent))
