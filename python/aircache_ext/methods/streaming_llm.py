"""StreamingLLM: the first tokens and the most recent ones."""

from dataclasses import dataclass

import torch

from aircache_ext import _checks
from aircache_ext.methods import always
from aircache_ext.methods.method import Method, Prompt, Seen


@dataclass(frozen=True, kw_only=True)
class StreamingLLM(Method):
    """StreamingLLM (arXiv 2309.17453), once, at the end of the prompt: sinks and recent tokens.

    The first ``sinks`` tokens of the prompt stay, and as many of the last as the budget has room
    for after them. Where text is not evicted, these are the last tokens of the images. Nobody
    judges.

    The paper and its code (mit-han-lab/streaming-llm) evict at every step and number the tokens
    anew within the cache; here keys keep their rotation, and the answer goes on from the original
    position.

    Args:
        sinks: tokens.
        evict_text: whether text competes with visual tokens. If not, all of it stays.
    """

    sinks: int = 4
    evict_text: bool = False

    def __post_init__(self) -> None:
        _checks.check_count("sinks", self.sinks, least=0)
        _checks.check_flag("evict_text", self.evict_text)

    def observe(self, prompt: Prompt) -> Seen:
        readable = prompt.tokens.readable
        position = torch.arange(readable.shape[1], dtype=torch.float32, device=readable.device)
        recency = torch.where(
            always.first(readable, self.sinks), 2 * readable.shape[1] - position, position
        )
        return Seen((recency.expand(len(prompt.keys), -1, -1).unsqueeze(2).contiguous(),))
