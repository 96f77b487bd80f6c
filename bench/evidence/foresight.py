"""A bound: the visual tokens that the answer will look at, told by the answer itself."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from aircache_ext.hf import PromptCache
from aircache_ext.methods import Method, Prompt, Seen

if TYPE_CHECKING:
    from exam import Exam

MAX_WINDOW = 1024  # more than any of the prompts has tokens


@dataclass(frozen=True, kw_only=True)
class Foresight(Method):
    """Every layer keeps, alike many, what the answer's tokens attend to most: their mean over the
    full cache, by the model's own softmax. No method can know that when the prompt has been read;
    what is wrong even then, attention does not tell."""

    scores: Tensor | None = field(default=None, compare=False, repr=False)  # [L, B, 1, S]

    def observe(self, prompt: Prompt) -> Seen:
        assert self.scores is not None, "an exam tells them"
        return Seen((self.scores,))


@dataclass(frozen=True, kw_only=True)
class _Answering(Method):
    """Leaves behind what the last tokens attend to."""

    judges: Tensor  # [B, S] bool
    seen: list[Tensor] = field(default_factory=list)

    def window(self, instruction: int) -> int:
        return instruction

    def observe(self, prompt: Prompt) -> Seen:
        visual = prompt.tokens.visual & prompt.tokens.readable
        self.seen.append(prompt.scores(self.judges, visual, heads="shared"))
        return Seen((self.seen[-1],))


def foreseen(exam: Exam) -> Tensor:
    """``[L, B, 1, S]``: of the exam's prompts, from prompts that go on with the answers."""
    inputs, asked = exam.inputs, torch.zeros_like(exam.inputs["input_ids"], dtype=torch.bool)
    method = _Answering(judges=torch.cat([asked, exam.judged], 1))
    with closing(PromptCache(exam.model)) as cache:
        exam.model.model(
            input_ids=torch.cat([inputs["input_ids"], exam.answers[:, :-1]], 1),
            pixel_values=inputs["pixel_values"],
            attention_mask=torch.cat([inputs["attention_mask"], exam.judged.long()], 1),
            position_ids=torch.cat([inputs["position_ids"], exam.positions], 1),
            past_key_values=cache,
            use_cache=True,
        )
        cache.compressed(method=method, max_window=MAX_WINDOW).close()
    [scores] = method.seen
    return scores[..., : asked.shape[1]].contiguous()
