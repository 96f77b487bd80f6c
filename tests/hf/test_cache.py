"""The cache as a transformers `Cache`, and what it says when something is wrong."""

import warnings

import models
import pytest
import torch
from models import Prompt
from reference_attention import FullModel
from torch import Tensor
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM, MistralConfig

from aircache_ext.hf import CompressedCache, next_positions
from aircache_ext.methods import AirCache, SnapKV

PADDED = (models.question(1), Prompt((2, "image", 4), 2))


@pytest.fixture
def llava():
    return models.build("llava")


@pytest.fixture
def talk(llava):
    """A padded batch, read in full and compressed, and how to compare a next forward."""

    class Talk:
        x = models.inputs("llava", *PADDED)

        def __init__(self):
            self.full = FullModel(llava)
            self.cache = CompressedCache(llava, retention=0.3)
            self.mask = self.x["attention_mask"]
            with torch.no_grad():
                llava(**self.x, past_key_values=self.cache)
                self.full(**self.x)
            self.full.evict(self.cache)
            self.positions = [layer.positions for layer in self.cache.layers]

        @torch.no_grad()
        def step(self, new: int = 1, seed: int = 0, padding: int = 0) -> None:
            """New tokens, of which the first row's last are padding."""
            turn = models.text(len(self.mask), new, seed)
            turn["attention_mask"][0, new - padding :] = 0
            y = models.follow(llava, self.mask, turn, self.cache)
            self.mask = y["attention_mask"]
            ours = llava(**y, past_key_values=self.cache).logits
            full, told = self.full(**y).logits, turn["attention_mask"].bool()
            torch.testing.assert_close(ours[told], full[told], atol=1e-4, rtol=0)
            assert self.cache.report().seen == self.mask.sum(1).tolist()

        def select(self, rows: list[int]) -> None:
            """The rows that all but the cache go on with."""
            self.positions = [positions[rows] for positions in self.positions]
            self.full.cache.reorder_cache(torch.tensor(rows))
            self.full.evicted = {i: e[rows] for i, e in self.full.evicted.items()}
            self.mask = self.mask[rows]

    talk = Talk()
    yield talk
    talk.cache.close()


def test_reorder_repeat_and_select(talk):
    talk.cache.reorder_cache(torch.tensor([1, 0]))
    talk.select([1, 0])
    talk.step()
    talk.cache.batch_repeat_interleave(2)
    talk.select([0, 0, 1, 1])
    talk.step(3)
    talk.cache.batch_select_indices(torch.tensor([3, 0]))
    talk.select([3, 0])
    talk.step()
    talk.cache.batch_select_indices(torch.tensor([False, True]))
    talk.select([1])
    talk.step()
    for layer, positions in zip(talk.cache.layers, talk.positions, strict=True):
        assert torch.equal(layer.positions[:, :, : positions.shape[2]], positions)


def test_padding_inside_a_conversation(talk):
    """Of a text turn, of an answer that has ended, and where it was taken back."""
    talk.step(4, padding=2)
    talk.step(1, padding=1)
    talk.step(3)
    talk.step(3, padding=3)
    talk.cache.crop(-2)
    talk.full.cache.crop(-2)
    talk.mask = talk.mask[:, :-2]
    talk.step(2)
    talk.step(1)


def test_crop_takes_back_what_followed_the_prompt(talk):
    talk.step(3)
    talk.cache.crop(-2)
    talk.full.cache.crop(-2)
    talk.mask = talk.mask[:, :-2]
    talk.step(5, seed=1)
    talk.cache.crop(0)
    talk.step()


def test_crop_refuses_the_prompt_and_positive_numbers(talk):
    talk.step(2)
    with pytest.raises(ValueError, match="-3 but only the last 2 tokens"):
        talk.cache.crop(-3)
    with pytest.raises(ValueError, match="5 but must be negative"):
        talk.cache.crop(5)
    talk.step()  # nothing happened


@torch.no_grad()
def test_crop_of_a_prompt_that_is_still_read(llava):
    """Seven tokens of the instruction are read, two taken back, and the right three follow."""
    x = models.inputs("llava", models.question(1))
    ids = x["input_ids"]
    with CompressedCache(llava, retention=0.3) as whole:
        llava(**x, past_key_values=whole)
    with CompressedCache(llava, retention=0.3, prompt_length=27) as cache:
        llava(input_ids=ids[:, :26], pixel_values=x["pixel_values"], past_key_values=cache)
        cache.crop(-2)
        assert not cache.layers[0].compressed
        llava(input_ids=ids[:, 24:], past_key_values=cache)
    for ours, expected in zip(cache.layers, whole.layers, strict=True):
        assert torch.equal(ours.positions, expected.positions)


def test_an_empty_cache_can_be_handled(llava):
    with CompressedCache(llava) as cache:
        cache.crop(0)
        cache.reorder_cache(torch.tensor([0]))
        cache.batch_repeat_interleave(2)
        cache.batch_select_indices(torch.tensor([0]))
        assert cache.get_seq_length() == 0


