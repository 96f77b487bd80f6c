"""Examples as the model's inputs, for training and for judging with the answer given."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import LlavaForConditionalGeneration, LlavaProcessor

import processor
from dataset import Example

IGNORED = -100  # as a target
PICTURE, PADDING = 0, -1  # in place of a question's number


@dataclass(frozen=True)
class Batch:
    """Rows of a picture and the questions about it, each of which sees the picture and itself.

    So a picture, which is most of a row's tokens, is read once for all its questions, and each is
    answered as if it stood alone.
    """

    input_ids: Tensor  # [batch, seq], padded on the right
    questions: Tensor  # [batch, seq]: which one a token belongs to, from 1; or PICTURE, PADDING
    positions: Tensor  # [batch, seq]: every question's go on where the picture's end
    pixel_values: Tensor  # [pictures, 3, height, width]
    targets: Tensor  # [batch, seq], the next token where that is an answer's, else IGNORED

    def to(self, device: torch.device | str) -> "Batch":
        return Batch(**{name: tensor.to(device) for name, tensor in vars(self).items()})

    @property
    def mask(self) -> Tensor | None:
        """``[batch, 1, seq, seq]`` bool: what every token sees; None: all before it, where rows
        have one question and only padding comes behind."""
        if self.questions.max() <= 1:
            return None
        same = self.questions[:, :, None] == self.questions[:, None]
        return (same | (self.questions[:, None] == PICTURE)).tril()[:, None]


def make(groups: Sequence[Sequence[Example]], process: LlavaProcessor) -> Batch:
    """A row for each of the ``groups``: examples with the same pictures."""
    tokenize = process.tokenizer
    heads = process(
        images=[group[0].images for group in groups],
        text=[processor.pictures(len(group[0].images)) for group in groups],
        return_tensors="pt",
        padding=True,
        padding_side="right",
    )
    rows: list[dict[str, Tensor]] = []
    for group, ids, mask in zip(groups, heads["input_ids"], heads["attention_mask"], strict=True):
        head = ids[mask.bool()].tolist()
        row = {
            "input_ids": list(head),
            "questions": [PICTURE] * len(head),
            "positions": list(range(len(head))),
            "targets": [IGNORED] * len(head),
        }
        for number, example in enumerate(group, 1):
            question = tokenize(processor.question(example.instruction)).input_ids
            answer = tokenize(f"{example.answer}<|end|>").input_ids
            new = len(question) + len(answer)
            row["input_ids"] += question + answer
            row["questions"] += [number] * new
            row["positions"] += range(len(head), len(head) + new)
            row["targets"] += [IGNORED] * (len(question) - 1) + answer + [IGNORED]
        rows.append({name: torch.tensor(column) for name, column in row.items()})
    fill = {"input_ids": processor.PAD, "questions": PADDING, "positions": 0, "targets": IGNORED}
    columns = {
        name: pad_sequence([row[name] for row in rows], batch_first=True, padding_value=value)
        for name, value in fill.items()
    }
    return Batch(pixel_values=heads["pixel_values"], **columns)


def answer_logits(model: LlavaForConditionalGeneration, batch: Batch) -> tuple[Tensor, Tensor]:
    """Logits [answer tokens, vocabulary] and targets [answer tokens]: nothing else is predicted.

    Pictures may be of any size: the tower's positions are interpolated.
    """
    embeddings = model.get_input_embeddings()(batch.input_ids)
    features = model.model.get_image_features(batch.pixel_values, interpolate_pos_encoding=True)
    images = torch.cat(tuple(features.pooler_output))[None]  # [1, visual tokens, hidden]
    visual = model.model.get_placeholder_mask(batch.input_ids, embeddings, images)
    hidden = model.model(
        inputs_embeds=embeddings.masked_scatter(visual, images),
        attention_mask=batch.mask,
        position_ids=batch.positions,
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
