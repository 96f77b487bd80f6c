"""Conversations of random turns: rows, images, padding and options as they come."""

import random

import models
import pytest
import torch
from each_method import EVICTING_TEXT, METHODS
from models import Prompt
from test_exact import Conversation
from versions import families

from aircache_ext.hf import CompressedCache


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(s, marks=pytest.mark.full) for s in range(1, 40))]
)
@pytest.mark.parametrize("name", families("llava", "qwen3_vl", "gemma3", "qwen3_5"))
@torch.no_grad()
@pytest.mark.filterwarnings("ignore::UserWarning:aircache_ext")
def test_random_conversation(name, seed):
    chance = random.Random(f"{name} {seed}")
    batch = chance.randint(1, 3)

    def prompt() -> Prompt:
        parts = []
        for _ in range(chance.choice([0, 1, 1, 2])):
            parts += [chance.randint(1, 6), "image"]
        return Prompt((*parts, chance.randint(1, 12)), chance.randrange(1000))

    def turn() -> dict[str, torch.Tensor]:
        if chance.random() < 0.4:
            return models.inputs(name, *(prompt() for _ in range(batch)))
        made = models.text(batch, chance.choice([1, 1, 5]), chance.randrange(1000))
        if chance.random() < 0.3:
            made["attention_mask"][chance.randrange(batch), -1] = 0
        return made

    aircache = {
        "heads": chance.choice(["shared", "per_kv_head"]),
        "alpha": chance.choice([0.0, 0.5, 0.9]),
        "max_window": chance.choice([4, 128]),
        "budget_mode": chance.choice(["strength+skewness", "uniform", "pyramid"]),
    }
    other = {"method": chance.choice(METHODS + EVICTING_TEXT)}
    options = {"retention": chance.choice([0.1, 0.3, 0.7])} | chance.choice([aircache, other])
    with CompressedCache(models.build(name), **options) as cache:
        talk = Conversation(name, cache)
        talk.read(models.inputs(name, *(prompt() for _ in range(batch))))
        for _ in range(8):
            talk.read(turn())
        assert cache.report().seen == talk.mask.sum(1).tolist()
