"""AirCache: the elite tokens of the instruction judge."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from aircache_ext import _checks, ops
from aircache_ext.methods import always
from aircache_ext.methods.amount import Amount
from aircache_ext.methods.instruction import instruction
from aircache_ext.methods.method import Method, Prompt, Seen, Tokens


@dataclass(frozen=True, kw_only=True)
class AirCache(Method):
    """AirCache (arXiv 2503.23956): what ``compress`` does if no method is given.

    The last instruction token picks the elite ones (Eq. 4-5). Their attention, with a softmax over
    the visual keys and themselves, scores every visual token (Eq. 7-8); strength and skewness of
    the scores set the layers' budgets (Eq. 9-11). Text is never evicted. No public code exists.

    Args:
        alpha: elite threshold in [0, 1]: 0 takes the whole instruction, 1 its maximum alone.
        window_size: how many of the instruction's last tokens judge instead of the elite ones, one
            of the paper's ablations: all of it, if it is shorter. ``alpha`` plays no part then.
        heads: ``"shared"``: one set of tokens for all KV heads. ``"per_kv_head"``: each KV head
            keeps its own, the same number of them.
        budget_mode: what the layers' shares follow: ``"strength+skewness"`` (the paper),
            ``"strength"``, ``"skewness"``, ``"uniform"`` or ``"pyramid"`` (falling with depth).
    """

    softmax: ClassVar[ops.Softmax] = "restricted"  # of Eq. 7; a subclass may differ

    alpha: float = 0.9
    window_size: int | None = None
    heads: ops.Heads = "shared"
    budget_mode: ops.BudgetMode = "strength+skewness"

    def __post_init__(self) -> None:
        _checks.check_alpha(self.alpha)
        if self.window_size is not None:
            _checks.check_count("window_size", self.window_size)
        _checks.check_heads(self.heads)
        _checks.check_budget_mode(self.budget_mode)

    def window(self, instruction: int) -> int:
        return instruction

    def judges(self, prompt: Prompt) -> Tensor:
        """``[L, B, W]`` bool: the elite tokens, or the last."""
        if self.window_size is not None:
            return prompt.rows(always.last(instruction(prompt.tokens), self.window_size))
        tokens = prompt.tokens._asdict()
        attention = ops.instruction_attention(
            prompt.queries, prompt.keys, scale=prompt.scale, **tokens
        )
        return ops.elite_window(attention, alpha=self.alpha, **tokens)

    def observe(self, prompt: Prompt) -> Seen:
        tokens = prompt.tokens._asdict()
        scores = ops.window_scores(
            prompt.queries,
            prompt.keys,
            self.judges(prompt),
            scale=prompt.scale,
            heads=self.heads,
            softmax=self.softmax,
            **tokens,
        )
        return Seen((scores,), statistics=ops.moments(scores, **tokens), window=prompt.window)

    def share(self, layers: int, seen: Seen, tokens: Tokens, amount: Amount) -> Tensor:
        strength, skewness = seen.statistics
        return ops.layer_budgets(
            strength,
            skewness,
            window=seen.window,
            budget_mode=self.budget_mode,
            **amount._asdict(),
            **tokens._asdict(),
        )
