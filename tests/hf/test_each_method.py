"""Every method through the cache keeps what it keeps of the same queries and keys elsewhere."""

import models
import pytest
import torch
from each_method import EACH_METHOD_BOTH_WAYS, METHODS
from models import Prompt
from torch import Tensor
from transformers import DynamicCache

import aircache_ext
from aircache_ext import methods
from aircache_ext.hf import CompressedCache
from aircache_ext.methods import (
    CSP,
    H2O,
    TOVA,
    AirCache,
    Method,
    PrefixKV,
    SnapKV,
    VLCache,
)

TWO_FAMILIES = pytest.mark.parametrize("name", ["qwen2_5_vl", "llava"])
PROMPTS = (
    models.question(1),
    Prompt((9, "image", 5, "image", 20), 2),
    Prompt((1, "image", 6), 3),
)
GREEDY = dict(do_sample=False, output_logits=True, return_dict_in_generate=True)


@pytest.fixture
def forwards(monkeypatch):
    """What layers attended with, forward by forward: queries and all keys of each."""
    made: list[dict[int, tuple[Tensor, Tensor]]] = []

    def observe(cache, index, query, scaling):
        if index == min(cache._compressible):
            made.append({})
        made[-1][index] = (query.clone(), cache._compressible[index].keys.clone())
        observed(cache, index, query, scaling)

    observed = CompressedCache._observe
    monkeypatch.setattr(CompressedCache, "_observe", observe)
    return made


def kept_elsewhere(
    forward: dict[int, tuple[Tensor, Tensor]], visual: Tensor, valid: Tensor, **options
) -> list[list[list[list[int]]]]:
    """Positions that ``compress_layers`` keeps of a forward's tokens, per layer, row and head."""
    queries, keys = zip(*forward.values(), strict=True)
    keys = [k[:, :, -visual.shape[1] :] for k in keys]
    kept = aircache_ext.compress_layers(keys, keys, queries, visual=visual, valid=valid, **options)
    return [_sets(layer.indices) for layer in kept]


def _sets(positions: Tensor) -> list[list[list[int]]]:
    return [[head[head >= 0].tolist() for head in row] for row in positions]


def kept(cache: CompressedCache) -> list[list[list[list[int]]]]:
    """At the last eviction."""
    return [_sets(layer.kept) for layer in cache._compressible.values()]


def test_all_methods_are_tested():
    exported = [getattr(methods, name) for name in methods.__all__]
    classes = {x for x in exported if isinstance(x, type) and issubclass(x, Method)} - {Method}
    assert {type(method) for method in METHODS} == classes


@TWO_FAMILIES
@EACH_METHOD_BOTH_WAYS
@torch.no_grad()
def test_generate_keeps_what_compress_layers_keeps(name, method, forwards):
    model, x = models.build(name), models.inputs(name, *PROMPTS)
    with CompressedCache(model, retention=0.3, method=method) as cache:
        model.generate(**x, past_key_values=cache, max_new_tokens=3, **GREEDY)
    visual, valid = x["input_ids"] == models.IMAGE, x["attention_mask"].bool()
    expected = kept_elsewhere(forwards[0], visual, valid, retention=0.3, method=method)
    assert kept(cache) == expected
    text = set((valid & ~visual)[1].nonzero().flatten().tolist())
    lost = [text - set(head) for layer in expected for head in layer[1]]
    assert any(lost) if method.evict_text else not any(lost)


@TWO_FAMILIES
@EACH_METHOD_BOTH_WAYS
@torch.no_grad()
def test_a_row_of_a_padded_batch_is_the_row_alone(name, method):
    model, x = models.build(name), models.inputs(name, *PROMPTS)
    with CompressedCache(model, retention=0.3, method=method) as cache:
        batch = model.generate(**x, past_key_values=cache, max_new_tokens=5, **GREEDY)
    together = kept(cache)
    for row, prompt in enumerate(PROMPTS):
        padding = int((x["attention_mask"][row] == 0).sum())
        with CompressedCache(model, retention=0.3, method=method) as own:
            alone = model.generate(
                **models.inputs(name, prompt), past_key_values=own, max_new_tokens=5, **GREEDY
            )
        for layer, mine in zip(together, kept(own), strict=True):
            assert [[p - padding for p in head] for head in layer[row]] == mine[0]
        ours = torch.stack(batch.logits, 1)[row]
        torch.testing.assert_close(ours, torch.stack(alone.logits, 1)[0], atol=1e-4, rtol=0)


