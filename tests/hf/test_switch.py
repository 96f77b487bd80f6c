"""The model is lent, not changed: what is switched, by whom, and that it is put back."""

import copy
import gc
import subprocess
import sys

import models
import pytest
import torch
import transformers
from models import FAMILIES
from reference_attention import FullModel
from transformers import DynamicCache
from versions import families, since

from aircache_ext.hf import CompressedCache


def state(model) -> list:
    """All that a cache could leave behind: implementations and hooks."""
    configs = {
        name: module.config._attn_implementation
        for name, module in model.named_modules()
        if getattr(getattr(module, "config", None), "_attn_implementation", None)
    }
    hooks = [  # transformers has some of its own, from a model's first forward on
        (name, hook.__name__)
        for name, module in model.named_modules()
        for hook in (*module._forward_pre_hooks.values(), *module._forward_hooks.values())
        if "aircache" in hook.__module__
    ]
    return [configs, hooks]


@pytest.mark.parametrize("name", families(*FAMILIES))
def test_only_the_text_decoder_is_switched_and_then_put_back(name):
    model = models.build(name)
    before = state(model)
    with CompressedCache(model):
        configs = state(model)[0]
        ours = {path for path, implementation in configs.items() if "aircache" in implementation}
        decoder = model.get_decoder()
        inside = {path for path, module in model.named_modules() if path in configs
                  and any(module is part for part in decoder.modules())}  # fmt: skip
        assert ours == inside
        assert len(state(model)[1]) == 3
    assert state(model) == before


@torch.no_grad()
def test_several_caches_share_a_model():
    """Closing one leaves the others; a collected one counts as closed; closing twice as once."""
    model = models.build("llava")
    before = state(model)
    x, y = models.inputs("llava", models.question(1)), models.inputs("llava", models.question(2))
    with CompressedCache(model, retention=0.2) as alone:
        expected = model(**x, past_key_values=alone).logits
        step = models.follow(model, x["attention_mask"], models.text(1, 1), alone)
        expected_next = model(**step, past_key_values=alone).logits

    one, two, three = (CompressedCache(model, retention=0.2) for _ in range(3))
    assert torch.equal(model(**x, past_key_values=one).logits, expected)
    model(**y, past_key_values=two)
    two.close()
    two.close()
    del three
    gc.collect()
    assert torch.equal(model(**step, past_key_values=one).logits, expected_next)
    one.close()
    assert state(model) == before


@pytest.mark.parametrize("name", families("qwen2_5_vl", "gemma3", "paligemma"))
@torch.no_grad()
def test_forwards_without_our_cache_are_untouched(name):
    """Bitwise, with another cache or none, padded; bidirectional blocks included."""
    model = models.build(name)
    x = models.inputs(name, models.question(1), models.Prompt((1, "image", 4), 2))

    def logits():
        cache = DynamicCache(config=model.config)
        with_cache = model(**x, past_key_values=cache).logits
        return with_cache, model(**x, use_cache=False).logits

    before = logits()
    with CompressedCache(model):
        during = logits()
    assert all(torch.equal(a, b) for a, b in zip(before, during, strict=True))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", families("gemma3", "paligemma", "qwen2_5_vl"))
@torch.no_grad()
def test_the_prompt_is_read_as_always(name, attention):
    """Bitwise the model's own logits, with the implementation that it had."""
    model = models.build(name, attention)
    x = models.inputs(name, models.question(1), models.Prompt((1, "image", 4), 2))
    full = model(**x).logits
    with CompressedCache(model) as cache:
        assert torch.equal(model(**x, past_key_values=cache).logits, full)
        assert cache.report().bytes_after < cache.report().bytes_before


@pytest.mark.parametrize("name", families("gemma3", "qwen3_5"))
@torch.no_grad()
def test_sliding_and_linear_layers_are_left_alone(name):
    model, x = models.build(name), models.inputs(name, models.question())
    stock = DynamicCache(config=model.config)
    model(**x, past_key_values=stock)
    with CompressedCache(model, retention=0.2) as cache:
        model(**x, past_key_values=cache)
    assert list(cache._compressible) == [1, 3] == list(cache.report().kept)
    for index in (0, 2):
        ours, theirs = cache.layers[index], stock.layers[index]
        assert type(ours) is type(theirs)
        tensors = [name for name, value in vars(theirs).items() if isinstance(value, torch.Tensor)]
        assert all(torch.equal(getattr(ours, n), getattr(theirs, n)) for n in tensors)


@torch.no_grad()
def test_a_copy_of_a_switched_model_works_but_takes_no_cache():
    model, x = models.build("llava"), models.inputs("llava", models.question())
    full = model(**x).logits
    with CompressedCache(model):
        twin = copy.deepcopy(model)
    assert torch.equal(twin(**x).logits, full)
    with pytest.raises(ValueError, match="copy"):
        CompressedCache(twin)


def test_transformers_is_optional():
    """The package imports without it, and ``hf`` says what to install."""
    code = """if True:
        import sys, aircache_ext
        assert "transformers" not in sys.modules
        sys.modules["transformers"] = None
        import aircache_ext.hf"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stderr.splitlines()[-1].endswith("pip install 'aircache_ext[hf]'")


@since(12, "Gemma 4")
@torch.no_grad()
def test_a_layer_that_shares_anothers_keys_reads_what_is_left_of_them():
    """Gemma 4's last layers have no cache of their own; a language model with told positions."""
    config = transformers.Gemma4TextConfig(
        **models.TEXT | {"num_hidden_layers": 4, "eos_token_id": 2},
        layer_types=["sliding_attention", "full_attention"] * 2,
        sliding_window=8,
        num_kv_shared_layers=2,
        hidden_size_per_layer_input=8,
        vocab_size_per_layer_input=models.VOCABULARY,
        global_head_dim=models.HEAD_DIM,
    )
    torch.manual_seed(0)
    model = transformers.Gemma4ForCausalLM(config).eval()
    models.peak(model)
    ids = torch.randint(2, 100, (2, 30))
    visual = torch.zeros(2, 30, dtype=torch.bool)
    visual[:, 4:20] = True
    full = FullModel(model)
    with CompressedCache(model, retention=0.25, visual=visual) as cache:
        assert list(cache._compressible) == [1]
        for new in (ids, ids[:, :1], ids[:, 1:6]):
            ours, expected = model(new, past_key_values=cache), full(input_ids=new)
            torch.testing.assert_close(ours.logits, expected.logits, atol=1e-4, rtol=0)
            full.evict(cache)
            full.evicted[3] = full.evicted[1]
        assert cache.report().kept == {1: [14 + 4 + 6] * 2}
