"""CSP: attention within a modality and across them, ranked apart."""

from dataclasses import dataclass

import torch
from torch import Tensor

from aircache_ext import _checks, ops
from aircache_ext.methods import always
from aircache_ext.methods.method import Method, Prompt, Seen, Tokens


@dataclass(frozen=True, kw_only=True)
class CSP(Method):
    """CSP, cross-self pruning (arXiv 2412.04652): text and image each get a part of the budget.

    The last tokens judge, with the n-softmax ``exp(x) / (n + sum exp(x))`` (Eq. 7). What a token
    gets from judges of its own modality is its self-attention, what it gets from the other one its
    cross-attention. The last tokens of the prompt stay, ``recent`` of the budget; of what they
    leave of it, ``cross`` goes to the largest cross-attention and the rest, first, to the largest
    self-attention. All layers keep equally many.

    The paper's Eq. 3 intersects the two sets where its text and code (TerryPei/CSP) unite them; we
    unite. The code stores a token twice that is in both; we never do, and the place goes to the
    next of the cross-attention, as do places that self-attention cannot fill, as when nobody of a
    modality judges. As many tokens judge as are recent, at least one, if the window holds their
    queries. The code ranks for each query head, the paper by their average; we rank for KV heads,
    by the mean over the query heads of each. The n-softmax only scores here, as in the code; the
    model attends as before. Text competes in paper and code: ``evict_text=True``.

    Args:
        recent: the last tokens that stay, as a share of the budget in [0, 1], rounded down.
        cross: share in [0, 1] of what is left, rounded down.
        softmax_n: n, not negative.
        heads: ``"per_kv_head"``, or ``"shared"``: one set of tokens for all KV heads.
        evict_text: whether text competes with visual tokens. If not, all of it stays.
    """

    recent: float = 0.5
    cross: float = 0.1
    softmax_n: float = 1.0
    heads: ops.Heads = "per_kv_head"
    evict_text: bool = False

    def __post_init__(self) -> None:
        _checks.check_share("recent", self.recent)
        _checks.check_share("cross", self.cross)
        _checks.check_softmax_n(self.softmax_n, "full")
        _checks.check_heads(self.heads)
        _checks.check_flag("evict_text", self.evict_text)

    def window(self, instruction: int) -> None:
        return None  # the budget says how many judge

    def observe(self, prompt: Prompt) -> Seen:
        tokens = prompt.tokens
        n = (self.evictable(tokens) & tokens.readable).sum(1)
        recent = (prompt.amount.average(n) * self.recent).floor().long().clamp(min=1)  # [B]
        judges = always.last(tokens.readable, recent)
        judges[:, : judges.shape[1] - prompt.window] = False
        of_text, of_image = judges & ~tokens.visual, judges & tokens.visual
        by_text, by_image = (
            self._attention(prompt, group, judges) for group in (of_text, of_image)
        )
        visual = tokens.visual[:, None]
        own = torch.where(visual, by_image, by_text)
        other = torch.where(visual, by_text, by_image)
        return Seen((own, other), judged=prompt.judged(judges))

    def _attention(self, prompt: Prompt, group: Tensor, judges: Tensor) -> Tensor:
        """The sum over a group of the judges, over the number of all: ``[L, B, H, S]``."""
        mean = prompt.scores(group, prompt.tokens.readable, self.heads, softmax_n=self.softmax_n)
        part = group.sum(1) / judges.sum(1).clamp(min=1)  # [B]
        return mean * part[:, None, None]

    def rank(self, scores: tuple[Tensor, ...], budgets: Tensor, tokens: Tokens) -> Tensor:
        own, other = scores
        evictable = (self.evictable(tokens) & tokens.readable)[:, None]  # [B, 1, S]
        recent = always.recent(tokens.readable, budgets, self.recent)[:, :, None]
        left = budgets - (recent & evictable).sum((2, 3))  # [L, B]
        places = (left - always.part(left, self.cross))[:, :, None, None]
        candidates = torch.where(evictable & ~recent, own, -1.0)
        place = candidates.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
        chosen = (place < places) & (candidates > 0)
        return always.keep(torch.where(chosen, 1.0, other / 2), recent.squeeze(2))