@EACH_METHOD_BOTH_WAYS
@torch.no_grad()
def test_keeping_everything_changes_nothing(method):
    if isinstance(method, VLCache):
        pytest.skip("a layer that is less dense than the average keeps less than everything")
    model, x = models.build("llava"), models.inputs("llava", *PROMPTS)
    full = model.generate(
        **x, past_key_values=DynamicCache(config=model.config), max_new_tokens=5, **GREEDY
    )
    with CompressedCache(model, retention=1.0, method=method) as cache:
        ours = model.generate(**x, past_key_values=cache, max_new_tokens=5, **GREEDY)
        assert all(layer.compressed for layer in cache.layers)
    assert torch.equal(ours.sequences, full.sequences)
    ours, full = torch.stack(ours.logits), torch.stack(full.logits)
    torch.testing.assert_close(ours, full, atol=1e-5, rtol=0)


@EACH_METHOD_BOTH_WAYS
@torch.no_grad()
def test_a_later_turn_is_compressed_as_if_it_stood_alone(method, forwards):
    """Of its queries and its own keys, with padding of its own. What was held before stays."""
    model = models.build("llava")
    x = models.inputs("llava", *PROMPTS[:2])
    turn = models.inputs("llava", Prompt((4, "image", 6), 4), Prompt((2, "image", 12), 5))
    with CompressedCache(model, retention=0.3, method=method) as cache:
        model(**x, past_key_values=cache)
        for step in range(2):
            y = models.follow(model, x["attention_mask"], models.text(2, 1, step), cache)
            x["attention_mask"] = y["attention_mask"]
            model(**y, past_key_values=cache)
        before = [_sets(layer.positions) for layer in cache.layers]
        seen = cache.get_seq_length()
        y = models.follow(model, x["attention_mask"], turn, cache)
        model(**y, past_key_values=cache)
    visual, valid = turn["input_ids"] == models.IMAGE, turn["attention_mask"].bool()
    new = kept_elsewhere(forwards[-1], visual, valid, retention=0.3, method=method)
    for layer, old, own in zip(kept(cache), before, new, strict=True):
        for row in range(2):
            for head, was, more in zip(layer[row], old[row], own[row], strict=True):
                assert head == was + [seen + position for position in more]


class ShortKeys(Method):
    """Looks at keys alone."""

    def window(self, instruction: int) -> int:
        return 0

    def observe(self, prompt: methods.Prompt) -> methods.Seen:
        return methods.Seen((-torch.stack([key.norm(dim=-1) for key in prompt.keys]),))


@TWO_FAMILIES
@torch.no_grad()
def test_a_method_may_need_no_queries(name, forwards):
    """Nor an instruction: a prompt that ends with its picture is compressed, too."""
    model, method = models.build(name), ShortKeys()
    for prompts in (PROMPTS, [Prompt((3, "image"), 1)]):
        x = models.inputs(name, *prompts)
        visual, valid = x["input_ids"] == models.IMAGE, x["attention_mask"].bool()
        length = x["input_ids"].shape[1]
        options = dict(retention=0.3, method=method)
        with CompressedCache(model, prompt_length=length, **options) as cache:
            model(**x, past_key_values=cache)
        assert kept(cache) == kept_elsewhere(forwards[-1], visual, valid, **options)


# ---- what is remembered while a turn is read ----------------------------------------------------

REMEMBERING = pytest.mark.parametrize(
    "method", [AirCache(), SnapKV(window_size=9), H2O(), PrefixKV()], ids=str
)


class TwoParts:
    """An image without a word after it, and then a question, which ends the turn."""

    def __init__(self, method: Method) -> None:
        self.model = models.build("llava")
        self.image = models.inputs("llava", Prompt((3, "image"), 1), Prompt((1, "image"), 2))
        self.cache = CompressedCache(self.model, retention=0.3, method=method)

    def __enter__(self) -> "TwoParts":
        return self

    def __exit__(self, *error) -> None:
        self.cache.close()

    def look(self) -> None:
        self.model(**self.image, past_key_values=self.cache)

    def ask(self, rows: tuple[int, ...] = (0, 1)) -> list[list[list[list[int]]]]:
        rows = torch.tensor(rows)
        question = {key: value[rows] for key, value in models.text(2, 6).items()}
        mask = self.image["attention_mask"][rows]
        question = models.follow(self.model, mask, question, self.cache)
        self.model(**question, past_key_values=self.cache)
        return kept(self.cache)


