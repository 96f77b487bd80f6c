"""AirCache with the model's own softmax: strength is then how much of its attention is visual."""

from dataclasses import dataclass

from aircache_ext import ops
from aircache_ext.methods import AirCache, Prompt, Seen


@dataclass(frozen=True, kw_only=True)
class FullSoftmax(AirCache):
    """The elite tokens' attention is over all that they see, text that is not elite included."""

    def observe(self, prompt: Prompt) -> Seen:
        tokens = prompt.tokens._asdict()
        scores = ops.window_scores(
            prompt.queries,
            prompt.keys,
            self.judges(prompt),
            scale=prompt.scale,
            heads=self.heads,
            softmax="full",
            **tokens,
        )
        return Seen((scores,), statistics=ops.moments(scores, **tokens), window=prompt.window)
