"""TOVA: the last token alone judges."""

from dataclasses import dataclass

from aircache_ext import _checks, ops
from aircache_ext.methods import always
from aircache_ext.methods.method import Method, Prompt, Seen


@dataclass(frozen=True, kw_only=True)
class TOVA(Method):
    """TOVA (arXiv 2401.06104), once, at the end of the prompt: the attention of its last token.

    All layers keep equally many tokens, the last among them.

    The paper evicts one token at every step of decoding; here the prompt is cut once, and the
    answer is kept.

    Args:
        heads: ``"shared"``: one set of tokens for all KV heads, by the mean over all query heads.
            Or ``"per_kv_head"``.
        evict_text: whether text competes with visual tokens. If not, all of it stays.
    """

    heads: ops.Heads = "shared"
    evict_text: bool = False

    def __post_init__(self) -> None:
        _checks.check_heads(self.heads)
        _checks.check_flag("evict_text", self.evict_text)

    def observe(self, prompt: Prompt) -> Seen:
        readable = prompt.tokens.readable
        judge = always.last(readable, 1)
        scores = prompt.scores(judge, readable, self.heads)
        return Seen((always.keep(scores, judge),), judged=prompt.judged(judge))
