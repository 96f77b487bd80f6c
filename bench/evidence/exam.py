"""A batch of questions that is read once, and its answers judged over any cache made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import LlavaForConditionalGeneration, LlavaProcessor

import processor
from aircache_ext.hf import CompressedCache, PromptCache
from aircache_ext.methods import AirCache, Method
from dataset import Example
from foresight import Foresight, foreseen

AIRCACHE = AirCache()


@dataclass(frozen=True)
class Verdict:
    """How right the answers are when every token is judged with those before it given."""

    exact: Tensor  # [batch] bool; then decoding greedily gives just this answer
    # [batch] float, the share of the tokens that are right, from the second on: the first comes out
    # of the prefill, before anything is dropped. The end of the answer is one of them.
    tokens: Tensor
    kept: Tensor  # [batch] float, the share of the visual tokens that was there, over all layers


class Exam:
    """``with Exam(model, process, examples) as exam: ...`` reads the questions.

    Answers are given in one forward over a cache: as the padding comes last, no token of an answer
    looks at it.
    """

    def __init__(
        self,
        model: LlavaForConditionalGeneration,
        process: LlavaProcessor,
        examples: Sequence[Example],
    ) -> None:
        self.model = model
        prompts = [processor.prompt(e.instruction, len(e.images)) for e in examples]
        images = [e.images for e in examples]
        inputs = process(
            images=images, text=prompts, return_tensors="pt", padding=True, padding_side="left"
        ).to(model.device)
        valid = inputs["attention_mask"]
        visual = inputs["input_ids"] == processor.IMAGE
        self.text, self.visual = (valid.sum(1) - visual.sum(1)).cpu(), visual.sum(1).cpu()

        answers = process.tokenizer([f"{e.answer}<|end|>" for e in examples]).input_ids
        answers = [torch.tensor(answer, device=model.device) for answer in answers]
        self.answers = pad_sequence(answers, batch_first=True, padding_value=processor.PAD)
        lengths = torch.tensor([len(answer) for answer in answers], device=model.device)
        token = torch.arange(self.answers.shape[1] - 1, device=model.device)
        # [batch, longest - 1], of the tokens from the second on
        self.judged = token < lengths[:, None] - 1
        self.positions = valid.sum(1, keepdim=True) + token

        self.prompt = PromptCache(model)
        self.inputs = dict(inputs) | {"position_ids": (valid.cumsum(1) - 1).clamp(min=0)}

    def __enter__(self) -> Exam:
        hidden = self._forward(self.prompt, **self.inputs)[:, -1]
        self.first = self.model.lm_head(hidden).argmax(-1) == self.answers[:, 0]  # [batch] bool
        return self

    def __exit__(self, *error: object) -> None:
        self.prompt.close()

    def _forward(self, cache: CompressedCache, **inputs: Tensor) -> Tensor:
        return self.model.model(**inputs, past_key_values=cache, use_cache=True).last_hidden_state

    @cached_property
    def foreseen(self) -> Tensor:
        return foreseen(self)

    def judge(self, method: Method = AIRCACHE, **options: Any) -> Verdict:
        """Over the cache that ``method`` and other ``options`` of ``CompressedCache`` make of what
        was read."""
        if isinstance(method, Foresight):
            method = replace(method, scores=self.foreseen)
        with self.prompt.compressed(method=method, **options) as cache:
            report = cache.report()
            hidden = self._forward(
                cache, input_ids=self.answers[:, :-1], position_ids=self.positions
            )
        said = self.model.lm_head(hidden[self.judged]).argmax(-1)
        right = torch.zeros_like(self.judged)
        right[self.judged] = said == self.answers[:, 1:][self.judged]
        tokens = right.sum(1) / self.judged.sum(1)
        kept = torch.tensor(list(report.kept.values())) - self.text  # [layers, batch]
        return Verdict(
            exact=self.first & (tokens == 1),
            tokens=tokens,
            kept=kept.double().mean(0) / self.visual,
        )
