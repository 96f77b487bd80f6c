import torch, pytest
from transformers import DynamicCache
from aircache_ext.hf import CompressedCache
import models
from reference_attention import FullModel


@torch.no_grad()
@pytest.mark.parametrize("name", list(models.FAMILIES))
def test_keep_all(name):
    model = models.build(name)
    x = models.inputs(name, models.question())
    full = model.generate(
        **x, max_new_tokens=8, do_sample=False, output_logits=True, return_dict_in_generate=True
    )
    with CompressedCache(model, retention=1.0) as cache:
        ours = model.generate(
            **x,
            past_key_values=cache,
            max_new_tokens=8,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
        print(cache.report())
    assert torch.equal(full.sequences, ours.sequences)
    torch.testing.assert_close(
        torch.stack(ours.logits), torch.stack(full.logits), atol=1e-5, rtol=0
    )


@torch.no_grad()
@pytest.mark.parametrize("name", list(models.FAMILIES))
def test_evicted(name):
    model = models.build(name)
    x = models.inputs(
        name,
        models.question(1),
        models.Prompt((2, "image", 5), 2),
        models.Prompt((2, "image", 3, "image", 9), 3),
    )
    full = FullModel(model)
    with CompressedCache(model, retention=0.2) as cache:
        a = model(**x, past_key_values=cache).logits
        b = full(**x).logits
        v = x["attention_mask"].bool()
        torch.testing.assert_close(a[v], b[v], atol=1e-5, rtol=0)
        print(cache.report())
        full.evict(cache)
        mask = x["attention_mask"]
        for n in (1, 1, 5, 1):
            ids = torch.randint(2, 100, (3, n))
            y = models.following(model, mask, ids)
            mask = y["attention_mask"]
            a = model(**y, past_key_values=cache).logits
            b = full(**y).logits
            print((a - b).abs().max())
            torch.testing.assert_close(a, b, atol=1e-5, rtol=0)
