"""Examples as the model's inputs, for training and for judging with the answer given."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import LlavaForConditionalGeneration, LlavaProcessor

import processor
from dataset import Example

IGNORED = -100  # as a target


@dataclass(frozen=True)
class Batch:
    input_ids: Tensor  # [batch, seq], padded on the right
    pixel_values: Tensor  # [pictures, 3, height, width]
    targets: Tensor  # [batch, seq], the next token where that is the answer's, else IGNORED

    def to(self, device: torch.device | str) -> "Batch":
        tensors = (self.input_ids, self.pixel_values, self.targets)
        return Batch(*(tensor.to(device) for tensor in tensors))


def make(examples: Sequence[Example], process: LlavaProcessor) -> Batch:
    prompts = [processor.prompt(e.instruction, len(e.images)) for e in examples]
    texts = [f"{p}{e.answer}<|end|>" for p, e in zip(prompts, examples, strict=True)]
    images = [e.images for e in examples]
    inputs = process(
        images=images, text=texts, return_tensors="pt", padding=True, padding_side="right"
    )
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    targets = torch.full_like(ids, IGNORED)
    for row, example in enumerate(examples):
        last = int(mask[row].sum())
        first = last - 1 - len(process.tokenizer(example.answer).input_ids)
        targets[row, first - 1 : last - 1] = ids[row, first:last]
    return Batch(ids, inputs["pixel_values"], targets)


def answer_logits(model: LlavaForConditionalGeneration, batch: Batch) -> tuple[Tensor, Tensor]:
    """Logits [answer tokens, vocabulary] and targets [answer tokens]: nothing else is predicted.

    Without a mask: the padding comes last, where no answer's token looks at it.
    """
    hidden = model.model(
        input_ids=batch.input_ids,
        pixel_values=batch.pixel_values,
        use_cache=False,
    ).last_hidden_state
    answers = batch.targets != IGNORED
    return model.lm_head(hidden[answers]), batch.targets[answers]


@dataclass(frozen=True)
class Right:
    """How much of the answers is right when every token is judged with those before it given."""

    tokens: Tensor  # [batch] float, share of the tokens
    exact: Tensor  # [batch] bool; then decoding greedily gives just this answer

    @staticmethod
    def judge(logits: Tensor, targets: Tensor, batch: Batch) -> "Right":
        answers = batch.targets != IGNORED
        right = torch.zeros(answers.shape, device=answers.device)
        right[answers] = (logits.argmax(-1) == targets).float()
        share = right.sum(1) / answers.sum(1)
        return Right(share, share == 1)


def parameters(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())