@torch.no_grad()
def test_reset_starts_a_new_conversation(talk, llava):
    before = [layer.positions for layer in talk.cache.layers]
    talk.cache.reset()
    assert talk.cache.get_seq_length() == 0 == talk.cache.report().bytes_after
    llava(**talk.x, past_key_values=talk.cache)
    for layer, positions in zip(talk.cache.layers, before, strict=True):
        assert torch.equal(layer.positions, positions)


def test_what_transformers_asks_of_a_cache(talk):
    cache, seen = talk.cache, talk.x["input_ids"].shape[1]
    assert cache.get_seq_length() == seen > cache.layers[0].keys.shape[2]
    assert cache.get_mask_sizes(5, 0) == (5, seen)
    layer = cache.layers[0]
    assert layer.get_max_length() == -1 == layer.get_max_cache_shape()
    assert layer.is_croppable and not cache.is_compileable and cache.is_initialized
    assert len(cache) == models.LAYERS and not any(cache.is_sliding)


# ---- input without ids ---------------------------------------------------------------------------


@torch.no_grad()
def test_any_decoder_works_with_a_given_mask():
    """A language model without images, over embeddings whose visual positions are told."""
    torch.manual_seed(0)
    settings = {key: value for key, value in models.TEXT.items()}
    model = LlamaForCausalLM(LlamaConfig(**settings)).eval()
    embeds = torch.randn(2, 20, models.HIDDEN)
    visual = torch.zeros(2, 20, dtype=torch.bool)
    visual[0, 3:13] = visual[1, 5:15] = True
    with CompressedCache(model, retention=0.3, visual=visual[:, :16]) as cache:
        model(inputs_embeds=embeds, past_key_values=cache)
        assert sum(row[0] for row in cache.report().kept.values()) == 3 * 10 + 9
        positions = cache.layers[0].positions[1, 0].tolist()
        assert set(range(5)) | set(range(15, 20)) <= set(positions)
    with CompressedCache(model, retention=0.3, visual=visual[:1]) as cache:  # beams of one prompt
        model(inputs_embeds=embeds, past_key_values=cache)
        assert set(range(3)) | set(range(13, 20)) <= set(cache.layers[0].positions[1, 0].tolist())


def test_what_is_missing_is_said(llava):
    embeds = torch.randn(1, 9, models.HIDDEN)
    with CompressedCache(llava) as cache, pytest.raises(ValueError, match="Give .* visual="):
        llava(inputs_embeds=embeds, past_key_values=cache)
    with CompressedCache(llava, visual=torch.ones(2, 9).bool()) as cache:
        with pytest.raises(ValueError, match="visual has 2 rows but must have 1"):
            llava(inputs_embeds=embeds, past_key_values=cache)


# ---- errors and warnings -------------------------------------------------------------------------


@torch.no_grad()
def test_a_forward_that_failed_can_be_repeated(llava):
    """Before any layer was reached, as with too few pixels."""
    x = models.inputs("llava", *PADDED)
    with CompressedCache(llava, retention=0.3) as whole:
        llava(**x, past_key_values=whole)
    with CompressedCache(llava, retention=0.3) as cache:
        with pytest.raises(ValueError, match="features"):
            llava(**x | {"pixel_values": x["pixel_values"][:1]}, past_key_values=cache)
        llava(**x, past_key_values=cache)
    assert cache.report().seen == whole.report().seen
    for ours, expected in zip(cache.layers, whole.layers, strict=True):
        assert torch.equal(ours.positions, expected.positions)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"retention": 0.0}, ValueError, r"retention is 0.0 but must be in \(0, 1\]"),
        ({"retention": 0.1, "budget": 5}, ValueError, "only one of them"),
        ({"budget": 0}, ValueError, "budget is 0 but must be at least 1"),
        ({"budget": torch.tensor(3)}, ValueError, r"budget has shape \[\] but must be \[batch"),
        ({"budget": torch.ones(0).long()}, ValueError, r"budget has shape \[0\] but must be"),
        ({"alpha": 2}, ValueError, r"alpha is 2 but must be in \[0, 1\]"),
        ({"heads": "all"}, ValueError, "heads is 'all' but must be one of"),
        ({"budget_mode": "flat"}, ValueError, "budget_mode is 'flat' but must be one of"),
        ({"method": SnapKV(), "alpha": 0.5}, ValueError, "alpha is 0.5 and method is SnapKV"),
        ({"method": SnapKV}, TypeError, "method is a .* but must be an instance"),
        ({"method": SnapKV(window_size=200)}, ValueError, "max_window is 128 but .* least 200"),
        (
            {"method": AirCache(window_size=30), "max_window": 4},
            ValueError,
            "max_window is 4 but must be at least 30",
        ),
        ({"max_window": 0}, ValueError, "max_window is 0 but must be at least 1"),
        ({"visual": torch.ones(9).bool()}, ValueError, r"visual has shape \[9\] but must be"),
        ({"visual": torch.ones(1, 9)}, TypeError, "visual is torch.float32 but must be torch.bool"),
        ({"prompt_length": 1.5}, TypeError, "prompt_length is a float but must be an int"),
    ],
    ids=str,
)
def test_wrong_options(llava, options, error, message):
    with pytest.raises(error, match=message):
        CompressedCache(llava, **options)
    assert llava.config.text_config._attn_implementation == "sdpa"


