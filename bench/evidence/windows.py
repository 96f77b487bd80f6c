"""The window of the paper's ablation that AirCache does not have: visual tokens judge."""

from dataclasses import dataclass

from torch import Tensor

from aircache_ext import ops
from aircache_ext.methods import AirCache, Prompt, Seen, always


@dataclass(frozen=True, kw_only=True)
class LastVisual(AirCache):
    """The last ``size`` visual tokens judge, each those up to itself."""

    size: int

    def window(self, instruction: int) -> None:
        return None  # the images may stand anywhere

    def judges(self, prompt: Prompt) -> Tensor:
        return prompt.rows(always.last(prompt.tokens.visual & prompt.tokens.readable, self.size))

    def observe(self, prompt: Prompt) -> Seen:
        visual = prompt.tokens.visual & prompt.tokens.readable
        scores = ops.window_scores(
            prompt.queries,
            prompt.keys,
            self.judges(prompt),
            visual=visual,
            valid=visual,  # text is no part of the softmax
            scale=prompt.scale,
            heads=self.heads,
            softmax="full",
        )
        statistics = ops.moments(scores, **prompt.tokens._asdict())
        return Seen((scores,), statistics=statistics, window=prompt.window)
