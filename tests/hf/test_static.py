"""The static form says what the dynamic form says, and compiles into one graph."""

import models
import pytest
import torch
from models import Prompt
from versions import families

from aircache_ext.hf import CompressedCache

PROMPTS = (models.question(1), Prompt((2, "image", 12), 2))


class Decoding:
    """The same forwards over a static cache and over a dynamic one."""

    def __init__(self, name: str, room: int = 16, **options) -> None:
        self.name, self.model = name, models.build(name)
        self.dynamic = CompressedCache(self.model, retention=0.2, **options)
        self.static = CompressedCache(self.model, retention=0.2, max_new_tokens=room, **options)
        self.mask = torch.empty(0)

    def read_prompt(self, *prompts: Prompt) -> None:
        x = models.inputs(self.name, *prompts)
        self.mask = x["attention_mask"]
        for cache in (self.dynamic, self.static):
            if hasattr(self.model.model, "rope_deltas"):
                self.model.model.rope_deltas = None  # of the model's last conversation
            self.model(**x, past_key_values=cache)

    def read(self, turn) -> None:
        x = models.follow(self.model, self.mask, turn, self.dynamic)
        self.mask = x["attention_mask"]
        ours = self.model(**x, past_key_values=self.static).logits
        expected = self.model(**x, past_key_values=self.dynamic).logits
        told = turn["attention_mask"].bool()
        torch.testing.assert_close(ours[told], expected[told], atol=1e-5, rtol=0)

    def close(self) -> None:
        self.dynamic.close()
        self.static.close()


@pytest.mark.parametrize("name", families("qwen2_5_vl", "llava", "gemma3"))
@pytest.mark.parametrize("heads", ["shared", "per_kv_head"])
@torch.no_grad()
def test_it_says_what_the_dynamic_form_says(name, heads):
    """Two rows of unequal length, layers of unequal length, eight steps and a chunk of five."""
    talk = Decoding(name, heads=heads)
    talk.read_prompt(*PROMPTS)
    assert len({tuple(rows) for rows in talk.static.report().kept.values()}) > 1
    for step in range(8):
        talk.read(models.text(2, 1, step))
    talk.read(models.text(2, 5))
    talk.read(models.text(2, 1))
    ours, expected = talk.static.report(), talk.dynamic.report()
    assert (ours.kept, ours.seen) == (expected.kept, expected.seen)
    talk.close()
