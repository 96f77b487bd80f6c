"""Every script of examples/ runs, and what is done by hand decodes what it should.

The short examples assert their own claims. `by_hand.py` is held against the model's full attention
with the evicted keys masked out: dropping a key must be the same as not attending to it.
`tests/evidence/test_demo.py` has the demo.
"""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

import aircache_ext

EXAMPLES = Path(__file__).parent.parent / "examples"
LONG = {"by_hand.py"}
SCRIPTS = sorted(path.name for path in EXAMPLES.glob("*.py") if path.name != "demo.py")


@pytest.mark.parametrize("name", SCRIPTS)
def test_example_runs(name, capsys):
    assert name in LONG or len((EXAMPLES / name).read_text().splitlines()) <= 60
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    assert capsys.readouterr().out


@pytest.fixture(scope="module")
def by_hand():
    """The example, as a namespace of what it defines."""
    return SimpleNamespace(**runpy.run_path(str(EXAMPLES / "by_hand.py")))


@pytest.fixture(scope="module")
def photo_read(by_hand):
    """A small model and what it holds after reading a picture as a few hundred tokens."""
    model = by_hand.build(layers=4)
    photo = Image.effect_mandelbrot((480, 360), (-2.1, -1.2, 1.1, 1.2), 60).convert("RGB")
    inputs = by_hand.prompt(photo, "What is on the picture?", visual_tokens=300)
    return model, inputs, by_hand.prefill(model, inputs)


def test_prefill_records_the_queries_that_attention_used(by_hand, photo_read):
    """The recorded queries and cached keys give back the model's own attention weights."""
    model, inputs, read = photo_read
    tokens = read.visual.shape[1]
    model.set_attn_implementation({"text_config": "eager", "vision_config": "sdpa"})
    with torch.inference_mode():
        attentions = model(**inputs, output_attentions=True).attentions
    model.set_attn_implementation({"text_config": "sdpa", "vision_config": "sdpa"})
    for attention, query, key in zip(attentions, read.q_windows, read.keys, strict=True):
        window = query.shape[2]
        key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
        logits = query @ key.transpose(2, 3) * query.shape[3] ** -0.5
        causal = torch.ones(window, tokens, dtype=torch.bool).tril(tokens - window)
        recorded = logits.masked_fill(~causal, -torch.inf).softmax(-1)
        torch.testing.assert_close(recorded, attention[:, :, -window:], atol=1e-4, rtol=0)


def test_decoding_over_the_compressed_cache_is_attention_without_the_evicted_keys(
    by_hand, photo_read
):
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    model, _, read = photo_read
    compressed = aircache_ext.compress_layers(
        read.keys, read.values, read.q_windows, visual=read.visual, retention=0.1
    )
    assert len({int(layer.counts[0]) for layer in compressed}) > 1, "lengths should differ"

    def without_evicted(module, query, key, value, attention_mask, **options):
        stays = torch.zeros(1, 1, 1, key.shape[2], dtype=torch.bool)
        stays[..., read.visual.shape[1] :] = True  # the answer so far
        stays[..., compressed[module.layer_idx].indices[0, 0]] = True
        return sdpa_attention_forward(module, query, key, value, stays, **options)

    answer = torch.arange(65, 73)
    kept_keys = [layer.keys for layer in compressed]
    kept_values = [layer.values for layer in compressed]
    _, over_kept = by_hand.decode(model, read, kept_keys, kept_values, len(answer), forced=answer)
    _, over_all = by_hand.decode(model, read, read.keys, read.values, len(answer), forced=answer)

    AttentionInterface.register("without_evicted", without_evicted)
    AttentionMaskInterface.register("without_evicted", lambda *_, **__: None)
    model.set_attn_implementation({"text_config": "without_evicted", "vision_config": "sdpa"})
    _, masked = by_hand.decode(model, read, read.keys, read.values, len(answer), forced=answer)
    model.set_attn_implementation({"text_config": "sdpa", "vision_config": "sdpa"})

    torch.testing.assert_close(over_kept, masked, atol=1e-4, rtol=0)
    assert (over_all - masked).abs().max() > 1e-2, "eviction should be visible at all"


def test_decoding_continues_where_one_long_prefill_would(by_hand, photo_read):
    """Over the full cache, token by token with explicit positions, against one forward over all."""
    model, inputs, read = photo_read
    answer = torch.arange(65, 73)
    _, stepwise = by_hand.decode(model, read, read.keys, read.values, len(answer), forced=answer)
    input_ids = torch.cat([inputs["input_ids"], answer[None]], 1)
    token_types = (input_ids == by_hand.IMAGE).int()
    longer = {**inputs, "input_ids": input_ids, "mm_token_type_ids": token_types}
    with torch.inference_mode():
        at_once = model(**longer).logits[0, -len(answer) - 1 : -1]
    torch.testing.assert_close(stepwise, at_once, atol=1e-4, rtol=0)
