"""PrefixKV: layers keep what holds the same share of their attention."""

from dataclasses import dataclass

from torch import Tensor

from aircache_ext import _checks, ops
from aircache_ext.methods import always
from aircache_ext.methods.all_rows import AllRows
from aircache_ext.methods.amount import Amount
from aircache_ext.methods.method import Seen, Tokens
from aircache_ext.methods.top_p import top_p_budgets


@dataclass(frozen=True, kw_only=True)
class PrefixKV(AllRows):
    """PrefixKV (arXiv 2412.03409), at the end of the prompt: layers keep equal shares of attention.

    Every token judges. A layer keeps the fewest tokens that together got the share p of the
    attention that all its evictable tokens got, over all heads; p is what makes the layers' sum the
    budget. The first ``start_size`` tokens and the last one stay in any case.

    The paper bisects p; it is found exactly here, and so is the total. The public code (THU-MIG/
    PrefixKV) stops within five tokens of it, rescales and truncates, and adds the tokens that
    always stay to what p asks for; as in the paper, they are part of it here. Its default ratios
    come from a file that was made from other prompts; these come from the prompt itself (its
    ``--profile``). It goes on evicting while it decodes; here the answer is kept. Text competes in
    paper and code: ``evict_text=True``.

    Args:
        start_size: the first tokens, which always stay.
        heads: ``"shared"``: one set of tokens for all KV heads, by the mean over all query heads.
            Or ``"per_kv_head"``.
        evict_text: whether text competes with visual tokens. If not, all of it stays.
    """

    start_size: int = 1
    heads: ops.Heads = "shared"
    evict_text: bool = False

    def __post_init__(self) -> None:
        _checks.check_count("start_size", self.start_size)
        _checks.check_heads(self.heads)
        _checks.check_flag("evict_text", self.evict_text)

    def weigh(self, received: Tensor) -> Seen:
        return Seen((received,), statistics=(received.mean(2),))

    def share(self, layers: int, seen: Seen, tokens: Tokens, amount: Amount) -> Tensor:
        (received,) = seen.statistics  # [L, B, S]
        evictable = self.evictable(tokens)
        total = amount.equal(layers, evictable, tokens.valid).sum(0)
        most = amount.most(layers, evictable, tokens.valid)
        return top_p_budgets(received, evictable & tokens.readable, most, total)

    def rank(self, scores: tuple[Tensor, ...], budgets: Tensor, tokens: Tokens) -> Tensor:
        readable = tokens.readable
        ends = always.first(readable, self.start_size) | always.last(readable, 1)
        return always.keep(scores[0], ends)
