"""What a model answers over each of the caches that are compared."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from transformers import Cache, DynamicCache

from aircache_ext.evaluate.data import Question
from aircache_ext.evaluate.no_visual import NoVisual
from aircache_ext.evaluate.variants import FULL_CACHE, METHODS, NO_VISUAL, Variant
from aircache_ext.hf import CompressedCache
from aircache_ext.hf.checkpoint import read
from aircache_ext.hf.picture import open_picture


@torch.inference_mode()
def answers(
    model: Any,
    processor: Any,
    questions: Sequence[Question],
    variants: Sequence[Variant],
    max_new_tokens: int,
) -> list[list[str]]:
    """Greedy answers to a batch of questions, ``[variant][question]``."""
    pictures = [[open_picture(path) for path in question.images] for question in questions]
    inputs = read(processor, pictures, [question.text for question in questions])
    inputs = inputs.to(model.device, model.dtype)
    prompt = inputs["input_ids"].shape[1]
    said = []
    for variant in variants:
        with _cache(model, processor, variant) as cache:
            ids = model.generate(
                **inputs,
                past_key_values=cache,
                max_new_tokens=max_new_tokens,
                do_sample=False,
                num_beams=1,
            )
        texts = processor.tokenizer.batch_decode(ids[:, prompt:], skip_special_tokens=True)
        said.append([text.strip() for text in texts])
    return said


def _cache(model: Any, processor: Any, variant: Variant) -> AbstractContextManager[Cache]:
    if variant.method == FULL_CACHE:
        return nullcontext(DynamicCache(config=model.config))
    if variant.method == NO_VISUAL:
        return CompressedCache(model, method=NoVisual(), processor=processor)
    return CompressedCache(
        model,
        retention=variant.retention,
        method=METHODS[variant.method],
        processor=processor,
    )
