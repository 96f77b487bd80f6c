"""What the compressed model says is what the full one says with the evicted keys masked out."""

import models
import pytest
import torch
from models import FAMILIES, Prompt
from reference_attention import FullModel
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import flash_attention_mask
from versions import families

from aircache_ext.hf import CompressedCache
from aircache_ext.methods import PrefixKV, SnapKV

EVERY_FAMILY = pytest.mark.parametrize("name", families(*FAMILIES))


@EVERY_FAMILY
@torch.no_grad()
def test_keeping_everything_changes_nothing(name):
    """Logits to rounding, and the same tokens."""
    model, x = models.build(name), models.inputs(name, models.question())
    greedy = dict(
        max_new_tokens=6, do_sample=False, output_logits=True, return_dict_in_generate=True
    )
    full = model.generate(**x, **greedy)
    with CompressedCache(model, retention=1.0) as cache:
        ours = model.generate(**x, past_key_values=cache, **greedy)
        assert all(layer.compressed for layer in cache._compressible.values())
    assert torch.equal(ours.sequences, full.sequences)
    torch.testing.assert_close(
        torch.stack(ours.logits), torch.stack(full.logits), atol=1e-5, rtol=0
    )


class Conversation:
    """The same forwards over a compressed cache and in full, compared wherever a token stands."""

    def __init__(self, name: str, cache: CompressedCache) -> None:
        self.model, self.cache = models.build(name), cache
        self.full = FullModel(self.model)
        self.mask = torch.empty(0)
        if hasattr(self.model.model, "rope_deltas"):
            self.model.model.rope_deltas = None  # of the model's last conversation

    def read(self, turn: dict[str, torch.Tensor]) -> None:
        x = turn
        if self.cache.get_seq_length():
            x = models.follow(self.model, self.mask, turn, self.cache)
        self.mask = x["attention_mask"]
        ours = self.model(**x, past_key_values=self.cache).logits
        full = self.full(**x).logits
        told = turn["attention_mask"].bool()
        torch.testing.assert_close(ours[told], full[told], atol=1e-4, rtol=0)
        self.full.evict(self.cache)


@EVERY_FAMILY
@torch.no_grad()
def test_a_conversation_equals_masking(name):
    """Three rows with images of their own and padding, an answer, a chunk of five, a second image
    with padding in the middle, and the answer to that."""
    model = models.build(name)
    first = models.inputs(
        name,
        models.question(1),
        Prompt((2, "image", 5), 2),
        Prompt((2, "image", 3, "image", 9), 3),
    )
    second = models.inputs(name, *(Prompt((2, "image", n), n) for n in (6, 9, 4)))
    with CompressedCache(model, retention=0.2) as cache:
        talk = Conversation(name, cache)
        talk.read(first)
        kept = cache.report().kept
        assert len({tuple(rows) for rows in kept.values()}) > 1  # layers differ
        for step in range(8):
            talk.read(models.text(3, 1, step))
        talk.read(models.text(3, 5))
        before = cache.report().kept
        talk.read(second)
        after = cache.report().kept
        new = second["attention_mask"].sum(1).tolist()
        for layer in kept:  # the new turn lost tokens too, the old ones stay
            grown = [a - b for a, b in zip(after[layer], before[layer], strict=True)]
            assert all(0 < g < n for g, n in zip(grown, new, strict=True))
        for step in range(2):
            talk.read(models.text(3, 1, 10 + step))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize(
    "options",
    [
        {"heads": "per_kv_head"},
        {"budget": 3, "alpha": 0.0},
        {"budget": 3, "method": SnapKV(window_size=4, evict_text=True)},
        {"retention": 0.4, "method": PrefixKV(evict_text=True)},
    ],
    ids=str,
)
@torch.no_grad()
def test_options(attention, options):
    model = models.build("qwen3_vl", attention)
    first = models.inputs("qwen3_vl", models.question(1), Prompt((1, "image", 4), 2))
    with CompressedCache(model, **options) as cache:
        talk = Conversation("qwen3_vl", cache)
        talk.model, talk.full = model, FullModel(model)
        talk.read(first)
        talk.read(models.text(2, 1))
        talk.read(models.text(2, 5))


@torch.no_grad()
def test_video():
    """Video tokens are visual: mm_token_type_ids of 2, pixels of their own."""
    name = "qwen2_5_vl"
    model, x = models.build(name), models.inputs(name, models.question())
    x["input_ids"][x["input_ids"] == models.IMAGE] = models.VIDEO
    x["mm_token_type_ids"] *= 2
    x["pixel_values_videos"] = x.pop("pixel_values")
    x["video_grid_thw"] = torch.tensor([[2, 6, 4]])
    del x["image_grid_thw"]
    with CompressedCache(model, retention=0.2) as cache:
        talk = Conversation(name, cache)
        talk.read(x)
        assert sum(row[0] for row in cache.report().kept.values()) == 3 * (3 + 8) + round(0.2 * 36)
        talk.read(models.text(1, 1))


@torch.no_grad()
def test_half_precision_stays_finite_and_close():
    """bf16, as checkpoints come: fully masked slots must not become NaN."""
    name = "qwen2_5_vl"
    x = models.inputs(name, models.question(1), Prompt((1, "image", 4), 2))
    model = models.build(name)
    model.to(torch.bfloat16)
    try:
        with CompressedCache(model, retention=0.2) as cache:
            made = model.generate(
                **x, past_key_values=cache, max_new_tokens=4, output_logits=True,
                return_dict_in_generate=True, do_sample=False,
            )  # fmt: skip
        assert torch.stack(made.logits).isfinite().all()
    finally:
        models.build.cache_clear()


@torch.no_grad()
def test_over_an_implementation_whose_mask_is_padding_alone():
    """As flash attention's: `[batch, seen + new]`, and causality is the function's own."""

    def attend(module, query, key, value, attention_mask, **options):
        new, seen = query.shape[2], key.shape[2]
        mask = torch.ones(new, seen, dtype=torch.bool).tril(seen - new)[None, None]
        if attention_mask is not None:
            mask = mask & attention_mask[:, None, None].bool()
        return sdpa_attention_forward(module, query, key, value, mask, **options)

    AttentionInterface.register("padding_alone", attend)
    AttentionMaskInterface.register("padding_alone", flash_attention_mask)
    name = "llava"
    model = models.build(name)
    model.config.text_config._attn_implementation = "padding_alone"
    try:
        with CompressedCache(model, retention=0.2) as cache:
            talk = Conversation(name, cache)
            talk.read(models.inputs(name, models.question(1), Prompt((2, "image", 5), 2)))
            padded = models.text(2, 5)
            padded["attention_mask"][1, 3:] = 0
            for turn in (models.text(2, 1), padded, models.text(2, 1)):
                talk.read(turn)
    finally:
        model.config.text_config._attn_implementation = "sdpa"
