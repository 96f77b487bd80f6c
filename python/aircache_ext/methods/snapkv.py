"""SnapKV: the last tokens of the prompt judge, and neighbours share."""

from dataclasses import dataclass

import torch
from torch import Tensor

from aircache_ext import _checks, ops
from aircache_ext.methods import always
from aircache_ext.methods.method import Method, Prompt, Seen
from aircache_ext.methods.pool import Pooling, check_pooling, pool


@dataclass(frozen=True, kw_only=True)
class SnapKV(Method):
    """SnapKV (arXiv 2404.14469): the attention of the last tokens, pooled along the sequence.

    The last ``window_size`` tokens judge, and always stay. What they pay every other token is
    averaged over them and over heads, and pooled. All layers keep equally many tokens.

    Where paper and public code differ: the code (FasterDecoding/SnapKV) sums over the window, which
    ranks like a mean. It chooses for every query head and stores the cache once for each; we choose
    for KV heads, by the mean over the query heads of each, as kvpress does. The paper ranks text
    and image together: ``evict_text=True``.

    Args:
        window_size: tokens that judge; the window of queries must hold as many positions. If there
            is padding among these, fewer judge.
        kernel_size: of the pooling, odd; 1 is none.
        pooling: ``"avg"``, or ``"max"``, which is taken for each query head before their mean.
        heads: ``"per_kv_head"``, or ``"shared"``: one set of tokens for all KV heads.
        evict_text: whether text competes with visual tokens. If not, all of it stays.
    """

    window_size: int = 32
    kernel_size: int = 5
    pooling: Pooling = "avg"
    heads: ops.Heads = "per_kv_head"
    evict_text: bool = False

    def __post_init__(self) -> None:
        _checks.check_count("window_size", self.window_size)
        check_pooling(self.pooling, self.kernel_size)
        _checks.check_heads(self.heads)
        _checks.check_flag("evict_text", self.evict_text)

    def window(self, instruction: int) -> int:
        return self.window_size

    def observe(self, prompt: Prompt) -> Seen:
        prompt.need(self.window_size, self)
        readable = prompt.tokens.readable
        judges = always.last(readable, self.window_size)
        scores = self._pooled(prompt, judges, readable & ~judges)
        return Seen((always.keep(scores, judges),), judged=prompt.judged(judges))

    def _pooled(self, prompt: Prompt, judges: Tensor, others: Tensor) -> Tensor:
        def pooled(scores: Tensor) -> Tensor:
            return pool(scores, prompt.tokens, self.pooling, self.kernel_size)

        if self.pooling == "avg":  # which may as well follow the mean over heads
            return pooled(prompt.scores(judges, others, self.heads))
        heads = [
            pooled(part.scores(judges, others, "per_kv_head")) for part in prompt.query_heads()
        ]
        scores = torch.stack(heads).mean(0)
        return scores if self.heads == "per_kv_head" else scores.mean(2, keepdim=True)
