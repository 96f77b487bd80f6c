"""The window of the paper's ablation that AirCache does not have: visual tokens judge."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from aircache_ext import ops
from aircache_ext.methods import AirCache, Prompt, Seen, Tokens, always


@dataclass(frozen=True, kw_only=True)
class LastVisual(AirCache):
    """The last ``size`` visual tokens judge, each those up to itself."""

    softmax: ClassVar[ops.Softmax] = "full"

    size: int

    def window(self, instruction: int) -> None:
        return None  # the images may stand anywhere

    def judges(self, prompt: Prompt) -> Tensor:
        return prompt.rows(always.last(prompt.tokens.visual & prompt.tokens.readable, self.size))

    def observe(self, prompt: Prompt) -> Seen:
        visual = prompt.tokens.visual & prompt.tokens.readable
        # Text is no part of the softmax: as if there were none.
        return super().observe(prompt._replace(tokens=Tokens(visual, visual)))
