"""A prompt in several forwards: when it is over, and that all of its instruction is heard."""

import models
import pytest
import torch
from each_method import EACH_METHOD_BOTH_WAYS
from models import Prompt
from torch import Tensor
from transformers import DynamicCache
from versions import since

from aircache_ext.hf import CompressedCache


@pytest.fixture
def prompt():
    """LLaVA's prompt as embeddings, which can be cut anywhere: 3 text, 16 visual, 8 text tokens;
    and 2 left-padded, 3, 16, 1, 16 and 9 in the second row's place if asked for."""

    def make(*prompts: Prompt) -> tuple[dict[str, Tensor], Tensor]:
        model, x = models.build("llava"), models.inputs("llava", *prompts)
        visual = x["input_ids"] == models.IMAGE
        with torch.no_grad():
            image = torch.cat(list(model.get_image_features(x["pixel_values"]).pooler_output))
            embeds = model.get_input_embeddings()(x["input_ids"])
        embeds[visual] = image
        mask = x["attention_mask"]
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        return {"inputs_embeds": embeds, "attention_mask": mask, "position_ids": positions}, visual

    return make


def read(cache, x: dict[str, Tensor], *cuts: int) -> tuple[Tensor, list[bool]]:
    """Chunks that end at ``cuts``; returns the last logits, and whether each chunk evicted."""
    model, evicted, start = models.build("llava"), [], 0
    for end in [*cuts, x["inputs_embeds"].shape[1]]:
        chunk = {
            "inputs_embeds": x["inputs_embeds"][:, start:end],
            "attention_mask": x["attention_mask"][:, :end],
            "position_ids": x["position_ids"][:, start:end],
        }
        with torch.no_grad():
            logits = model(**chunk, past_key_values=cache).logits
        evicted.append(cache.layers[0].compressed)
        start = end
    return logits[:, -1], evicted


def kept(cache) -> list[list]:
    return [layer.positions.tolist() for layer in cache._compressible.values()]


@EACH_METHOD_BOTH_WAYS
def test_chunks_equal_one_forward(method, prompt):
    """Also where the first holds nothing but text."""
    x, visual = prompt(models.question(1), Prompt((3, "image", 1, "image", 20), 2))
    model, length = models.build("llava"), visual.shape[1]
    options = dict(retention=0.3, visual=visual, method=method)
    with CompressedCache(model, **options) as whole:
        logits, _ = read(whole, x)
    for cuts in ([2, 40], [10, 40], [length - 19], [length - 20, length - 3], range(7, length, 7)):
        with CompressedCache(model, **options, prompt_length=length) as cache:
            chunked, evicted = read(cache, x, *cuts)
        assert evicted == [False] * len(cuts) + [True]
        assert kept(cache) == kept(whole)
        torch.testing.assert_close(chunked, logits, atol=1e-5, rtol=0)


def test_without_its_length_a_prompt_ends_with_text_after_every_rows_last_image(prompt):
    x, visual = prompt(models.question(1), Prompt(("image", 4, "image", 4), 2))
    model = models.build("llava")
    length = visual.shape[1]  # the second row's images end before its last 4 tokens
    with CompressedCache(model, retention=0.3, visual=visual) as whole:
        read(whole, x)
    with CompressedCache(model, retention=0.3, visual=visual) as cache:
        _, evicted = read(cache, x, 20, length - 4)
    assert evicted == [False, False, True]
    assert kept(cache) == kept(whole)
    with CompressedCache(model, retention=0.3, visual=visual) as cache:
        with pytest.warns(UserWarning, match="fewer than 4 tokens"):
            _, evicted = read(cache, x, length - 2)
    assert evicted == [True, True]
    assert kept(cache) != kept(whole)  # judged by one token of the question


def test_a_window_across_chunks_is_the_last_tokens(prompt):
    """max_window counts from the end of the prompt, wherever chunks begin."""
    x, visual = prompt(Prompt((2, "image", 30), 1))
    model, length = models.build("llava"), visual.shape[1]
    options = dict(retention=0.3, visual=visual, max_window=12, prompt_length=length)
    with CompressedCache(model, **options) as whole:
        read(whole, x)
    with CompressedCache(model, **options) as cache:
        read(cache, x, length - 25, length - 5)
    assert kept(cache) == kept(whole)


@since(23, "images in a chunked prefill of generate")
@torch.no_grad()
def test_chunked_prefill_of_generate():
    name = "qwen2_5_vl"
    model, x = models.build(name), models.inputs(name, models.question(1))
    features = model.get_image_features(x["pixel_values"], x["image_grid_thw"], return_dict=True)
    encoded = {k: v for k, v in x.items() if k != "pixel_values"}
    encoded["mm_encoder_outputs"] = {"image": features}
    options = dict(max_new_tokens=5, do_sample=False)
    full = model.generate(**x, past_key_values=DynamicCache(config=model.config), **options)
    length = x["input_ids"].shape[1]
    outputs = []
    for retention in (1.0, 0.3):
        with CompressedCache(model, retention=retention) as cache:
            whole = model.generate(**x, past_key_values=cache, **options)
        with CompressedCache(model, retention=retention, prompt_length=length) as chunks:
            ours = model.generate(
                **encoded, past_key_values=chunks, prefill_chunk_size=9, **options
            )
        assert kept(chunks) == kept(cache)
        assert torch.equal(ours, whole)
        outputs.append(ours)
    assert torch.equal(outputs[0], full)
