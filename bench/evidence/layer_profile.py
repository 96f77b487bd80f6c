"""What AirCache's budgets follow, layer by layer."""

from dataclasses import dataclass, field

from torch import Tensor

from aircache_ext.methods import AirCache, Amount, Prompt, Seen, Tokens
from exam import Exam

RETENTION = 0.1  # the paper's figure


@dataclass(frozen=True, kw_only=True)
class Watched(AirCache):
    """AirCache that leaves what it saw behind: how many tokens judged; strength, skewness and
    budgets; ``[L, B]`` each."""

    elite: list[Tensor] = field(default_factory=list, compare=False, repr=False)
    seen: list[tuple[Tensor, Tensor, Tensor]] = field(
        default_factory=list, compare=False, repr=False
    )

    def judges(self, prompt: Prompt) -> Tensor:
        judges = super().judges(prompt)
        self.elite.append(judges.sum(2))
        return judges

    def share(self, layers: int, seen: Seen, tokens: Tokens, amount: Amount) -> Tensor:
        budgets = super().share(layers, seen, tokens, amount)
        strength, skewness = seen.statistics
        self.seen.append((strength, skewness, budgets))
        return budgets


def profile(exam: Exam) -> dict[str, Tensor]:
    """``[batch, L]`` each: how many elite tokens there are, strength, skewness, and what share of a
    question's budget a layer has at 10 %."""
    method = Watched()
    exam.prompt.compressed(retention=RETENTION, method=method).close()
    [(strength, skewness, budgets)] = method.seen
    share = budgets.double() / budgets.sum(0)
    [elite] = method.elite
    return {"elite": elite.T, "strength": strength.T, "skewness": skewness.T, "share": share.T}
