"""A model answers a question about a picture, over any cache."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import Cache, TextStreamer

from aircache_ext.cli.patches import grid_of, kept_cells, kept_tokens, seen_part
from aircache_ext.cli.story import Answer, Story
from aircache_ext.hf import CompressedCache
from aircache_ext.hf.visual import visual_tokens


class Clock(TextStreamer):
    """Notes when tokens come, and prints the answer meanwhile if that is wanted."""

    def __init__(self, tokenizer: Any, aloud: bool) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self.aloud = aloud
        self.times: list[float] = []

    def put(self, value: Tensor) -> None:
        self.times.append(time.perf_counter())  # the prompt comes first
        super().put(value)

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        if self.aloud:
            super().on_finalized_text(text, stream_end)


@torch.inference_mode()
def read_once(model: Any, inputs: Mapping[str, Tensor]) -> None:
    """The first forward warms libraries up, which belongs to no answer's time."""
    model(**inputs, use_cache=False, logits_to_keep=1)


@torch.inference_mode()
def ask(
    model: Any,
    tokenizer: Any,
    inputs: Mapping[str, Tensor],
    cache: Cache,
    max_new_tokens: int,
    aloud: bool = True,
) -> Answer:
    """The greedy answer; ``aloud``: it is printed as it comes."""
    clock = Clock(tokenizer, aloud)
    begin = time.perf_counter()
    ids = model.generate(
        **inputs,
        past_key_values=cache,
        max_new_tokens=max_new_tokens,
        do_sample=False,
        streamer=clock,
    )
    answer = ids[0, inputs["input_ids"].shape[1] :]
    tokens = clock.times[1:]
    compression = cache.report().seconds if isinstance(cache, CompressedCache) else 0.0
    return Answer(
        text=tokenizer.decode(answer, skip_special_tokens=True).strip(),
        tokens=len(answer),
        prefill=tokens[0] - begin - compression,
        compression=compression,
        per_token=(tokens[-1] - tokens[0]) / max(len(tokens) - 1, 1),
        cache_bytes=sum(cache_bytes(layer) for layer in cache.layers),
    )


def cache_bytes(layer: Any) -> int:
    """Of keys and values; layers of other kinds hold little."""
    states = (getattr(layer, name, None) for name in ("keys", "values"))
    return sum(tensor.nbytes for tensor in states if tensor is not None)


def tell(
    model: Any,
    processor: Any,
    question: str,
    photo: Image.Image,
    inputs: Mapping[str, Tensor],
    cache: CompressedCache,
    compressed: Answer,
    full: Answer | None,
    **known: str,
) -> Story:
    """What happened to ``cache``; ``known`` is what else the story holds."""
    told = visual_tokens(model.config, inputs, 0, inputs["input_ids"].shape[1])
    assert told is not None  # or the cache would not have known either
    visual = told[0].cpu()
    count = int(visual.sum())
    grid = grid_of(inputs, count)
    layers = {i: layer for i, layer in enumerate(cache.layers) if hasattr(layer, "positions")}
    positions = {i: layer.positions[0].cpu() for i, layer in layers.items()}
    kept = {i: kept_tokens(held, visual) for i, held in positions.items()}
    token_bytes = {i: cache_bytes(layer) // layer.slots for i, layer in layers.items()}
    return Story(
        model=type(model).__name__,
        question=question,
        photo=seen_part(photo, processor.image_processor),
        visual_tokens=count,
        text_tokens=len(visual) - count,
        kept=kept,
        grid=grid,
        cells={i: kept_cells(held, visual, grid) for i, held in positions.items()},
        visual_bytes=(
            count * sum(token_bytes.values()),
            sum(kept[i] * token_bytes[i] for i in layers),
        ),
        compressed=compressed,
        full=full,
        **known,
    )
