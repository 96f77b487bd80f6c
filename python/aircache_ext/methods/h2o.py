"""H2O: heavy hitters and the most recent tokens."""

from dataclasses import dataclass

from torch import Tensor

from aircache_ext import _checks, ops
from aircache_ext.methods import always
from aircache_ext.methods.all_rows import AllRows
from aircache_ext.methods.method import Seen, Tokens


@dataclass(frozen=True, kw_only=True)
class H2O(AllRows):
    """H2O (arXiv 2306.14048), once, at the end of the prompt: who got most attention so far.

    Every token judges. The last tokens of the prompt stay, ``recent`` of the budget, and beside
    them those with the largest sum of attention. Where text is not evicted, the last tokens are
    mostly text and take nothing from the budget. All layers keep equally many.

    The paper and its code (FMInference/H2O) go on to sum and evict at every step of decoding; here
    the prompt is cut once, and the answer is kept. The code chooses for each head of models without
    grouped queries; here the mean over the query heads of each KV head decides.

    Args:
        recent: the last tokens that stay, as a share of the budget in [0, 1], rounded down.
        heads: ``"per_kv_head"``, or ``"shared"``: one set of tokens for all KV heads.
        evict_text: whether text competes with visual tokens. If not, all of it stays.
    """

    recent: float = 0.5
    heads: ops.Heads = "per_kv_head"
    evict_text: bool = False

    def __post_init__(self) -> None:
        _checks.check_share("recent", self.recent)
        _checks.check_heads(self.heads)
        _checks.check_flag("evict_text", self.evict_text)

    def weigh(self, received: Tensor) -> Seen:
        return Seen((received,))

    def rank(self, scores: tuple[Tensor, ...], budgets: Tensor, tokens: Tokens) -> Tensor:
        return always.keep(scores[0], always.recent(tokens.readable, budgets, self.recent))