def test_wrong_models(llava):
    with pytest.raises(TypeError, match="model is a Linear but must be a transformers model"):
        CompressedCache(torch.nn.Linear(1, 1))
    with pytest.raises(TypeError, match="no help"):
        next_positions(llava, DynamicCache(), torch.zeros(1, 1), torch.zeros(1, 1))
    sliding = models.transformers.MistralForCausalLM(MistralConfig(**models.TEXT, sliding_window=8))
    with pytest.raises(ValueError, match="without a full-attention layer"):
        CompressedCache(sliding)
    assert sliding.config._attn_implementation == "sdpa"
    llava.config.text_config._attn_implementation = "flex_attention"
    try:
        with pytest.raises(ValueError, match="flex_attention"):
            CompressedCache(llava)
    finally:
        llava.config.text_config._attn_implementation = "sdpa"


def test_a_model_in_float64_is_refused_before_it_reads():
    config = LlamaConfig(**models.TEXT)
    with pytest.raises(TypeError, match="model is torch.float64 but must be float32, float16 or b"):
        CompressedCache(LlamaForCausalLM(config).double())
    assert config._attn_implementation == "sdpa"
    for dtype in (torch.float16, torch.bfloat16):
        CompressedCache(LlamaForCausalLM(config).to(dtype)).close()


def test_a_cache_that_cannot_be_read_says_so(talk, llava):
    step = models.text(2, 1)
    other = models.build("llava", seed=1)
    with pytest.raises(RuntimeError, match="another model than its own"):
        other(**step, past_key_values=talk.cache)
    llava.set_attn_implementation("eager")
    with pytest.raises(RuntimeError, match="attention implementation was changed"):
        llava(**step, past_key_values=talk.cache)
    llava.set_attn_implementation("sdpa")
    talk.cache.close()
    with pytest.raises(RuntimeError, match="it was closed"):
        llava(**step, past_key_values=talk.cache)


def test_a_prepared_mask_is_refused(llava):
    x = models.inputs("llava", models.question()) | {"attention_mask": torch.ones(1, 1, 27, 27)}
    with CompressedCache(llava) as cache:
        with pytest.raises(ValueError, match=r"attention_mask is of shape \[1, 1, 27, 27\]"):
            llava(**x, past_key_values=cache)


def test_a_quantised_cache_is_refused(llava):
    x = models.inputs("llava", models.question())
    with CompressedCache(llava) as cache, pytest.raises(ValueError, match="only one of the two"):
        llava.generate(
            **x, past_key_values=cache, max_new_tokens=1, cache_implementation="quantized"
        )


def warned(model, cache, *prompts: Prompt, more: int = 1) -> list[str]:
    x = models.inputs("llava", *prompts)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.generate(**x, past_key_values=cache, max_new_tokens=more + 1, do_sample=False)
    return [str(w.message) for w in caught if issubclass(w.category, UserWarning)]


def test_warns_once_of_prompts_without_an_image(llava):
    with CompressedCache(llava) as cache:
        [message] = warned(llava, cache, Prompt((12,)), more=3)
    assert message.startswith("no visual token")
    with CompressedCache(llava) as cache:
        [message] = warned(llava, cache, models.question(), Prompt((9,)))
    assert message.startswith("a row has no visual token")
    assert cache.report().kept[0][1] == 9 + 1


def test_warns_once_of_short_and_missing_instructions(llava):
    with CompressedCache(llava) as cache:
        [message] = warned(llava, cache, Prompt((8, "image", 3)), more=3)
    assert message.startswith("fewer than 4 tokens")
    with CompressedCache(llava, prompt_length=24) as cache:
        [message] = warned(llava, cache, Prompt((8, "image")), more=3)
    assert message.startswith("no text follows")
    assert cache.report().kept[0] == [27]


def test_no_warning_for_ordinary_prompts(llava):
    with CompressedCache(llava) as cache:
        assert warned(llava, cache, models.question(), models.question(1), more=3) == []


@torch.no_grad()
def test_a_placeholder_that_the_model_says_is_text(llava):
    """No image stands behind it: it must not start a new turn."""
    x = models.inputs("llava", models.question())
    said: Tensor = torch.tensor([[models.IMAGE]])
    with CompressedCache(llava) as cache:
        llava(**x, past_key_values=cache)
        before = cache.report().kept
        for ids in (said, said, models.text(1, 1)["input_ids"]):
            llava(input_ids=ids, past_key_values=cache)
        assert cache.report().kept == {i: [n + 3 for n in rows] for i, rows in before.items()}