def asked_in_two_parts(method: Method) -> list[list[list[list[int]]]]:
    """What stays when nothing happens between the two."""
    with TwoParts(method) as talk:
        talk.look()
        return talk.ask()


@REMEMBERING
@torch.no_grad()
def test_it_goes_with_its_row(method):
    """As where beams are chosen."""
    expected = asked_in_two_parts(method)
    with TwoParts(method) as talk:
        talk.look()
        talk.cache.batch_select_indices(torch.tensor([1, 1, 0]))
        talk.cache.reorder_cache(torch.tensor([2, 1, 0]))
        for layer, rows in zip(talk.ask((0, 1, 1)), expected, strict=True):
            assert layer == [rows[0], rows[1], rows[1]]


@REMEMBERING
@torch.no_grad()
def test_it_is_taken_back_with_its_turn(method):
    expected = asked_in_two_parts(method)
    with TwoParts(method) as talk:
        talk.look()
        talk.cache.crop(-talk.image["input_ids"].shape[1])
        talk.look()
        assert talk.ask() == expected
        assert all(x.queries is None and x.received is None for x in talk.cache.layers)


@torch.no_grad()
def test_tokens_that_have_judged_cannot_be_taken_back_one_by_one():
    with TwoParts(H2O()) as talk:
        talk.look()
        length = talk.image["input_ids"].shape[1]
        with pytest.raises(ValueError, match=f"-2 but {length} tokens of a turn .*only be removed"):
            talk.cache.crop(-2)
        assert talk.cache.get_seq_length() == length  # nothing happened


@REMEMBERING
@torch.no_grad()
def test_a_forward_that_failed_among_the_layers(method):
    expected = asked_in_two_parts(method)
    with TwoParts(method) as talk:
        layer = talk.model.model.language_model.layers[1]
        hook = layer.register_forward_pre_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            talk.look()
        hook.remove()
        with pytest.raises(RuntimeError, match=r"failed on its way .* reset\(\) the cache"):
            talk.look()
        talk.cache.reset()
        talk.look()
        assert talk.ask() == expected


@torch.no_grad()
def test_max_window_limits_methods_that_make_do_with_it(forwards):
    """CSP's last tokens judge as far as their queries were kept."""
    model, x = models.build("llava"), models.inputs("llava", *PROMPTS)
    with CompressedCache(model, retention=0.5, method=CSP(), max_window=3) as cache:
        model(**x, past_key_values=cache)
    [forward] = forwards
    visual, valid = x["input_ids"] == models.IMAGE, x["attention_mask"].bool()
    options = dict(visual=visual, valid=valid, retention=0.5, method=CSP())
    last = {i: (queries[:, :, -3:], keys) for i, (queries, keys) in forward.items()}
    assert kept(cache) == kept_elsewhere(last, **options) != kept_elsewhere(forward, **options)


def test_the_parameters_of_aircache():
    """Are shorthand for it."""
    model, x = models.build("llava"), models.inputs("llava", *PROMPTS)
    options = dict(alpha=0.2, heads="per_kv_head", budget_mode="pyramid")
    sets = []
    for given in (options, {"method": AirCache(**options)}, {}):
        with torch.no_grad(), CompressedCache(model, **given) as cache:
            model(**x, past_key_values=cache)
        sets.append(kept(cache))
    assert sets[0] == sets[1] != sets[2]


@pytest.mark.parametrize("method", [TOVA(), H2O()], ids=str)
@torch.no_grad()
def test_methods_that_do_not_listen_need_no_instruction(method, recwarn):
    model, x = models.build("llava"), models.inputs("llava", Prompt((8, "image")))
    with CompressedCache(model, retention=0.25, method=method, prompt_length=24) as cache:
        model(**x, past_key_values=cache)
    assert cache.report().kept == {i: [8 + 4] for i in range(models.LAYERS)}
    assert not [w for w in recwarn if "aircache_ext" in w.filename]
